"""Pairs to train on: drawn pictures, their edits at some strength, and the words; kept as codec latents.

A *shard* holds pairs of one picture size. Several edits share a source, which is drawn and stored once. Shards are
functions of their seed, written to disk as safetensors, and drawn again only when absent.

Legend: N pairs, S sources, C latent channels, h and w latent rows and columns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.multiprocessing import get_context

from kontext_slider.codec import PatchCodec
from kontext_slider.train.pocket.edits import NO_EDIT, PICTURE_EDITS, SCENE_EDITS, Edit
from kontext_slider.train.pocket.paint import Picture
from kontext_slider.train.pocket.pictures import crop_photograph, draw_collage
from kontext_slider.train.pocket.world import Scene, draw, random_scene

EDITS_PER_SOURCE = 3
COLLAGE_SHARE, PHOTOGRAPH_SHARE = 0.18, 0.14
NO_EDIT_SHARE = 0.05
OBJECT_SHARE = 0.74  # of the edits of a scene
RECOLOUR_SHARE = 0.35  # of these
HIGHEST = 1.5  # strength that is trained


@dataclass(frozen=True)
class Shard:
    """Pairs of one size: `target[i]` is `source[source_index[i]]` edited by `instruction[i]` at `strength[i]`."""

    source: Tensor  # (S, C, h, w) half precision
    target: Tensor  # (N, C, h, w) half precision
    source_index: Tensor  # (N,)
    strength: Tensor  # (N,)
    instruction: list[str]

    def __len__(self) -> int:
        return len(self.target)


def full_strength(rng: np.random.Generator) -> float:
    """For the base model: every edit whole."""
    return 1.0


def any_strength(rng: np.random.Generator) -> float:
    """For the slider: uniform in [0, 1] with both ends sure to be seen, and one time in six beyond."""
    if rng.random() < 1 / 6:
        return float(rng.uniform(1, HIGHEST))
    return float(np.clip(rng.uniform(-0.12, 1.12), 0, 1))


def choose_edit(rng: np.random.Generator, scene: Scene | None) -> Edit:
    """An edit that has a truth on this picture (None: not a scene, so edits of the whole picture only)."""
    group: list[Edit] = list(PICTURE_EDITS)
    if scene is not None and rng.random() < OBJECT_SHARE:
        colours = rng.random() < RECOLOUR_SHARE
        group = [e for e in SCENE_EDITS if e.name.startswith("recolour-") == colours and e.targets(scene)]
    return group[rng.integers(len(group))]


def draw_source(rng: np.random.Generator, width: int, height: int) -> tuple[Picture, Scene | None]:
    """A landscape with its scene, or a collage or a crop of a photograph and None."""
    kind = rng.random()
    if kind < COLLAGE_SHARE:
        return draw_collage(rng, width, height), None
    if kind < COLLAGE_SHARE + PHOTOGRAPH_SHARE:
        return crop_photograph(rng, width, height), None
    scene = random_scene(rng, width / height)
    return draw(scene, width, height), scene


def draw_edit(rng, source: Picture, scene: Scene | None, strength: float) -> tuple[Picture, str]:
    """One edit of a source at `strength` and an instruction for it; sometimes no edit at all. An edit that has no truth
    beyond 1 stays at 1."""
    if rng.random() < NO_EDIT_SHARE:
        return source, NO_EDIT[rng.integers(len(NO_EDIT))]
    edit = choose_edit(rng, scene)
    strength = strength if edit.goes_on else min(strength, 1.0)
    height, width, _ = source.shape
    if edit.is_global:
        target, words = edit.apply_to(source, strength), edit.instructions()
    else:
        assert scene is not None
        index = int(rng.choice(edit.targets(scene)))
        target = edit.apply(scene, strength, width, height, index)
        words = edit.instructions(scene.name_of(index) if edit.kinds else None)
    return target, words[rng.integers(len(words))]


def to_tensor(picture: Picture) -> Tensor:
    """(H, W, 3) in [0, 1] -> (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None] * 2 - 1


def _draw_group(job: tuple) -> tuple[Tensor, Tensor, list[float], list[str]]:
    codec, seed, width, height, strengths = job
    rng = np.random.default_rng(seed)
    source, scene = draw_source(rng, width, height)
    pictures, values, words = [source], [], []
    for _ in range(EDITS_PER_SOURCE):
        strength = strengths(rng)
        target, instruction = draw_edit(rng, source, scene, strength)
        pictures.append(target)
        values.append(strength)
        words.append(instruction)
    with torch.no_grad():
        latents = codec.encode(torch.cat([to_tensor(p) for p in pictures])).latent_dist.mode().half()
    return latents[0], latents[1:], values, words


def draw_shard(
    codec: PatchCodec,
    size: tuple[int, int],
    num_sources: int,
    seed: int,
    strengths: Callable[[np.random.Generator], float] = full_strength,
    workers: int = 2,
) -> Shard:
    """Draw `num_sources` pictures of (width, height) = `size` with three edits each."""
    jobs = [(codec, (seed, *size, number), *size, strengths) for number in range(num_sources)]
    rows = _draw_all(jobs, workers)
    return Shard(
        source=torch.stack([torch.from_numpy(row[0]) for row in rows]),
        target=torch.cat([torch.from_numpy(row[1]) for row in rows]),
        source_index=torch.arange(num_sources).repeat_interleave(EDITS_PER_SOURCE),
        strength=torch.tensor([value for row in rows for value in row[2]]),
        instruction=[word for row in rows for word in row[3]],
    )


def _draw_all(jobs: list[tuple], workers: int) -> list[tuple]:
    """In order; by several processes where the work outweighs their start (forks of a threaded torch can hang)."""
    if len(jobs) < 50:
        return [_numpy_group(job) for job in jobs]
    with get_context("spawn").Pool(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.imap(_numpy_group, jobs, chunksize=8))


def _numpy_group(job: tuple) -> tuple:
    source, targets, values, words = _draw_group(job)
    return source.numpy(), targets.numpy(), values, words


def load_or_draw(path: Path, **how) -> Shard:
    """The shard at `path`, drawn by `draw_shard(**how)` and written whole if it is not there."""
    if not path.exists():
        shard = draw_shard(**how)
        tensors = {name: getattr(shard, name) for name in ("source", "target", "source_index", "strength")}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_file(tensors, partial, metadata={"instruction": json.dumps(shard.instruction)})
        os.replace(partial, path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return Shard(**tensors, instruction=json.loads(file.metadata()["instruction"]))
