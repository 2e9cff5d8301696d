"""Pairs, loss and loop of the pocket model, at a size that trains in a second."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kontext_slider.codec import PatchCodec
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.flow import (
    beside_untouched,
    flow_loss,
    pack,
    sample_sigmas,
    token_positions,
)
from kontext_slider.train.pocket import recipe
from kontext_slider.train.pocket.base import BaseRun, train_base
from kontext_slider.train.pocket.batches import (
    FOCUS,
    PRACTISE,
    Batch,
    Batches,
    ShardSize,
    Words,
    all_instructions,
    anchored_loss,
    channel_weights,
)
from kontext_slider.train.pocket.card import training_section
from kontext_slider.train.pocket.model import PocketSizes, build_parts
from kontext_slider.train.pocket.pairs import (
    HIGHEST,
    SCENES_ONLY,
    any_strength,
    changed_tokens,
    draw_shard,
    draw_source,
    load_or_draw,
    shown_kinds,
)
from kontext_slider.train.pocket.slider import SliderRun, train_slider
from kontext_slider.world.edits import EDITS
from kontext_slider.world.scene import random_scene
from kontext_slider.world.things import KINDS

TINY = PocketSizes(heads=2, double_blocks=1, single_blocks=1, latent_channels=16, text=32)


def test_words_are_single_tokens_in_any_spelling():
    """A word cut into letters makes an instruction longer than the model has room for."""
    parts = build_parts(all_instructions(), TINY, seed=0)
    for text in all_instructions():
        words = len(text.split())
        assert len(parts["tokenizer"](text).input_ids) == words + 2
        for spelling in (text, text.capitalize()):
            assert len(parts["tokenizer_2"](spelling).input_ids) == words + 1


@pytest.mark.parametrize("sigma", [0.125, 0.5, 1.0])
def test_training_starts_at_no_edit(sigma):
    """Before the first step the velocity leads from the noisy picture to the source, whatever is asked."""
    transformer = build_parts(all_instructions(), TINY, seed=0)["transformer"]
    target, source, noise = torch.randn(3, 2, 16, 16, 24)
    noisy = (1 - sigma) * target + sigma * noise
    with torch.no_grad():
        velocity = transformer(
            hidden_states=torch.cat([pack(noisy), pack(source)], dim=1),
            timestep=torch.full((2,), sigma),
            pooled_projections=torch.randn(2, 32),
            encoder_hidden_states=torch.randn(2, 16, 32),
            img_ids=token_positions(16, 24),
            txt_ids=torch.zeros(16, 3),
            return_dict=False,
        )[0][:, :96]
    wanted = (pack(noisy) - pack(source)) / sigma
    assert (velocity - wanted).square().mean() < 0.01 * wanted.square().mean()


def test_a_width_without_room_cannot_start_as_a_copy():
    """The ballast needs dimensions of its own."""
    with pytest.raises(ValueError, match="spare"):
        build_parts(all_instructions(), replace(TINY, latent_channels=32), seed=0)


def test_loss_is_the_error_of_the_picture_that_the_velocity_points_to():
    """At no edit the start is right, so the loss of "change nothing" is nearly zero, and grows with the change."""
    transformer = build_parts(all_instructions(), TINY, seed=0)["transformer"]
    source, noise, change = torch.randn(3, 2, 16, 16, 16)
    text, pooled, sigmas = torch.randn(2, 16, 32), torch.randn(2, 32), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        same = flow_loss(transformer, source, source, text, pooled, sigmas, noise)
        other = flow_loss(transformer, source, source + change, text, pooled, sigmas, noise)
    assert same < 0.01
    assert torch.allclose(other, change.square().mean(), rtol=0.1)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's rms_norm under autocast
def test_trained_on_own_guesses_all_weights_are_still_reached():
    """Weights that autocast keeps from the guess have no gradient: nothing would be learned, and nobody told."""
    transformer = build_parts(all_instructions(), TINY, seed=0)["transformer"]
    source, target = torch.randn(2, 2, 16, 16, 16)
    batch = Batch(source, target, torch.zeros(2), torch.full((2,), 0.5), torch.ones(2, 64), torch.zeros(2, 64))
    texts = torch.randn(4, 16, 32), torch.randn(4, 32)
    reached, losses = [], []
    for own in (0.0, 1.0):
        transformer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            generator = torch.Generator().manual_seed(0)
            loss = anchored_loss(transformer, beside_untouched(batch), texts, None, generator, own)
        loss.backward()
        reached.append({name for name, p in transformer.named_parameters() if p.grad is not None and p.grad.any()})
        losses.append(loss.item())
    assert reached[0] == reached[1] and len(reached[0]) > 10
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("strength", "cost"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0), (1.5, 1.0)])
def test_a_mistake_that_the_untouched_frame_makes_too_is_given_back(monkeypatch, strength, cost):
    """Trained on what is not shown: 1 - s of what the frame at 0 lost comes back, which is nothing from 1 on."""
    sigmas = []

    def off_by_one(transformer, source, target, text, pooled, levels, noise, hidden):
        assert hidden is None and torch.equal(source[0], source[1]) and torch.equal(noise[0], noise[1])
        assert torch.equal(target[1], source[1]) and not torch.equal(target[0], source[0])
        sigmas.append(levels)
        return torch.ones(2, 4, 64)  # the picture is off by 1 everywhere, at both strengths

    monkeypatch.setattr("kontext_slider.train.pocket.batches.flow_error", off_by_one)
    pair = Batch(
        source=torch.randn(2, 16, 4, 4),
        target=torch.randn(2, 16, 4, 4),
        words=torch.tensor([3, 4]),
        strengths=torch.tensor([strength, 0.7]),
        weights=torch.tensor([[4.0, 1, 1, 0], [9, 9, 9, 9]]),
        shows=torch.zeros(2, 4, dtype=torch.uint8),
    )
    both = beside_untouched(pair.half())
    assert both.words.tolist() == [3, 3] and both.strengths.tolist() == [strength, 0]
    loss = anchored_loss(None, both, (torch.zeros(2, 1, 1),) * 2, None, torch.Generator().manual_seed(0))
    assert sigmas[0][0] == sigmas[0][1]
    torch.testing.assert_close(loss, torch.tensor(1.5 * cost**2))


def test_channels_weigh_what_their_errors_show():
    """Brightness, of which a picture shows most, counts as little as the finest detail; or another channel has its
    weight."""
    transformer = build_parts(all_instructions(), TINY, seed=0)["transformer"]
    source, noise = torch.randn(2, 2, 16, 16, 16)
    text, pooled, sigmas = torch.randn(2, 16, 32), torch.randn(2, 32), torch.tensor([0.2, 0.9])
    change, channels = torch.zeros(2, 16, 16, 16), torch.ones(16)
    change[:, 5], channels[5] = 1, 7
    with torch.no_grad():
        plain, weighted = (
            flow_loss(transformer, source, source + change, text, pooled, sigmas, noise, channels=weights)
            for weights in (None, channels)
        )
    assert torch.allclose(weighted, 7 * plain, rtol=0.2)
    codec = PatchCodec.from_pretrained("weights/pocket/vae", dtype=torch.float32)
    weights = channel_weights(codec)
    assert weights.mean() == pytest.approx(1) and weights.argmax() == codec.gain.argmin() and weights.min() > 0.5


def test_noise_levels_reach_one_and_favour_it():
    """Sampling starts at pure noise: levels that stop short of it leave the first step untrained."""
    sigmas = sample_sigmas(4000, torch.Generator().manual_seed(0))
    assert sigmas.min() > 0 and sigmas.max() <= 1
    assert (sigmas > 0.9).float().mean() > 0.25


def test_source_tokens_are_marked():
    """With equal position ids the model could not tell the source from the target."""
    positions = token_positions(4, 6)
    assert positions.shape == (12, 3)
    assert positions[:6, 0].eq(0).all() and positions[6:, 0].eq(1).all()
    assert torch.equal(positions[:6, 1:], positions[6:, 1:])


def test_a_shard_is_a_function_of_its_seed_and_survives_the_disk(tmp_path):
    """A shard drawn again after a loss must be the same shard."""
    codec = PatchCodec(latent_channels=8)
    how = dict(codec=codec, size=(32, 32), num_sources=4, seed=5, strengths=any_strength, workers=1)
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
    how = dict(codec=PatchCodec(latent_channels=8), size=(64, 64), num_sources=8, seed=5, workers=1, rows=(1, 4))
    shard = draw_shard(**how, mix=SCENES_ONLY)
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
    """Labels of other rows than the latents' would teach the guides nonsense, and no loss would tell."""
    how = dict(codec=PatchCodec(latent_channels=8), size=(64, 64), num_sources=6, seed=5, workers=1, mix=SCENES_ONLY)
    part, whole = draw_shard(**how, rows=(1, 4)), draw_shard(**how, rows=(0, 4))
    assert part.shows.shape == (6, 12) and whole.shows.shape == (6, 16) and whole.shows.any()
    seeds = [np.random.default_rng((5, 64, 64, 0, 4, number)) for number in range(6)]
    scenes = [draw_source(rng, 64, 64, SCENES_ONLY)[1] for rng in seeds]
    assert torch.equal(whole.shows, torch.stack([shown_kinds(scene, 64, 64) for scene in scenes]))
    seeds = [np.random.default_rng((5, 64, 64, 1, 4, number)) for number in range(6)]
    scenes = [draw_source(rng, 64, 64, SCENES_ONLY)[1] for rng in seeds]
    assert torch.equal(part.shows, torch.stack([shown_kinds(scene, 64, 64)[4:] for scene in scenes]))


def test_a_share_says_how_often_the_pairs_of_a_size_are_drawn():
    """A slider that sees objects in half of its steps forgets photographs."""
    codec = PatchCodec(latent_channels=8)
    shards = [draw_shard(codec, (side, side), 4, seed=1, workers=1) for side in (32, 48)]
    parts = build_parts(all_instructions(), TINY, seed=0)
    batches = Batches(shards, [2, 2], Words(parts, all_instructions()), shares=[0.25, 1.0])
    generator = torch.Generator().manual_seed(0)
    widths = [batches.draw(generator).source.shape[-1] for _ in range(200)]
    assert 20 <= widths.count(4) <= 60 and widths.count(4) + widths.count(6) == 200


def test_tokens_of_objects_weigh_more_where_an_object_is_edited():
    """An object is a few tokens of a picture: with equal weights the model learns to leave it as it is."""
    shard = draw_shard(PatchCodec(latent_channels=8), (64, 64), 8, seed=5, workers=1, mix=SCENES_ONLY)
    words = Words(build_parts(all_instructions(), TINY, seed=0), all_instructions())
    batch = Batches([shard], [30], words).draw(torch.Generator().manual_seed(0))
    assert FOCUS > 1 and set(batch.weights.unique().tolist()) == {1.0, FOCUS}
    for target, weights in zip(batch.target, batch.weights, strict=True):
        rows = [row for row in range(len(shard)) if torch.equal(shard.target[row].float(), target)]
        assert any(torch.equal(weights > 1, shard.focus[row]) for row in rows)


def test_practised_edits_are_drawn_more_often():
    """The odds of another edit's sentences, or of none."""
    shard = draw_shard(PatchCodec(latent_channels=8), (32, 32), 30, seed=1, workers=1)
    words = Words(build_parts(all_instructions(), TINY, seed=0), all_instructions())
    of_fog = torch.tensor([text in EDITS["fog"].instructions() for text in shard.instruction])
    assert 0 < of_fog.sum() < len(of_fog)

    def share(practised: tuple[str, ...]) -> float:
        batches, generator = Batches([shard], [2000], words, practised=practised), torch.Generator().manual_seed(0)
        fog = {words.index[text] for text in EDITS["fog"].instructions()}
        return float(np.mean([int(row) % len(words.index) in fog for row in batches.draw(generator).words]))

    even, practised = share(()), share(("fog",))
    assert practised / even == pytest.approx(PRACTISE / (1 + (PRACTISE - 1) * even), rel=0.2)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's rms_norm under autocast
def test_the_whole_recipe_runs_small(tmp_path):
    """Base, slider, save and load: the command that made the shipped weights, and the slider leaves the base alone."""
    size = (ShardSize(32, 32, 6, 4),)
    base = BaseRun(codec_pictures=3, sizes=size, steps=10, compiled=False)
    sizes = PocketSizes(double_blocks=1, single_blocks=1, text=32)
    pipe = recipe.build_pipeline(train_base(base, tmp_path, sizes))
    before = {name: p.clone() for name, p in pipe.transformer.named_parameters()}
    slider = SliderRun(sizes=size, steps=10, rank=2, hidden_dim=16, compiled=False)
    train_slider(pipe, slider, tmp_path)
    offsets = pipe.slider_projector(torch.tensor([0.5]), torch.randn(1, 32))
    assert offsets.shift.abs().max() > 0, "the projector has not learned"
    recipe.save(pipe, base, slider, tmp_path, tmp_path / "out")
    again = KontextSliderPipeline.from_pretrained(tmp_path / "out")
    after = dict(again.transformer.named_parameters())
    for name, parameter in before.items():
        kept = after[name] if name in after else after[_inside_lora(name)]
        assert torch.allclose(parameter, kept.float(), atol=2e-3), name
    assert again.has_slider and again.defaults.size == 256 and again.known_instructions["night"]
    assert len((tmp_path / "out" / "training" / "slider.jsonl").read_text().splitlines()) == 1
    runs = json.loads((tmp_path / "out" / "training" / "runs.json").read_text())
    assert runs["base"]["steps"] == 10 and runs["slider"]["sizes"][0]["width"] == 32
    row = "| slider, 1 shapes of 32 to 32 px a side | 18 pairs at any strength | 10 | 2 |"
    assert row in training_section(tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_training_goes_on_from_an_earlier_model(tmp_path):
    """A start that forgets words, or the codec, would throw the earlier training away without a sign."""
    size, sizes = (ShardSize(32, 32, 4, 2),), PocketSizes(double_blocks=1, single_blocks=1, text=32)
    first = BaseRun(codec_pictures=3, sizes=size, steps=2, compiled=False)
    parts = train_base(first, tmp_path / "first", sizes)
    pipe = recipe.build_pipeline(parts)
    pipe.save_pretrained(tmp_path / "model")
    again = train_base(replace(first, start=tmp_path / "model", seed=9, steps=0), tmp_path / "second", sizes)
    for name, weight in parts["vae"].state_dict().items():
        assert torch.equal(weight, again["vae"].state_dict()[name]), name
    sentence = "make the left tree blue"
    texts = [kit["tokenizer"](sentence, return_tensors="pt").input_ids for kit in (parts, again)]
    pooled = [kit["text_encoder"](ids).pooler_output for kit, ids in zip((parts, again), texts, strict=True)]
    torch.testing.assert_close(*pooled)
    for name, weight in parts["transformer"].state_dict().items():
        assert torch.equal(weight, again["transformer"].state_dict()[name]), name


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_a_slider_goes_on_from_an_earlier_one(tmp_path):
    """A start that is not taken, or one whose LoRA is frozen, would be a shorter training and nothing else."""
    size, sizes = (ShardSize(32, 32, 4, 2),), PocketSizes(double_blocks=1, single_blocks=1, text=32)
    run = SliderRun(sizes=size, steps=6, rank=2, hidden_dim=16, compiled=False)
    base = BaseRun(codec_pictures=3, sizes=size, steps=2, compiled=False)
    parts = train_base(base, tmp_path, sizes)

    def slider_after(run: SliderRun, folder: Path) -> tuple[KontextSliderPipeline, list[torch.Tensor]]:
        pipe = recipe.build_pipeline(dict(parts))
        train_slider(pipe, run, folder)
        return pipe, [p.detach().clone() for p in pipe.slider_parameters()]

    pipe, first = slider_after(run, tmp_path)
    pipe.save_slider(tmp_path / "earlier")
    pipe.unload_slider()
    pipe, same = slider_after(replace(run, start=tmp_path / "earlier", steps=0), tmp_path / "second")
    pipe.unload_slider()
    _, further = slider_after(replace(run, start=tmp_path / "earlier", steps=2), tmp_path / "third")
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(first, same, strict=True))
    assert sum(not torch.equal(a, b) for a, b in zip(same, further, strict=True)) > len(same) // 2


def _inside_lora(name: str) -> str:
    """The name of a parameter once peft has wrapped its layer."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.base_layer.{leaf}"
