"""What a comparison is written as, of results made by hand."""

import json

import pytest

from kontext_slider.evaluate.compare import Comparison, Measures
from kontext_slider.evaluate.report import figures, report, write_truth
from kontext_slider.evaluate.results import STRENGTHS, MeasuredEdit, Result
from kontext_slider.evaluate.rows import ANCHOR, CEILING, CROSS_FADE, OURS, Rows
from kontext_slider.evaluate.truth import Score
from kontext_slider.metrics.trajectory import Smoothness

NIGHT, FOG, SMALLER = ("night", "whole picture"), ("fog", "whole picture"), ("smaller", "object")


def result(decibels: float, deficit: float = 0.1) -> Result:
    """One method on one edit: rough by SSIM, half as rough by RMS."""
    smoothness = {"ssim": Smoothness(deficit, 0.2, 0.1, 1.0), "rms": Smoothness(deficit / 2, 0.2, 0.1, 1.0)}
    measures = Measures(0.05, decibels, 29.0, None, 0.1, 0.2, None)
    return Result(measures, smoothness, {"ssim": list(STRENGTHS)})


def comparison(offered: str = "night", *beyond: float, seed: int = 100, ablations=None, anchored=True) -> Comparison:
    """Of a night, a fog and a smaller ball: the slider has 2, 2 and 5 dB more than the cross-fade. `beyond`: dB there,
    a night for each. `ablations`: name -> the dB of its runs."""
    runs = {name: [f"{name}, run {n}" for n in range(len(values))] for name, values in (ablations or {}).items()}
    names = {name: tuple(each) for name, each in runs.items()}
    anchors = {run: False for each in names.values() for run in each}
    rows = Rows((OURS, CROSS_FADE), ("cfg-scale", "cfg-scale" + ANCHOR), names, anchors)
    edits = []
    for (edit, kind), gain in ((NIGHT, 2.0), (FOG, 2.0), (SMALLER, 5.0)):
        results = {OURS: result(30 + gain), CROSS_FADE: result(30.0), CEILING: result(47.0, 0.02)}
        results |= {row: result(28.0) for row in rows.baselines}
        for name, values in (ablations or {}).items():
            results |= {run: result(value) for run, value in zip(runs[name], values, strict=True)}
        facts = {"edit": edit, "kind": kind, "instruction": edit, "seed": seed}
        edits.append(MeasuredEdit(facts, {row: results[row] for row in (*rows.all, CEILING)}))
    edits += [MeasuredEdit(edits[0].facts, edits[0].results, beyond={"slider": [30, 29, db]}) for db in beyond]
    return Comparison(edits, rows, anchored, frozenset({offered}))


def page(found: Comparison) -> str:
    return "\n".join(report(found, "the command"))


def test_the_headline_is_the_gain_over_the_cross_fade():
    """A page that begins with smoothness, in which a cross-fade leads, or with dB that the base's edit has too."""
    found = figures(comparison())
    assert found["slider_gain_over_crossfade_db"] == pytest.approx(3) and list(found)[0].startswith("slider_gain")
    low, high = found["slider_gain_over_crossfade_db_interval"]
    assert 2 <= low < 3 < high <= 5
    by_kind = found["gain_over_crossfade_db"][OURS]
    assert by_kind["objects"]["mean"] == 5 and by_kind["whole pictures"]["mean"] == 2
    assert (
        by_kind["objects"]["num_edits"] == 1 and found["gain_over_crossfade_db"]["cfg-scale"]["all edits"]["mean"] == -2
    )
    assert found["delta_smooth_minus_truth"]["ssim"] == {"mean": 0.08, "low": 0.08, "high": 0.08, "num_edits": 3}
    lines = page(comparison()).splitlines()
    assert "+3.00 (+2.00 to" in lines[1] and "objects +5.00 (one edit, no interval)" in lines[1]
    assert "released weights has no anchor" in lines[1]
    assert "released weights" not in page(comparison(anchored=False))


def test_smoothness_is_shown_by_every_ruler_and_the_fitted_one_says_so():
    """By a ruler that the spacing of the edits was fitted to, whoever learned the spacing looks smooth."""
    found = figures(comparison())
    for row in (found, found["ceiling"], *found["parts"].values(), *found["rivals"].values()):
        assert row["by_ruler"]["rms"]["delta_smooth"] == pytest.approx(row["by_ruler"]["ssim"]["delta_smooth"] / 2)
        assert row["delta_smooth"] == row["by_ruler"]["ssim"]["delta_smooth"]
    text = page(comparison())
    assert "| delta smooth | ssim | rms (fitted to) |" in text and "judged by ssim." in text


def test_offered_edits_are_compared_on_the_same_edits_and_on_scenes_that_chose_nothing():
    """The better edits of ours stood beside all edits of the others, and seed 0 had chosen which those were."""
    found = figures(comparison())["offered"]
    assert set(found) == {OURS, CROSS_FADE, "cfg-scale", "cfg-scale" + ANCHOR, CEILING}
    assert found[OURS]["truth_psnr"] == 32
    assert "## Against the ground truth, on the 1 edits that the model offers" in page(comparison())
    chosen = comparison(seed=0)
    assert figures(chosen)["offered"] == {} and not figures(chosen)["is_for_reporting"]
    assert "that the model offers" not in page(chosen).split("## What")[1] and "Do not report" in page(chosen)


def test_a_model_that_offers_no_measured_edit_has_figures_all_the_same():
    """An evening of rendering that ended in an IndexError, with its page written and its JSON not."""
    none = comparison("snow")
    assert figures(none)["offered"] == {} and figures(none)["truth_psnr"] == 33
    assert "that the model offers" not in page(none)


def test_means_beyond_one_are_of_the_edits_that_go_on():
    """Edits without a truth there would count as 0 dB, or a report of no other edits would end in a traceback."""
    assert figures(comparison())["beyond"] == {}
    assert figures(comparison("fog", 20.0, 22.0))["beyond"] == {"slider": {1.0: 30, 1.25: 29, 1.5: 21}}


def test_an_ablation_of_one_run_makes_no_claim():
    """Two sliders trained once each differ by the seeds of their training, too: an interval over edits hides that."""
    found = comparison(ablations={"full": [31.0, 32.0, 33.0], "no-pooled": [40.0]})
    rows = figures(found)["ablations_over_runs"]
    low, high = rows["full"]["intervals"]["dB to the ground truth"]
    assert rows["full"]["means"]["dB to the ground truth"] == 32 and rows["full"]["num_runs"] == 3
    assert (32 - low, high - 32) == pytest.approx((4.3027 / 3**0.5,) * 2, abs=1e-3)  # Student's t of two degrees
    assert rows["no-pooled"]["intervals"] is None
    (line,) = [line for line in page(found).splitlines() if line.startswith("| no-pooled |")]
    assert "| one run, no claim | no |" in line and "(" not in line


def test_the_report_of_the_truth_has_the_command_and_every_frame(tmp_path):
    """A table that nobody can make again, or take apart."""
    scores = [Score("scene", "fog", s, 20.0, 40.0, 18.0, s, s) for s in (0.0, 0.5, 1.0)]
    write_truth(scores, tmp_path / "new", "the command")
    assert "the command" in (tmp_path / "new" / "truth.md").read_text()
    assert len([json.loads(line) for line in (tmp_path / "new" / "truth.jsonl").read_text().splitlines()]) == 3
