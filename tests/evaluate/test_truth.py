"""Frames against the ground truth: how they are measured, at other sizes and beyond strength 1."""

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.truth import (
    BEYOND,
    SIZE_STRENGTHS,
    Score,
    find_photos,
    photo_cases,
    score_beyond,
    score_sizes,
    score_truth,
    size_table,
    summary,
    table,
    working_edits,
)
from kontext_slider.metrics.distances import psnr
from kontext_slider.world.cases import Case, draw_cases
from kontext_slider.world.edits import EDITS
from tests.tiny import tiny_pipeline


def test_scenes_cover_every_edit_and_their_truth_starts_at_the_source():
    """A truth that is not the source at 0 would blame the model for a fault of the measure."""
    cases = draw_cases(len(EDITS), 32)
    assert len({case.edit for case in cases}) == len(cases) >= 20
    for case in cases:
        assert np.abs(case.truth(0.0) - case.source).max() < 1e-5
        assert np.abs(case.truth(1.0) - case.source).max() > 1e-3


def test_the_seed_draws_the_scenes_and_their_noise(monkeypatch):
    """Without the seed, a second measurement is the first again; seed 0's scenes are those of old tables."""
    monkeypatch.setattr("kontext_slider.evaluate.truth.STRENGTHS", (1.0,))
    few = {name: EDITS[name] for name in ("night", "smaller")}
    for module in ("world.cases", "evaluate.truth"):
        monkeypatch.setattr(f"kontext_slider.{module}.EDITS", few)
    pipe, draws = tiny_pipeline(), []
    prepare = pipe.prepare_latents

    def noted(*args, **kwargs):
        draws.extend(arg.initial_seed() for arg in (*args, *kwargs.values()) if isinstance(arg, torch.Generator))
        return prepare(*args, **kwargs)

    monkeypatch.setattr(pipe, "prepare_latents", noted)
    first, again, other = (score_truth(pipe, 1, [], seed=seed) for seed in (0, 0, 7))
    assert first == again and [row.edit for row in first] == [row.edit for row in other] == ["night", "smaller"]
    assert all(a.untouched != b.untouched for a, b in zip(first, other, strict=True))
    assert set(draws[: len(draws) // 3]) == {0} and set(draws[-len(draws) // 3 :]) == {7}
    known = [case for case in draw_cases(len(EDITS), pipe.defaults.size) if case.edit in ("night", "smaller")]
    assert first[0].untouched == pytest.approx(psnr(known[0].source, known[0].truth(1.0)))


def test_photographs_are_measured_at_the_working_size(tmp_path):
    """Measured at another size, the figures would not be those of what a person sees."""
    Image.new("RGB", (90, 60), (90, 140, 60)).save(tmp_path / "a.png")
    (tmp_path / "notes.md").write_text("not a photograph")
    cases = list(photo_cases(find_photos(tmp_path), 64, 16))
    assert {case.kind for case in cases} == {"photo"} and cases[0].source.shape == (48, 80, 3)


@pytest.mark.parametrize("name", ["", "nowhere", "notes.md"])
def test_a_folder_without_photographs_is_refused(tmp_path, name):
    """A path mistyped is a traceback, and a folder of other files a report that says nothing of photographs."""
    (tmp_path / "notes.md").write_text("not a photograph")
    with pytest.raises(InvalidInput, match="no photographs"):
        find_photos(tmp_path / name)


def test_the_table_averages_what_it_lists():
    """Colours are one row; a mean over the wrong strengths would flatter."""
    scores = [
        Score("scene", edit, s, db, 40.0, 18.0, s, s)
        for edit, db in (("recolour-red", 30.0), ("recolour-blue", 32.0), ("fog", 20.0))
        for s in (0.0, 0.5, 1.0)
    ]
    lines = table(scores, "scene").splitlines()
    assert lines[2].startswith("| recolour | 31.0 | 31.0 | 31.0 | 40.0 | 18.0 | 0.50 (0.50)") and len(lines) == 5
    assert summary(scores)["scene_psnr_1"] == pytest.approx(27.33)
    assert working_edits(scores) == {"recolour"}, "fog is only 2 dB better than doing nothing"
    lucky = [Score("scene", "smaller", 1.0, db, 40.0, 20.0, 1.0, 1.0) for db in (20.5, 28.0)]
    assert working_edits(lucky) == set(), "+4 dB of two scenes is luck where they are 7.5 dB apart"


def test_every_size_shows_the_same_scenes_at_that_size(monkeypatch):
    """Rendered at the model's own size and compared at another, every figure would be that of a resize; of other
    scenes, the table would compare scenes and not sizes."""
    pipe = tiny_pipeline(edit_defaults={"size": 64, "steps": 1, "max_sequence_length": 64})
    decoded, decode = [], pipe.vae.decode
    monkeypatch.setattr(
        pipe.vae, "decode", lambda latents, **kw: (decoded.append(latents.shape[-1]), decode(latents, **kw))[1]
    )
    scores = score_sizes(pipe, (32, 48), every=20)
    small, large = scores[32], scores[48]
    assert len(small) == len(large) == 2 * len(SIZE_STRENGTHS) and len(set(decoded)) == 2
    for a, b in zip(small, large, strict=True):
        assert (a.edit, a.strength) == (b.edit, b.strength) and a.untouched == pytest.approx(b.untouched, abs=2.0)
    assert size_table(scores).splitlines()[2].startswith("| 32 x 32 | ")


def cases_that_go_on() -> list[Case]:
    return [case for case in draw_cases(len(EDITS), 32) if case.goes_on]


def test_only_edits_that_go_on_are_measured_beyond_one():
    """A truth that stays at 1 would reward a slider that does."""
    cases = cases_that_go_on()
    assert len({case.edit for case in cases}) == len(cases) >= 10
    for case in cases:
        assert np.abs(case.truth(1.5) - case.truth(1.0)).max() > 0.01, case.edit


def test_staying_at_one_is_measured_beside_going_on():
    """A difference at 1 would be a difference of something else."""
    pipe = tiny_pipeline(edit_defaults={"size": 32, "steps": 2, "max_sequence_length": 64})
    for case in cases_that_go_on()[:2]:
        scores = score_beyond(pipe, case, seed=0)
        assert list(scores) == ["slider", "stay"] and len(scores["slider"]) == len(scores["stay"]) == len(BEYOND)
        assert scores["slider"][0] == scores["stay"][0] and scores["slider"][2] != scores["stay"][2]
