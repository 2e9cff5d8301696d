"""The weights in the box: they load in one call, are small, and do what their card says on pictures held out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel

from kontext_slider import KontextSliderPipeline, SliderEngine
from kontext_slider.evaluate.baselines import ours
from kontext_slider.evaluate.truth import photo_cases, score_case
from kontext_slider.metrics import to_image
from kontext_slider.metrics.distances import psnr
from kontext_slider.metrics.trajectory import right_object
from kontext_slider.presets import PRESETS
from kontext_slider.world.cases import HELD_OUT_SEED, draw_case, held_out_case
from kontext_slider.world.edits import EDITS

FOLDER = Path(PRESETS["pocket"].model)
PHOTOS = FOLDER.parents[1] / "assets" / "photos"
EASY = ("night", "sepia", "fog", "sunset", "black-and-white")


@pytest.fixture(scope="module")
def pocket() -> KontextSliderPipeline:
    pipe = KontextSliderPipeline.from_pretrained(FOLDER)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_it_is_made_of_the_real_classes_in_float32(pocket):
    """Half precision on a CPU is slow; a class of our own where FLUX has one would test another code path."""
    assert type(pocket.transformer) is FluxTransformer2DModel
    assert isinstance(pocket.text_encoder, CLIPTextModel) and isinstance(pocket.tokenizer, CLIPTokenizer)
    assert isinstance(pocket.text_encoder_2, T5EncoderModel)
    for module in (pocket.transformer, pocket.text_encoder, pocket.text_encoder_2, pocket.vae, pocket.slider_projector):
        assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_the_files_are_small_and_hold_no_pickle():
    """Git keeps every version of the weights for ever."""
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 30e6
    assert not [path for path in files if path.suffix in (".bin", ".pth", ".pt", ".pkl")]
    assert json.loads((FOLDER / "model_index.json").read_text())["_class_name"] == "KontextSliderPipeline"


@pytest.mark.parametrize("edit", EASY)
def test_edits_of_scenes_come_near_the_truth_at_every_strength(pocket, edit):
    """Weights of another run, or a slider that is not connected, would pass every test on random weights."""
    case = held_out_case(list(EDITS).index(edit), 256)
    for score in score_case(pocket, case, (0.0, 0.5, 1.0), seed=3):
        assert score.psnr > 30, score
        assert abs(score.progress - score.true_progress) < 0.1, score
    assert score.psnr > score.untouched + 12, score


@pytest.mark.parametrize("edit", ["cloudy", "taller-mountains"])
def test_edits_of_the_scene_are_made(pocket, edit):
    """The first weights left objects as they were, which scores well wherever the object is small."""
    scores = []
    for index in range(4):
        case = draw_case(EDITS[edit], np.random.default_rng((HELD_OUT_SEED, 9, index)), 256)
        scores += score_case(pocket, case, (0.0, 1.0), seed=3)[1:]
    assert np.mean([score.psnr - score.untouched for score in scores]) > 2, scores


def test_the_object_that_is_named_is_the_one_that_changes(pocket):
    """The third weights changed the wrong object in two scenes of three, and no decibel said so."""
    hits = []
    for index in range(10):
        edit = EDITS[("recolour-red", "recolour-blue", "glass", "wood", "smaller")[index % 5]]
        rng = np.random.default_rng((HELD_OUT_SEED, 11, index))
        case = draw_case(edit, rng, 256)
        while case.others is None or not case.others.any():
            case = draw_case(edit, rng, 256)
        (frame,) = ours(pocket, to_image(case.source), case.instruction, (1.0,), seed=3)
        hits.append(right_object(case.source, frame, case.truth(1.0), case.mask, case.others))
    assert sum(hits) >= 9, hits


def test_strength_zero_is_the_photograph(pocket):
    """What the codec loses must not look like an edit."""
    photo = Image.open(PHOTOS / "cat.jpg")
    with SliderEngine(pocket).open(photo, "make it snow") as session:
        assert session.render(0.0).tobytes() == session.source.tobytes()


def test_beyond_one_the_night_grows_darker(pocket):
    """A periodic encoding would turn back to the day."""
    photo = Image.open(PHOTOS / "cat.jpg")
    with SliderEngine(pocket).open(photo, "make it night", allow_extrapolation=True) as session:
        light = [np.asarray(session.render(strength)).mean() for strength in (0.8, 1.0, 1.2, 1.4)]
    assert light == sorted(light, reverse=True) and light[-1] < 0.9 * light[1]


def test_a_photograph_turns_to_night(pocket):
    """The drawn world must carry over to photographs: that is what people upload."""
    (case,) = [case for case in photo_cases([PHOTOS / "cat.jpg"], 256, 16) if case.edit == "night"]
    for score in score_case(pocket, case, (0.0, 0.5, 1.0), seed=3):
        assert score.psnr > 29, score


def test_the_slider_moves_one_way(pocket):
    """A slider that turns back somewhere is worse than none."""
    photo = Image.open(PHOTOS / "coffee.jpg")
    with SliderEngine(pocket).open(photo, "make it sepia", size=128, steps=6) as session:
        frames = [np.asarray(frame, dtype=np.float32) / 255 for _, frame in session.sweep(5)]
    distances = [psnr(frame, frames[0]) for frame in frames]
    assert all(a > b for a, b in zip(distances, distances[1:], strict=False)), distances


def test_without_strength_it_is_the_plain_pipeline(pocket):
    """The base model's own edit must stay reachable, bit for bit."""
    photo = Image.open(PHOTOS / "cat.jpg").resize((96, 64))
    call = {"height": 64, "width": 96, "max_area": 64 * 96, "_auto_resize": False, "num_inference_steps": 2}
    call |= {"max_sequence_length": 16, "output_type": "latent"}
    base = {name: part for name, part in pocket.components.items() if name != "slider_projector"}
    ours = pocket(photo, "make it night", generator=torch.Generator().manual_seed(0), **call).images
    plain = FluxKontextPipeline(**base)
    plain.set_progress_bar_config(disable=True)
    theirs = plain(photo, "make it night", generator=torch.Generator().manual_seed(0), **call).images
    assert torch.equal(ours, theirs)
