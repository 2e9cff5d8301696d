"""The paper's ablations: what they condition, on disk, in pictures, and their training on pocket's batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kontext_slider import lora
from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.evaluate.baselines import ours
from kontext_slider.projector import StrengthProjector
from kontext_slider.train.loop import Schedule
from kontext_slider.train.pocket.batches import Batches, Words
from kontext_slider.train.pocket.pairs import Shard
from kontext_slider.train.pocket.slider import SliderRun
from kontext_slider.train.slider import pocket_ablations
from kontext_slider.train.slider.ablations import (
    ABLATIONS,
    ablation_method,
    load_slider_of,
    render,
    save_slider_of,
    slider_on,
)
from kontext_slider.train.slider.pocket_ablations import train_ablation
from kontext_slider.train.slider.projectors import (
    NoPooledProjector,
    TextSpaceProjector,
    token_appended,
)
from tests.tiny import (
    EDIT_DEFAULTS,
    HIDDEN_DIM,
    INNER_DIM,
    INSTRUCTION,
    POOLED_DIM,
    TEXT_DIM,
    loud,
    shake,
    tiny_image,
    tiny_pipeline,
    tiny_projector,
    tiny_transformer,
)

STRENGTHS = [0.0, 0.5, 1.0]
SENTENCES = ["make it snow", "add fog", "change nothing"]
RUN = SliderRun(steps=6, rate=1e-2, rank=2, hidden_dim=16, compiled=False)


def fresh(kind: str) -> torch.nn.Module:
    torch.manual_seed(3)
    if kind == "text-space":
        projector = TextSpaceProjector(POOLED_DIM, HIDDEN_DIM, TEXT_DIM)
    elif kind == "per-block":
        projector = tiny_projector(place="every_block")
    else:
        projector = NoPooledProjector(POOLED_DIM, HIDDEN_DIM, INNER_DIM)
    shake(projector.parameters(), 0.6)
    return projector.eval()


def inputs(**changes) -> dict:
    generator = torch.Generator().manual_seed(1)
    given = {
        "hidden_states": torch.randn(2, 8, 16, generator=generator),
        "encoder_hidden_states": torch.randn(2, 4, TEXT_DIM, generator=generator),
        "pooled_projections": torch.randn(2, POOLED_DIM, generator=generator),
        "timestep": torch.full((2,), 0.5),
        "guidance": torch.full((2,), 2.5),
        "img_ids": torch.arange(24.0).reshape(8, 3) % 5,
        "txt_ids": torch.zeros(4, 3),
    }
    return {**given, **changes}


def test_a_token_is_one_more_text_token_and_leaves_with_the_block(pipe):
    """A token that misses its position ids fails, one that stays would condition every later picture."""
    transformer, token = pipe.transformer, torch.randn(1, 1, TEXT_DIM)
    text = inputs()["encoder_hidden_states"]
    longer = inputs(encoder_hidden_states=torch.cat([text, token.expand(2, 1, -1)], 1), txt_ids=torch.zeros(5, 3))
    with torch.no_grad():
        plain, expected = transformer(**inputs()).sample, transformer(**longer).sample
        with pytest.raises(KeyError), token_appended(transformer, token):
            got = transformer(**inputs()).sample
            raise KeyError
        assert torch.equal(got, expected) and not torch.allclose(got, plain)
        assert torch.equal(transformer(**inputs()).sample, plain)
    with pytest.raises(InvalidInput, match=str(TEXT_DIM)), token_appended(transformer, torch.randn(1, 1, 8)):
        pass


@pytest.mark.parametrize("kind", ["shipped", *ABLATIONS])
def test_a_row_without_strength_does_not_hear_it(pipe, kind):
    """Slider drop that scales offsets in the wrong row, or leaves the bias of the last layer in."""
    projector = pipe.slider_projector if kind == "shipped" else fresh(kind)
    pooled, kept = torch.randn(2, POOLED_DIM), torch.tensor([1.0, 0.0])

    def run(strength: float) -> torch.Tensor:
        with torch.no_grad(), slider_on(pipe.transformer, projector, torch.full((2,), strength), pooled, kept):
            return pipe.transformer(**inputs()).sample

    low, high = run(0.1), run(0.9)
    assert torch.equal(low[1], high[1])
    assert not torch.allclose(low[0], high[0])


def test_without_pooled_text_nothing_of_it_is_read(pipe, tmp_path):
    """An ablation that still sees the instruction ablates nothing; saved, it must stay blind as an ordinary slider."""
    projector = fresh("no-pooled")
    strengths, (one, other) = torch.tensor(STRENGTHS), torch.randn(2, 1, POOLED_DIM)
    expected = projector(strengths, one)
    assert torch.equal(expected.scale, projector(strengths, other).scale)
    save_slider_of(tmp_path, projector, pipe.transformer)
    pipe.load_slider(tmp_path)
    for pooled in (one, other):
        torch.testing.assert_close(pipe.slider_projector(strengths, pooled), expected)


@pytest.mark.parametrize("kind", ABLATIONS)
def test_an_ablation_renders_from_its_folder(pipe, tmp_path, kind):
    """Frames by the wrong LoRA, or a pipeline whose own slider is gone after the comparison."""
    projector = fresh(kind)
    expected = render(pipe, projector, tiny_image(), INSTRUCTION, STRENGTHS, 5)
    save_slider_of(tmp_path, projector, pipe.transformer)
    shake(lora.slider_lora_parameters(pipe.transformer), 0.3)
    before = ours(pipe, tiny_image(), INSTRUCTION, STRENGTHS, 5)
    frames = ablation_method(load_slider_of(tmp_path))(pipe, tiny_image(), INSTRUCTION, STRENGTHS, 5)
    for frame, other in zip(frames, expected, strict=True):
        assert frame.shape == (32, 32, 3) and abs(frame - other).max() < 1e-5
    assert abs(frames[0] - frames[2]).max() > 1e-3
    after = ours(pipe, tiny_image(), INSTRUCTION, STRENGTHS, 5)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("anchored", [False, True])
def test_rendering_is_the_pipelines_own(anchored):
    """An ablation rendered with other noise, steps or size than the method it is compared with, or not held to the
    source where that one is."""
    pipe = tiny_pipeline(edit_defaults={**EDIT_DEFAULTS, "anchor_source": anchored})
    frames = render(pipe, pipe.slider_projector, tiny_image(40, 24), INSTRUCTION, STRENGTHS, 5)
    for frame, other in zip(frames, ours(pipe, tiny_image(40, 24), INSTRUCTION, STRENGTHS, 5), strict=True):
        assert (frame == other).all()


def test_a_tokens_folder_is_no_ordinary_slider(pipe, tmp_path):
    """Loaded as plain offsets, its weights would edit at random; a damaged folder must say so too."""
    save_slider_of(tmp_path, fresh("text-space"), pipe.transformer)
    with pytest.raises(CheckpointError):
        pipe.load_slider(tmp_path)
    (tmp_path / "slider_projector" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="no readable slider"):
        load_slider_of(tmp_path)


def pocket_like() -> tuple:
    """A tiny pipeline without guidance, as pocket has none, and batches of random latents for it."""
    pipe = tiny_pipeline(slider=False)
    torch.manual_seed(0)
    pipe.register_modules(transformer=loud(tiny_transformer(guidance_embeds=False)))
    shard = Shard(
        source=torch.randn(2, 4, 8, 8).half(),
        target=torch.randn(6, 4, 8, 8).half(),
        source_index=torch.arange(2).repeat_interleave(3),
        strength=torch.linspace(0, 1, 6),
        focus=torch.zeros(6, 16, dtype=torch.bool),
        shows=torch.zeros(2, 16, dtype=torch.uint8),
        instruction=SENTENCES * 2,
    )
    return pipe, Batches([shard], [3], Words(pipe.components, SENTENCES))


class Killed(Exception):
    pass


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's rms_norm under autocast
@pytest.mark.parametrize("kind", ABLATIONS)
def test_a_killed_ablation_goes_on_to_the_same_weights(tmp_path, monkeypatch, kind):
    """A resume from other noise, or a projector that never gets a gradient through its token or offsets."""
    monkeypatch.setattr(
        "kontext_slider.train.pocket.slider.Schedule", lambda steps: Schedule(steps, warmup=2, checkpoint_every=2)
    )
    pipe, batches = pocket_like()
    whole = train_ablation(pipe, kind, RUN, tmp_path / "whole", batches)
    pipe, batches = pocket_like()
    draw, calls = batches.draw, []

    def draw_or_die(generator):
        calls.append(1)
        if len(calls) == 6:
            raise Killed
        return draw(generator)

    monkeypatch.setattr(batches, "draw", draw_or_die)
    with pytest.raises(Killed):
        train_ablation(pipe, kind, RUN, tmp_path / "killed", batches)
    pipe, batches = pocket_like()
    resumed = train_ablation(pipe, kind, RUN, tmp_path / "killed", batches)
    first, *_, last = resumed.parameters()
    assert first.abs().max() > 0 and last.abs().max() > 0, "the projector has not learned"
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    saved = load_slider_of(tmp_path / "killed" / kind / "slider").projector
    assert saved.config.strength_encoding == ("sinusoidal" if kind == "sinusoidal" else "release")
    answers = [torch.stack(tuple(p(torch.tensor([0.3]), torch.ones(1, POOLED_DIM)))) for p in (saved, resumed)]
    torch.testing.assert_close(*answers)


def test_only_ablations_that_are_not_there_are_trained(tmp_path, monkeypatch):
    """Hours of training are not done twice for a table; each kind trains on its own pairs."""
    trained = []

    def note(pipe, kind, run, folder, batches):
        trained.append((pipe, kind, run.steps, batches))

    def sequences(pipe, recipe, kind, num, folder):
        return recipe.model, kind, num, folder

    monkeypatch.setattr(pocket_ablations, "load_pipeline", lambda model, device: model)
    monkeypatch.setattr(pocket_ablations, "slider_batches", lambda pipe, run, folder: (pipe, folder))
    monkeypatch.setattr(pocket_ablations, "sequence_batches", sequences)
    monkeypatch.setattr(pocket_ablations, "train_ablation", note)
    (tmp_path / "text-space" / "slider").mkdir(parents=True)
    folders = pocket_ablations.trained_ablations("pocket", tmp_path, 7, 9)
    made = {kind: ("pocket", kind, 9, tmp_path / "data") for kind in ("filtered", "unfiltered", "true-ends")}
    expected = [("pocket", kind, 7, made.get(kind, ("pocket", tmp_path))) for kind in ABLATIONS]
    assert trained == [row for row in expected if row[1] != "text-space"]
    assert folders == {kind: tmp_path / kind / "slider" for kind in ABLATIONS}


def test_pairing_own_guesses_and_the_polynomial_come_one_by_one(tmp_path, monkeypatch):
    """All ablations paired, or none, and the table says what pairing gains of two runs that are the same."""
    ways = {}

    def note(pipe, projector, applied, batches, run, folder):
        mlp = getattr(projector, "mlp", projector)
        ways[folder.name] = run.anchored, run.own, mlp.config.degree

    monkeypatch.setattr(pocket_ablations, "train_projector", note)
    for kind in ABLATIONS:
        pipe, batches = pocket_like()
        train_ablation(pipe, kind, RUN, tmp_path, batches)
    paired = {"paired": (True, 0, None), "own-guess": (True, RUN.own, None), "polynomial": (True, RUN.own, RUN.degree)}
    assert ways == {kind: (False, 0, None) for kind in ABLATIONS} | paired
    assert RUN.own > 0 and RUN.degree is not None


def test_every_ablation_has_its_own_place(tmp_path):
    """An ablation under another's name makes the table a lie."""
    places = {}
    for kind in ("same-steps", "text-stream", "per-block"):
        pipe, batches = pocket_like()
        places[kind] = train_ablation(pipe, kind, replace(RUN, steps=1), tmp_path, batches).config.place
    assert places == {"same-steps": "time_text_embed", "text-stream": "text_stream", "per-block": "every_block"}


def test_an_unknown_ablation_is_refused(tmp_path):
    """A misspelt name would train the shipped slider under another name."""
    pipe, batches = pocket_like()
    with pytest.raises(InvalidInput, match="text-space"):
        train_ablation(pipe, "textspace", RUN, tmp_path, batches)


def test_projectors_start_without_effect():
    """A token or offsets that start large undo what the base model knows."""
    assert not TextSpaceProjector(8, 8, 6).zero_last_layer()(torch.tensor([0.5]), torch.randn(1, 8)).any()
    assert isinstance(NoPooledProjector(8, 8, 6).zero_last_layer().as_plain(), StrengthProjector)
