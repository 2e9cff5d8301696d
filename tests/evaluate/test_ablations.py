"""How a slider given as a folder is run: as its training says."""

import json

import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.ablations import ablation_method, trained_with_anchor
from kontext_slider.metrics import to_picture
from kontext_slider.metrics.distances import psnr
from kontext_slider.train.config import PRESETS, open_run
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline


@pytest.fixture(scope="module")
def slider(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "slider"
    tiny_pipeline(seed=1).save_slider(folder)
    return folder


def note(slider, **facts) -> None:
    (slider.parent / "run.json").write_text(json.dumps(facts))


def test_the_trainers_note_says_whether_a_slider_has_the_anchor(tmp_path):
    """The key is the trainer's, which evaluation does not import: by another name all would be run alike."""
    for name in ("pocket", "kontext-dev"):
        open_run(tmp_path / name, PRESETS[name])
        assert trained_with_anchor(tmp_path / name / "slider") is PRESETS[name].anchored
    assert trained_with_anchor(tmp_path / "elsewhere" / "slider") is None


@pytest.mark.parametrize(("anchored", "at_source"), [(True, True), (False, False), (None, False)])
def test_a_slider_is_run_as_it_was_trained(slider, anchored, at_source):
    """The paper's method as the paper has it was run with pocket's anchor."""
    note(slider, **({} if anchored is None else {"anchored": anchored}))
    frame, *_ = ablation_method(slider)(tiny_pipeline(), tiny_image(), INSTRUCTION, (0.0, 1.0), 0)
    assert (psnr(frame, to_picture(tiny_image())) > 45) is at_source


def test_a_note_that_cannot_be_read_is_no_guess(slider):
    """Half a file would have been taken for the model's own setting."""
    (slider.parent / "run.json").write_text("{")
    with pytest.raises(InvalidInput, match="run.json"):
        trained_with_anchor(slider)
