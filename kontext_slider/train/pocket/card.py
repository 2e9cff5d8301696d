"""The model card of the pocket weights: what made them, what they know, how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kontext_slider.evaluate import sizes
from kontext_slider.evaluate.truth import Score, table
from kontext_slider.train.pocket.pairs import EDITS_PER_SOURCE
from kontext_slider.world.edits import EDITS


def write_card(
    folder: Path,
    runs: dict[str, dict],
    scores: Sequence[Score],
    by_size: dict[int, list[Score]],
    offered: dict[str, list[str]],
) -> None:
    """`README.md` in the model's folder.

    runs: settings of base and slider. offered: edit name -> instructions, of the edits that work."""
    edits = "\n".join(
        f"- {name} ({EDITS[name].category}): {', '.join(words[:2])}, ..." for name, words in offered.items()
    )
    missing = ", ".join(name for name in EDITS if name not in offered) or "none"
    sections = [
        _HEADER,
        f"## Edits it knows\n\n{edits}\n\nTrained, but not yet 3 dB nearer to the truth than the untouched picture, "
        f"and therefore not offered: {missing}.\n",
        _training(runs["base"], runs["slider"]),
        "## Measured\n\nPSNR in dB against the drawn truth, by edit and strength; `codec at 1` is what the codec alone "
        "leaves of the truth at full strength; `way gone` is the root-mean-square distance to the frame at strength 0 "
        "as a share of the whole way, at .25, .5 and .75, the truth's in brackets; `untouched at 1` is what doing "
        "nothing would score.",
        f"### Held-out scenes, 256 px\n\n{table(scores, 'scene')}\n",
        f"### The same scenes at other sizes\n\nEvery fourth edit.\n\n{sizes.table(by_size)}\n",
        f"### Photographs never seen\n\nThose of `assets/photos`.\n\n{table(scores, 'photo')}\n",
    ]
    (folder / "README.md").write_text("\n".join(sections), encoding="utf-8")


def _training(base: dict, slider: dict) -> str:
    return f"""## Training

{_origin(base)}

| stage | pictures | steps | seed |
|---|---|---|---|
{_codec(base)}
{_row("base", base)}
{_row("slider", slider)}

Logs: `training/base.jsonl`, `training/slider.jsonl` (step, loss, seconds per step), two CPU cores, bfloat16 autocast.
"""


def _origin(base: dict) -> str:
    if base["start"] is None:
        return "`python -m kontext_slider.train.pocket`: everything from nothing; it resumes after a kill."
    return (
        f"`python -m kontext_slider.train.pocket`, which goes on from an earlier model, `{base['start']}`, its codec "
        "included; it resumes after a kill. Pictures are drawn, and one in seven is a crop of scikit-image's samples."
    )


def _codec(base: dict) -> str:
    pictures = f"{base['codec_pictures']} drawn, closed form" if base["start"] is None else "as it was"
    return f"| codec | {pictures} | - | {base['codec_seed']} |"


def _row(stage: str, run: dict) -> str:
    pairs = EDITS_PER_SOURCE * sum(size["sources"] for size in run["sizes"])
    strength = "full strength" if stage == "base" else "any strength"
    sides = sorted({size[side] for size in run["sizes"] for side in ("width", "height")})
    shapes = f"{len(run['sizes'])} shapes of {sides[0]} to {sides[-1]} px a side"
    return f"| {stage}, {shapes} | {pairs:,} pairs at {strength} | {run['steps']} | {run['seed']} |"


_HEADER = """---
library_name: diffusers
pipeline_tag: image-to-image
license: mit
tags: [kontext-slider, image-editing]
---

# Pocket

A Kontext model in miniature, for `kontext-slider` on a laptop: FluxTransformer2DModel (256 wide, 2 double and 4 single
blocks), CLIPTextModel and T5EncoderModel of one word per token, and a codec in closed form (lapped Karhunen-Loeve
transform of 8x8 patches). It edits pictures of about 256 x 256 pixels with a strength from 0 to 1.

```python
from kontext_slider import KontextSliderPipeline

pipe = KontextSliderPipeline.from_pretrained("weights/pocket")  # anywhere else: load_pipeline("pocket")
frames = pipe(image, "make it night", strength=[0.0, 0.5, 1.0]).images
```

Edits of the whole picture hold on photographs. Edits of one object were trained on drawn scenes only: the model does
not know the objects of photographs. Where a scene has two of a kind, say which: "make the left tree yellow". Strength 0
is the source itself (`anchor_source`); with `allow_extrapolation=True` strengths go on to 1.5.
"""
