"""The model card of the pocket weights: what made them, what they know, how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kontext_slider.evaluate.truth import Score, table
from kontext_slider.train.pocket.base import BaseRun
from kontext_slider.train.pocket.edits import EDITS
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
    phases = "\n".join(
        f"| base, {phase.sizes[0].height} px, shapes: {len(phase.sizes)}, object edits x {phase.local_weight:g} "
        f"| {_pairs(phase.sizes)} pairs at full strength | {phase.steps} | {base.seed} |"
        for phase in base.phases
    )
    return f"""## Training

`python -m kontext_slider.train.pocket`: everything from nothing, on drawn pictures only; it resumes after a kill.

| stage | pictures | steps | seed |
|---|---|---|---|
| codec | {base.codec_pictures} drawn, closed form | - | {base.codec_seed} |
{phases}
| slider, 128 and 256 px | {_pairs(slider.sizes)} pairs at any strength | {slider.steps} | {slider.seed} |

The run was made longer while it ran: the learning rate of the first 2,800 steps decayed towards step 4,400, that of
steps 2,800 to 4,000 towards 5,200, the rest towards the end; the slider's first 1,000 steps decayed to zero before 800
more were added. The command today decays once for each.

Logs: `training/base.jsonl`, `training/slider.jsonl` (step, loss, seconds per step), two CPU cores, bfloat16 autocast.
"""


def _pairs(sizes) -> str:
    return f"{3 * sum(size.sources for size in sizes):,}"


_HEADER = """---
library_name: diffusers
pipeline_tag: image-to-image
license: mit
tags: [kontext-slider, image-editing]
---

# Pocket

A Kontext model in miniature, for `kontext-slider` on a laptop: FluxTransformer2DModel (192 wide, 2 double and 4 single
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
