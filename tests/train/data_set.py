"""A small data set as the data stages write it: Parquet through `datasets`, two picture sizes, three strengths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pillow

from kontext_slider.train.config import SliderConfig
from kontext_slider.train.loop import LOG
from tests.tiny import HIDDEN_DIM, tiny_image

SIZES = ((32, 32), (32, 32), (96, 48), (32, 32), (96, 48), (32, 32), (96, 48), (32, 32), (32, 32))
STRENGTHS = [0.0, 0.5, 1.0]
SENTENCES = ["make it snow", "add fog", "let it rain"]
CONFIG = SliderConfig(
    model="tiny",
    size=32,
    max_sequence_length=16,
    batch_size=2,
    steps=6,
    rate=1e-2,
    warmup=2,
    optimiser="adamw",
    precision="no",
    slider_drop=0.2,
    hidden_dim=HIDDEN_DIM,
    strength_dim=8,
    gradient_checkpointing=False,
    held_out=1,
    checkpoint_every=2,
    preview_every=100,
    log_every=1,
)


def sequence(size: tuple[int, int], seed: int) -> list[Pillow.Image]:
    """A picture that goes dark in three frames."""
    pixels = np.asarray(tiny_image(*size, seed=seed), dtype=np.float32)
    return [Pillow.fromarray((pixels * (1 - 0.8 * s)).astype(np.uint8)) for s in STRENGTHS]


def tiny_rows() -> dict[str, list]:
    return {
        "frames": [sequence(size, seed) for seed, size in enumerate(SIZES)],
        "strengths": [STRENGTHS] * len(SIZES),
        "instruction": [SENTENCES[seed % 3] for seed in range(len(SIZES))],
        "category": ["environment_change"] * len(SIZES),
        "scores": [{"kl": 0.1}] * len(SIZES),
    }


def write_data(folder: Path, **changes) -> Path:
    """`changes` replace columns, or add `source`."""
    features = Features(
        {
            **({"source": Image()} if "source" in changes else {}),
            "frames": List(Image()),
            "strengths": List(Value("float32")),
            "instruction": Value("string"),
            "category": Value("string"),
            "scores": {"kl": Value("float32")},
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict({**tiny_rows(), **changes}, features=features).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


def read_losses(folder: Path) -> list[float]:
    """The losses of a run, one per step."""
    return [json.loads(line)["loss"] for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]
