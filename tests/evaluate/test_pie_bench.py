"""The readers of PIE-Bench and its measures, on folders made on the spot."""

import builtins
import json

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider.errors import InvalidInput, UnreadableImage
from kontext_slider.evaluate.baselines import BASELINES, ours
from kontext_slider.evaluate.pie_bench import (
    PieCase,
    PieSetup,
    decode_mask,
    difference,
    measure_case,
    outside_psnr,
    read_pie_bench,
    resized_mask,
)
from kontext_slider.evaluate.pie_report import pie_figures
from kontext_slider.evaluate.results import MeasuredEdit
from kontext_slider.metrics.distances import rms
from tests.evaluate.pie import hub_folder, original_folder
from tests.tiny import tiny_pipeline


@pytest.fixture
def folder(tmp_path):
    return original_folder(tmp_path / "original")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    pytest.importorskip("datasets", reason="Parquet files are read with datasets, which is not installed")
    return hub_folder(tmp_path_factory.mktemp("hub"))


def test_the_original_layout(folder):
    """Additions and deletions are not in the paper's 540; brackets are marks and no words."""
    first, second = read_pie_bench(folder)
    assert (first.id, first.kind, second.kind) == ("000", "random", "style")
    assert (first.source_prompt, first.target_prompt) == ("a round cake", "a square cake")
    assert first.instruction == "make it square" and first.image.size == (512, 512)


def test_the_hubs_layout_is_the_same_data(folder, hub):
    """Its type is in the folder's name, its mask is text, and it has no instructions."""
    for theirs, plain in zip(read_pie_bench(hub), read_pie_bench(folder), strict=True):
        assert (theirs.kind, theirs.source_prompt, theirs.target_prompt) == (
            plain.kind,
            "a round cake",
            "a square cake",
        )
        assert np.array_equal(theirs.mask, plain.mask) and theirs.image.tobytes() == plain.image.tobytes()
        assert theirs.instruction == "change round to square"


def test_parquet_needs_datasets_and_says_so(hub, monkeypatch):
    """`datasets` is no dependency of the package."""
    plain = builtins.__import__

    def without(module, *args, **kwargs):
        if module == "datasets":
            raise ModuleNotFoundError(module, name=module)
        return plain(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidInput, match="pip install datasets"):
        list(read_pie_bench(hub))


def test_masks_are_runs_over_rows():
    """Read by columns, every mask would be transposed and every leakage wrong."""
    mask = decode_mask([0, 512, 1024, 3])
    assert mask[0].all() and not mask[1].any() and mask[2, :3].all() and mask.sum() == 515
    assert decode_mask([]).sum() == 0 and np.shape(mask) == (512, 512)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("a cat on a mat", "a dog on a mat", "change cat to dog"),
        ("a cat", "a cat with a hat", "add with a hat"),
        ("a red cat", "a cat", "remove red"),
        ("a cat on grass", "a dog on snow", "change cat to dog and change grass to snow"),
        ("a cat", "a cat", "make it a cat"),
    ],
)
def test_instructions_come_from_what_differs(source, target, words):
    """A prompt handed on as an instruction asks for the whole picture anew."""
    assert difference(source, target) == words


@pytest.mark.parametrize("break_it", ["empty", "picture"])
def test_what_is_wrong_is_said(folder, tmp_path_factory, break_it):
    """A path mistyped, a download cut off."""
    if break_it == "picture":
        (folder / "annotation_images" / "0" / "0.png").unlink()
    where = tmp_path_factory.mktemp("nothing") if break_it == "empty" else folder
    with pytest.raises(InvalidInput, match={"empty": "no PIE-Bench", "picture": "'000'.*0.png"}[break_it]):
        list(read_pie_bench(where))


@pytest.mark.parametrize("text", ['{"000": ', "[1, 2]"])
def test_a_list_of_edits_that_is_cut_off_is_said(folder, text):
    """A traceback of the JSON reader names no file."""
    (folder / "mapping_file.json").write_text(text)
    with pytest.raises(InvalidInput, match="damaged, download it again: .*mapping_file.json"):
        list(read_pie_bench(folder))


@pytest.mark.parametrize(
    "change",
    [{"mask": [0, 10, 5]}, {"mask": None}, {"editing_type_id": "12"}, {"editing_instruction": " "}, {"image_path": 3}],
)
def test_an_entry_that_is_damaged_is_named(folder, change):
    """An odd mask among 700 was a ValueError of zip, an edit without words stopped a run in its middle."""
    path = folder / "mapping_file.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({**entries, "002": {**entries["002"], **change}}))
    with pytest.raises(InvalidInput, match="damaged, download it again: the entry '002'"):
        list(read_pie_bench(folder))


@pytest.mark.parametrize("field", ["editing_type_id", "mask", "original_prompt", "image_path", "editing_instruction"])
def test_an_entry_without_a_field_is_named(folder, field):
    """A bare KeyError says neither which of 700 it was nor what to do."""
    path = folder / "mapping_file.json"
    entries = json.loads(path.read_text())
    del entries["002"][field]
    path.write_text(json.dumps(entries))
    with pytest.raises(InvalidInput, match=f"the entry '002'.*{field}"):
        list(read_pie_bench(folder))


def test_a_picture_that_is_cut_off_is_named(folder):
    """Pillow's error is none of ours, and names a memory address."""
    path = folder / "annotation_images" / "0" / "0.png"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UnreadableImage, match="damaged, download it again: the picture of the entry '000'"):
        list(read_pie_bench(folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask": "0 512 7"}, "row 0 of"),
        ({"mask": "0 twelve"}, "row 0 of"),
        ({"image": {"bytes": b"no picture", "path": "0.png"}}, "the picture of row 0 of"),
    ],
)
def test_a_row_of_the_hubs_that_is_damaged_is_named(tmp_path, change, words):
    """The same slips in the other layout."""
    datasets = pytest.importorskip("datasets", reason="Parquet files are read with datasets, which is not installed")
    (file, *_) = sorted(hub_folder(tmp_path).glob("0_*/*.parquet"))
    row = datasets.Dataset.from_parquet(str(file), keep_in_memory=True, cache_dir=str(tmp_path / "cache"))[0]
    datasets.Dataset.from_list([{**row, **change}]).to_parquet(str(file))
    with pytest.raises(InvalidInput, match=f"damaged, download it again: {words}"):
        list(read_pie_bench(tmp_path))


def test_a_file_that_is_no_parquet_is_named(hub, tmp_path):
    """A download that was cut off."""
    (tmp_path / "9_change_style_80").mkdir()
    (tmp_path / "9_change_style_80" / "V1-00000-of-00001.parquet").write_bytes(b"no table")
    with pytest.raises(InvalidInput, match="damaged, download it again: .*V1-00000"):
        list(read_pie_bench(tmp_path))


class Brightness:
    """Pictures are told apart by how bright they are; all words mean the same but the last."""

    def embed_images(self, pictures):
        angles = torch.tensor([float(picture.mean()) for picture in pictures])
        return torch.stack([angles.cos(), angles.sin()], dim=-1)

    def embed_texts(self, texts):
        return torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def measured(cases, methods, embedder=None) -> list[dict]:
    """By edit: the results by method."""
    setup = PieSetup(tiny_pipeline(), methods, lambda pictures: {"rms": rms(pictures)}, embedder)
    return [dict(measure_case(setup, case, list(methods), seed=0)) for case in cases]


def test_measures_start_at_the_source(folder):
    """The paper's y_0 is the source itself: with the frame at 0 in its place, what strength 0 loses is free."""
    edits = measured(read_pie_bench(folder), {"ours": ours, "fade": BASELINES["pixel-cross-fade"]}, Brightness())
    assert len(edits) == 2
    for row in (row for edit in edits for row in edit.values()):
        assert row.curves["rms"][0] == 0 and row.curves["rms"][-1] == 1
        assert row.curves["identity"][0] == pytest.approx(1)
        numbers = vars(row.measures) | vars(row.smoothness["rms"])
        assert all(np.isfinite(value) for value in numbers.values())
    fade = edits[0]["fade"].smoothness["rms"]
    assert fade.delta_smooth < 0.02 and fade.linearity_error < 0.02
    figures = pie_figures([MeasuredEdit({"id": "0", "kind": "random"}, results) for results in edits])
    assert figures["rivals"]["fade"]["background_psnr"] > 0
    assert len(figures["identity"]) == len(figures["rivals"]["fade"]["identity"]) == 7


def test_frames_that_are_no_numbers_are_named(folder):
    """A PSNR of not-a-number came out as 99 dB and a smoothness as 0: frames of a precision that is too low were the
    best of all."""

    def empty(pipe, image, instruction, strengths, seed):
        return [np.full((image.height, image.width, 3), np.nan, dtype=np.float32) for _ in strengths]

    with pytest.raises(InvalidInput, match="'empty' makes frames of the edit '000' that are no pictures"):
        measured(read_pie_bench(folder), {"empty": empty})


def test_the_background_is_what_the_mask_leaves():
    """A mask turned around would praise models that leave the object and change everything else."""
    mask = np.zeros((512, 512), bool)
    mask[:, :256] = True
    small = resized_mask(mask, (8, 4))
    assert small.shape == (4, 8) and small[:, :4].all() and not small[:, 4:].any()
    source = np.zeros((4, 8, 3), np.float32)
    frame = source.copy()
    frame[:, :4] = 1.0
    frame[:, 4:] = 0.1
    assert outside_psnr([frame], source, ~small) == pytest.approx(20, abs=1e-3)
    assert outside_psnr([frame], source, np.zeros((4, 8), bool)) is None


def test_the_background_is_measured_outside_the_mask():
    """The helpers are right and their caller turned the mask around: all that an edit is for would count as damage."""
    mask = np.zeros((512, 512), bool)
    mask[:, :256] = True
    case = PieCase("0", "random", Image.new("RGB", (512, 512), (102, 102, 102)), "grey", "black", "darken it", mask)

    def darken_left(pipe, image, instruction, strengths, seed):
        frame = np.full((32, 32, 3), 0.4 + 0.1, np.float32)
        frame[:, :16] = 0
        return [frame] * len(strengths)

    (edit,) = measured([case], {"ours": darken_left})
    assert edit["ours"].measures.background_psnr == pytest.approx(20, abs=1e-3)


def test_a_single_pixel_of_a_mask_is_no_background():
    """Every 16th pixel looked at, a thin edit would fall through, and its change count against the method."""
    mask = np.zeros((512, 512), bool)
    mask[16 * 3 + 1, 16 * 5 + 2] = True
    small = resized_mask(mask, (32, 32))
    assert small[3, 5] and small.sum() == 1
