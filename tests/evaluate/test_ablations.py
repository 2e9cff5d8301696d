"""How a slider given as a folder is run: as its training says."""

import json

import numpy as np
import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.ablations import ablation_method
from kontext_slider.evaluate.anchor import with_defaults
from kontext_slider.metrics import to_picture
from kontext_slider.metrics.distances import psnr
from kontext_slider.train.config import PRESETS, open_run
from tests.tiny import EDIT_DEFAULTS, INSTRUCTION, tiny_image, tiny_pipeline


@pytest.fixture(scope="module")
def slider(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "slider"
    tiny_pipeline(seed=1).save_slider(folder)
    return folder


def note(slider, **facts) -> None:
    (slider.parent / "run.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("name", ["pocket", "pocket-paper", "kontext-dev"])
def test_the_trainers_note_says_how_a_slider_is_run(slider, name):
    """The keys are the trainer's, which evaluation does not import: by other names all would be run alike."""
    (slider.parent / "run.json").unlink(missing_ok=True)
    assert (ablation_method(slider).on, ablation_method(slider).in_one_step) == (None, None)
    open_run(slider.parent, PRESETS[name])
    assert (ablation_method(slider).on, ablation_method(slider).in_one_step) == ((name == "pocket",) * 2)


@pytest.mark.parametrize(("anchored", "at_source"), [(True, True), (False, False), (None, False)])
def test_a_slider_is_run_as_it_was_trained(slider, anchored, at_source):
    """The paper's method as the paper has it was run with pocket's anchor."""
    note(slider, **({} if anchored is None else {"anchored": anchored}))
    frame, *_ = ablation_method(slider)(tiny_pipeline(), tiny_image(), INSTRUCTION, (0.0, 1.0), 0)
    assert (psnr(frame, to_picture(tiny_image())) > 45) is at_source


def test_a_slider_takes_the_steps_that_it_was_trained_for(slider):
    """A slider for one step was rendered in the base model's two, or the paper's in one."""
    pipe, call = tiny_pipeline(edit_defaults={**EDIT_DEFAULTS, "base_steps": 3}), (tiny_image(), INSTRUCTION, (1.0,), 0)
    for timesteps, steps in (("one", 1), ("uniform", 3)):
        note(slider, timesteps=timesteps)
        [frame] = ablation_method(slider)(pipe, *call)
        [expected] = ablation_method(slider).method(with_defaults(pipe, steps=steps), *call)
        assert np.array_equal(frame, expected)


def test_a_note_that_cannot_be_read_is_no_guess(slider):
    """Half a file would have been taken for the model's own setting."""
    (slider.parent / "run.json").write_text("{")
    with pytest.raises(InvalidInput, match="run.json"):
        ablation_method(slider)
