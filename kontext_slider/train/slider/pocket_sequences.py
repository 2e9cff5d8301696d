"""Sequences of the project's own data pipeline to train on: the paper's ablation without filtering, on pocket.

Drawn pairs are all true, so there is nothing in them to filter. Here the base model makes the edit, a morpher the
strengths between, and the filter has a say; the ends of a sequence are the morpher's reconstructions, as in the paper,
or true. The morpher is not the default of `data run`: strips of warp-fade, as of most others, are so even on pocket
that the filter rejects 1 in 40, and filtered or not is the same data. flow-text mixes the instruction with "keep it",
and of its strips the filter rejects 14 in 40, all for uneven steps; of the paper's, by FreeMorph, 4 in 10.
(flow-inversion, FreeMorph's nearest kin here: 3 in 10, at six times the time.)

Legend: S sequences, N + 1 frames of each, C latent channels, h and w latent rows and columns, L = h w / 4 tokens.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from kontext_slider.errors import InvalidInput
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.items import Item
from kontext_slider.train.data.report import Fate, fates
from kontext_slider.train.data.run import Tools, run_stages
from kontext_slider.train.data.stages import with_true_ends
from kontext_slider.train.data.workspace import STAGES, Recipe, Workspace
from kontext_slider.train.pocket.batches import Batches, Words
from kontext_slider.train.pocket.pairs import Shard
from kontext_slider.train.slider.cache import encode_frame

MORPHER = "flow-text"
FILTERED, UNFILTERED, TRUE_ENDS = KINDS = ("filtered", "unfiltered", "true-ends")
BATCH = 8  # pairs, as of the drawn pictures of this size


def sequence_batches(
    pipe: KontextSliderPipeline, recipe: Recipe, kind: str, num_sequences: int, folder: Path
) -> Batches:
    """Pairs of one kind (of KINDS) from the data run in `folder`, which is begun or gone on with first.

    Args:
        pipe: the model that edits and morphs, its slider off, and encodes.
        num_sequences: to make; the filter takes its share of them.
    """
    workspace = make_sequences(pipe, recipe, num_sequences, folder)
    chosen = choose_sequences(fates(workspace), kind, recipe.seed)
    shard = encode_sequences(pipe, workspace, chosen, kind == TRUE_ENDS)
    return Batches([shard], [BATCH], Words(pipe.components, sorted(set(shard.instruction))))


def make_sequences(pipe: KontextSliderPipeline, recipe: Recipe, num_sequences: int, folder: Path) -> Workspace:
    """All stages of the data pipeline but packing; what is there is not done again."""
    words = ["--out", str(folder), "--num", str(num_sequences), "--model", recipe.model, "--morpher", recipe.morpher]
    command = shlex.join([*words, "--seed", str(recipe.seed), "--until", STAGES[-1]])
    tools = Tools(recipe, str(pipe.device), loaded=pipe)
    return run_stages(folder, recipe, num_sequences, tools, STAGES[-1], f"kontext-slider data run {command}")


def choose_sequences(ends: Sequence[Fate], kind: str, seed: int) -> list[Item]:
    """Those that the filter kept; UNFILTERED, as many of all that it saw, drawn by `seed`.

    A sequence that failed in a stage before is in neither. InvalidInput where the filter kept none."""
    seen = [fate for fate in ends if fate.stage == STAGES[-1]]
    kept = [fate.item for fate in seen if fate.reason is None]
    if not kept:
        raise InvalidInput(f"The filter keeps none of {len(ends)} sequences. Make more with --ablation-sequences.")
    if kind != UNFILTERED:
        return kept
    drawn = np.random.default_rng(seed).choice(len(seen), len(kept), replace=False)
    return [seen[number].item for number in sorted(drawn)]


@torch.no_grad()
def encode_sequences(
    pipe: KontextSliderPipeline, workspace: Workspace, items: Sequence[Item], true_ends: bool = False
) -> Shard:
    """Source -> frame, for every frame of every strip, in latents. true_ends: the first and last frames of a strip are
    the source and the edit, not what the morpher made of them."""
    strengths = workspace.recipe.strengths

    def encode(item: Item) -> torch.Tensor:
        source, *frames, edited = workspace.tiles(item.id)
        if true_ends:
            frames = with_true_ends(frames, strengths, source, edited)
        return torch.cat([encode_frame(pipe, picture) for picture in (source, *frames)]).half().cpu()

    strips = torch.stack([encode(item) for item in items])  # (S, 1 + N + 1, C, h, w)
    num_pairs, num_tokens = len(items) * len(strengths), strips.shape[-2] * strips.shape[-1] // 4
    return Shard(
        source=strips[:, 0],
        target=strips[:, 1:].flatten(0, 1),
        source_index=torch.arange(len(items)).repeat_interleave(len(strengths)),
        strength=torch.tensor(strengths).repeat(len(items)),
        focus=torch.zeros(num_pairs, num_tokens, dtype=torch.bool),
        shows=torch.zeros(len(items), num_tokens, dtype=torch.uint8),
        instruction=[item.facts["instruction"] for item in items for _ in strengths],
    )
