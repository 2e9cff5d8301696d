"""Synthetic pairs to train on: drawn pictures, their edits at some strength, and the instruction; as codec latents.

A *shard* holds pairs of one picture size. Several edits share a source, which is drawn and stored once. Shards are
functions of their seed, written to disk as safetensors with what they were drawn by, and drawn again where that
differs or they are absent.

Legend: N pairs, S sources, C latent channels, h and w latent rows and columns, L = h w / 4 tokens.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing import get_context
from torch.nn.functional import max_pool2d

from kontext_slider.codec import PatchCodec
from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.files import weights_sha256
from kontext_slider.train.tensor_file import read_tensors, write_tensors
from kontext_slider.world.edits import NO_EDIT, PICTURE_EDITS, SCENE_EDITS, Edit
from kontext_slider.world.paint import Picture
from kontext_slider.world.pictures import crop_photograph, draw_collage, put_under_sky
from kontext_slider.world.scene import Scene, draw, draw_mask, random_scene
from kontext_slider.world.things import KINDS

EDITS_PER_SOURCE = 3
NO_EDIT_SHARE = 0.05
RECOLOUR_SHARE = 0.35  # of the edits of objects
HIGHEST = 1.5  # strength that is trained
TOKEN = 16  # pixels on a side
NOTICED = 0.05  # change of a latent value, from which a token counts as edited


@dataclass(frozen=True)
class Mix:
    """What a shard is made of: shares of collages and photographs among its pictures, of those of them under a drawn
    sky, and of edits of an object, of mountains or of the sky among the edits of its scenes."""

    collages: float = 0.18
    photographs: float = 0.27
    skies: float = 0.4
    objects: float = 0.65


SCENES_ONLY = Mix(collages=0, photographs=0, objects=0.95)


@dataclass(frozen=True)
class ShardSize:
    """Pictures of (width, height), how many sources are drawn, and how many pairs make a batch.

    rows: which rows of tokens are trained on, all if None. mix: what the pictures show. share: how often a pair of
    these is drawn, where one of the others is drawn once."""

    width: int
    height: int
    sources: int
    batch: int
    rows: tuple[int, int] | None = None
    mix: Mix = Mix()
    share: float = 1.0

    @property
    def name(self) -> str:
        """What the files of such a shard are called."""
        rows = "" if self.rows is None else "-rows-{}-{}".format(*self.rows)
        return f"{self.width}x{self.height}{rows}"


# The base model's. Objects are small and easy to confuse: half of its steps see the band of rows where they stand.
BASE_SIZES = (
    ShardSize(256, 256, 4000, 13, rows=(5, 15), mix=SCENES_ONLY),
    ShardSize(256, 256, 1600, 8),
    ShardSize(288, 224, 500, 8),
    ShardSize(224, 288, 500, 8),
    ShardSize(320, 208, 500, 8),
    ShardSize(208, 320, 500, 8),
    ShardSize(192, 192, 300, 14),
    ShardSize(384, 384, 200, 4),
    ShardSize(512, 512, 100, 2),
)
SLIDER_SIZES = tuple(
    replace(size, sources=size.sources // 3, share=0.6 if size.rows else 1.0) for size in BASE_SIZES if size.width < 512
)
# Families of edits that are learned slowest and still gain: of objects, their materials and shapes.
PRACTISED = (
    "stripes", "dots", "wood", "metal", "into-ball", "into-box", "into-cone", "bigger", "smaller", "taller-mountains",
    "lamp-on",
)  # fmt: skip


@dataclass(frozen=True)
class Shard:
    """Pairs of one size: `target[i]` is `source[source_index[i]]` edited by `instruction[i]` at `strength[i]`."""

    source: Tensor  # (S, C, h, w) half precision
    target: Tensor  # (N, C, h, w) half precision
    source_index: Tensor  # (N,)
    strength: Tensor  # (N,)
    focus: Tensor  # (N, L) bool: of edits of an object, all tokens of all objects and all that change; else nothing
    shows: Tensor  # (S, L) uint8: bit k of a token is set where it shows an object of kind KINDS[k]
    instruction: list[str]

    def __len__(self) -> int:
        return len(self.target)


def any_strength(rng: np.random.Generator) -> float:
    """Uniform in [0, 1] with both ends sure to be seen, and one time in six beyond."""
    if rng.random() < 1 / 6:
        return float(rng.uniform(1, HIGHEST))
    return float(np.clip(rng.uniform(-0.12, 1.12), 0, 1))


def choose_edit(rng: np.random.Generator, scene: Scene | None, object_share: float) -> Edit:
    """An edit that has a truth on this picture (None: not a scene, so edits of the whole picture only)."""
    group: list[Edit] = list(PICTURE_EDITS)
    if scene is not None and rng.random() < object_share:
        colours = rng.random() < RECOLOUR_SHARE
        group = [e for e in SCENE_EDITS if e.name.startswith("recolour-") == colours and e.targets(scene)]
    return group[rng.integers(len(group))]


def draw_source(rng: np.random.Generator, width: int, height: int, mix: Mix = Mix()) -> tuple[Picture, Scene | None]:
    """A landscape with its scene, or a collage or a crop of a photograph and None.

    InvalidInput if scikit-image, which carries the photographs, is not installed."""
    kind = rng.random()
    if kind < mix.collages + mix.photographs:
        try:
            picture = (draw_collage if kind < mix.collages else crop_photograph)(rng, width, height)
        except ImportError as error:
            raise InvalidInput(str(error)) from error
        return (put_under_sky(rng, picture) if rng.random() < mix.skies else picture), None
    scene = random_scene(rng, width / height)
    return draw(scene, width, height), scene


def draw_edit(
    rng: np.random.Generator, source: Picture, scene: Scene | None, strength: float, object_share: float
) -> tuple[Picture, str, bool]:
    """One edit of a source at `strength`, an instruction for it, and whether it is one of an object; sometimes no edit
    at all. An edit that has no truth beyond 1 stays at 1."""
    if rng.random() < NO_EDIT_SHARE:
        return source, NO_EDIT[rng.integers(len(NO_EDIT))], False
    edit = choose_edit(rng, scene, object_share)
    strength = strength if edit.goes_on else min(strength, 1.0)
    height, width, _ = source.shape
    if edit.is_global:
        target, words = edit.apply_to(source, strength), edit.instructions()
    else:
        assert scene is not None
        index = int(rng.choice(edit.targets(scene)))
        target = edit.apply(scene, strength, width, height, index)
        words = edit.instructions(scene.name_of(index) if edit.kinds else None)
    return target, words[rng.integers(len(words))], bool(edit.kinds)


def to_tensor(picture: Picture) -> Tensor:
    """(H, W, 3) in [0, 1] -> (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None] * 2 - 1


def shown_kinds(scene: Scene, width: int, height: int) -> Tensor:
    """Which kinds of objects each token shows any part of, (L,) uint8, one bit for each of KINDS."""
    shows = np.zeros((height // TOKEN, width // TOKEN), np.uint8)
    for number, thing in enumerate(scene.things):
        mask = draw_mask(scene, number, width, height).reshape(height // TOKEN, TOKEN, width // TOKEN, TOKEN)
        shows |= mask.any((1, 3)).astype(np.uint8) << KINDS.index(thing.kind)
    return torch.from_numpy(shows.flatten())


def changed_tokens(sources: Tensor, targets: Tensor) -> Tensor:
    """Tokens that differ, (N, L) bool, of latents (N, C, h, w), or (1, C, h, w) for one source, and (N, C, h, w)."""
    return max_pool2d((targets.float() - sources.float()).abs().amax(1), 2).flatten(1) > NOTICED


def draw_shard(codec: PatchCodec, size: ShardSize, seed: int, whole: bool) -> Shard:
    """Draw the sources of a size with three edits each, and keep some rows of tokens. `whole`: every edit at strength
    1, for the base model; else at `any_strength`.

    By two processes where the work outweighs their start (forks of a threaded torch can hang)."""
    draw_one = partial(_draw_source_and_edits, codec, size, whole)
    seeds = [(seed, size.width, size.height, *(size.rows or ()), number) for number in range(size.sources)]
    if size.sources < 50:
        groups = [draw_one(one) for one in seeds]
    else:
        with get_context("spawn").Pool(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            groups = list(pool.imap(draw_one, seeds, chunksize=8))
    joined = {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}
    instruction = joined.pop("instruction").tolist()
    index = torch.arange(size.sources).repeat_interleave(EDITS_PER_SOURCE)
    return Shard(
        source_index=index, instruction=instruction, **{k: torch.from_numpy(array) for k, array in joined.items()}
    )


def _draw_source_and_edits(codec: Any, size: ShardSize, whole: bool, seed: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The fields of a `Shard` of one source but for its index; as arrays, which go from process to process."""
    rng = np.random.default_rng(seed)
    source, scene = draw_source(rng, size.width, size.height, size.mix)
    strengths, edits = [], []
    for _ in range(EDITS_PER_SOURCE):
        strengths.append(1.0 if whole else any_strength(rng))
        edits.append(draw_edit(rng, source, scene, strengths[-1], size.mix.objects))
    targets, words, of_object = zip(*edits, strict=True)
    pictures = torch.cat([to_tensor(picture) for picture in (source, *targets)])
    with torch.no_grad():
        latents = codec.encode(pictures).latent_dist.mode().half()
    changed = changed_tokens(latents[:1], latents[1:])
    nothing = torch.zeros(changed.shape[1], dtype=torch.uint8)
    shows = nothing if scene is None else shown_kinds(scene, size.width, size.height)
    focus = (changed | (shows != 0)) & torch.tensor(of_object)[:, None]
    top, bottom = size.rows or (0, size.height // TOKEN)
    kept = slice(top * size.width // TOKEN, bottom * size.width // TOKEN)  # of the tokens, which lie row by row
    latents = latents[:, :, 2 * top : 2 * bottom]
    return {
        "source": latents[:1].numpy().copy(),
        "target": latents[1:].numpy().copy(),
        "strength": np.array(strengths, dtype=np.float32),
        "focus": focus[:, kept].numpy().copy(),
        "shows": shows[None, kept].numpy().copy(),
        "instruction": np.array(words),
    }


def load_or_draw(path: Path, codec: PatchCodec, size: ShardSize, seed: int, whole: bool) -> Shard:
    """The shard at `path`; drawn and written whole if none that was drawn so is there, or it is damaged."""
    facts = {name: value for name, value in asdict(size).items() if name not in ("batch", "share")}
    origin = json.dumps(facts | {"codec": weights_sha256(codec), "seed": seed, "whole": whole}, sort_keys=True)
    with contextlib.suppress(CheckpointError):  # missing or damaged
        tensors, metadata = read_tensors(path)
        if metadata["origin"] == origin:
            return Shard(**tensors, instruction=json.loads(metadata["instruction"]))
    shard = draw_shard(codec, size, seed, whole)
    tensors = {name: value for name, value in vars(shard).items() if isinstance(value, Tensor)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {"instruction": json.dumps(shard.instruction), "origin": origin})
    return shard
