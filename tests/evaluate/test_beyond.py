"""Beyond the full edit."""

import numpy as np
import torch

from kontext_slider.evaluate.beyond import STRENGTHS, score_beyond, table, trained_up_to
from kontext_slider.world.cases import Case, scene_cases
from tests.tiny import INSTRUCTION, tiny_pipeline


def cases_that_go_on() -> list[Case]:
    return [case for case in scene_cases(1, 32) if case.goes_on]


def test_only_edits_that_go_on_are_asked_beyond_one():
    """A truth that stays at 1 would reward a slider that does."""
    cases = cases_that_go_on()
    assert len({case.edit for case in cases}) == len(cases) >= 10
    for case in cases:
        assert np.abs(case.truth(1.5) - case.truth(1.0)).max() > 0.01, case.edit


def test_every_way_is_the_same_at_one_and_the_projector_is_left_as_it_was():
    """A difference at 1 would be a difference of something else."""
    pipe = tiny_pipeline(edit_defaults={"size": 32, "steps": 2, "max_sequence_length": 64})
    pipe.slider_projector.register_to_config(highest_strength=1.5)
    scores = score_beyond(pipe, cases_that_go_on()[:2], seed=0)
    assert scores["slider"][1.0] == scores["tangent"][1.0] == scores["stay"][1.0]
    assert pipe.slider_projector.config.highest_strength == 1.5
    assert len(table(scores).splitlines()) == 2 + 3 and set(scores["stay"]) == set(STRENGTHS)


def test_the_tangent_is_another_way_than_the_slider():
    """If the setting did not reach the projector, two rows of the table would be one."""
    pipe = tiny_pipeline()
    projector, pooled = pipe.slider_projector, torch.randn(1, pipe.slider_projector.pe_extender.out_features)
    projector.register_to_config(highest_strength=1.5)
    slider = projector(torch.tensor([1.4]), pooled)
    with trained_up_to(pipe, 1.0):
        tangent = projector(torch.tensor([1.4]), pooled)
    assert not torch.allclose(slider.shift, tangent.shift)


def test_the_row_of_the_tangent_is_of_a_projector_that_ends_at_one(monkeypatch):
    """The row would be the slider's again, and going on along the tangent look as good as training beyond 1."""
    black = np.zeros((4, 4, 3), np.float32)
    errors = {1.5: (0.1, 0.1, 0.01), 1.0: (0.1, 0.1, 0.1 / 10**0.5)}  # by what the projector says it was trained up to

    def frames(pipe, case, seed):
        return [black + error for error in errors[pipe.slider_projector.config.highest_strength]]

    monkeypatch.setattr("kontext_slider.evaluate.beyond._frames", frames)
    pipe = tiny_pipeline()
    pipe.slider_projector.register_to_config(highest_strength=1.5)
    scores = score_beyond(pipe, [Case("scene", "lighter", INSTRUCTION, black, lambda strength: black)], seed=0)
    assert scores["slider"] == {1.0: 20, 1.25: 20, 1.5: 40}
    assert scores["tangent"] == {1.0: 20, 1.25: 20, 1.5: 30}
    assert scores["stay"] == {1.0: 20, 1.25: 20, 1.5: 20}
