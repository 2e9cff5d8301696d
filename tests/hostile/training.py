"""Training folders for the fuzzer: small runs, made once, that go on after damage. The methods are targets, as those of
`Targets`."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import datasets

from kontext_slider.codec import PatchCodec
from kontext_slider.train.data import scores
from kontext_slider.train.data.workspace import reopen
from kontext_slider.train.pocket.base import BASE, fit_codec
from kontext_slider.train.pocket.model import kept_tokenizers
from kontext_slider.train.pocket.pairs import ShardSize, load_or_draw
from kontext_slider.train.slider import train_slider
from tests.hostile.mutate import damage_folder
from tests.tiny import tiny_pipeline
from tests.train.data.helpers import ANYTHING, run_tiny
from tests.train.data_set import CONFIG, write_data

RUN = CONFIG.changed(steps=3, checkpoint_every=1, device="cpu")
POCKET = BASE.changed(codec_pictures=2, sizes=(ShardSize(32, 32, 2, 2),))
SENTENCES = ["make it snow", "add fog"]


class Stopped(Exception):
    """Ends a run before its last step."""


class TrainingTargets:
    """Needs `folder`; the folders are made when the first case asks for one."""

    weights = {"slider_run": 0.2, "data_run": 0.2, "pocket_run": 0.4}
    folder: Path

    def slider_run(self, rng: random.Random) -> None:
        """A slider's run with its data set and encoded rows: run.json, log, checkpoints, index, rows."""
        run = self._damaged("slider run", self._make_slider_run, rng)
        train_slider(tiny_pipeline(slider=False), RUN, run / "run", run / "data", run / "cache")

    def data_run(self, rng: random.Random) -> None:
        """A run of the data stages: recipe, records, pictures, packed data."""
        run = self._damaged("data run", self._make_data_run, rng)
        if rng.random() < 0.5:
            reopen(run / "out").outcomes()
        else:
            run_tiny(run / "out", 2)

    def pocket_run(self, rng: random.Random) -> None:
        """What a run of the pocket model keeps: words, codec, shards of synthetic pairs."""
        use_pocket_run(self._damaged("pocket run", use_pocket_run, rng))

    def _damaged(self, name: str, make, rng: random.Random) -> Path:
        whole, copy = self.folder / name, self.folder / f"damaged {name}"
        if not whole.exists():
            datasets.disable_progress_bars()
            whole.mkdir()
            make(whole)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        damage_folder(copy, rng, spared=(".md", ".lock", ".arrow"))
        return copy

    def _make_slider_run(self, folder: Path) -> None:
        def stop(step: int, loss: float) -> None:
            if step == RUN.steps - 1:
                raise Stopped

        write_data(folder / "data")
        try:
            train_slider(
                tiny_pipeline(slider=False), RUN, folder / "run", folder / "data", folder / "cache", on_step=stop
            )
        except Stopped:
            return

    def _make_data_run(self, folder: Path) -> None:
        scores.THRESHOLDS = {"ssim": ANYTHING}  # a random model's edits mean nothing
        run_tiny(folder / "out", 2)


def use_pocket_run(folder: Path) -> None:
    """Make what is missing, and read all."""
    kept_tokenizers(folder / "words", SENTENCES, 16)
    codec: PatchCodec = fit_codec(POCKET, folder / "codec")
    load_or_draw(folder / "shard.safetensors", codec, POCKET.sizes[0], 0, True)
