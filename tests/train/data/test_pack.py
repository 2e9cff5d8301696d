"""Data sets on the disk, read back by `datasets`."""

from pathlib import Path

import datasets
import numpy as np
import pytest

from kontext_slider.cli import main
from kontext_slider.errors import InvalidInput
from kontext_slider.run_folder import alone_in
from kontext_slider.train.data.kept import KeptItem, kept_items
from kontext_slider.train.data.pack import Packed, write_dataset
from kontext_slider.train.data.scores import kl_from_even
from kontext_slider.train.data.workspace import reopen
from tests.train.data.helpers import load, run_tiny, write_strips


@pytest.fixture(autouse=True)
def no_shared_cache(tmp_path, monkeypatch):
    """`load_dataset` keeps copies; each test has its own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_what_was_kept_can_be_loaded(tmp_path, lenient):
    """The whole point: frames, strengths and words of an item stay together through Parquet and back, pixel by pixel;
    a rejected item is only among unfiltered
    ones."""
    workspace = run_tiny(tmp_path / "run", 3)
    with open(workspace.manifest("filter"), "r+b") as file:  # the last item, rejected instead
        lines = file.read().splitlines(keepends=True)
        file.seek(0)
        file.truncate()
        file.writelines(lines[:2] + [b'{"id": "0000002", "state": "rejected", "reason": "ugly", "detail": ""}\n'])
    workspace = run_tiny(tmp_path / "run", 3)
    data = load(tmp_path / "run" / "packed")
    assert data["id"][:] == ["0000000", "0000001"]
    assert main(["data", "pack", str(tmp_path / "run"), "--unfiltered", "--out", str(tmp_path / "unfiltered")]) == 0
    drawn = load(tmp_path / "unfiltered")["id"][:]
    assert len(set(drawn)) == 2 and "0000002" in drawn, "as many, drawn by the seed from all"
    for row in data:
        facts = workspace.records("instruct")[row["id"]]
        assert (row["instruction"], row["category"]) == (facts["instruction"], facts["category"])
        assert row["strengths"] == pytest.approx([k / 6 for k in range(7)])
        tiles = [row["source"], *row["frames"], row["edit"]]
        expected = workspace.tiles(row["id"])
        assert all(np.array_equal(a, b) for a, b in zip(tiles, expected, strict=True))
        assert row["scores"]["kl"] == pytest.approx(kl_from_even(row["scores"]["steps"]), abs=1e-5)
        assert row["morpher"] == "pixel-fade" and row["distance"] == "ssim"


def test_shards_hold_all_rows_and_an_old_data_set_is_replaced(tmp_path, lenient):
    """Shards left from a larger data set would be loaded with the new ones."""
    workspace = run_tiny(tmp_path / "run", 3, until="filter")
    assert write_dataset(kept_items([workspace]), tmp_path / "data", "many", rows_per_shard=1).count == 3
    names = sorted(path.name for path in (tmp_path / "data" / "data").iterdir())
    assert names == [f"train-{k:05d}-of-00003.parquet" for k in range(3)]
    write_dataset(kept_items([workspace]), tmp_path / "data", "one", rows_per_shard=10)
    assert [path.name for path in (tmp_path / "data" / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    assert load(tmp_path / "data").num_rows == 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("holds", ["thesis.txt", "README.md", "data/thesis.txt", "data/train-0.parquet"])
def test_a_folder_that_is_no_older_data_set_is_left_alone(tmp_path, lenient, monkeypatch, capsys, holds):
    """`--out ~/Documents`, the run's own folder or the folder that one stands in: everything in it was deleted."""
    run_tiny(tmp_path / "run", 1, until="filter")
    mine = tmp_path / "mine" / holds
    mine.parent.mkdir(parents=True)
    mine.write_text("dear")
    (tmp_path / "empty").mkdir()
    for out in ("mine", "run", "run/recipe.json"):
        assert main(["data", "pack", str(tmp_path / "run"), "--out", str(tmp_path / out)]) == 2
        assert "Name an empty folder" in capsys.readouterr().err
    write_strips(tmp_path / "strips")
    monkeypatch.chdir(tmp_path / "strips")
    assert main(["data", "import-strips", str(tmp_path / "strips"), "--out", "."]) == 2
    assert mine.read_text() == "dear" and (tmp_path / "run" / "strips").is_dir() and len(list(Path().iterdir())) == 2
    assert main(["data", "pack", str(tmp_path / "run"), "--out", str(tmp_path / "empty")]) == 0


def test_a_run_that_could_not_be_packed_says_so_before_it_begins(tmp_path, lenient):
    """A night of edits, and then a sentence."""
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "mine.txt").touch()
    with pytest.raises(InvalidInput, match="older data set"):
        run_tiny(tmp_path, 1)
    assert not (tmp_path / "instruct.jsonl").exists()


def test_nothing_kept_is_a_sentence_and_leaves_the_old_data_alone(tmp_path, lenient):
    """An empty Parquet file fails far from here, in training."""
    workspace = run_tiny(tmp_path / "run", 1, until="filter")
    write_dataset(kept_items([workspace]), tmp_path / "data", "one")
    with pytest.raises(InvalidInput, match="nothing to pack"):
        write_dataset(iter(()), tmp_path / "data", "none")
    assert load(tmp_path / "data").num_rows == 1


def test_the_pack_command_joins_shares(tmp_path, lenient, capsys):
    """Two machines' folders become one data set, nothing twice."""
    for k in range(2):
        run_tiny(tmp_path / str(k), 3, until="filter", share=(k, 2))
    assert not main(["data", "pack", str(tmp_path / "0"), str(tmp_path / "1"), "--out", str(tmp_path / "data")])
    assert sorted(load(tmp_path / "data")["id"][:]) == ["0000000", "0000001", "0000002"]
    assert main(["data", "pack", str(tmp_path), "--out", str(tmp_path / "data")]) == 2
    assert "data run" in capsys.readouterr().err
    run_tiny(tmp_path / "whole", 3, until="filter")
    for folder in ("0", "whole"):  # the same folder twice, an overlapping share
        assert main(["data", "pack", str(tmp_path / "0"), str(tmp_path / folder), "--out", str(tmp_path / "two")]) == 2
        assert "2 edits would be in the data set twice, such as 0000000" in capsys.readouterr().err
    run_tiny(tmp_path / "other", 1, until="filter", seed=1)
    both = ["data", "pack", str(tmp_path / "whole"), str(tmp_path / "other"), "--out", str(tmp_path / "two")]
    assert not main(both)
    names = load(tmp_path / "two")["id"][:]
    assert len(set(names)) == 4 and len({name.split("-")[0] for name in names}) == 2, "of two recipes: two names"
    assert reopen(tmp_path / "0").recipe.share == (0, 2)


def test_a_pack_that_was_stopped_goes_on(tmp_path, lenient, monkeypatch):
    """64,000 strips are an hour of packing; what is done must neither be done again nor be taken for another's."""
    items = kept_items([run_tiny(tmp_path / "run", 4, until="filter")])
    made = []
    row = KeptItem.row

    def row_or_die(item):
        made.append(item.id)
        if len(made) == 3:
            raise KeyboardInterrupt
        return row(item)

    monkeypatch.setattr(KeptItem, "row", row_or_die)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(items, tmp_path / "data", "T", rows_per_shard=1, processes=1)
    assert not (tmp_path / "data").exists()
    (tmp_path / ".data.partial" / "data" / "shard-00002-of-another.parquet").touch()
    assert write_dataset(items, tmp_path / "data", "T", rows_per_shard=1, processes=1) == Packed(4, [])
    assert made == [item.id for item in (*items[:3], *items[2:])]
    assert load(tmp_path / "data")["id"][:] == [item.id for item in items]
    assert not list(tmp_path.glob(".data*"))
    write_dataset(items[:2], tmp_path / "data", "T", rows_per_shard=1, processes=1)
    assert len(made) == 7, "nothing is taken from a pack that ended"


def test_two_packs_into_one_folder_are_refused(tmp_path, lenient):
    """Each deleted the other's shards as those of another pack, and both ended in a traceback or in half a data set."""
    items = kept_items([run_tiny(tmp_path / "run", 1, until="filter")])
    with alone_in(tmp_path / ".data.partial"), pytest.raises(InvalidInput, match="Another run is at work"):
        write_dataset(items, tmp_path / "data", "T")
    assert write_dataset(items, tmp_path / "data", "T") == Packed(1, [])
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"README.md", "checksums.json", "data"}
    assert not list(tmp_path.glob(".data*"))


@pytest.mark.slow
def test_several_processes_pack_what_one_does(tmp_path, lenient):
    """Rows in the order of who was first, or an error of a worker that nobody sees."""
    workspace = run_tiny(tmp_path / "run", 4, until="filter")
    workspace.picture("strips", "0000001").unlink()
    items = kept_items([workspace])
    sets = [write_dataset(items, tmp_path / str(count), "T", rows_per_shard=2, processes=count) for count in (1, 2)]
    assert sets[0] == sets[1] and sets[0].count == 3 and "0000001" in sets[0].problems[0]
    one, two = (sorted((tmp_path / str(count) / "data").iterdir()) for count in (1, 2))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]
