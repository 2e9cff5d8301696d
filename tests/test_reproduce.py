"""`make reproduce`: the paper's path from data to its tables, at tiny size and in one process."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path

import pytest

from kontext_slider.cli import main as command_line
from kontext_slider.train.data import scores as scoring
from tests.tiny import EDIT_DEFAULTS, HIDDEN_DIM, tiny_pipeline
from tests.train.data.helpers import ANYTHING

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SETTINGS = f"compiled=false size=64 held_out=0 hidden_dim={HIDDEN_DIM} batch_size=2 precision=no"


def run(words: list[str]) -> int:
    """A stage in this process."""
    module, *rest = words
    if module == "kontext_slider":
        return command_line(rest)
    return importlib.import_module(module).main(rest) or 0


@pytest.fixture(scope="module")
def reproduce():
    """The script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.setattr(scoring, "THRESHOLDS", {"ssim": ANYTHING})  # a random model's edits mean nothing
        yield importlib.import_module("reproduce")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """What makes it tiny: a random model of 64 pixels, four sequences, two steps, one edit."""
    folder = tmp_path_factory.mktemp("reproduce")
    pipe = tiny_pipeline(
        edit_defaults={**EDIT_DEFAULTS, "size": 64, "anchor_source": True},
        known_instructions={"night": ["make it night"]},
    )
    pipe.save_pretrained(folder / "model")
    sizes = ["--num", "4", "--steps", "2", "--edits", "1", "--jobs", "1"]
    data = ["--data-flags", "--size 64 --morpher pixel-fade --max-kl 2"]
    methods = ["--evaluate-flags", "--baselines cfg-scale concept-slider"]
    where = ["--out", str(folder / "out"), "--model", str(folder / "model")]
    return [*where, *sizes, *data, *methods, "--concept-settings", "steps=1", "--settings", SETTINGS]


def out_of(words: list[str]) -> Path:
    return Path(words[1])


@pytest.fixture(scope="module")
def finished(reproduce, words):
    """The words of all stages that ran, in order, in a run that was killed three times after a stage had done its work
    and before that was noted."""
    ran: list[list[str]] = []

    def killed_after(stage: list[str]) -> int:
        ran.append(stage)
        return run(stage) or (9 if len(ran) in (1, 4, 6) else 0)

    while reproduce.main(words, killed_after):
        assert len(ran) < 20
    return ran


def test_it_ends_in_three_tables_with_the_papers_figures_beside(finished, words):
    """A reviewer wants the paper's rows, and what is missing must say so."""
    page = (out_of(words) / "report.md").read_text()
    for title in ("Table 1", "Table 2", "Table 3"):
        assert f"## {title}" in page
    for figure in ("0.329 / 0.241", "1.468 / 0.191", "152.2 / 0.242", "2.577 / 0.157"):
        assert figure in page
    assert "needs Stable Diffusion 2.1" in page and "does not carry over to FLUX" in " ".join(page.split())
    assert "one run, no claim" in page


def test_the_json_line_says_what_the_slider_adds(finished, words):
    """The headline, with its interval, by every ruler and for every method."""
    figures = json.loads((out_of(words) / "figures.json").read_text())
    low, high = figures["slider_gain_over_crossfade_db_interval"]
    assert low - 1e-3 <= figures["slider_gain_over_crossfade_db"] <= high + 1e-3
    assert {"ours", "anchor alone", "full", "text-space", "cfg-scale", "cfg-scale + anchor", "concept-slider"} <= set(
        figures["truth_psnr"]
    )
    assert {"delta_smooth_efficientnet", "delta_smooth_efficientnet-pooled", "delta_smooth_ssim"} <= set(figures)


def test_a_stage_that_is_done_is_not_done_again(finished, reproduce, words):
    """A kill after the last step cost the whole run."""
    assert len(finished) == len(set(map(shlex.join, finished))) + 3, "once each, and once more after every kill"
    assert not reproduce.main(words, lambda stage: pytest.fail(f"{stage} ran again"))


def test_what_has_changed_is_done_again_with_all_after_it(finished, reproduce, words):
    """Tables of two different runs side by side."""
    ran: list[str] = []
    more = [*words, "--edits", "3"]
    reproduce.main(more, lambda stage: ran.append(stage[1]) or 1)
    assert ran == ["train-concept"]
    reproduce.main([*words, "--num", "5"], lambda stage: ran.append(stage[1]) or 1)
    assert ran[1:] == ["data"]
    tampered = out_of(words) / "stages" / "data.json"
    tampered.write_text(tampered.read_text().replace('"model": "', '"model": "other '))
    reproduce.main(words, lambda stage: ran.append(stage[1]) or 1)
    assert ran[2:] == ["data"]


def test_the_page_shows_the_commands_that_run(reproduce, capsys):
    """A page whose commands are not those that made its tables."""
    assert not reproduce.main(["--list", "--jobs", "2"])
    assert f"```bash\n{capsys.readouterr().out}```" in (FOLDER.parent / "docs" / "reproduce.md").read_text()
