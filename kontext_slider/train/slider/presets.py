"""The runs that have a name: the shipped pocket slider, the paper's, and the ablations of both."""

from __future__ import annotations

from dataclasses import replace

from kontext_slider.train.slider.config import SliderConfig

PAPER = SliderConfig()
POCKET = SliderConfig(
    model="pocket",
    seed=2,
    size=256,
    max_sequence_length=16,
    steps=2000,
    rate=1e-3,
    warmup=100,
    decay="linear",
    optimiser="adamw",
    beta2=0.99,
    weight_decay=0.01,
    timesteps="near_one",
    weighting="sigma_squared",
    anchored=True,
    slider_drop=0.0,
    rank=8,
    hidden_dim=384,
    strength_dim=2,
    strength_encoding="release",
    place="time_text_embed",
    degree=3,
    gradient_checkpointing=False,
    checkpoint_every=200,
    preview_every=500,
)
PRESETS: dict[str, SliderConfig] = {
    "pocket": POCKET,
    "pocket-text-space": replace(POCKET, kind="text-space"),
    "pocket-no-pooled": replace(POCKET, kind="no-pooled"),
    "kontext-dev": PAPER,
    "kontext-dev-text-space": replace(PAPER, kind="text-space"),
    "kontext-dev-no-pooled": replace(PAPER, kind="no-pooled"),
}
