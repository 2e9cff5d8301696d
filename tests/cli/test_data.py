"""`kontext-slider data` as a person runs it, on a tiny real-class pipeline."""

import json

from kontext_slider.cli import main
from kontext_slider.train.data.recipe import CATEGORIES
from tests.cli.helpers import status_of
from tests.tiny import tiny_pipeline
from tests.train.data.conftest import lenient as lenient  # a fixture


def test_the_command_measures_morphers(pipe, tmp_path, capsys):
    """`kontext-slider data morphers` end to end on a saved model."""
    pipe.save_pretrained(tmp_path / "model")
    flags = ["--model", str(tmp_path / "model"), "--edits", "2", "--seed", "1", "--distance", "rms"]
    assert not main(["data", "morphers", *flags, "--only", "pixel-fade", "--out", str(tmp_path / "table.md")])
    text = capsys.readouterr().out
    assert text in (tmp_path / "table.md").read_text()
    assert "| pixel-fade | " in text and "| ground truth | 99 " in text
    assert status_of(["data", "morphers", "--edits", "0"]) == 2


def test_the_run_command_makes_a_report_that_says_how(plain_pipe, tmp_path, capsys, lenient):
    """`kontext-slider data run` end to end on a model that has no slider yet, and the command in its report must be the
    one that repeats it."""
    plain_pipe.save_pretrained(tmp_path / "model")
    flags = ["--model", str(tmp_path / "model"), "--num", "2", "--seed", "4", "--size", "48"]
    flags += ["--morpher", "latent-fade", "--distance", "ssim", "--sources", "scenes", "--writer", "grammar"]
    assert not main(["data", "run", "--out", str(tmp_path / "out"), *flags, "--max-kl", "1.5"])
    assert "load_dataset" in capsys.readouterr().out
    report = (tmp_path / "out" / "report" / "report.md").read_text()
    for flag in ("--seed 4", "--size 48", "--morpher latent-fade", "--max-kl 1.5", "--num 2"):
        assert flag in report
    assert (tmp_path / "out" / "packed" / "data" / "train-00000-of-00001.parquet").exists()
    assert main(["data", "run", "--out", str(tmp_path / "out"), "--share", "one"]) == 2
    assert main(["data", "run", "--out", str(tmp_path / "new"), "--model", str(tmp_path / "none")]) == 2
    assert "There is no model" in capsys.readouterr().err


def test_a_model_that_takes_any_instruction_is_given_its_sources_and_writer(tmp_path, capsys):
    """A week of FLUX edits of drawn scenes by the grammar's forty instructions, filtered by another ruler's thresholds:
    nobody had asked for any of them."""
    tiny_pipeline().save_pretrained(tmp_path / "model")
    flags = ["data", "run", "--out", str(tmp_path / "out"), "--model", str(tmp_path / "model"), "--num", "1"]
    assert main([*flags, "--sources", "scenes"]) == 2
    assert "--writer Qwen" in capsys.readouterr().err
    assert main([*flags, "--sources", "scenes", "--writer", "grammar"]) == 2
    assert "needs the package lpips and torchvision" in capsys.readouterr().err, "the paper's distance, said at once"
    assert not (tmp_path / "out").exists()
    assert not main([*flags, "--sources", "scenes", "--writer", "grammar", "--until", "edit"])
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert [recipe[name] for name in ("morpher", "distance", "pictures")] == ["free-morph", "lpips", "jpeg"]


def test_the_thresholds_command_prints_lines_of_the_table(tmp_path, capsys):
    """`kontext-slider data thresholds` is how the table is made again when the world or the codec changes."""
    tiny_pipeline().save_pretrained(tmp_path / "model")
    flags = ["--model", str(tmp_path / "model"), "--distance", "rms", "--scenes-per-edit"]
    assert not main(["data", "thresholds", *flags, "1"])
    printed = capsys.readouterr().out
    assert all(f'    "{category}": Threshold(0.' in printed for category in CATEGORIES)
    assert status_of(["data", "thresholds", *flags, "0"]) == 2


def test_a_folder_that_is_a_file_is_a_sentence(tmp_path, capsys):
    """A traceback of pathlib's."""
    (tmp_path / "file").touch()
    assert main(["data", "run", "--num", "1", "--out", str(tmp_path / "file")]) == 2
    assert "cannot be made" in capsys.readouterr().err


def test_seeds_of_which_nothing_can_be_drawn_are_refused(capsys):
    """A million below zero, numpy's own error."""
    for command in ("morphers", "thresholds"):
        assert status_of(["data", command, "--seed", "-1000001"]) == 2
        assert "--seed" in capsys.readouterr().err
