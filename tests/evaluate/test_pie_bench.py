"""The reader of PIE-Bench, on a folder made on the spot."""

import json

import numpy as np
import pytest
from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.pie_bench import decode_mask, plain_prompt, read_pie_bench


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "annotation_images" / "0"
    images.mkdir(parents=True)
    entries = {}
    for number, kind in enumerate(["0", "2", "9"]):
        Image.new("RGB", (512, 512), (number, 0, 0)).save(images / f"{number}.png")
        entries[f"00{number}"] = {
            "image_path": f"0/{number}.png",
            "original_prompt": "a [round] cake",
            "editing_prompt": "a [square] cake",
            "editing_instruction": "make it square",
            "editing_type_id": kind,
            "mask": [0, 512, 1024, 3],
        }
    (tmp_path / "mapping_file.json").write_text(json.dumps(entries))
    return tmp_path


def test_the_original_layout(folder):
    """Additions and deletions are not in the paper's 540; brackets are marks and no words."""
    first, second = read_pie_bench(folder)
    assert (first.id, first.kind, second.kind) == ("000", "random", "style")
    assert (first.source_prompt, first.target_prompt) == ("a round cake", "a square cake")
    assert first.instruction == "make it square" and first.image.size == (512, 512)
    assert len(list(read_pie_bench(folder, ("add",)))) == 1


def test_masks_are_runs_over_rows():
    """Read by columns, every mask would be transposed and every leakage wrong."""
    mask = decode_mask([0, 512, 1024, 3])
    assert mask[0].all() and not mask[1].any() and mask[2, :3].all() and mask.sum() == 515
    assert decode_mask([]).sum() == 0 and np.shape(mask) == (512, 512)


def test_prompts_lose_their_brackets():
    """The text encoder knows no marks."""
    assert plain_prompt("[a] cat ") == "a cat"


@pytest.mark.parametrize("break_it", ["empty", "kind", "picture"])
def test_what_is_wrong_is_said(folder, tmp_path_factory, break_it):
    """A path mistyped, a type mistyped, a download cut off."""
    if break_it == "picture":
        (folder / "annotation_images" / "0" / "0.png").unlink()
    where = tmp_path_factory.mktemp("nothing") if break_it == "empty" else folder
    with pytest.raises(
        InvalidInput, match={"empty": "no PIE-Bench", "kind": "no type", "picture": "missing"}[break_it]
    ):
        list(read_pie_bench(where, ("nonsense",) if break_it == "kind" else ("random",)))
