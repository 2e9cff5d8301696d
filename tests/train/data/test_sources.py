"""Where source pictures come from."""

import datasets
import numpy as np
import pyarrow
import pytest
from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.train.data.recipe import Rejected
from kontext_slider.train.data.sources import LOW_QUALITY, UNREADABLE, Repeated, half_of, open_sources, pair_sources
from kontext_slider.train.data.workspace import picture_bytes
from tests.tiny import tiny_image

SIDE, MARGIN = 32, 4
FEATURES = datasets.Features({  # as the card of Yuanshi/Subjects200K has them
    "image": datasets.Image(),
    "collection": datasets.Value("string"),
    "quality_assessment": {
        name: datasets.Value("int64") for name in ("compositeStructure", "objectConsistency", "imageQuality")
    },
    "description": {
        **{name: datasets.Value("string") for name in ("item", "description_0", "description_1", "category")},
        "description_valid": datasets.Value("bool"),
    },
})  # fmt: skip


def pair(seed: int) -> tuple[Image.Image, list[Image.Image]]:
    """A composite picture of two squares with white margins, and the squares."""
    halves = [tiny_image(SIDE, SIDE, seed=2 * seed + k) for k in range(2)]
    whole = Image.new("RGB", (2 * SIDE + 3 * MARGIN, SIDE + 2 * MARGIN), "white")
    for k, half in enumerate(halves):
        whole.paste(half, (MARGIN + (SIDE + MARGIN) * k, MARGIN))
    return whole, halves


def write_subjects(folder, marks=(5, None, 3)):
    """A made-up copy of the data set's layout: a row for each mark, None for one that nobody assessed."""
    rows = [
        {
            "image": pair(number)[0],
            "collection": "collection_1",
            "quality_assessment": None if mark is None else {name: mark for name in FEATURES["quality_assessment"]},
            "description": {"item": "a cup", "description_0": "on a table", "description_1": "in the snow",
                            "category": "thing", "description_valid": True},
        }
        for number, mark in enumerate(marks)
    ]  # fmt: skip
    for number in range(2):  # several files
        (folder / "data").mkdir(parents=True, exist_ok=True)
        part = datasets.Dataset.from_list(rows[number::2], features=FEATURES)
        part.to_parquet(folder / "data" / f"train-{number:05d}-of-00002.parquet")


def test_subjects200k_gives_both_pictures_of_every_pair(tmp_path):
    """The margin in the picture, half of the neighbour, or only the left ones: 100,000 of 200,000."""
    write_subjects(tmp_path, marks=(5, 5, 5))
    sources = open_sources(f"subjects200k:{tmp_path}", SIDE, 4, 0)
    for index, (row, half) in enumerate([(0, 0), (0, 1), (2, 0), (2, 1), (1, 0), (1, 1), (0, 0)]):
        assert np.array_equal(sources(index).image, pair(row)[1][half]), index
    assert sources(3).origin == "Yuanshi/Subjects200K/1/1"
    assert np.array_equal(sources(0).image, pair(0)[1][0]), "a run that goes on begins anywhere"


def test_pictures_that_its_authors_marked_down_are_rejected(tmp_path):
    """Broken pictures get broken edits; those that nobody assessed are not lost for it."""
    write_subjects(tmp_path, marks=(5, 3, None))
    sources = open_sources(f"subjects200k:{tmp_path}", SIDE, 4, 0)
    assert sources(0) and sources(2), "the second file's first row is the third"
    with pytest.raises(Rejected, match="3 of 5") as rejected:
        sources(4)
    assert rejected.value.reason == LOW_QUALITY


@pytest.mark.parametrize("size", [(40, 40), (20, 10), (9, 100)])
def test_what_is_no_pair_is_rejected(size):
    """One picture of another layout in 200,000: an item, not the run."""
    file = picture_bytes(tiny_image(*size))
    if size == (20, 10):
        assert half_of(file, True).size == (10, 10), "without margins, as in the third collection"
        return
    with pytest.raises(Rejected) as rejected:
        half_of(file, False)
    assert rejected.value.reason == UNREADABLE


def test_rows_are_gone_through_once_for_numbers_that_rise():
    """A share of a data set on the hub is streamed: going back means downloading all of it again."""
    starts = []

    class Rows:
        def __iter__(self):
            starts.append(1)
            return iter({"number": number} for number in range(5))

    rows = Repeated(Rows())
    assert [rows[number]["number"] for number in (0, 0, 2, 3)] == [0, 0, 2, 3] and len(starts) == 1
    assert [rows[number]["number"] for number in (6, 8, 13)] == [1, 3, 3] and len(starts) == 2
    assert rows[1]["number"] == 1


def test_sources_that_are_not_there_are_sentences(tmp_path, monkeypatch):
    """No network on a node: the sentence says how to bring the data."""
    with pytest.raises(InvalidInput, match="hf download"):
        open_sources(f"subjects200k:{tmp_path}", SIDE, 4, 0)

    def fail(*names, **how):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InvalidInput, match="offline.*hf download"):
        open_sources("subjects200k", SIDE, 4, 0)
    with pytest.raises(InvalidInput, match="no rows"):
        Repeated([])[0]
    assert open_sources("scenes", 48, 16, 3)(0).image.size == (48, 48)


def test_rows_that_cannot_be_read_are_a_sentence():
    """A damaged Parquet file, or a download that breaks off, was a traceback of a library."""

    def rows():
        yield {}
        raise pyarrow.ArrowInvalid("truncated")

    with pytest.raises(InvalidInput, match=r"Row 1 .*\(truncated\)"):
        Repeated(rows())[1]


@pytest.mark.parametrize(
    "row", [{}, {"image": None}, {"image": {"bytes": b"x"}, "quality_assessment": {"imageQuality": "x"}}]
)
def test_odd_rows_of_pairs_are_rejected(row):
    """One row of 200,000 must not end the run."""
    with pytest.raises(Rejected, match=UNREADABLE):
        pair_sources([row], 64, 8)(0)
