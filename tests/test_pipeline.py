"""The pipeline: exactly the parent without a strength, the facts with one, one noise for all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline
from safetensors.torch import load_file

from kontext_slider import KontextSliderPipeline
from kontext_slider.errors import CheckpointError
from kontext_slider.lora import ADAPTER
from tests import reference_slider as reference
from tests.renders import STRENGTHS, add_style, parent_of, render, seeded, state_of
from tests.tiny import (
    EDIT_DEFAULTS,
    INSTRUCTION,
    KNOWN_INSTRUCTIONS,
    PLAIN,
    SIDE,
    tiny_image,
    tiny_pipeline,
    tiny_projector,
    write_authors_layout,
)


def test_matches_an_independent_implementation(plain_pipe, tmp_path):
    """The one check that everything rests on: authors' files, LoRA active, strengths 0, .25, .5, 1."""
    base = {name: tensor.clone() for name, tensor in plain_pipe.transformer.state_dict().items()}
    files = write_authors_layout(tmp_path)
    plain_pipe.load_slider(files)
    weights = reference.merged(base, load_file(files / "pytorch_lora_weights.safetensors"))
    projector = torch.load(files / "slider_projector.pth", weights_only=True)
    edit, shape = reference_edit(plain_pipe), reference.Shape(heads=2, axes=(4, 6, 6))
    settings = {**PLAIN, "width": 48, "max_area": 48 * 32, "num_inference_steps": 3, "guidance_scale": 2.5}
    latents = plain_pipe(
        tiny_image(48, 32), INSTRUCTION, strength=STRENGTHS, generator=seeded(), output_type="latent",
        source_at_zero=False, **settings,
    ).images  # fmt: skip
    for strength, frame in zip(STRENGTHS, latents, strict=True):
        offsets = reference.project(projector, strength, edit.pooled)
        torch.testing.assert_close(frame, reference.denoise(weights, shape, edit, offsets)[0], rtol=0, atol=1e-5)
    plain = reference.denoise(base, shape, edit, None)
    assert (latents - plain).abs().amax(dim=(1, 2)).min() > 0.1  # the LoRA shows at every strength
    assert (latents[0] - latents[3]).abs().max() > 0.05  # and so do the offsets


@torch.no_grad()
def reference_edit(pipe) -> reference.Edit:
    """The edit of the test above, encoded by hand."""
    embeds, pooled, _ = pipe.encode_prompt(INSTRUCTION, max_sequence_length=PLAIN["max_sequence_length"])
    pixels = torch.from_numpy(np.array(tiny_image(48, 32))).permute(2, 0, 1)[None] / 127.5 - 1
    latents = pipe.vae.encode(pixels).latent_dist.mode()
    source = (latents - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    noise = reference.pack(torch.randn(1, 4, 16, 24, generator=seeded()))
    return reference.Edit(embeds, pooled, source, noise, steps=3, guidance=2.5)


@pytest.mark.parametrize("situation", ["no slider", "slider", "slider and style", "slider switched on by hand"])
def test_without_strength_it_is_the_parent_to_the_bit(situation):
    """A slider that leaks into plain calls makes them depend on what was loaded before."""
    pipe, plain = tiny_pipeline(slider=situation != "no slider"), tiny_pipeline(slider=False)
    if situation == "slider and style":
        add_style(pipe)
        add_style(plain)
    if situation == "slider switched on by hand":
        pipe.set_adapters([ADAPTER])
    expected = render_plain(parent_of(plain))
    assert torch.equal(render(pipe), expected)
    assert torch.equal(render(pipe, strength_batch_size=2), expected)
    if situation == "slider and style":
        assert not torch.equal(expected, render_plain(parent_of(tiny_pipeline(slider=False))))


def render_plain(parent) -> torch.Tensor:
    return parent(tiny_image(), INSTRUCTION, generator=seeded(), output_type="latent", **PLAIN).images


def test_without_strength_the_models_own_defaults_are_not_used(plain_pipe, monkeypatch):
    """strength=None means the parent's 28 steps and megapixel, whatever model_index.json says."""
    seen = {}

    def call(self, *args, **kwargs):
        seen.update(args=args, kwargs=kwargs)

    monkeypatch.setattr(FluxKontextPipeline, "__call__", call)
    plain_pipe(None, "snow", guidance_scale=1.5)
    assert seen == {"args": (None, "snow"), "kwargs": {"guidance_scale": 1.5}}


def test_frames_do_not_depend_on_the_batch(pipe):
    """Chunks must share the noise: the released demo changes the seed with the strength."""
    together = render(pipe, STRENGTHS)
    for size in (1, 3, 4, 9):
        torch.testing.assert_close(render(pipe, STRENGTHS, strength_batch_size=size), together, rtol=0, atol=1e-4)
    alone = torch.cat([render(pipe, strength) for strength in STRENGTHS])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-4)
    assert (together[0] - together[3]).abs().max() > 0.05


def test_noise_is_the_one_a_plain_call_draws(pipe):
    """With offsets of zero and no LoRA, every frame is the plain call's picture, and the generator is used as much."""
    pipe.unload_lora_weights()
    pipe.slider_projector = tiny_projector().zero_last_layer()
    generator, parents = seeded(), seeded()
    frames = render(pipe, [0.0, 1.0], generator=generator, guidance_scale=2.5)
    plain = render(pipe, generator=parents, guidance_scale=2.5)
    torch.testing.assert_close(frames, plain.expand(2, -1, -1), rtol=0, atol=1e-5)
    assert torch.equal(torch.rand(1, generator=generator), torch.rand(1, generator=parents))


def test_encoders_run_once(pipe, monkeypatch):
    """Encoding text and source per chunk costs more than denoising on a small machine."""
    counts = count_calls(monkeypatch, pipe.text_encoder, pipe.text_encoder_2, pipe.vae.encoder, pipe.slider_projector)
    render(pipe, STRENGTHS, strength_batch_size=1)
    assert counts == [1, 1, 1, 4]


def count_calls(monkeypatch, *modules) -> list[int]:
    counts = [0] * len(modules)
    for i, module in enumerate(modules):

        def forward(*args, i=i, plain=module.forward, **kwargs):
            counts[i] += 1
            return plain(*args, **kwargs)

        monkeypatch.setattr(module, "forward", forward)
    return counts


def test_tensors_of_batch_one_serve_all_strengths(pipe, monkeypatch):
    """An engine hands in what it encoded before: no encoder may run, and the frames are the same."""
    expected = render(pipe, STRENGTHS)
    with torch.no_grad():
        edit = encoded_edit(pipe)
    counts = count_calls(monkeypatch, pipe.text_encoder, pipe.text_encoder_2, pipe.vae.encoder)
    given = {**PLAIN, **edit, "output_type": "latent", "source_at_zero": False}
    frames = pipe(strength=STRENGTHS, strength_batch_size=3, **given).images
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-4)
    assert counts == [0, 0, 0]


def encoded_edit(pipe) -> dict:
    embeds, pooled, _ = pipe.encode_prompt(INSTRUCTION, max_sequence_length=PLAIN["max_sequence_length"])
    source = pipe._encode_vae_image(pipe.image_processor.preprocess(tiny_image()), None)
    noise = reference.pack(torch.randn(1, 4, SIDE // 2, SIDE // 2, generator=seeded()))
    return {"image": source, "latents": noise, "prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_output_types(pipe, output_type):
    """Chunks joined wrongly give nested lists or lose frames."""
    frames = render(pipe, [0, 0.5, 1], strength_batch_size=2, output_type=output_type)
    (as_tuple,) = pipe(
        tiny_image(), INSTRUCTION, strength=[0, 0.5, 1], generator=seeded(), output_type=output_type,
        return_dict=False, **PLAIN,
    )  # fmt: skip
    assert len(frames) == len(as_tuple) == 3
    kinds = {"pil": list, "np": np.ndarray, "pt": torch.Tensor, "latent": torch.Tensor}
    assert isinstance(frames, kinds[output_type])
    shapes = {"pil": (SIDE, SIDE), "np": (SIDE, SIDE, 3), "pt": (3, SIDE, SIDE), "latent": (SIDE * SIDE // 16, 16)}
    assert (frames[0].size if output_type == "pil" else tuple(frames[0].shape)) == shapes[output_type]


def test_true_cfg_with_a_negative_prompt(pipe):
    """The negative branch needs the batch of the positive one, however it is given."""
    settings = {"true_cfg_scale": 3.0, "negative_prompt": "blurry"}
    together = render(pipe, STRENGTHS, **settings)
    torch.testing.assert_close(render(pipe, STRENGTHS, strength_batch_size=1, **settings), together, rtol=0, atol=1e-3)
    assert (together - render(pipe, STRENGTHS)).abs().max() > 1e-3
    embeds, pooled, _ = pipe.encode_prompt("blurry", max_sequence_length=PLAIN["max_sequence_length"])
    given = {"negative_prompt_embeds": embeds, "negative_pooled_prompt_embeds": pooled, "true_cfg_scale": 3.0}
    torch.testing.assert_close(render(pipe, STRENGTHS, **given), together, rtol=0, atol=1e-4)
    assert torch.equal(render(pipe, 0.5, negative_prompt="blurry"), render(pipe, 0.5))


def test_callbacks_see_every_step_of_every_chunk(pipe):
    """Progress bars and previews are built on them."""
    seen = []

    def watch(pipeline, step, timestep, tensors):
        seen.append((step, len(tensors["latents"]), len(tensors["prompt_embeds"])))
        return {"latents": tensors["latents"]}

    render(
        pipe, [0, 0.5, 1], strength_batch_size=2, callback_on_step_end=watch,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"],
    )  # fmt: skip
    assert seen == [(0, 2, 2), (1, 2, 2), (0, 1, 1), (1, 1, 1)]


def test_an_interrupt_ends_the_sweep(pipe):
    """`_interrupt` is reset by every parent call: the next chunk would go on."""

    def stop(pipeline, step, timestep, tensors):
        pipeline._interrupt = True
        return {}

    assert len(render(pipe, STRENGTHS, strength_batch_size=1, callback_on_step_end=stop)) == 1
    assert len(render(pipe, STRENGTHS, strength_batch_size=1)) == 4


def test_global_random_state_without_generator(pipe):
    """The parent draws from the global state once; a sweep must too, and not once per chunk."""
    torch.manual_seed(3)
    frames = render(pipe, [0.5, 0.5], strength_batch_size=1, generator=None)
    assert torch.equal(frames[0], frames[1])


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), [], True, "0.5", [0.5, None]])
def test_bad_strengths(pipe, strength):
    """Nothing may be encoded or rendered for a value that means nothing."""
    with pytest.raises(ValueError, match="strength"):
        render(pipe, strength)


def test_unknown_edit_defaults_are_refused():
    """A misspelt key in model_index.json would silently do nothing."""
    with pytest.raises(CheckpointError, match="stepz"):
        tiny_pipeline(edit_defaults={"stepz": 3})


def test_the_models_noise_scale_is_for_strengths_alone():
    """Without a strength the call is the parent's, whose noise has a size of one; latents that are given stay as they
    are. Scaled before a seed is drawn or after, half the noise is another picture."""
    plain, halved = tiny_pipeline(), tiny_pipeline(edit_defaults={**EDIT_DEFAULTS, "noise_scale": 0.5})
    assert torch.equal(render(halved), render(plain))
    noise = torch.randn(1, SIDE * SIDE // 16, 16, generator=seeded(5))
    assert torch.equal(render(halved, 0.5, latents=noise), render(plain, 0.5, latents=noise))
    drawn, _, _, _ = plain.prepare_latents(None, 1, 4, SIDE, SIDE, torch.float32, torch.device("cpu"), seeded())
    assert torch.equal(render(halved, 0.5), render(plain, 0.5, latents=drawn / 2))
    assert not torch.equal(render(halved, 0.5), render(plain, 0.5))


def test_known_instructions_cannot_be_changed_from_outside():
    """They are the model's; a caller that sorts its copy must not change it."""
    pipe = tiny_pipeline(known_instructions=KNOWN_INSTRUCTIONS)
    pipe.known_instructions["snow"].clear()
    assert pipe.known_instructions == KNOWN_INSTRUCTIONS
    assert tiny_pipeline().known_instructions == {}


def test_nothing_stays_after_calls_and_exceptions(pipe):
    """A render that fails half-way must not leave the slider on."""
    add_style(pipe)
    render(pipe)  # the parent's own call leaves a registry of diffusers hooks on the transformer
    before = state_of(pipe)

    def fail(pipeline, step, timestep, tensors):
        raise KeyError

    with pytest.raises(KeyError):
        render(pipe, STRENGTHS, callback_on_step_end=fail)
    assert state_of(pipe) == before
    render(pipe, STRENGTHS)
    render(pipe)
    assert state_of(pipe) == before


def test_cpu_offload(pipe):
    """The projector must take its turn in the chain of offloaded models, before the transformer."""
    expected, plain = render(pipe, STRENGTHS), render(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(render(pipe, STRENGTHS, strength_batch_size=3), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(render(pipe), plain)
    assert pipe.transformer._hf_hook.prev_module_hook.model is pipe.slider_projector
    assert pipe.slider_projector._hf_hook.prev_module_hook.model is pipe.text_encoder_2
    pipe.remove_all_hooks()


def test_compiled_blocks_render_the_same(pipe):
    """LoRA switches and offsets must both reach compiled blocks, call after call."""
    expected, plain = {strength: render(pipe, strength) for strength in (0.25, 1.0)}, render(pipe)
    torch._dynamo.reset()
    pipe.transformer.compile_repeated_blocks(backend="eager")
    for strength, frame in expected.items():
        torch.testing.assert_close(render(pipe), plain, rtol=0, atol=1e-4)
        torch.testing.assert_close(render(pipe, strength), frame, rtol=0, atol=1e-4)
    torch._dynamo.reset()


def test_bfloat16(pipe):
    """Latents, offsets and LoRA must agree on a dtype."""
    pipe.to(torch.bfloat16)
    frames = render(pipe, STRENGTHS)
    assert frames.dtype == torch.bfloat16 and frames.isfinite().all()
    assert (frames[0] - frames[3]).abs().max() > 0.05


def test_from_pipe_keeps_the_weights(plain_pipe):
    """The usual way from a loaded FluxKontextPipeline to this one."""
    pipe = KontextSliderPipeline.from_pipe(parent_of(plain_pipe), dtype=torch.float32)
    assert pipe.transformer is plain_pipe.transformer and not pipe.has_slider
