"""All stages on a tiny real-class pipeline: resumed, repeated, extended."""

import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.metrics.distances import ssim
from kontext_slider.train.data.instruct import Written
from kontext_slider.train.data.kept import kept_items
from kontext_slider.train.data.stages import Models, Stages, full_edit, run_stages
from kontext_slider.train.data.workspace import Item, Workspace
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline
from tests.train.data.helpers import run_tiny, tiny_recipe

ROOT = Path(__file__).parents[3]
KILLED = """
import os, signal, sys
from pathlib import Path
from kontext_slider.train.data.stages import Stages
from tests.train.data.helpers import run_tiny

calls, morph = [], Stages.morph

def killed(self, item):
    facts = morph(self, item)
    calls.append(item)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return facts

Stages.morph = killed
run_tiny(Path(sys.argv[1]), 3, until="score")
"""


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_killed_run_goes_on_to_the_same_data(tmp_path):
    """SIGKILL after a picture, before its record; then a truncated record as well. The data must be that of a run which
    nobody touched, to the byte."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    code = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")], env=environment, cwd=ROOT
    ).returncode
    assert code == -signal.SIGKILL
    done = (tmp_path / "killed" / "morph.jsonl").read_text().splitlines()
    assert len(done) == 1 and len(list((tmp_path / "killed" / "strips").iterdir())) == 2
    with open(tmp_path / "killed" / "edit.jsonl", "r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 9)
    run_tiny(tmp_path / "killed", 3, until="score")
    run_tiny(tmp_path / "whole", 3, until="score")
    killed, whole = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    records = killed.pop("edit.jsonl").splitlines(), whole.pop("edit.jsonl").splitlines()
    assert [line for line in records[0] if line.endswith(b"}")] == records[1]
    assert killed == whole


def test_more_items_may_be_asked_for_later(tmp_path, lenient):
    """Raising --num must add items and leave those that are there alone."""
    run_tiny(tmp_path / "a", 1, until="morph")
    before = contents(tmp_path / "a" / "strips")
    run_tiny(tmp_path / "a", 3, until="morph")
    after = contents(tmp_path / "a" / "strips")
    assert len(after) == 3 and before.items() <= after.items()


def test_shares_make_the_same_items_as_one_run(tmp_path):
    """Two machines with half each would be useless if their items were others than one machine's."""
    run_tiny(tmp_path / "all", 3, until="edit")
    for k in range(2):
        run_tiny(tmp_path / str(k), 3, until="edit", share=(k, 2))
    parts = contents(tmp_path / "0" / "edits") | contents(tmp_path / "1" / "edits")
    assert parts == contents(tmp_path / "all" / "edits")


def test_every_item_has_words_and_noise_of_its_own(tmp_path):
    """One instruction for all pictures, or one noise: a data set of a single draw, that looks like many."""
    (tmp_path / "photos").mkdir()
    tiny_image(48, 32).save(tmp_path / "photos" / "a.png")  # the same for every item, so that only the draw differs
    drawn = []
    for seed in (0, 1):
        made = run_tiny(tmp_path / str(seed), 6, until="edit", sources=str(tmp_path / "photos"), seed=seed)
        words = [record["instruction"] for record in made.records("instruct").values()]
        noises = [record["noise_seed"] for record in made.records("edit").values()]
        assert len(set(words)) > 2 and len(set(noises)) == 6
        drawn.append((words, noises))
    assert drawn[0][0] != drawn[1][0] and not set(drawn[0][1]) & set(drawn[1][1])


def test_a_stage_that_is_done_loads_no_model(tmp_path, monkeypatch):
    """Packing again must not wait for twelve billion weights."""
    run_tiny(tmp_path, 1, until="edit")
    monkeypatch.setattr("kontext_slider.train.data.stages.load_base", lambda *how: pytest.fail("loaded"))
    recipe = tiny_recipe()
    run_stages(tmp_path, recipe, 1, Models(recipe.model), "edit", "a test")


def test_the_editing_model_is_let_go_before_another_is_loaded(tmp_path, monkeypatch):
    """FLUX and a writer of seven billion weights at once: 24 GB and 17, on a GPU that had room for one of them. Nothing
    is loaded for its size alone, either."""
    events, writers = [], []

    class Writer:
        def write(self, source, categories, rng):
            return Written("make it snow", categories[0])

    def load_writer(name, *place):
        events.append("writer")
        assert models.loaded is None and alive() is None, "something still refers to it"
        writer = Writer()
        writer.itself = writer  # as modules do
        writers.append(weakref.ref(writer))
        return writer

    def load_pipe(*how):
        events.append("pipe")
        assert not any(writer() for writer in writers), "the writer beside FLUX"
        return tiny_pipeline()

    recipe = tiny_recipe(writer="vision", sources="scenes", model=str(tmp_path / "model"))
    tiny_pipeline().save_pretrained(tmp_path / "model")
    monkeypatch.setattr("kontext_slider.train.data.stages.load_base", load_pipe)
    monkeypatch.setattr("kontext_slider.train.data.vision.VisionModel.from_pretrained", load_writer)
    monkeypatch.setattr("kontext_slider.train.data.vision.VisionWriter", lambda model: model)
    models = Models(recipe.model)
    alive = weakref.ref(models.pipe)
    run_stages(tmp_path / "out", recipe, 1, models, "instruct", "a test")
    assert events == ["pipe", "writer"]
    run_stages(tmp_path / "out", recipe, 2, models, "edit", "a test")
    assert events == ["pipe", "writer", "writer", "pipe"]
    alive = weakref.ref(models.pipe.transformer)

    def lpips(device):
        assert alive() is None, "LPIPS beside FLUX"
        return ssim

    monkeypatch.setattr("kontext_slider.metrics.networks.lpips_distance", lpips)
    workspace = run_stages(tmp_path / "out", recipe, 1, models, "morph", "a test")
    lpips_recipe = Workspace(workspace.root, recipe.model_copy(update={"distance": "lpips"}))
    assert Stages(lpips_recipe, models).score(Item(0))["kl"] >= 0


def test_a_large_models_strips_take_a_third_of_the_room(tmp_path, lenient):
    """1.1 TB for the paper's 110,000 sequences; and pictures that are not those that were scored."""
    recipe = {"pictures": "jpeg", "size": 64}
    workspace = run_tiny(tmp_path / "out", 1, **recipe)
    assert workspace.picture("strips", "0000000").suffix == ".jpg"
    with Image.open(workspace.picture("strips", "0000000")) as strip:
        assert strip.format == "JPEG"
    (row,) = kept_items([workspace])
    assert row.row().columns()["frames"][0]["bytes"][:2] == b"\xff\xd8"


def test_strips_hold_source_frames_and_edit(tmp_path):
    """Tiles out of order would train a slider that runs backwards."""
    workspace = run_tiny(tmp_path, 1, until="score")
    tiles = [np.asarray(tile) for tile in workspace.tiles("0000000")]
    source, edit = (np.asarray(workspace.load(kind, "0000000")) for kind in ("sources", "edits"))
    assert len(tiles) == 9 and all(tile.shape == (64, 64, 3) for tile in tiles)
    for k in (0, 1):
        assert np.array_equal(tiles[k], source) and np.array_equal(tiles[-1 - k], edit)
    half = (source.astype(float) + edit) / 2
    assert np.abs(tiles[4] - half).max() <= 1
    record = workspace.records("score")["0000000"]
    assert record["kl"] < 0.2 and len(record["steps"]) == 6 and record["source_reconstruction"] == 0


def test_photographs_of_a_folder_and_a_broken_file(tmp_path, lenient):
    """A file that is no picture, or one too narrow, must cost one item, with its reason, and not the run."""
    (tmp_path / "photos").mkdir()
    tiny_image(48, 32).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    tiny_image(1000, 10).save(tmp_path / "photos" / "c.png")
    workspace = run_tiny(tmp_path / "out", 4, until="filter", sources=str(tmp_path / "photos"))
    states = [(outcome.item.index, outcome.stage, outcome.reason) for outcome in workspace.outcomes()]
    unusable = "unreadable source"
    assert states == [(0, "filter", None), (1, "instruct", unusable), (2, "instruct", unusable), (3, "filter", None)]
    width, height = workspace.load("sources", "0000000").size
    assert workspace.load("edits", "0000000").size == (width, height) and width > height
    report = (tmp_path / "out" / "report" / "report.md").read_text()
    assert "| instruct | unreadable source | 2 |" in report and "| filter | 2 | 2 | 0 |" in report
    assert (tmp_path / "out" / "report" / "kept.png").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"categories": ("weather",)},
        {"categories": ()},
        {"morpher": "best"},
        {"distance": "rms"},
        {"num_steps": 1},
        {"share": (2, 2)},
        {"share": "one"},
        {"shares": "0/2"},
        {"seed": -1},
        {"size": 8},
        {"max_kl": float("nan")},
        {"max_kl": 0.0},
    ],
)
def test_what_cannot_be_is_said_at_once(changes):
    """A typo must not come out after a night of edits."""
    with pytest.raises(InvalidInput, match=next(iter(changes))):
        tiny_recipe(**changes)


def test_the_full_edit_is_the_plain_pipelines_at_the_sources_size(pipe):
    """The parent resizes to a megapixel unless it is told not to."""
    image = tiny_image(48, 32)
    edit = full_edit(pipe, image, INSTRUCTION, 5)
    assert edit.size == (48, 32)
    assert np.array_equal(edit, full_edit(tiny_pipeline(slider=False), image, INSTRUCTION, 5))
    assert not np.array_equal(edit, full_edit(pipe, image, INSTRUCTION, 6))
