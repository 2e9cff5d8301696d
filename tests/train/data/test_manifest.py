"""Records and files after a kill."""

import json

import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.train.data.items import Item, Rejected, run_stage
from kontext_slider.train.data.manifest import Manifest, alone_in


def test_a_cut_last_line_costs_only_its_own_item(tmp_path):
    """A kill in the middle of a write: the next record must not be glued to the torn line and lost with it."""
    manifest = Manifest(tmp_path / "edit.jsonl")
    manifest.append({"id": "1", "words": "größer"})
    with open(manifest.path, "ab") as file:
        file.write('{"id": "2", "words": "grö'.encode()[:-1])  # cut inside a character
    manifest.append({"id": "3"})
    assert list(manifest.read()) == ["1", "3"]
    assert manifest.read()["1"]["words"] == "größer"


def test_the_first_record_of_an_item_counts(tmp_path):
    """Whatever wrote twice, pictures on the disk belong to the first."""
    manifest = Manifest(tmp_path / "edit.jsonl")
    for words in ("first", "second"):
        manifest.append({"id": "1", "words": words})
    assert manifest.read()["1"]["words"] == "first"


def test_numbers_that_are_none_never_reach_a_manifest(tmp_path):
    """NaN is no JSON: one such line would make the file unreadable to everything but Python."""
    with pytest.raises(ValueError):
        Manifest(tmp_path / "score.jsonl").append({"id": "1", "kl": float("nan")})


def test_two_runs_do_not_share_a_folder(tmp_path):
    """Two processes would both do every item, and mix their pictures."""
    with alone_in(tmp_path), pytest.raises(InvalidInput, match="Another run"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


def test_a_stage_does_nothing_twice_and_keeps_rejects(tmp_path):
    """An item that was rejected must neither go on nor be tried again at every start."""
    seen = []

    def stage(item: Item) -> dict:
        seen.append(item.index)
        if item.index == 1:
            raise Rejected("odd", "it is one")
        return {"double": 2 * item.index}

    manifest = Manifest(tmp_path / "double.jsonl")
    items = [Item(index, {"before": True}) for index in range(3)]
    first = run_stage("double", items[:2], stage, manifest)
    again = run_stage("double", items, stage, manifest)
    assert seen == [0, 1, 2]
    assert [item.index for item in first] == [0] and [item.index for item in again] == [0, 2]
    assert again[1].facts == {"before": True, "double": 4}
    records = [json.loads(line) for line in manifest.path.read_text().splitlines()]
    assert records[1] == {"id": "0000001", "state": "rejected", "reason": "odd", "detail": "it is one"}
