"""Morphers on a tiny real-class pipeline, and the command that compares them."""

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider import base_edit
from kontext_slider.cli import main
from kontext_slider.errors import InvalidInput
from kontext_slider.metrics import to_image, to_picture
from kontext_slider.train.data.morph import MORPHERS, find_morpher
from kontext_slider.train.data.morph.measure import Row, table
from kontext_slider.train.data.stages import full_edit
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline

STRENGTHS = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def coded(pipe, image) -> np.ndarray:
    return np.clip(base_edit.coded(pipe, to_picture(image)), 0, 1)


@pytest.mark.parametrize("name", MORPHERS)
def test_a_morph_begins_and_ends_at_its_pictures(pipe, name):
    """Otherwise strength 0 trains a change, and strength 1 another edit than the one asked for. What is exact must be
    exact for any model, a random one included; wide pictures, so that no side is taken for the other."""
    source, edited = tiny_image(48, 32, 1), tiny_image(48, 32, 2)
    frames = MORPHERS[name](pipe, source, edited, INSTRUCTION, STRENGTHS, 0)
    assert all(frame.size == (48, 32) for frame in frames)
    first, middle, last = (to_picture(frame) for frame in frames)
    ends = [
        to_picture(image) if name in ("pixel-fade", "warp-fade") else coded(pipe, image) for image in (source, edited)
    ]
    assert np.abs(first - ends[0]).max() <= 1.5 / 255 and np.abs(last - ends[1]).max() <= 1.5 / 255
    assert np.abs(middle - first).max() > 0.02 and np.abs(middle - last).max() > 0.02


@pytest.mark.parametrize("name", MORPHERS)
def test_a_morph_is_a_function_of_its_arguments(pipe, name):
    """Strengths must not depend on their neighbours in the call, nor the second call on the first; the pipeline is
    left as it was."""
    source, edited = tiny_image(seed=1), tiny_image(seed=2)
    before = full_edit(pipe, source, INSTRUCTION, 0)
    together = MORPHERS[name](pipe, source, edited, INSTRUCTION, (0.25, 0.75), 3)
    (alone,) = MORPHERS[name](pipe, source, edited, INSTRUCTION, (0.75,), 3)
    assert np.abs(to_picture(together[1]) - to_picture(alone)).max() <= 1.5 / 255
    assert np.array_equal(full_edit(pipe, source, INSTRUCTION, 0), before)


@pytest.mark.parametrize("name", MORPHERS)
def test_two_sizes_are_a_sentence(pipe, name):
    """Broadcasting errors from inside a transformer tell nobody what to do."""
    with pytest.raises(InvalidInput, match="Resize one"):
        MORPHERS[name](pipe, tiny_image(32, 32), tiny_image(48, 32), INSTRUCTION, STRENGTHS, 0)


def box(side: int, ground: float = 0.3) -> Image.Image:
    """A bright square of `side` pixels in the middle of 64 x 64."""
    picture = np.full((64, 64, 3), ground, dtype=np.float32)
    low = 32 - side // 2
    picture[low : low + side, low : low + side] = 0.9
    return to_image(picture)


def test_what_grows_is_moved_and_what_changes_its_light_is_not():
    """A cross-fade of two sizes shows both; half way there must be one box of half way. And a picture that only turns
    darker has no movement: inventing one would bend what stands still."""
    grown = to_picture(MORPHERS["warp-fade"](None, box(20), box(36), "", (0.5,), 0)[0])
    faded = to_picture(MORPHERS["pixel-fade"](None, box(20), box(36), "", (0.5,), 0)[0])
    truth = to_picture(box(28))
    assert np.mean((grown - truth) ** 2) < 0.4 * np.mean((faded - truth) ** 2)
    day = tiny_image(64, 64, 3)
    night = to_image(to_picture(day) * np.float32(0.4))
    both = [MORPHERS[name](None, day, night, "", (0.5,), 0)[0] for name in ("warp-fade", "pixel-fade")]
    assert np.abs(to_picture(both[0]) - to_picture(both[1])).max() <= 1.5 / 255


def test_the_full_edit_is_the_plain_pipelines_at_the_sources_size(pipe):
    """The parent resizes to a megapixel unless it is told not to."""
    image = tiny_image(48, 32)
    edit = full_edit(pipe, image, INSTRUCTION, 5)
    assert edit.size == (48, 32)
    assert np.array_equal(edit, full_edit(tiny_pipeline(slider=False), image, INSTRUCTION, 5))
    assert not np.array_equal(edit, full_edit(pipe, image, INSTRUCTION, 6))


def test_names_that_are_none_are_a_sentence():
    """The list of names is in the answer."""
    with pytest.raises(InvalidInput, match="freemorph"):
        find_morpher("best", torch.device("cpu"), torch.float32, "none")


def test_the_table_puts_the_nearest_to_the_truth_first():
    """A table that is read from the top should not begin with the worst."""
    rows = {("a", "true"): [Row(20, 30, 30, 0.1, 0.2, 1)], ("b", "true"): [Row(30, 30, 30, 0.1, 0.1, 1)]}
    lines = table(rows, 0.15).splitlines()
    assert lines[2].startswith("| b") and "| 100% |" in lines[2] and "| 0% |" in lines[3]


def test_the_command_measures_both_kinds_of_ends(pipe, tmp_path, capsys):
    """`kontext-slider data morphers` end to end on a saved model."""
    pipe.save_pretrained(tmp_path / "model")
    flags = ["--model", str(tmp_path / "model"), "--edits", "2", "--seed", "1", "--distance", "rms"]
    assert not main(["data", "morphers", *flags, "--only", "pixel-fade", "--out", str(tmp_path / "table.md")])
    text = capsys.readouterr().out
    assert text in (tmp_path / "table.md").read_text()
    assert (
        "| pixel-fade | reconstruction |" in text
        and "| pixel-fade | true |" in text
        and "| ground truth | true | 99" in text
    )
    assert main(["data", "morphers", "--edits", "0"]) == 2


def test_the_run_command_makes_a_report_that_says_how(plain_pipe, tmp_path, capsys, lenient):
    """`kontext-slider data run` end to end on a model that has no slider yet, and the command in its report must be the
    one that repeats it."""
    plain_pipe.save_pretrained(tmp_path / "model")
    flags = [
        "--model",
        str(tmp_path / "model"),
        "--num",
        "2",
        "--seed",
        "4",
        "--size",
        "48",
        "--morpher",
        "latent-fade",
    ]
    assert not main(["data", "run", "--out", str(tmp_path / "out"), *flags, "--max-kl", "1.5"])
    assert "load_dataset" in capsys.readouterr().out
    report = (tmp_path / "out" / "report" / "report.md").read_text()
    for flag in ("--seed 4", "--size 48", "--morpher latent-fade", "--max-kl 1.5", "--num 2"):
        assert flag in report
    assert (tmp_path / "out" / "packed" / "data" / "train-00000-of-00001.parquet").exists()
    assert main(["data", "run", "--out", str(tmp_path / "out"), "--share", "one"]) == 2
    assert main(["data", "run", "--out", str(tmp_path / "new"), "--model", str(tmp_path / "none")]) == 1
    assert "--model" in capsys.readouterr().err
