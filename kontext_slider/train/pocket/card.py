"""The model card of the pocket weights: what made them, what they know, how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kontext_slider.evaluate.truth import Score, table
from kontext_slider.train.pocket.base import BaseRun
from kontext_slider.train.pocket.edits import EDITS
from kontext_slider.train.pocket.pairs import EDITS_PER_SOURCE
from kontext_slider.train.pocket.slider import SliderRun


def write_card(
    folder: Path,
    base: BaseRun,
    slider: SliderRun,
    scores: Sequence[Score],
    offered: dict[str, list[str]],
) -> None:
    """`README.md` in the model's folder. `offered`: edit name -> instructions, of the edits that work."""
    edits = "\n".join(f"- {name}: {', '.join(words[:2])}, ..." for name, words in offered.items())
    missing = ", ".join(name for name in EDITS if name not in offered) or "none"
    sections = [
        _HEADER,
        f"## Edits it knows\n\n{edits}\n\nTrained, but not yet 3 dB nearer to the truth than the untouched picture, "
        f"and therefore not offered: {missing}.\n",
        _training(base, slider),
        "## Measured\n\nPSNR in dB against the drawn truth, by edit and strength; `codec at 1` is what the codec alone "
        "leaves of the truth at full strength; `way gone` is the root-mean-square distance to the frame at strength 0 "
        "as a share of the whole way, at .25, .5 and .75, the truth's in brackets; `untouched at 1` is what doing "
        "nothing would score.",
        f"### Held-out scenes, 256 px\n\n{table(scores, 'scene')}\n",
        f"### Photographs never seen\n\nThose of `assets/photos`.\n\n{table(scores, 'photo')}\n",
    ]
    (folder / "README.md").write_text("\n".join(sections), encoding="utf-8")


def _training(base: BaseRun, slider: SliderRun) -> str:
    return f"""## Training

`python -m kontext_slider.train.pocket`: everything from nothing, on drawn pictures only; it resumes after a kill.

| stage | pictures | steps | seed |
|---|---|---|---|
| codec | {base.codec_pictures} drawn, closed form | - | {base.codec_seed} |
{_row("base", base)}
{_row("slider", slider)}

Logs: `training/base.jsonl`, `training/slider.jsonl` (step, loss, seconds per step), two CPU cores, bfloat16 autocast.
"""


def _row(stage: str, run: BaseRun | SliderRun) -> str:
    pairs = EDITS_PER_SOURCE * sum(size.sources for size in run.sizes)
    strength = "full strength" if stage == "base" else "any strength"
    return f"| {stage}, 256 px, {len(run.sizes)} shapes | {pairs:,} pairs at {strength} | {run.steps} | {run.seed} |"


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

pipe = KontextSliderPipeline.from_pretrained("weights/pocket")
frames = pipe(image, "make it night", strength=[0.0, 0.5, 1.0]).images
```

Edits of the whole picture hold on photographs. Edits of one object were trained on drawn scenes only: the model does
not know the objects of photographs.
"""
