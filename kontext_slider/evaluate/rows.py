"""The rows of a comparison: ours, what it is made of, baselines and ablations, and the frames of each.

Every baseline has a row with the anchor and one without it (`anchor.py`). Rows that promise the source at 0 to the last
bit, such as the cross-fade, would gain nothing from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from kontext_slider.evaluate.anchor import UnderAnchor, anchored, untrained
from kontext_slider.evaluate.baselines import BASELINES, Method, ours
from kontext_slider.evaluate.results import STRENGTHS
from kontext_slider.metrics import Picture, to_picture
from kontext_slider.metrics.distances import Rulers
from kontext_slider.pipeline import KontextSliderPipeline

CROSS_FADE = "pixel-cross-fade"
OURS, NO_ANCHOR, ANCHOR_ALONE, OWN_FADE = "ours", "ours, no anchor", "anchor alone", "cross-fade of our full edit"
ANCHOR = " + anchor"  # ends the name of a row
CEILING = "truth-through-codec"  # no method: the truth itself, put through the codec
PARTS = {  # what ours is made of -> its line in the report
    OURS: "the slider of the model, as it is shipped.",
    NO_ANCHOR: "the same slider without the anchor, every frame by itself.",
    OURS + ANCHOR: "the same slider with the anchor, which the model does not have.",
    OWN_FADE: "source and our frame at strength 1, mixed as pictures: what a better full edit alone would gain.",
    ANCHOR_ALONE: "an untrained slider with the anchor, which is the cross-fade of the base's edit.",
    CROSS_FADE: "source and the base model's edit, mixed as pictures: the zero of the gains.",
}


@dataclass(frozen=True)
class Setup:
    """The model under test and what is measured on it.

    ablations: name -> one trained slider per training run, each with the anchor or without it as it was trained."""

    pipe: KontextSliderPipeline
    rulers: Rulers
    baselines: Mapping[str, Method] = field(default_factory=dict)
    ablations: Mapping[str, Sequence[UnderAnchor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """The names of the rows, by what they are."""

    parts: tuple[str, ...]
    baselines: tuple[str, ...]
    ablations: dict[str, tuple[str, ...]]  # name -> its runs
    anchors: dict[str, bool | None] = field(default_factory=dict)  # of the runs; None: as the model has it

    @property
    def all(self) -> tuple[str, ...]:
        """Of every row that is rendered, in the order of tables."""
        return (*self.parts, *self.baselines, *(run for runs in self.ablations.values() for run in runs))


def rows_of(setup: Setup) -> Rows:
    """The rows of a setup."""
    other = NO_ANCHOR if setup.pipe.defaults.anchor_source else OURS + ANCHOR
    runs = {name: run_names(name, len(sliders)) for name, sliders in setup.ablations.items()}
    sliders = [slider for each in setup.ablations.values() for slider in each]
    named = [name for name in setup.baselines if name != CROSS_FADE]
    return Rows(
        parts=(OURS, other, OWN_FADE, ANCHOR_ALONE, CROSS_FADE),
        baselines=tuple(row for name in named for row in (name, name + ANCHOR)),
        ablations=runs,
        anchors={run: slider.on for run, slider in zip(sum(runs.values(), ()), sliders, strict=True)},
    )


def run_names(name: str, num_runs: int) -> tuple[str, ...]:
    """The rows of an ablation with so many training runs."""
    return (name,) if num_runs == 1 else tuple(f"{name}, run {number + 1}" for number in range(num_runs))


def render_rows(setup: Setup, image: Image.Image, instruction: str, seed: int) -> dict[str, list[Picture]]:
    """The frames of every row at STRENGTHS, in the order of `rows_of`."""
    methods: dict[str, Method] = {OURS: ours, ANCHOR_ALONE: untrained, CROSS_FADE: BASELINES[CROSS_FADE]}
    methods |= setup.baselines
    for name, runs in setup.ablations.items():
        methods |= zip(run_names(name, len(runs)), runs, strict=True)
    if setup.pipe.defaults.anchor_source:
        methods[NO_ANCHOR] = UnderAnchor(ours, on=False)
    source = to_picture(image)
    sweeps = {name: method(setup.pipe, image, instruction, STRENGTHS, seed) for name, method in methods.items()}
    sweeps[OWN_FADE] = [(1 - s) * source + s * sweeps[OURS][-1] for s in STRENGTHS]
    rows = rows_of(setup).all
    held = [row for row in rows if row not in sweeps]
    sweeps |= {row: anchored(sweeps[row.removesuffix(ANCHOR)], STRENGTHS, source) for row in held}
    return {row: sweeps[row] for row in rows}
