"""The door to FLUX.1 Kontext computes what the library's pipeline computes."""

import pytest
import torch
from torch import nn

from kontext_slider.base import Conditioning, base_of, family_of
from kontext_slider.base.flux1_kontext import Flux1Kontext
from tests.tiny import tiny_image, tiny_pipeline, tiny_transformer


@pytest.mark.parametrize("guidance_embeds", [False, True])
def test_a_render_through_the_door_is_the_librarys_own(guidance_embeds):
    """A source with the wrong position ids, or a rounded time, gives nearly the right picture."""
    pipe = tiny_pipeline(slider=False)
    pipe.register_modules(transformer=tiny_transformer(guidance_embeds=guidance_embeds))
    pipe.set_progress_bar_config(disable=True)
    image, base = tiny_image(), base_of(pipe)
    with torch.no_grad():
        text = base.encode_text("make it snow", 16)
        dtype = text.embeds.dtype
        edit = Conditioning(
            text, base.encode_source(image, dtype), base.draw_noise(image.size, 3, dtype), base.guidance(2.5)
        )
        latents = edit.noise.latents
        scheduler = base.schedule(4, latents.shape[1])
        for time in scheduler.timesteps:
            velocity = base.velocity(pipe.transformer, latents, time.to(dtype) / 1000, edit)
            latents = scheduler.step(velocity, time, latents, return_dict=False)[0]
        pixels = base.decode(latents, image.size)
    theirs = pipe(
        image, "make it snow", num_inference_steps=4, guidance_scale=2.5, max_sequence_length=16,
        width=image.width, height=image.height, _auto_resize=False, max_area=image.width * image.height,
        generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close(pixels, theirs, atol=0, rtol=0)


def test_a_picture_survives_pixels():
    """Half a level lost at every look."""
    base, image = base_of(tiny_pipeline(slider=False)), tiny_image()
    assert base.to_picture(base.to_pixels(image)).tobytes() == image.tobytes()


def test_target_and_source_ids_differ_in_their_first_entry_alone():
    """The source on the target's own places, or beside it, is another model."""
    target, source = (Flux1Kontext.token_ids(4, 6, is_source) for is_source in (False, True))
    assert target.shape == (6, 3) and (target[:, 0] == 0).all() and (source[:, 0] == 1).all()
    assert torch.equal(target[:, 1:], source[:, 1:]) and target[-1].tolist() == [0, 1, 2]


def test_every_modulation_layer_is_a_site():
    """A block that is left out would be modulated without the slider."""
    transformer = tiny_pipeline(slider=False).transformer
    sites = Flux1Kontext.modulation_sites(transformer)
    layers = [getattr(owner, name) for owner, names in sites for name in names]
    theirs = [module for module in transformer.modules() if type(module).__name__.startswith("AdaLayerNorm")]
    assert len(sites) == len(Flux1Kontext.blocks(transformer)) + 1
    assert {id(layer) for layer in layers} == {id(layer) for layer in theirs}


def test_a_transformer_of_no_family_is_refused_and_a_compiled_one_found():
    """A wrong answer far away, in place of one sentence."""
    with pytest.raises(TypeError, match="Linear"):
        family_of(nn.Linear(1, 1))
    assert family_of(torch.compile(tiny_transformer(), backend="eager")) is Flux1Kontext
