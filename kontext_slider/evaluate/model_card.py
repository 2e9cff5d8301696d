"""Measure a saved pocket model as a user loads it, offer the edits that work, write report, contact sheet and card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kontext_slider.checkpoint import forget_local_paths
from kontext_slider.errors import KontextSliderError
from kontext_slider.evaluate.baselines import ours
from kontext_slider.evaluate.plots import plot_strips
from kontext_slider.evaluate.report import write_truth
from kontext_slider.evaluate.truth import Score, find_photos, score_sizes, score_truth, size_table, table, working_edits
from kontext_slider.images import read_image, working_image
from kontext_slider.instructions import whole_picture_first
from kontext_slider.metrics import to_image
from kontext_slider.model_folder import write_checksums
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.cases import choosing_seed
from kontext_slider.world.edits import EDITS, family, known_instructions

STRENGTHS = (0.25, 0.5, 0.75, 1.0)  # of the contact sheet


def measure(out: Path, photos: Path, scenes_per_edit: int, training: str) -> None:
    """Score the weights in `out` on held-out scenes and on photographs, and write what came of it into that folder.

    `training`: the card's section about how they were made. What the model offers is written last. Raises
    KontextSliderError, and leaves that as it was, where nothing works."""
    pipe = KontextSliderPipeline.from_pretrained(out)
    scores = score_truth(pipe, scenes_per_edit, find_photos(photos), choosing_seed(0))
    command = f"kontext-slider train --only measure --out MODEL --scenes-per-edit {scenes_per_edit}"
    write_truth(scores, out / "measured", command)
    working = working_edits(scores)
    offered = {name: words for name, words in known_instructions().items() if family(name) in working}
    if not offered:
        raise KontextSliderError(
            f"No edit of the model in {out} comes nearer to the ground truth than the untouched picture by 3 dB, so "
            "there is nothing to offer. Train it for longer."
        )
    pipe.register_to_config(known_instructions=offered)
    write_sheet(pipe, find_photos(photos), out / "measured" / "photos.jpg")
    write_card(out, training, scores, score_sizes(pipe), offered)
    pipe.save_config(out)
    forget_local_paths(out)
    write_checksums(out, ["model_index.json"])


def write_sheet(pipe: KontextSliderPipeline, photos: Sequence[Path], path: Path, seed: int = 0) -> None:
    """A contact sheet: most faults of an image model are visible at once. Every photograph with two of the
    instructions that the model knows, in turn, those that suit any picture first: the source, then STRENGTHS."""
    instructions = [phrases[0] for phrases in whole_picture_first(pipe.known_instructions).values()]
    pipe.set_progress_bar_config(disable=True)
    rows = {}
    for number, photo in enumerate(photos):
        source = working_image(read_image(photo), pipe.defaults.size, 2 * pipe.vae_scale_factor)
        for instruction in instructions[2 * number : 2 * number + 2]:
            frames = ours(pipe, source, instruction, STRENGTHS, seed)
            rows[f"{photo.stem}\n{instruction}"] = [source, *map(to_image, frames)]
    plot_strips(rows, ("source", *STRENGTHS), "Photographs never seen", path)


def write_card(
    folder: Path,
    training: str,
    scores: Sequence[Score],
    by_size: dict[int, list[Score]],
    offered: Mapping[str, Sequence[str]],
) -> None:
    """`README.md` in the model's folder. offered: edit name -> instructions, of the edits that work."""
    rows = [f"- {name} ({EDITS[name].category}): {', '.join(words[:2])}, ..." for name, words in offered.items()]
    missing = ", ".join(name for name in EDITS if name not in offered) or "none"
    sections = [
        _HEADER,
        "## Edits it knows\n\n" + "\n".join(rows) + "\n",
        "Trained, but not yet 3 dB nearer to the ground truth than the untouched picture, and therefore not offered: "
        f"{missing}.\n",
        training,
        "## Measured\n\nPSNR in dB against the ground truth, by edit and strength; `codec at 1` is what the codec "
        "alone leaves of the ground truth at full strength; `progress` is the root-mean-square distance to the frame "
        "at strength 0 as a share of that at strength 1, at .25, .5 and .75, the ground truth's in brackets; "
        "`untouched at 1` is what doing nothing would score.",
        f"### Held-out scenes, 256 px\n\n{table(scores, 'scene')}\n",
        f"### The same scenes at other sizes\n\nEvery fourth edit.\n\n{size_table(by_size)}\n",
        f"### Photographs never seen\n\nThose of `assets/photos`.\n\n{table(scores, 'photo')}\n",
    ]
    (folder / "README.md").write_text("\n".join(sections), encoding="utf-8")


_HEADER = """---
library_name: diffusers
pipeline_tag: image-to-image
license: mit
tags: [kontext-slider, image-editing]
---

# Pocket

A Kontext model in miniature, for `kontext-slider` on a laptop: diffusers' Kontext transformer (256 wide, 2 double and 4
single blocks), CLIPTextModel and T5EncoderModel of one word per token, and a codec in closed form (lapped
Karhunen-Loeve transform of 8x8 patches). It edits pictures of about 256 x 256 pixels with a strength from 0 to 1.

```python
from kontext_slider import KontextSliderPipeline

pipe = KontextSliderPipeline.from_pretrained("weights/pocket")  # anywhere else: load_pipeline("pocket")
frames = pipe(image, "make it night", strength=[0.0, 0.5, 1.0]).images
```

Edits of the whole picture hold on photographs. Edits of one object were trained on drawn scenes only: the model does
not know the objects of photographs. Where a scene has two of a kind, say which: "make the left tree yellow". Strength 0
is the source itself (`anchor_source`); with `allow_extrapolation=True` strengths go on to 1.5.
"""
