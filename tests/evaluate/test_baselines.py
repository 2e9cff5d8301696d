"""Baselines, on a tiny real-class pipeline."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kontext_slider.base_edit import edited_picture
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.baselines import BASELINES, CONCEPT_SLIDER, available, by_morpher, ours
from kontext_slider.evaluate.baselines.guidance import AdaOr
from kontext_slider.evaluate.baselines.method import ByScale
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline, tiny_transformer

STRENGTHS = (0.0, 0.5, 1.0)
METHODS = {name: method for name, method in BASELINES.items() if name != CONCEPT_SLIDER}  # see test_lora


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def from_none_to_full(name):
    """The baseline with its scale from 0 to 1 and neutral numbers beside it, whatever was chosen for it."""
    method, numbers = BASELINES[name], {"mean_scale": 1.0} if name == "grag" else {}
    return replace(method, start=0.0, end=1.0, steps=None, **numbers) if isinstance(method, ByScale) else method


@pytest.mark.parametrize(
    "name", [name for name in METHODS if name not in ("guidance-scale", "velo-edit", "flow-slider")]
)
def test_the_scale_one_is_the_base_edit(pipe, name):
    """A baseline with a mistake in it is a straw man. Left out: VeloEdit keeps some of the source at any strength, and
    FlowSlider takes another path, without noise at its start."""
    frames = from_none_to_full(name)(pipe, tiny_image(), INSTRUCTION, STRENGTHS, 0)
    assert np.abs(frames[2] - edited_picture(pipe, tiny_image(), INSTRUCTION, 0)).max() <= 1.5 / 255


@pytest.mark.parametrize("name", METHODS)
def test_a_baseline_moves_from_strength_to_strength(pipe, name):
    """With the numbers that were chosen for it: a slider whose end is its start shows one picture."""
    frames = BASELINES[name](pipe, tiny_image(), INSTRUCTION, STRENGTHS, 0)
    assert len(frames) == 3 and all(frame.shape == (32, 32, 3) for frame in frames)
    assert np.abs(frames[0] - frames[2]).max() > 1 / 255


def test_guidance_scale_at_the_models_own_is_the_base_edit(pipe):
    """Its scale is the number that the transformer embeds."""
    own = replace(BASELINES["guidance-scale"], start=pipe.defaults.guidance)
    frame = own(pipe, tiny_image(), INSTRUCTION, (0.0,), 0)[0]
    assert np.abs(frame - edited_picture(pipe, tiny_image(), INSTRUCTION, 0)).max() <= 1.5 / 255


def test_what_a_model_cannot_do_is_told():
    """Pocket embeds no guidance: a row of seven equal frames would have looked like a measurement."""
    pipe = tiny_pipeline()
    pipe.register_modules(transformer=tiny_transformer(guidance_embeds=False))
    assert set(BASELINES) - set(available(pipe)) == {"guidance-scale", CONCEPT_SLIDER}
    with pytest.raises(InvalidInput, match="embeds the guidance"):
        BASELINES["guidance-scale"](pipe, tiny_image(), INSTRUCTION, STRENGTHS, 0)


@pytest.mark.parametrize(("name", "fields"), [("cfg-scale", 2), ("velo-edit", 1)])
def test_the_step_that_all_strengths_share_is_taken_once(pipe, name, fields):
    """Else the same velocity is computed again for every strength."""
    calls: list[int] = []
    hook = pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    from_none_to_full(name)(pipe, tiny_image(), INSTRUCTION, STRENGTHS, 0)
    hook.remove()
    assert len(calls) == fields * (1 + len(STRENGTHS) * (pipe.defaults.steps - 1))


def test_ada_or_starts_from_the_root_of_the_strength():
    """At .25 the guidance starts half way from the source (0) to no edit (4), and a quarter of 8 - 4 is added: 3. From
    a quarter of the way, the baseline would be weaker than its authors made it."""
    edit = SimpleNamespace(
        text=torch.tensor(8.0),
        encode_text=lambda words: torch.tensor(4.0),
        velocity_under=lambda text: lambda z, sigma: text,
        velocity_to_source=lambda z, sigma: torch.tensor(0.0),
    )
    velocity = AdaOr().velocity_at(edit)
    assert [float(velocity(strength, None, 1.0)) for strength in (0.0, 0.25, 1.0)] == [0, 3, 8]


@pytest.mark.parametrize("name", ["pixel-cross-fade", "flow-slider"])
def test_these_start_at_the_source(pipe, name):
    """Strength 0 of a method that promises the source."""
    image = tiny_image()
    frame = from_none_to_full(name)(pipe, image, INSTRUCTION, STRENGTHS, 0)[0]
    if name == "pixel-cross-fade":
        assert np.array_equal(np.rint(frame * 255), np.asarray(image))
    else:
        latent = from_none_to_full("latent-cross-fade")(pipe, image, INSTRUCTION, STRENGTHS, 0)[0]
        assert np.abs(frame - latent).max() < 0.02, "the codec's reconstruction, not more"


def test_baselines_leave_the_pipeline_as_it_was(pipe):
    """A baseline that leaves the slider off would ruin every method measured after it."""
    image = tiny_image()
    before = ours(pipe, image, INSTRUCTION, STRENGTHS, 0)
    for method in METHODS.values():
        method(pipe, image, INSTRUCTION, (0.5,), 0)
    after = ours(pipe, image, INSTRUCTION, STRENGTHS, 0)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_morpher_becomes_a_baseline_between_source_and_edited_picture(pipe):
    """FreeMorph and its like get two pictures; given our own full edit they would be measured on our work."""
    image = tiny_image()

    def morpher(pipe, source, edited, instruction, strengths, seed):
        assert source is image and instruction == INSTRUCTION
        return [source, *[edited] * (len(strengths) - 1)]

    frames = by_morpher(morpher)(pipe, image, INSTRUCTION, STRENGTHS, 0)
    assert np.abs(frames[2] - edited_picture(pipe, image, INSTRUCTION, 0)).max() <= 0.51 / 255
    assert np.array_equal(np.rint(frames[0] * 255), np.asarray(image)) and frames[1].shape == (32, 32, 3)
