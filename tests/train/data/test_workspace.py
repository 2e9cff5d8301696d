"""The folder of a run after a kill: records, rejects, and its recipe."""

import json

import pytest

from kontext_slider.cli import main
from kontext_slider.errors import InvalidInput
from kontext_slider.run_folder import alone_in
from kontext_slider.train.data.recipe import Rejected
from kontext_slider.train.data.workspace import Item, Workspace, open_workspace, split_strip
from tests.tiny import tiny_image
from tests.train.data.helpers import run_tiny, tiny_recipe


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path, tiny_recipe())


def record(number: int, words: str) -> bytes:
    return json.dumps({"id": Item(number).id, "state": "done", "words": words}, ensure_ascii=False).encode()


def test_a_truncated_last_line_costs_only_its_own_item(workspace):
    """A kill in the middle of a write: the next record must not be glued to the truncated line and lost with it."""
    workspace.manifest("edit").write_bytes(record(1, "größer") + b"\n" + record(2, "grö")[:-3])
    workspace.run_stage("edit", [Item(2), Item(3)], lambda item: {"words": "again"})
    words = {name: found["words"] for name, found in workspace.records("edit").items()}
    assert words == {Item(1).id: "größer", Item(2).id: "again", Item(3).id: "again"}


def test_the_first_record_of_an_item_counts(workspace):
    """Whatever wrote twice, pictures on the disk belong to the first."""
    workspace.manifest("edit").write_bytes(record(1, "first") + b"\n" + record(1, "second") + b"\n[1]\n")
    assert [found["words"] for found in workspace.records("edit").values()] == ["first"]


@pytest.mark.parametrize(
    ("stage", "facts"),
    [
        ("instruct", {"instruction": 3, "category": "style"}),
        ("edit", {"noise_seed": "1"}),
        ("edit", {}),
        ("score", {"source_edit": 1.0}),
    ],
)
def test_a_record_that_misses_its_facts_counts_for_nothing(tmp_path, stage, facts):
    """A damaged line, and a KeyError in the stage after it."""
    workspace = open_workspace(tmp_path, tiny_recipe())
    lines = [{"id": "0000001", "state": "done", **facts}, {"id": "../1", "state": "rejected", "reason": "x"}, {"id": 1}]
    workspace.manifest(stage).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert workspace.records(stage) == {}


def test_numbers_that_are_none_never_reach_a_manifest(workspace):
    """NaN is no JSON: one such line would make the file unreadable to everything but Python."""
    with pytest.raises(ValueError):
        workspace.run_stage("score", [Item(1)], lambda item: {"kl": float("nan")})


def test_two_runs_do_not_share_a_folder(tmp_path):
    """Two processes would both do every item, and mix their pictures."""
    with alone_in(tmp_path), pytest.raises(InvalidInput, match="Another run"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


def test_a_lock_that_leads_nowhere_is_a_sentence(tmp_path):
    """A link to itself was a traceback."""
    (tmp_path / ".lock").symlink_to(".lock")
    with pytest.raises(InvalidInput, match="cannot be locked"), alone_in(tmp_path):
        pass


def test_a_stage_does_nothing_twice_and_keeps_rejects(workspace):
    """An item that was rejected must neither go on nor be tried again at every start."""
    seen = []

    def stage(item: Item) -> dict:
        seen.append(item.index)
        if item.index == 1:
            raise Rejected("odd", "it is one")
        return {"double": 2 * item.index}

    items = [Item(index, {"before": True}) for index in range(3)]
    first = workspace.run_stage("double", items[:2], stage)
    again = workspace.run_stage("double", items, stage)
    assert seen == [0, 1, 2]
    assert [item.index for item in first] == [0] and [item.index for item in again] == [0, 2]
    assert again[1].facts == {"before": True, "double": 4}
    records = [json.loads(line) for line in workspace.manifest("double").read_text().splitlines()]
    assert records[1] == {"id": "0000001", "state": "rejected", "reason": "odd", "detail": "it is one"}


def test_a_folder_keeps_its_recipe(tmp_path):
    """Half a data set by one morpher, half by another, and nobody would know."""
    run_tiny(tmp_path, 1, until="instruct")
    with pytest.raises(InvalidInput, match="morpher .'pixel-fade', not 'latent-fade'"):
        run_tiny(tmp_path, 1, until="instruct", morpher="latent-fade")


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"model": "pocket"}'])
def test_a_recipe_that_cannot_be_read_is_a_sentence(tmp_path, capsys, content):
    """A traceback of the JSON reader's, or of the dataclass's."""
    (tmp_path / "recipe.json").write_text(content)
    assert main(["data", "pack", str(tmp_path), "--out", str(tmp_path / "packed")]) == 2
    assert "another folder" in capsys.readouterr().err
    assert main(["data", "run", "--num", "1", "--out", str(tmp_path)]) == 2
    assert "another folder" in capsys.readouterr().err


def test_manifests_are_json_lines_that_name_their_state(tmp_path):
    """Other tools read these files."""
    run_tiny(tmp_path, 2, until="edit")
    for stage in ("instruct", "edit"):
        records = [json.loads(line) for line in (tmp_path / f"{stage}.jsonl").read_text().splitlines()]
        assert [record["id"] for record in records] == ["0000000", "0000001"]
        assert all(record["state"] == "done" for record in records)
    assert {"origin", "instruction", "category", "edit"} <= json.loads(
        (tmp_path / "instruct.jsonl").read_text().splitlines()[0]
    ).keys()


def test_a_strip_of_another_length_is_refused():
    """Cutting 9 tiles as 7 gives pictures that are shifted and look fine."""
    with pytest.raises(InvalidInput, match="cannot be 7 tiles"):
        split_strip(tiny_image(36, 4), 7)
