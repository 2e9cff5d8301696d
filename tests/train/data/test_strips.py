"""The authors' strips, taken over as rows of ours."""

import datasets
import numpy as np
import pytest

from kontext_slider.cli import main
from kontext_slider.errors import InvalidInput
from kontext_slider.train.data.scores import kl_from_even
from kontext_slider.train.data.strips import open_strips
from tests.tiny import tiny_image
from tests.train.data.helpers import CATEGORY, SEQUENCE, load, write_strips


@pytest.fixture(autouse=True)
def no_shared_cache(tmp_path, monkeypatch):
    """`load_dataset` keeps copies; each test has its own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def refused(folder) -> str:
    """The sentences for a folder whose entries are all refused."""
    strips, problems = open_strips(folder)
    for strip in strips:
        with pytest.raises(InvalidInput) as error:
            strip.row()
        problems.append(str(error.value))
    return " ".join(problems)


def test_the_authors_strips_become_rows(tmp_path, capsys):
    """Off by one tile, and frame 0 is the source where the paper trains on its reconstruction."""
    tiles = write_strips(tmp_path / "strips")
    assert main(["data", "import-strips", str(tmp_path / "strips"), "--out", str(tmp_path / "data")]) == 1
    printed = capsys.readouterr()
    assert "1 edits" in printed.out and "lost_nsamples_7.png" in printed.err
    (row,) = load(tmp_path / "data")
    assert (row["id"], row["instruction"], row["category"]) == ("cat_01", "make it snow", CATEGORY)
    assert len(row["frames"]) == len(row["strengths"]) == 7
    read = [row["source"], *row["frames"], row["edit"]]
    assert all(np.array_equal(a, b) for a, b in zip(read, tiles, strict=True))
    assert row["scores"]["steps"] == pytest.approx(SEQUENCE[1:-1])
    assert row["scores"]["kl"] == pytest.approx(kl_from_even(SEQUENCE[1:-1]), abs=1e-6)
    assert row["scores"]["delta_smooth"] is None and row["scores"]["edit_reconstruction"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lpips_sequence": SEQUENCE[1:]}, "lpips_sequence"),
        ({"lpips_kontext_edit": "far"}, "lpips_kontext_edit cannot be 'far'"),
        ({"image_name": "other.png"}, "other_nsamples_7.png"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(tmp_path, changes, words):
    """One bad entry of 64,000 must neither stop the import nor get in."""
    write_strips(tmp_path / "strips", **changes)
    assert words in refused(tmp_path / "strips")


def test_a_strip_of_other_tiles_is_refused(tmp_path):
    """A strip of 7 squares cut into 9 gives rows that look almost right."""
    write_strips(tmp_path / "strips")
    tiny_image(7 * 18, 18).save(tmp_path / "strips" / "cat_01_nsamples_7.png")
    assert "not 9 square tiles" in refused(tmp_path / "strips")


def test_an_entry_that_is_listed_twice_counts_once(tmp_path):
    """Two rows of one name and one picture; or an import of 64,000 that is refused for one of them."""
    write_strips(tmp_path / "strips", image_name="lost.png")
    strips, problems = open_strips(tmp_path / "strips")
    assert [strip.id for strip in strips] == ["lost"] and "entry 1: lost is in the list twice" in problems[0]


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_list_that_is_none_is_a_sentence(tmp_path, content):
    """A wrong file next to the strips."""
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(InvalidInput):
        open_strips(tmp_path)
    with pytest.raises(InvalidInput, match="holds 0 JSON files"):
        open_strips(tmp_path / "none")
