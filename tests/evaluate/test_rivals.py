"""Rivals and the comparison, on a tiny real-class pipeline."""

import csv
import json

import numpy as np
import pytest
import torch

from kontext_slider.cli import main
from kontext_slider.evaluate.compare import Measures, draw_cases, interval, means, measure_case, table
from kontext_slider.evaluate.distance import rms
from kontext_slider.evaluate.rivals import RIVALS, base_edit, ours
from kontext_slider.train.pocket.edits import EDITS
from tests.tiny import INSTRUCTION, PLAIN, tiny_image, tiny_pipeline

STRENGTHS = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_ends_at_the_base_edit_and_moves_on_the_way(pipe, name):
    """A rival with a mistake in it is a straw man. VeloEdit keeps some of the source at any strength, and
    FlowSlider takes another path, without noise at its start."""
    image = tiny_image()
    frames = RIVALS[name](pipe, image, INSTRUCTION, STRENGTHS, 0)
    assert len(frames) == 3 and all(frame.shape == (32, 32, 3) for frame in frames)
    assert np.abs(frames[0] - frames[2]).max() > 1 / 255
    if name not in ("velo-edit", "flow-slider"):
        assert np.abs(frames[2] - base_edit(pipe, image, INSTRUCTION, 0)).max() <= 1.5 / 255


@pytest.mark.parametrize("name", ["pixel-cross-fade", "flow-slider"])
def test_these_start_at_the_source(pipe, name):
    """Strength 0 of a method that promises the source."""
    image = tiny_image()
    frame = RIVALS[name](pipe, image, INSTRUCTION, STRENGTHS, 0)[0]
    if name == "pixel-cross-fade":
        assert np.array_equal(np.rint(frame * 255), np.asarray(image))
    else:
        latent = RIVALS["latent-cross-fade"](pipe, image, INSTRUCTION, STRENGTHS, 0)[0]
        assert np.abs(frame - latent).max() < 0.02, "the codec's reconstruction, not more"


def test_the_base_edit_is_the_plain_pipelines(pipe):
    """All rivals step through the same loop: if it were not the pipeline's, they would be rivals of another model."""
    image = tiny_image()
    call = {**PLAIN, "guidance_scale": pipe.defaults.guidance, "generator": torch.Generator().manual_seed(0)}
    plain = pipe(image, INSTRUCTION, **call, output_type="np").images[0]
    assert np.abs(base_edit(pipe, image, INSTRUCTION, 0) - plain).max() <= 1 / 255


def test_rivals_leave_the_pipeline_as_it_was(pipe):
    """A rival that leaves the slider off would ruin every method measured after it."""
    image = tiny_image()
    before = ours(pipe, image, INSTRUCTION, STRENGTHS, 0)
    for method in RIVALS.values():
        method(pipe, image, INSTRUCTION, (0.5,), 0)
    after = ours(pipe, image, INSTRUCTION, STRENGTHS, 0)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_cases_take_every_edit_in_turn():
    """A hundred edits that are all "night" are one edit."""
    cases = draw_cases(len(EDITS) + 3, 32, seed=5)
    assert [case.edit for case in cases[: len(EDITS)]] == list(EDITS)
    assert len(cases) == len(EDITS) + 3
    again = draw_cases(len(EDITS) + 3, 32, seed=5)
    assert all(np.array_equal(a.source, b.source) for a, b in zip(cases, again, strict=True))


def test_measures_of_one_edit(pipe):
    """Every measure is a finite number, for ours and for a rival."""
    case = next(case for case in draw_cases(len(EDITS), 32, seed=0) if case.edit == "smaller")
    rows = measure_case(pipe, case, {"ours": ours, "fade": RIVALS["pixel-cross-fade"]}, rms, seed=0)
    assert rows["fade"].delta_smooth < 0.05, "a cross-fade is straight in pixels"
    assert rows["fade"].full_psnr_gap == pytest.approx(0, abs=0.1)
    for row in rows.values():
        assert all(value is not None and np.isfinite(value) for value in vars(row).values())


def row(leak: float | None, smooth: float) -> Measures:
    return Measures(smooth, 0.2, 0.1, 1.0, 0.05, 30.0, leak, 0.1, 0.2)


def test_means_skip_what_has_no_value_and_intervals_hold_the_mean():
    """Global edits have no outside; counting them as no leakage would flatter."""
    rows = [row(None, 0.1), row(0.2, 0.3)]
    assert means(rows)["leakage"] == pytest.approx(0.2)
    assert means(rows)["delta_smooth"] == pytest.approx(0.2)
    values = np.linspace(0, 1, 50)
    low, high = interval(values)
    assert low < values.mean() < high
    assert "0.2 ±" in table({"ours": rows})


def test_the_command_writes_its_report(pipe, tmp_path):
    """The JSON is one flat object with the rivals beside it."""
    pipe.save_pretrained(tmp_path / "model")
    out = tmp_path / "report"
    code = main([
        "evaluate", "--model", str(tmp_path / "model"), "--edits", "2", "--seed", "1", "--out", str(out),
        "--rivals", "pixel-cross-fade", "--json", str(tmp_path / "figures.json"), "--distance", "rms",
    ])  # fmt: skip
    assert not code
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"delta_smooth", "delta_first", "linearity_error", "calibration_error", "monotonicity"} <= set(figures)
    assert {"truth_psnr", "zero_psnr_gap", "full_psnr_gap"} <= set(figures)
    assert set(figures["rivals"]) == {"pixel-cross-fade"}
    with open(out / "rivals.csv") as file:
        assert len(list(csv.DictReader(file))) == 4
    assert "--edits 2 --seed 1" in (out / "rivals.md").read_text()
