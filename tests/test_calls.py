"""Arguments of calls with strengths: bound, completed by the model's own defaults, refused with a sentence."""

from __future__ import annotations

import inspect
import random

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline
from PIL import Image

from kontext_slider import EditDefaults, KontextSliderPipeline
from kontext_slider.calls import complete_arguments, parent_output_size
from kontext_slider.errors import InvalidInput
from tests.renders import STRENGTHS, render, seeded
from tests.tiny import (
    EDIT_DEFAULTS,
    INSTRUCTION,
    PLAIN,
    SIDE,
    tiny_image,
    tiny_pipeline,
)


def test_signature_is_the_parents_and_five_more():
    """Tools that read signatures, and callers that pass positions, must find the parent's parameters in place."""
    parent = list(inspect.signature(FluxKontextPipeline.__call__).parameters)
    own = inspect.signature(KontextSliderPipeline.__call__).parameters
    more = ["strength", "strength_batch_size", "allow_extrapolation", "full_size", "source_at_zero"]
    assert list(own) == [*parent, *more]
    assert own["strength"].default is None and own["num_inference_steps"].default == 28
    assert "strength_batch_size" in KontextSliderPipeline.__call__.__doc__


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_bad_batch_sizes(pipe, size):
    """range() with a step of zero has a message nobody understands."""
    with pytest.raises(InvalidInput, match="strength_batch_size"):
        render(pipe, STRENGTHS, strength_batch_size=size)


@pytest.mark.parametrize("instruction", ["", "   ", [""]])
def test_empty_instructions(pipe, instruction):
    """An empty box in an interface must not start a render."""
    with pytest.raises(InvalidInput, match="instruction"):
        pipe(tiny_image(), instruction, strength=0.5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": ["one", "two"]},
        {"image": [tiny_image(), tiny_image()]},
        {"num_images_per_prompt": 2},
        {"generator": [seeded(), seeded()]},
        {"latents": torch.zeros(3, 64, 16)},
    ],
)
def test_several_edits_in_one_call_are_refused(pipe, arguments):
    """Pairing prompts with strengths by position is a guess; the message says what to do instead."""
    with pytest.raises(InvalidInput, match="strength"):
        pipe(**{"image": tiny_image(), "prompt": "snow", "strength": [0.0, 1.0], **arguments})


def test_lists_of_one_are_accepted(pipe):
    """Generic code passes lists."""
    listed = pipe(
        [tiny_image()], [INSTRUCTION], strength=[0.5], generator=[seeded()], output_type="latent", **PLAIN
    ).images
    assert torch.equal(listed, render(pipe, 0.5))


def test_the_parents_own_complaints_remain(pipe):
    """Our encoding in front of the parent's must not hide its checks."""
    with pytest.raises(ValueError, match="prompt"):
        pipe(tiny_image(), strength=0.5)
    with pytest.raises(ValueError, match="max_sequence_length"):
        pipe(tiny_image(), "snow", strength=0.5, max_sequence_length=1000)
    with pytest.raises(TypeError, match="strenght"):
        pipe(tiny_image(), "snow", strenght=0.5)
    with pytest.raises(TypeError, match="steps"):
        pipe(tiny_image(), "snow", strength=0.5, steps=3)


def test_edit_defaults_fill_in(pipe):
    """`pipe(image, instruction, strength=s)` must do the sensible thing on a model that is not FLUX-sized."""
    assert pipe.defaults == EditDefaults(**EDIT_DEFAULTS)
    image = tiny_image(300, 150)
    frame = pipe(image, INSTRUCTION, strength=0.5, generator=seeded()).images[0]
    width, height = frame.size
    assert width / height == pytest.approx(2, rel=0.2) and width * height == pytest.approx(SIDE**2, rel=0.2)
    by_hand = pipe(
        image.resize((width, height), 1), INSTRUCTION, strength=0.5, generator=seeded(), height=height, width=width,
        max_area=width * height, _auto_resize=False, num_inference_steps=2, guidance_scale=2.5,
        max_sequence_length=16,
    ).images[0]  # fmt: skip
    assert frame.size == by_hand.size


def test_what_the_caller_gives_wins(pipe):
    """Defaults that overwrite arguments are not defaults."""
    steps = []
    frame = pipe(
        tiny_image(64, 64), INSTRUCTION, strength=0.5, height=16, width=24, num_inference_steps=3,
        callback_on_step_end=lambda pipeline, step, t, tensors: steps.append(step) or {},
    ).images[0]  # fmt: skip
    assert frame.size == (24, 16) and steps == [0, 1, 2]
    assert pipe(tiny_image(64, 32), INSTRUCTION, strength=0.5, height=16).images[0].size == (32, 16)
    assert pipe(tiny_image(64, 64), INSTRUCTION, strength=0.5, max_area=16 * 16).images[0].size == (16, 16)
    assert pipe(tiny_image(20, 12), INSTRUCTION, strength=0.5, **PLAIN).images[0].size == (SIDE, SIDE)


@pytest.mark.parametrize("asked", ["nothing", "its own size", "height", "width", "max_area", "all"])
def test_the_source_goes_in_at_the_size_of_its_frames(pipe, asked):
    """Sides were rounded twice: a source that is not as large as its frames is distorted, or refused."""
    rng = random.Random(0)
    for _ in range(300):
        width, height = rng.randint(20, 90), rng.randint(20, 90)
        options = {
            "nothing": {},
            "its own size": {"height": height, "width": width},
            "height": {"height": height},
            "width": {"width": width},
            "max_area": {"max_area": width * height},
            "all": {"height": height, "width": width, "max_area": SIDE * SIDE},
        }[asked]
        call = complete_arguments(pipe, {"image": Image.new("RGB", (width, height)), **options}, pipe.defaults)
        size = parent_output_size(pipe, call["height"], call["width"], call["max_area"])
        assert call["image"].size == size[::-1], (width, height)


@pytest.mark.parametrize("kind", ["np", "pt", "latents", "none"])
def test_defaults_take_every_kind_of_source(pipe, kind):
    """The parent takes arrays, tensors, latents and no image at all."""
    array = np.asarray(tiny_image(64, 32), dtype=np.float32)[None] / 255
    image = {
        "np": array,
        "pt": torch.from_numpy(array).permute(0, 3, 1, 2),
        "latents": torch.randn(1, 4, 8, 16),
        "none": None,
    }[kind]
    size = pipe(image, INSTRUCTION, strength=0.5).images[0].size
    assert size == {"np": (48, 24), "pt": (48, 24), "latents": (32, 16), "none": (SIDE, SIDE)}[kind]


def test_without_edit_defaults_the_parents_hold(monkeypatch):
    """FLUX Kontext itself keeps its megapixel, 28 steps and guidance 3.5."""
    pipe = tiny_pipeline(edit_defaults=None)
    assert pipe.defaults == EditDefaults()
    calls = []

    def call(self, **kwargs):
        calls.append(kwargs)
        raise KeyboardInterrupt

    pipe.default_sample_size = 8
    monkeypatch.setattr(FluxKontextPipeline, "__call__", call)
    with pytest.raises(KeyboardInterrupt):
        pipe(torch.randn(1, 4, 8, 8), INSTRUCTION, strength=0.5, max_area=SIDE * SIDE)
    (given,) = calls
    assert (given["num_inference_steps"], given["guidance_scale"], given["max_sequence_length"]) == (28, 3.5, 512)
    assert (given["height"], given["width"], given["prompt"]) == (SIDE, SIDE, None)


def test_a_path_is_a_picture(pipe, tmp_path):
    """The engine takes paths; here one was an error about the shape of a text."""
    tiny_image(48, 24).save(tmp_path / "a.png")
    by_path, by_image = (
        np.asarray(pipe(image, INSTRUCTION, strength=0.5, generator=seeded()).images[0])
        for image in (tmp_path / "a.png", Image.open(tmp_path / "a.png"))
    )
    np.testing.assert_array_equal(by_path, by_image)
