"""What a comparison is written as, of results made by hand."""

import json

from kontext_slider.evaluate.compare import CEILING, OURS, STRENGTHS, Comparison, MeasuredEdit, Measures, Result
from kontext_slider.evaluate.report import figures, report, write_truth
from kontext_slider.evaluate.truth import Score

ROW = Measures(0.1, 0.2, 0.1, 1.0, 0.05, 30.0, 29.0, None, 0.1, 0.2, None)


def comparison(offered: str, *beyond: float) -> Comparison:
    """Of a night and a fog, on a model that is said to be able to do one edit. `beyond`: dB there, a night for each."""
    results = dict.fromkeys((OURS, CEILING), Result(ROW, {"distance": list(STRENGTHS)}))
    edits = [MeasuredEdit({"edit": edit, "seed": 0}, results) for edit in ("night", "fog")]
    edits += [MeasuredEdit(edits[0].facts, results, beyond={"slider": [30, 29, db]}) for db in beyond]
    return Comparison(edits, (), (), "rms", frozenset({offered}))


def test_a_model_that_offers_no_measured_edit_has_figures_all_the_same():
    """An evening of rendering that ended in an IndexError, with its page written and its JSON not."""
    none = comparison("snow")
    assert figures(none)["offered"] == {} and figures(none)["truth_psnr"] == 30
    assert "that the model offers" not in "".join(report(none, "the command"))
    assert figures(comparison("fog"))["offered"]["truth_psnr"] == 30


def test_means_beyond_one_are_of_the_edits_that_go_on():
    """Edits without a truth there would count as 0 dB, or a report of no other edits would end in a traceback."""
    assert figures(comparison("fog"))["beyond"] == {}
    assert figures(comparison("fog", 20.0, 22.0))["beyond"] == {"slider": {1.0: 30, 1.25: 29, 1.5: 21}}


def test_the_report_of_the_truth_has_the_command_and_every_frame(tmp_path):
    """A table that nobody can make again, or take apart."""
    scores = [Score("scene", "fog", s, 20.0, 40.0, 18.0, s, s) for s in (0.0, 0.5, 1.0)]
    write_truth(scores, tmp_path / "new", "the command")
    assert "the command" in (tmp_path / "new" / "truth.md").read_text()
    assert len([json.loads(line) for line in (tmp_path / "new" / "truth.jsonl").read_text().splitlines()]) == 3
