"""With and without filtering, with true ends: a real run of the data pipeline on a tiny pipeline, and the ablations
trained on it."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import pytest
import torch

from kontext_slider.errors import InvalidInput
from kontext_slider.train.data import filter as filters
from kontext_slider.train.data import stages
from kontext_slider.train.data.filter import Threshold
from kontext_slider.train.data.items import Item
from kontext_slider.train.data.report import Fate, fates
from kontext_slider.train.data.workspace import STAGES, reopen
from kontext_slider.train.pocket.slider import SliderRun
from kontext_slider.train.slider import pocket_ablations
from kontext_slider.train.slider.ablations import ABLATIONS, load_slider_of
from kontext_slider.train.slider.pocket_sequences import (
    FILTERED,
    KINDS,
    MORPHER,
    TRUE_ENDS,
    UNFILTERED,
    choose_sequences,
    encode_sequences,
    sequence_batches,
)
from tests.tiny import EDIT_DEFAULTS, tiny_pipeline
from tests.train.data.helpers import ANYTHING, run_tiny, tiny_recipe

NUM = 6
REFUSED = ("attribute_change", "material_change", "stylization")


@pytest.fixture
def strict(monkeypatch):
    """A filter that knows a random model's edits by their categories only: it keeps some and rejects some."""
    thresholds = {**ANYTHING, **dict.fromkeys(REFUSED, Threshold(10.0, 10.0))}
    monkeypatch.setattr(filters, "THRESHOLDS", {"ssim": thresholds})


def small_pipeline():
    """SSIM needs pictures of 44 pixels or more."""
    return tiny_pipeline(slider=False, edit_defaults={**EDIT_DEFAULTS, "size": 64})


def ends(**reasons: str | None) -> list[Fate]:
    """`filter7="why"`: item 7 ended at the filter, for that reason."""
    split = [(name.rstrip("0123456789"), name, reason) for name, reason in reasons.items()]
    return [Fate(Item(int(name.removeprefix(stage))), stage, reason) for stage, name, reason in split]


def test_filtered_is_what_the_filter_kept_and_unfiltered_as_many_of_all():
    """Rejects among the filtered, or more pairs on one side, and the two rows of the table differ for another reason;
    a sequence whose stage failed has no strip, or one that nobody could have used."""
    seen = {f"filter{number}": None if number % 2 else "uneven steps" for number in range(40)}
    found = ends(**seen, score50="distances that are no numbers", instruct51="no edit fits")
    kept, drawn = (choose_sequences(found, kind, seed=2) for kind in (FILTERED, UNFILTERED))
    assert [item.index for item in kept] == list(range(1, 40, 2))
    numbers = [item.index for item in drawn]
    assert len(set(numbers)) == len(kept) and max(numbers) < 40 and {number % 2 for number in numbers} == {0, 1}
    assert numbers == [item.index for item in choose_sequences(found, UNFILTERED, seed=2)]
    assert numbers != [item.index for item in choose_sequences(found, UNFILTERED, seed=3)]


def test_a_filter_that_keeps_nothing_is_a_sentence():
    """An empty shard would end in an index error inside the training loop."""
    with pytest.raises(InvalidInput, match="none of 2 sequences.*--ablation-sequences"):
        choose_sequences(ends(filter0="uneven steps", filter1="uneven steps"), FILTERED, 0)


def test_pairs_go_from_the_source_to_each_frame(tmp_path, strict):
    """A tile off by one trains every strength on its neighbour's frame; strength 0 is the frame's, not the source."""
    pipe, workspace = small_pipeline(), run_tiny(tmp_path, 2, until="filter", morpher="latent-fade")
    items = [fate.item for fate in fates(workspace)]
    shard = encode_sequences(pipe, workspace, items)
    assert len(shard) == 14 and shard.source_index.tolist() == [0] * 7 + [1] * 7
    assert torch.allclose(shard.strength, torch.arange(7).repeat(2) / 6)
    assert shard.instruction == [item.facts["instruction"] for item in items for _ in range(7)]
    assert shard.focus.shape == (14, 256) and shard.shows.shape == (2, 256) and not shard.focus.any()
    for row, (name, tile) in {0: ("0000000", 1), 9: ("0000001", 3), 13: ("0000001", 7)}.items():
        assert torch.equal(shard.target[row], latents(pipe, workspace.tiles(name)[tile]))
    assert torch.equal(shard.source[1], latents(pipe, workspace.load("sources", "0000001")))
    assert not torch.equal(shard.target[7], shard.source[1])


def test_true_ends_are_the_source_and_the_edit(tmp_path, strict):
    """The strip's other tiles in their place, or frames between that changed too: a row about something else."""
    pipe, workspace = small_pipeline(), run_tiny(tmp_path, 2, until="filter", morpher="latent-fade")
    items = [fate.item for fate in fates(workspace)]
    plain, true = (encode_sequences(pipe, workspace, items, ends) for ends in (False, True))
    for number, item in enumerate(items):
        rows, strip = slice(7 * number, 7 * number + 7), workspace.tiles(item.id)
        assert torch.equal(true.target[rows][0], true.source[number])
        assert torch.equal(true.target[rows][6], latents(pipe, strip[-1]))
        assert torch.equal(true.target[rows][1:6], plain.target[rows][1:6])
        assert not torch.equal(true.target[rows][6], plain.target[rows][6])


@torch.no_grad()
def latents(pipe, picture) -> torch.Tensor:
    """As the pipeline scales them."""
    pixels = pipe.image_processor.preprocess(picture)
    mode = pipe.vae.encode(pixels).latent_dist.mode()
    return ((mode - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor)[0].half()


class Killed(Exception):
    pass


def test_a_killed_data_run_goes_on_to_the_same_pairs(tmp_path, monkeypatch, strict):
    """Ten minutes of edits and morphs are not done twice, neither after a kill nor for the second ablation."""
    whole = sequence_batches(small_pipeline(), tiny_recipe(), UNFILTERED, NUM, tmp_path / "whole").shards[0]
    morph, calls = stages.Morph.__call__, []

    def counted(self, item):
        calls.append(item.index)
        if len(calls) == 3:
            raise Killed
        return morph(self, item)

    monkeypatch.setattr(stages.Morph, "__call__", counted)
    with pytest.raises(Killed):
        sequence_batches(small_pipeline(), tiny_recipe(), FILTERED, NUM, tmp_path / "killed")
    sequence_batches(small_pipeline(), tiny_recipe(), FILTERED, NUM, tmp_path / "killed")
    resumed = sequence_batches(small_pipeline(), tiny_recipe(), UNFILTERED, NUM, tmp_path / "killed").shards[0]
    assert calls == [0, 1, 2, 2, 3, 4, 5]
    assert resumed.instruction == whole.instruction and torch.equal(resumed.target, whole.target)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's rms_norm under autocast
def test_ablations_train_on_the_same_data_run(tmp_path, monkeypatch, strict):
    """The rows of the table about the data: from one data run by one morpher, each on its own sequences, as many of
    them, and from one start; an ablation that got the drawn pairs would be called filtered and be none."""
    seen = {}

    def small_run(**changes) -> SliderRun:
        return SliderRun(rank=2, hidden_dim=16, compiled=False, rate=1e-2, **changes)

    def noted(pipe, kind, run, folder, batches):
        seen[kind] = batches.shards[0]
        return train(pipe, kind, run, folder, batches)

    train = pocket_ablations.train_ablation
    monkeypatch.setattr(pocket_ablations, "SliderRun", small_run)
    monkeypatch.setattr(pocket_ablations, "train_ablation", noted)
    monkeypatch.setattr(pocket_ablations, "load_pipeline", lambda model, device: small_pipeline())
    monkeypatch.setattr(pocket_ablations, "Recipe", partial(pocket_ablations.Recipe, max_kl=2.0))
    for kind in ABLATIONS:
        if kind not in KINDS:
            (tmp_path / kind / "slider").mkdir(parents=True)
    folders = pocket_ablations.trained_ablations("tiny", tmp_path, 3, NUM)
    workspace = reopen(tmp_path / "data")
    assert workspace.recipe.morpher == MORPHER and workspace.recipe.seed == SliderRun.seed
    kept = [fate.item for fate in fates(workspace) if fate.stage == STAGES[-1] and fate.reason is None]
    assert 0 < len(kept) < NUM and all(item.facts["category"] not in REFUSED for item in kept)
    assert seen[FILTERED].instruction[::7] == [item.facts["instruction"] for item in kept]
    assert len(seen[FILTERED]) == len(seen[UNFILTERED]) == 7 * len(kept)
    assert seen[FILTERED].instruction != seen[UNFILTERED].instruction
    assert seen[TRUE_ENDS].instruction == seen[FILTERED].instruction
    assert not torch.equal(seen[TRUE_ENDS].target, seen[FILTERED].target)
    projectors = [load_slider_of(folders[kind]).projector for kind in KINDS]
    assert all(projector.config.place == SliderRun.place for projector in projectors)
    answers = [p(torch.tensor([0.5]), torch.ones(1, p.config.pooled_dim)).scale for p in projectors]
    assert all(answer.abs().max() > 0 for answer in answers)
    assert not any(torch.equal(a, b) for a, b in combinations(answers, 2))
    report = (tmp_path / "data" / "report" / "report.md").read_text()
    assert f"data run --out {tmp_path / 'data'} --num {NUM} --model tiny --morpher {MORPHER}" in report
