"""Strength 0 as the source itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider import KontextSliderPipeline, SliderEngine
from kontext_slider.errors import InvalidInput
from kontext_slider.residual import correct
from tests.engine.helpers import reference
from tests.tiny import tiny_pipeline

DEFAULTS = {"size": 64, "steps": 2, "max_sequence_length": 16}


@pytest.fixture
def pipe():
    pipe = tiny_pipeline()
    pipe.register_to_config(edit_defaults={**DEFAULTS, "anchor_source": True})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(width: int = 64, height: int = 64) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


def sweep(pipe, strengths, **kwargs):
    return pipe(
        picture(), "make it snow", strength=strengths, generator=torch.Generator().manual_seed(0), **kwargs
    ).images


def test_the_share_falls_from_all_to_nothing():
    """A share left over at 1 would mix the source into the full edit."""
    frames, lost = torch.full((4, 3, 2, 2), 0.4), torch.full((1, 3, 2, 2), 0.2)
    shares = correct(frames, [0.0, 0.5, 1.0, 1.5], lost)[:, 0, 0, 0] - 0.4
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.1, 0.0, 0.0]))


def test_strength_zero_is_the_source_and_full_strength_the_models(pipe):
    """What a codec loses must not look like an edit, and the edit must not change because of it."""
    frames = sweep(pipe, [0.0, 0.5, 1.0], output_type="np")
    pipe.register_to_config(edit_defaults=DEFAULTS)
    plain = sweep(pipe, [0.0, 0.5, 1.0], output_type="np", source_at_zero=False)
    source = np.asarray(picture(), dtype=np.float32) / 255
    assert np.abs(frames[0] - source).max() < 1e-5 and np.abs(plain[0] - source).max() > 0.01
    assert np.abs(frames[2] - plain[2]).max() < 1e-5
    assert np.allclose(frames[1], np.clip(plain[1] + 0.5 * (source - plain[0]), 0, 1), atol=1e-4)


@pytest.mark.parametrize("size", [1, 2])
def test_batches_and_kinds_of_output_agree(pipe, size):
    """The frame at 0 that the correction needs belongs to no batch of the caller's."""
    together = sweep(pipe, [0.2, 0.7], output_type="pt")
    apart = sweep(pipe, [0.2, 0.7], output_type="pt", strength_batch_size=size)
    torch.testing.assert_close(apart, together, rtol=0, atol=1e-3)
    images = sweep(pipe, [0.2, 0.7])
    assert len(images) == 2
    assert np.abs(np.asarray(images[1]) / 255 - together[1].permute(1, 2, 0).numpy()).max() < 0.51 / 255 + 1e-4


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strength_zero_is_the_source_to_the_bit_with_and_without_anchor(pipe, anchored, dtype):
    """Without an anchor a call showed what the model makes of 0; with one, bfloat16 rounded the source."""
    pipe.register_to_config(edit_defaults={**DEFAULTS, "anchor_source": anchored})
    pipe.to(dtype)
    frames, alone = (sweep(pipe, s, strength_batch_size=1) for s in ([0.4, 0.0, 1.0, 0.0], [0.4, 1.0]))
    assert [frame.tobytes() == picture().tobytes() for frame in frames] == [False, True, False, True]
    assert [frame.tobytes() for frame in frames[::2]] == [frame.tobytes() for frame in alone]
    assert sweep(pipe, [0.0], output_type="pt").dtype == dtype


def test_the_source_is_not_denoised_without_anchor(pipe, monkeypatch):
    """A frame that is thrown away costs as much as one that is shown."""
    pipe.register_to_config(edit_defaults=DEFAULTS)
    asked: list[float] = []
    pipe.slider_projector.register_forward_pre_hook(lambda _, args: asked.extend(args[0].tolist()))
    assert len(sweep(pipe, [0.0, 0.5])) == 2 and asked == [0.5]
    assert np.abs(sweep(pipe, [0.0, 0.0], output_type="np")[1] * 255 - np.asarray(picture())).max() < 1e-3
    assert asked == [0.5]


def test_a_source_of_another_size_is_refused_at_zero_with_the_size_to_give(pipe):
    """FLUX's own default sizes are square: a wide source would come back squeezed, or somebody's list of strengths
    would fail without a way out."""
    pipe.register_to_config(edit_defaults=None)
    call = {"num_inference_steps": 1, "max_sequence_length": 16, "generator": torch.Generator().manual_seed(0)}
    given = {**call, "_auto_resize": False, "strength": [0.0, 1.0]}
    small = {"height": 32, "width": 32, "max_area": 1024}
    with pytest.raises(InvalidInput, match="give height=32, width=48 and max_area=1536, or source_at_zero=False"):
        pipe(picture(48, 32), "make it snow", **given, **small)
    assert len(pipe(picture(48, 32), "make it snow", **given, **small, source_at_zero=False).images) == 2
    frames = pipe(picture(48, 32), "make it snow", **given, height=32, width=48, max_area=1536).images
    assert frames[0].tobytes() == picture(48, 32).tobytes()


def encoded_source(pipe) -> torch.Tensor:
    """The picture's latents (1, 4, h, w)."""
    pixels = pipe.image_processor.preprocess(picture())
    with torch.no_grad():
        return pipe._encode_vae_image(pixels, torch.Generator().manual_seed(0))


def packed(latents: torch.Tensor) -> torch.Tensor:
    rows, channels, height, width = latents.shape
    return KontextSliderPipeline._pack_latents(latents, rows, channels, height, width)


def test_latents_are_held_to_the_sources(pipe):
    """A slider that is trained as it is shown makes of strength 0 what only the correction turns into the source."""
    latents = sweep(pipe, [0.0, 0.7, 1.0], output_type="latent")
    pipe.register_to_config(edit_defaults=DEFAULTS)
    plain = sweep(pipe, [0.0, 0.7, 1.0], output_type="latent", source_at_zero=False)
    source = packed(encoded_source(pipe))
    assert (plain[:1] - source).abs().max() > 0.01
    torch.testing.assert_close(latents[:1], source, rtol=0, atol=1e-5)
    torch.testing.assert_close(latents[1:2], plain[1:2] + 0.3 * (source - plain[:1]), rtol=0, atol=1e-4)
    torch.testing.assert_close(latents[2], plain[2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_an_interrupt_before_the_first_strength_is_no_error(pipe, output_type):
    """The frame at 0 comes first: a call that ends with it has no frame to give."""

    def stop(pipeline, step, timestep, tensors):
        pipeline._interrupt = True
        return {}

    options = {"strength_batch_size": 1, "callback_on_step_end": stop, "output_type": output_type}
    assert len(pipe(picture(), "make it snow", strength=[0.2, 0.5], **options).images) == 0


def test_frames_of_another_size_than_the_source_are_refused(pipe):
    """There is nothing to hold them to, and what the model makes of strength 0 may be anything."""
    with pytest.raises(InvalidInput, match="size"):
        sweep(pipe, [0.5], height=32, width=96)
    assert len(sweep(pipe, [1.0], height=32, width=96)) == 1


def test_a_session_renders_what_the_pipeline_renders(pipe):
    """Two ways to one frame must agree, whichever strength is asked for first."""
    engine = SliderEngine(pipe)
    for order in ([0.3, 0.0, 1.0], [1.0, 0.0, 0.3]):
        with engine.open(picture(), "make it snow", size=64) as session:
            for strength in order:
                frame = np.asarray(session.render(strength), dtype=int)
                assert np.abs(frame - np.asarray(reference(pipe, session, strength), dtype=int)).max() <= 1
            assert session.render(0.0).tobytes() == session.source.tobytes()
        engine.clear()


def test_the_loss_is_denoised_once_for_an_edit(pipe):
    """Paid for every frame it would halve the speed of the slider."""
    calls: list[float] = []
    pipe.slider_projector.register_forward_pre_hook(lambda _, args: calls.extend(round(s, 2) for s in args[0].tolist()))
    engine = SliderEngine(pipe)
    with engine.open(picture(), "make it snow") as session:
        list(session.sweep(5))
    with engine.open(picture(), "make it snow") as session:
        session.render(0.33)
    assert sorted(calls) == [0.0, 0.25, 0.33, 0.5, 0.75, 1.0]


def test_a_session_that_goes_further_finds_the_frames_of_one_that_does_not(pipe):
    """How far a slider may go is no part of what a frame looks like."""
    engine = SliderEngine(pipe)
    with engine.open(picture(), "make it snow") as session:
        session.render(0.5)
    with engine.open(picture(), "make it snow", allow_extrapolation=True) as session:
        assert session.has(0.5)


def test_a_session_goes_beyond_one_only_where_it_was_opened_so(pipe):
    """Extrapolation is a choice."""
    engine = SliderEngine(pipe)
    with engine.open(picture(), "make it snow") as session, pytest.raises(ValueError, match="strength"):
        session.render(1.2)
    with engine.open(picture(), "make it snow", allow_extrapolation=True) as session:
        beyond = np.asarray(session.render(1.4), dtype=int)
        assert np.abs(beyond - np.asarray(session.render(1.0), dtype=int)).max() > 0
    assert len(sweep(pipe, [0.5, 1.4], allow_extrapolation=True)) == 2
    with pytest.raises(ValueError, match="strength"):
        sweep(pipe, [1.4])
