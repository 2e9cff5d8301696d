"""The comparison on drawn scenes, on a tiny real-class pipeline."""

from dataclasses import replace

import numpy as np
import pytest

from kontext_slider.evaluate import compare
from kontext_slider.evaluate.baselines import BASELINES, ours
from kontext_slider.evaluate.compare import NUM_LEVELS, Reference, measure_edit, measure_sweep
from kontext_slider.evaluate.results import STRENGTHS, Result
from kontext_slider.evaluate.rows import ANCHOR, ANCHOR_ALONE, CEILING, CROSS_FADE, OURS, OWN_FADE, Setup
from kontext_slider.images import read_image
from kontext_slider.metrics.distances import psnr, rms
from kontext_slider.world.cases import Case, draw_cases
from kontext_slider.world.edits import EDITS
from tests.tiny import tiny_image, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def cases():
    return {case.edit: case for case in draw_cases(len(EDITS), 32, seed=0)}


def setup_of(pipe, **others) -> Setup:
    return Setup(pipe, rulers, **others)


def rulers(pictures):
    return {"rms": rms(pictures), "twice": 2 * rms(pictures)}


def test_measures_of_one_edit(pipe, cases, tmp_path):
    """Every measure is a finite number, for ours, its parts and a baseline, against one reference."""
    setup = setup_of(pipe, baselines={"fade": BASELINES["latent-cross-fade"]})
    rows = measure_edit(setup, cases["smaller"], seed=0, strip=tmp_path / "strip.jpg").results
    fade = rows[CROSS_FADE]
    assert fade.smoothness["rms"].delta_smooth < 0.05, "a cross-fade is straight in pixels"
    assert fade.measures.full_psnr_gap == pytest.approx(0, abs=0.1)
    own = (OURS, OURS + ANCHOR, OWN_FADE, ANCHOR_ALONE, CROSS_FADE)
    assert list(rows) == [*own, "fade", "fade" + ANCHOR, CEILING]
    for row in rows.values():
        numbers = [*vars(row.measures).values(), *vars(row.smoothness["rms"]).values()]
        assert all(value is not None and np.isfinite(value) for value in numbers)
        assert vars(row.smoothness["rms"]) == pytest.approx(vars(row.smoothness["twice"]))
        assert row.curves["rms"] == pytest.approx(row.curves["twice"])
        assert len(row.curves["rms"]) == len(STRENGTHS) and row.curves["rms"][0] == 0
    assert read_image(tmp_path / "strip.jpg").height > 100 * len(rows)


def test_the_truth_itself_is_perfect_but_for_the_codec(pipe, cases, monkeypatch):
    """Measures by which the truth does not score best measure something else."""
    monkeypatch.setattr(compare, "coded", lambda pipe, picture: picture)
    row = measure_edit(setup_of(pipe), cases["recolour-red"], seed=0).results[CEILING]
    assert row.measures.truth_psnr == row.measures.full_psnr == 99 and row.curves["rms"][-1] == pytest.approx(1)
    assert row.measures.calibration_error < 0.01 and row.measures.leakage < 0.002 and row.measures.right_object == 1
    assert row.smoothness["rms"].monotonicity == pytest.approx(1)


def grey(value: float) -> np.ndarray:
    return np.full((8, 8, 3), value, np.float32)


@pytest.fixture
def off_by_a_tenth() -> Result:
    """Black that goes to .6: frames are .1 too light, that at strength 0 is .01 too light; the codec has 50 dB."""
    case = Case("scene", "lighter", "make it lighter", grey(0), lambda strength: grey(0.6 * strength))
    reference = Reference(
        case,
        [case.truth(level / NUM_LEVELS) for level in range(NUM_LEVELS + 1)],
        zero=50.0,
        full=23.0,
        whole={"rms": 0.6, "twice": 1.2},
    )
    frames = [grey(0.01), *(grey(0.6 * strength + 0.1) for strength in STRENGTHS[1:])]
    return measure_sweep(reference, frames, rulers)


def test_gaps_are_what_is_lost(off_by_a_tenth):
    """With the sign turned, the method that ruins the source at strength 0 would lead the table."""
    assert off_by_a_tenth.measures.zero_psnr_gap == pytest.approx(50 - 40, abs=1e-3)
    assert off_by_a_tenth.measures.full_psnr_gap == pytest.approx(23 - 20, abs=1e-3)


def test_the_mean_to_the_truth_leaves_strength_0_out(off_by_a_tenth):
    """A corrected slider has 99 dB there, which would lift this mean of 20 to 31. A grid of truths that misses k/6
    would blame every method for its steps: then no frame were off by a tenth alone."""
    assert off_by_a_tenth.measures.truth_psnr == pytest.approx(20, abs=1e-3)


def test_a_sweep_starts_at_the_source_and_not_at_the_frame_of_strength_0(off_by_a_tenth):
    """From its own frame at 0, what a method loses there is free: .19 of .6 for the first step, and not .2."""
    assert off_by_a_tenth.curves["rms"][:2] == pytest.approx([0, 0.2 / 0.6], abs=1e-4)


def test_the_loss_of_other_words_is_in_decibels_of_the_full_edit(pipe, cases):
    """Compared at all strengths, six sevenths of the gap would be hidden; with the sign turned, a loss is praised."""
    case, image = cases["night"], tiny_image()
    source = np.asarray(image, np.float32) / 255
    case = replace(case, source=source, truth=lambda s: other if s == 1 else source)
    (other,) = ours(pipe, image, case.held_out_instruction, (1.0,), 0)
    found = measure_edit(setup_of(pipe), case, 0)
    assert case.instruction != case.held_out_instruction
    assert found.results[OURS].measures.full_psnr < 90 and psnr(other, case.truth(1)) == 99
    assert found.phrasing_loss == pytest.approx(found.results[OURS].measures.full_psnr - 99, abs=1e-6)
