"""Synthetic pairs: functions of their seed, their labels, and their files."""

from dataclasses import replace

import numpy as np
import torch

from kontext_slider.codec import PatchCodec
from kontext_slider.train.pocket.pairs import (
    HIGHEST,
    SCENES_ONLY,
    ShardSize,
    changed_tokens,
    draw_shard,
    draw_source,
    load_or_draw,
    shown_kinds,
)
from kontext_slider.world.scene import random_scene
from kontext_slider.world.things import KINDS


def test_a_shard_is_a_function_of_its_seed_and_survives_the_disk(tmp_path):
    """A shard drawn again after a loss must be the same shard."""
    codec = PatchCodec(latent_channels=8)
    how = dict(codec=codec, size=ShardSize(32, 32, 4, 2), seed=5, whole=False)
    shard = load_or_draw(tmp_path / "a.safetensors", **how)
    again, other = draw_shard(**how), draw_shard(**{**how, "seed": 6})
    kept = load_or_draw(tmp_path / "a.safetensors", **how)
    assert torch.equal(shard.target, again.target) and shard.instruction == again.instruction == kept.instruction
    assert not torch.equal(shard.target, other.target)
    assert shard.target.shape == (12, 8, 4, 4) and shard.source.shape == (4, 8, 4, 4)
    assert float(shard.strength.min()) >= 0 and float(shard.strength.max()) <= HIGHEST
    assert torch.equal(shard.focus, kept.focus) and shard.focus.shape == (12, 4)
    assert not list(tmp_path.glob("*.partial"))


def test_the_focus_of_an_edit_of_an_object_is_on_all_objects():
    """The wrong object counts as much as the right one, or a model that edits both would be let off."""
    size = ShardSize(64, 64, 8, 2, rows=(1, 4), mix=SCENES_ONLY)
    shard = draw_shard(PatchCodec(latent_channels=8), size, seed=5, whole=True)
    assert shard.source.shape == (8, 8, 6, 8) and shard.focus.shape == (24, 12)
    of_objects = [any(kind in text for kind in KINDS) for text in shard.instruction]
    assert any(of_objects) and not all(of_objects)
    for focus, of_object, target, number in zip(shard.focus, of_objects, shard.target, shard.source_index, strict=True):
        changed = changed_tokens(shard.source[number][None], target[None])[0]
        assert bool(focus.any()) == of_object
        assert not of_object or (focus | ~changed).all(), "a change that nobody looks at"
    scene = next(s for s in (random_scene(np.random.default_rng(n)) for n in range(99)) if len(s.things) == 3)
    alone = [shown_kinds(replace(scene, things=(thing,)), 256, 256) for thing in scene.things]
    assert torch.equal(shown_kinds(scene, 256, 256), alone[0] | alone[1] | alone[2])
    for thing, shows in zip(scene.things, alone, strict=True):
        assert set(shows.tolist()) == {0, 1 << KINDS.index(thing.kind)}


def test_the_shown_kinds_are_of_the_rows_that_are_kept():
    """Labels of other rows than the latents' would teach the auxiliary heads nonsense, and no loss would show it."""
    codec, size = PatchCodec(latent_channels=8), ShardSize(64, 64, 6, 2, mix=SCENES_ONLY)
    part, whole = (draw_shard(codec, replace(size, rows=rows), seed=5, whole=True) for rows in ((1, 4), (0, 4)))
    assert part.shows.shape == (6, 12) and whole.shows.shape == (6, 16) and whole.shows.any()
    seeds = [np.random.default_rng((5, 64, 64, 0, 4, number)) for number in range(6)]
    scenes = [draw_source(rng, 64, 64, SCENES_ONLY)[1] for rng in seeds]
    assert torch.equal(whole.shows, torch.stack([shown_kinds(scene, 64, 64) for scene in scenes]))
    seeds = [np.random.default_rng((5, 64, 64, 1, 4, number)) for number in range(6)]
    scenes = [draw_source(rng, 64, 64, SCENES_ONLY)[1] for rng in seeds]
    assert torch.equal(part.shows, torch.stack([shown_kinds(scene, 64, 64)[4:] for scene in scenes]))


def test_a_shard_that_was_drawn_otherwise_is_drawn_anew(tmp_path):
    """Latents of another codec, pairs of another seed or at other strengths, under the name that is asked for."""
    codecs = [PatchCodec(latent_channels=8) for _ in range(2)]
    with torch.no_grad():
        codecs[1].gain += 1
    how = dict(codec=codecs[0], size=ShardSize(32, 32, 4, 2), seed=5, whole=True)
    load_or_draw(tmp_path / "a.safetensors", **how)
    for change in ({"codec": codecs[1]}, {"seed": 6}, {"whole": False}, {"size": ShardSize(32, 32, 3, 2)}):
        how |= change
        kept, drawn = load_or_draw(tmp_path / "a.safetensors", **how), draw_shard(**how)
        assert torch.equal(kept.target, drawn.target) and torch.equal(kept.strength, drawn.strength), change
    whole = (tmp_path / "a.safetensors").read_bytes()
    flipped = whole[:-7] + bytes([whole[-7] ^ 4]) + whole[-6:]
    for damaged in (whole[:50], flipped):
        (tmp_path / "a.safetensors").write_bytes(damaged)
        again = load_or_draw(tmp_path / "a.safetensors", **how)
        for name in ("source", "target", "strength", "focus", "shows"):
            assert torch.equal(getattr(again, name), getattr(drawn, name)), name
    written = (tmp_path / "a.safetensors").stat().st_mtime_ns
    load_or_draw(tmp_path / "a.safetensors", **{**how, "size": ShardSize(32, 32, 3, batch=1)})
    assert (tmp_path / "a.safetensors").stat().st_mtime_ns == written, "drawn again for nothing"
