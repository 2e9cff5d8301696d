"""Sliders of other kinds: what they condition, on disk, in pictures."""

from __future__ import annotations

import pytest
import torch

from kontext_slider import lora
from kontext_slider.checkpoint import SliderWeights
from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.modulation import token_appended
from kontext_slider.projector import NoPooledProjector, StrengthProjector, TextSpaceProjector
from kontext_slider.slider_weights import slider_on
from kontext_slider.variants import (
    load_variant,
    save_variant,
    variant_method,
    with_projector,
)
from tests.tiny import (
    EDIT_DEFAULTS,
    HIDDEN_DIM,
    INNER_DIM,
    INSTRUCTION,
    POOLED_DIM,
    TEXT_DIM,
    shake,
    tiny_image,
    tiny_pipeline,
    tiny_projector,
)

STRENGTHS = [0.0, 0.5, 1.0]
KINDS = ["text-space", "no-pooled", "embedding"]


def own(pipe, picture) -> list:
    """The pipeline's own frames, of the model's making at strength 0 too."""
    how = {"generator": torch.Generator().manual_seed(5), "output_type": "np", "source_at_zero": False}
    return list(pipe(picture, INSTRUCTION, strength=STRENGTHS, **how).images)


def fresh(kind: str) -> torch.nn.Module:
    torch.manual_seed(3)
    if kind == "text-space":
        projector = TextSpaceProjector(POOLED_DIM, HIDDEN_DIM, TEXT_DIM)
    elif kind == "embedding":
        projector = tiny_projector(place="time_text_embed")
    else:
        projector = NoPooledProjector(POOLED_DIM, HIDDEN_DIM, INNER_DIM)
    shake(projector.parameters(), 0.6)
    return projector.eval()


def inputs(**changes) -> dict:
    generator = torch.Generator().manual_seed(1)
    given = {
        "hidden_states": torch.randn(2, 8, 16, generator=generator),
        "encoder_hidden_states": torch.randn(2, 4, TEXT_DIM, generator=generator),
        "pooled_projections": torch.randn(2, POOLED_DIM, generator=generator),
        "timestep": torch.full((2,), 0.5),
        "guidance": torch.full((2,), 2.5),
        "img_ids": torch.arange(24.0).reshape(8, 3) % 5,
        "txt_ids": torch.zeros(4, 3),
    }
    return {**given, **changes}


def test_a_token_is_one_more_text_token_and_leaves_with_the_block(pipe):
    """A token that misses its position ids fails, one that stays would condition every later picture."""
    transformer, token = pipe.transformer, torch.randn(1, 1, TEXT_DIM)
    text = inputs()["encoder_hidden_states"]
    longer = inputs(encoder_hidden_states=torch.cat([text, token.expand(2, 1, -1)], 1), txt_ids=torch.zeros(5, 3))
    with torch.no_grad():
        plain, expected = transformer(**inputs()).sample, transformer(**longer).sample
        with pytest.raises(KeyError), token_appended(transformer, token):
            got = transformer(**inputs()).sample
            raise KeyError
        assert torch.equal(got, expected) and not torch.allclose(got, plain)
        assert torch.equal(transformer(**inputs()).sample, plain)
    with pytest.raises(InvalidInput, match=str(TEXT_DIM)), token_appended(transformer, torch.randn(1, 1, 8)):
        pass


@pytest.mark.parametrize("kind", ["shipped", *KINDS])
def test_a_row_without_strength_is_not_conditioned(pipe, kind):
    """Slider drop that scales offsets in the wrong row, or leaves the bias of the last layer in."""
    projector = pipe.slider_projector if kind == "shipped" else fresh(kind)
    pooled, kept = torch.randn(2, POOLED_DIM), torch.tensor([1.0, 0.0])

    def run(strength: float) -> torch.Tensor:
        with torch.no_grad(), slider_on(pipe.transformer, projector, torch.full((2,), strength), pooled, kept):
            return pipe.transformer(**inputs()).sample

    low, high = run(0.1), run(0.9)
    assert torch.equal(low[1], high[1])
    assert not torch.allclose(low[0], high[0])


def test_without_pooled_text_nothing_of_it_is_read(pipe, tmp_path):
    """An ablation that still sees the instruction ablates nothing; saved, it must stay blind as an ordinary slider."""
    projector = fresh("no-pooled")
    strengths, (one, other) = torch.tensor(STRENGTHS), torch.randn(2, 1, POOLED_DIM)
    expected = projector(strengths, one)
    assert torch.equal(expected.scale, projector(strengths, other).scale)
    save_variant(tmp_path, projector, pipe.transformer)
    pipe.load_slider(tmp_path)
    for pooled in (one, other):
        torch.testing.assert_close(pipe.slider_projector(strengths, pooled), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_renders_from_its_folder(pipe, tmp_path, kind):
    """Frames by the wrong LoRA, or a pipeline whose own slider is gone after the comparison."""
    projector = fresh(kind)
    expected = own(with_projector(pipe, projector), tiny_image())
    save_variant(tmp_path, projector, pipe.transformer)
    shake(lora.slider_lora_parameters(pipe.transformer), 0.3)
    before = own(pipe, tiny_image())
    frames = variant_method(load_variant(tmp_path))(pipe, tiny_image(), INSTRUCTION, STRENGTHS, 5)
    for frame, other in zip(frames, expected, strict=True):
        assert frame.shape == (32, 32, 3) and abs(frame - other).max() < 1e-5
    assert abs(frames[0] - frames[2]).max() > 1e-3
    after = own(pipe, tiny_image())
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("corrected", [False, True])
def test_rendering_is_the_pipelines_own(corrected):
    """An ablation rendered with other noise, steps or size than the method it is compared with, or not held to the
    source where that one is."""
    pipe = tiny_pipeline(edit_defaults={**EDIT_DEFAULTS, "anchor_source": corrected})
    weights = SliderWeights(pipe.slider_projector, lora.take_lora(pipe.transformer))
    frames = variant_method(weights)(pipe, tiny_image(40, 24), INSTRUCTION, STRENGTHS, 5)
    for frame, other in zip(frames, own(pipe, tiny_image(40, 24)), strict=True):
        assert (frame == other).all()


def test_a_tokens_folder_is_no_ordinary_slider(pipe, tmp_path):
    """Loaded as plain offsets, its weights would edit at random; a damaged folder must say so too."""
    save_variant(tmp_path, fresh("text-space"), pipe.transformer)
    with pytest.raises(CheckpointError):
        pipe.load_slider(tmp_path)
    (tmp_path / "slider_projector" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not readable|is damaged"):
        load_variant(tmp_path)


def test_projectors_start_without_effect():
    """A token or offsets that start large undo what the base model knows."""
    assert not TextSpaceProjector(8, 8, 6).zero_last_layer()(torch.tensor([0.5]), torch.randn(1, 8)).any()
    assert isinstance(NoPooledProjector(8, 8, 6).zero_last_layer().as_plain(), StrengthProjector)
