"""The prepared denoiser against the library's own forward pass, which it must answer for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import get_args

import pytest
import torch
from peft import LoraConfig

from kontext_slider.engine import SliderEngine, blocks
from kontext_slider.engine.batch_size import PATIENCE, BatchSize
from kontext_slider.engine.denoise import plain_velocity, prepare_scheduler
from kontext_slider.engine.denoiser import prepared_denoiser
from kontext_slider.engine.layers import EIGHT_BITS
from kontext_slider.engine.prepared import Prepared
from kontext_slider.engine.weights import Weights, is_plain
from kontext_slider.errors import InvalidInput
from kontext_slider.projector import Place
from tests.engine.helpers import alike, reference
from tests.tiny import INSTRUCTION, loud, shake, tiny_image, tiny_pipeline, tiny_projector, tiny_transformer

STRENGTHS = [0.0, 0.4, 1.0]
STEPS = 3


def pipeline(place: Place = "text_stream", guidance: bool = True):
    """Every parameter random, so that no term of a modulation is invisible for being zero."""
    pipe = tiny_pipeline(slider=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        pipe.register_modules(transformer=loud(tiny_transformer(guidance_embeds=guidance)))
        shake([p for p in pipe.transformer.parameters() if p.ndim == 1], 0.3)
        pipe.add_slider(tiny_projector(place=place), 4)
        shake(pipe.slider_parameters(), 0.2)
    return pipe


@pytest.fixture
def edit_of():
    """(pipe) -> the encodings and timesteps of one edit."""

    def make(pipe):
        renderer = SliderEngine(pipe).open(tiny_image(40, 24), INSTRUCTION, steps=STEPS, size=32)._renderer
        scheduler = prepare_scheduler(pipe, STEPS, renderer._edit.noise.shape[1], "cpu")
        return renderer._edit, scheduler.timesteps

    return make


def plain_answer(pipe, edit, timesteps, latents, step, strengths):
    velocity = plain_velocity(pipe.transformer, edit, timesteps, len(strengths))
    with pipe.slider_applied(strengths, edit.text.pooled):
        return velocity(latents, step)


@torch.no_grad()
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("place", get_args(Place))
@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize("strengths", [[0.4], STRENGTHS])
def test_a_velocity_is_the_librarys_own(edit_of, joined, place, guidance, strengths):
    """A chunk taken for another, a rotation turned the other way, a LoRA left out: pictures that are nearly right."""
    pipe = pipeline(place, guidance)
    edit, timesteps = edit_of(pipe)
    weights = Weights.of(pipe.transformer, joined)
    prepared = Prepared.of(pipe.transformer, weights, edit, timesteps, place)
    denoiser = prepared_denoiser(pipe, edit, prepared, strengths)
    for step in range(STEPS):
        latents = edit.noise if step == 0 else torch.randn(len(strengths), *edit.noise.shape[1:])
        with denoiser.applied():
            answer = denoiser.velocity(latents, step)
        torch.testing.assert_close(
            answer, plain_answer(pipe, edit, timesteps, latents, step, strengths), rtol=1e-4, atol=2e-5
        )


@pytest.mark.parametrize("place", get_args(Place))
@pytest.mark.parametrize(
    "target", ["x_embedder", "context_embedder", "timestep_embedder.linear_1", "norm1.linear", "norm_out.linear"]
)
def test_a_lora_outside_of_the_blocks_is_in_the_frames(place, target):
    """Other trainers put one on embedders and modulations too, which an engine asks when it prepares an edit."""
    pipe = pipeline(place)
    pipe.add_slider(pipe.slider_projector, LoraConfig(r=4, lora_alpha=8, target_modules=[target], use_rslora=True))
    shake(pipe.slider_parameters(), 0.3)
    assert is_plain(pipe.transformer)
    session = SliderEngine(pipe).open(tiny_image(40, 24), INSTRUCTION, steps=STEPS, size=32)
    assert alike(session.render(0.5), reference(pipe, session, 0.5))


def test_attention_in_bfloat16_does_not_round_its_logits():
    """Rounded to eight bits, the logits of a sharp attention are off by tenths: they were most of fast's error."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 40, 2, 16, generator=generator).bfloat16()
    query = 12 * query
    logits = torch.einsum("bmhe,bnhe->bhmn", query.float(), key.float()) / 4

    def answer(logits):
        return torch.einsum("bhmn,bnhe->bmhe", logits.softmax(-1), value.float()).flatten(2)

    rounded = (answer(logits.bfloat16().float()) - answer(logits)).square().mean().sqrt()
    error = (blocks.attend(query, key, value).float() - answer(logits)).square().mean().sqrt()
    assert error < rounded / 3, (rounded, error)


@pytest.fixture
def captured(monkeypatch):
    """Blocks go to torch's compiler, which captures them whole, but runs what it captured operation by operation."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    blocks.compiled_blocks.cache_clear()
    yield
    blocks.compiled_blocks.cache_clear()
    torch._dynamo.reset()


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("joined", [True, False])
def test_compiled_blocks_are_the_same(edit_of, captured, joined):
    """A block that the compiler cannot capture, a program for each block in place of each kind, a rotation turned the
    other way by the arithmetic without complex numbers."""
    pipe = pipeline()
    edit, timesteps = edit_of(pipe)
    weights = Weights.of(pipe.transformer, joined, compiled=True)
    denoiser = prepared_denoiser(
        pipe, edit, Prepared.of(pipe.transformer, weights, edit, timesteps, "text_stream"), [0.4]
    )
    torch._dynamo.utils.counters.clear()
    with denoiser.applied():
        answer = denoiser.velocity(edit.noise, 0)
    torch.testing.assert_close(answer, plain_answer(pipe, edit, timesteps, edit.noise, 0, [0.4]), rtol=1e-4, atol=2e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3  # double, single, single with fewer tokens


@pytest.mark.slow
def test_an_engine_that_compiles_makes_the_same_frames(captured):
    """The switch is taken and nothing is compiled, or a second picture's size is not."""
    pipe = pipeline()
    engines = SliderEngine(pipe), SliderEngine(pipe, compiled=True)
    torch._dynamo.utils.counters.clear()
    for size in ((40, 24), (24, 40)):
        assert alike(*(engine.open(tiny_image(*size), INSTRUCTION, size=32).render(0.7) for engine in engines))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_without_a_compiler_it_says_so(monkeypatch):
    """Pages of a compiler's traceback at the first frame."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InvalidInput, match="compiler"):
        SliderEngine(pipeline(), compiled=True)


@torch.no_grad()
def test_the_papers_offsets_ask_no_modulation_layer_again(edit_of):
    """The table is one for all strengths: 27 % of the 12 billion weights are read once per edit, not once per step."""
    pipe = pipeline("text_stream")
    edit, timesteps = edit_of(pipe)
    prepared = Prepared.of(pipe.transformer, Weights.of(pipe.transformer, True), edit, timesteps, "text_stream")
    asked = []
    layers = [m for name, m in pipe.transformer.named_modules() if "norm" in name and name.endswith(".linear")]
    assert len(layers) == 7
    for layer in layers:
        layer.register_forward_hook(lambda *_: asked.append(1))
    denoiser = prepared_denoiser(pipe, edit, prepared, [0.7])
    for step in range(STEPS):
        denoiser.velocity(edit.noise, step)
    assert not asked


@torch.no_grad()
def test_bfloat16_is_a_rounding_away_and_the_latents_keep_their_precision(edit_of):
    """Half precision that leaks into the Euler steps adds up from step to step."""
    pipe = pipeline("time_text_embed", guidance=False)
    edit, timesteps = edit_of(pipe)
    weights = Weights.of(pipe.transformer, True, torch.bfloat16)
    prepared = Prepared.of(pipe.transformer, weights, edit, timesteps, "time_text_embed")
    answer = prepared_denoiser(pipe, edit, prepared, [0.4]).velocity(edit.noise, 1)
    exact = plain_answer(pipe, edit, timesteps, edit.noise, 1, [0.4])
    assert answer.dtype == edit.noise.dtype == torch.float32
    error = (answer - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 1e-5 < error < 0.05


@torch.no_grad()
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_eight_bits_are_a_rounding_of_the_blocks_alone(edit_of, captured, compiled):
    """Embeddings and latents that lose bits too, or a LoRA that is not heard."""
    pipe = pipeline()
    edit, timesteps = edit_of(pipe)
    weights = Weights.of(pipe.transformer, True, EIGHT_BITS, compiled)
    prepared = Prepared.of(pipe.transformer, weights, edit, timesteps, "text_stream")
    assert prepared.source.dtype == torch.float32
    answer = prepared_denoiser(pipe, edit, prepared, [0.4]).velocity(edit.noise, 1)
    exact = plain_answer(pipe, edit, timesteps, edit.noise, 1, [0.4])
    error = (answer - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 1e-4 < error < 0.1


def test_preparing_leaves_the_transformer_alone():
    """A merged weight written back would change the plain pipeline for good."""
    pipe = pipeline()
    before = {name: p.clone() for name, p in pipe.transformer.state_dict().items()}
    session = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    session.render(0.5)
    assert all(torch.equal(before[name], p) for name, p in pipe.transformer.state_dict().items())
    assert all(layer._active_adapter == [] for layer in pipe.transformer.modules() if hasattr(layer, "lora_A"))


def _hook(pipe):
    pipe.transformer.transformer_blocks[0].register_forward_hook(lambda *_: None)


PEFT_WARNS = pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")


def _other_lora(pipe):
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["attn.to_q"]), "other")


def _other_lora_elsewhere(pipe):
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["proj_mlp"]), "other")


def _other_attention(pipe):
    class Processor(type(pipe.transformer.transformer_blocks[0].attn.processor)):
        pass

    pipe.transformer.set_attn_processor(Processor())


def _offload(pipe):
    pipe.transformer._hf_hook = object()


def _cast_by_layers(pipe):
    pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def _offload_in_groups(pipe):
    pipe.transformer.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")


DOES_MORE = [
    _hook, _other_lora, _other_lora_elsewhere, _other_attention, _offload, _cast_by_layers, _offload_in_groups
]  # fmt: skip


@PEFT_WARNS
@pytest.mark.parametrize("change", DOES_MORE)
def test_a_transformer_that_does_more_is_asked_itself(pipe, change):
    """Somebody's second LoRA, hook or offload is silently ignored, and the frame is of another model."""
    assert is_plain(pipe.transformer)
    change(pipe)
    assert not is_plain(pipe.transformer)


@pytest.mark.parametrize("change", [_cast_by_layers, _offload_in_groups])
def test_frames_of_weights_that_diffusers_keeps_elsewhere(pipe, change):
    """A product with weights that are float8, or on another device, is an error at the first frame."""
    change(pipe)
    session = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    assert alike(session.render(0.5), reference(pipe, session, 0.5))


@PEFT_WARNS
def test_another_lora_is_heard(pipe):
    """As before, from end to end: the frame with a second adapter is the pipeline's own."""
    engine = SliderEngine(pipe)
    without = engine.open(tiny_image(), INSTRUCTION).render(0.5)
    _other_lora(pipe)
    shake([p for name, p in pipe.transformer.named_parameters() if ".other." in name], 0.3)
    engine.clear()
    session = engine.open(tiny_image(), INSTRUCTION)
    frame = session.render(0.5)
    assert alike(frame, reference(pipe, session, 0.5)) and not alike(frame, without)


def test_an_open_session_follows_new_weights_after_clear(pipe):
    """What was prepared of the old slider goes on being used."""
    engine = SliderEngine(pipe)
    session = engine.open(tiny_image(), INSTRUCTION)
    before = session.render(0.5)
    shake(pipe.slider_parameters(), 0.3)
    engine.clear()
    after = session.render(0.5)
    assert not alike(before, after) and alike(after, reference(pipe, session, 0.5))


def test_a_sweep_in_batches_has_the_frames_of_one_at_a_time(pipe):
    """Rows of a batch that are mixed up, or an offset of the first frame for all."""
    single, several = SliderEngine(pipe), SliderEngine(pipe)
    several.batch = BatchSize(3)
    frames = [
        [frame for _, frame in engine.open(tiny_image(), INSTRUCTION, steps=2).sweep(8)] for engine in (single, several)
    ]
    assert all(alike(a, b) for a, b in zip(*frames, strict=True))
    assert len({frame.tobytes() for frame in frames[1]}) == 8


def test_a_batch_counts_its_steps(pipe):
    """A progress bar that ends at an eighth."""
    engine, steps = SliderEngine(pipe), []
    engine.batch = BatchSize(3)
    list(engine.open(tiny_image(), INSTRUCTION, steps=2).sweep(5, lambda *step: steps.append(step)))
    assert steps == [(3, 10), (6, 10), (8, 10), (10, 10)]


def test_frames_that_take_no_step_count_as_done(pipe):
    """A progress bar that stops at a third, as the other frames were mixed of finished ones."""
    engine, steps = SliderEngine(pipe, speed="fastest"), []
    session = engine.open(tiny_image(), INSTRUCTION, steps=4)
    list(session.sweep(9, lambda *step: steps.append(step)))
    assert len(session._rendered) < 9, "nothing was mixed"
    assert steps[-1] == (36, 36) and steps == sorted(set(steps))


def short_of_memory(monkeypatch, fits):
    """Lets a batch run out of memory unless `fits(number of strengths)`; returns the list of the batches tried."""
    tried, velocity = [], Prepared.velocity

    def limited(self, latents, table):
        num_strengths = len(table[0][1][3])  # the offsets of the text stream have a row for each
        tried.append(num_strengths)
        if not fits(num_strengths):
            raise torch.OutOfMemoryError("too large")
        return velocity(self, latents, table)

    monkeypatch.setattr(Prepared, "velocity", limited)
    return tried


def test_a_batch_that_is_too_large_is_halved(pipe, monkeypatch):
    """A sweep that fails on a small card, or fails anew at every group."""
    tried, engine = short_of_memory(monkeypatch, lambda num: num == 1), SliderEngine(pipe)
    engine.batch = BatchSize(4)
    with engine.open(tiny_image(), INSTRUCTION, steps=1) as session:
        frames = [frame for _, frame in session.sweep(5)]
        assert tried == [4, 2, 1, 1, 2, 1, 1, 1]
        monkeypatch.undo()
        assert all(alike(frame, reference(pipe, session, k / 4)) for k, frame in enumerate(frames))


def test_one_failure_for_want_of_memory_does_not_last(pipe, monkeypatch):
    """A neighbour took the memory for a moment, and every later sweep of the engine was made one by one."""
    failures = iter([False])
    tried, engine = short_of_memory(monkeypatch, lambda num: next(failures, True)), SliderEngine(pipe)
    engine.batch = BatchSize(4)
    with engine.open(tiny_image(), INSTRUCTION, steps=1) as session:
        assert len(list(session.sweep(48))) == 48
    assert tried[:3] == [4, 2, 2] and tried.count(2) == PATIENCE and set(tried[PATIENCE + 1 :]) == {4}


def test_a_lasting_want_of_memory_is_tried_ever_more_seldom(pipe, monkeypatch):
    """A batch that never fits and costs its failure every few frames."""
    tried, engine = short_of_memory(monkeypatch, lambda num: num < 4), SliderEngine(pipe)
    engine.batch = BatchSize(4)
    with engine.open(tiny_image(), INSTRUCTION, steps=1) as session:
        list(session.sweep(100))
    failures = [place for place, num in enumerate(tried) if num == 4]
    assert failures[:3] == [0, PATIENCE + 1, 3 * PATIENCE + 2] and len(failures) == 3


def test_memory_that_one_frame_lacks_is_an_error(pipe, monkeypatch):
    """Halving nothing for ever."""
    session = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)

    def no_memory(*_):
        raise torch.OutOfMemoryError("none")

    monkeypatch.setattr(session._renderer, "_latents", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        session.render(0.5)


def test_equal_parts_of_a_batch_are_computed_once(edit_of):
    """With the paper's offsets the first step of all strengths is one, up to the first text MLP."""
    pipe = pipeline("text_stream")
    edit, timesteps = edit_of(pipe)
    weights = Weights.of(pipe.transformer, True)
    prepared = Prepared.of(pipe.transformer, weights, edit, timesteps, "text_stream")
    seen = []

    def watched(layer):
        return lambda x: (seen.append(len(x)), layer(x))[1]

    image, text = weights.double[0]
    streams = (
        image._replace(qkv=watched(image.qkv), mlp_in=watched(image.mlp_in)),
        text._replace(qkv=watched(text.qkv)),
    )
    prepared = replace(prepared, weights=replace(weights, double=(streams, *weights.double[1:])))
    with torch.no_grad():
        answer = prepared_denoiser(pipe, edit, prepared, STRENGTHS).velocity(edit.noise, 0)
    assert seen == [1, 1, 1] and len(answer) == 3
