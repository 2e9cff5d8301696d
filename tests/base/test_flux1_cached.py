"""The velocity of a cached edit, on a copy of the transformer, against the library's forward pass on the original."""

from __future__ import annotations

from functools import partial
from typing import get_args

import pytest
import torch
from peft import LoraConfig

from kontext_slider import lora
from kontext_slider.base import Conditioning
from kontext_slider.base.flux1_cached import CachedModel
from kontext_slider.base.flux1_inference import can_be_copied, inference_copy
from kontext_slider.engine.sampling import offsets_at, plain_velocity
from kontext_slider.memory import place_with_low_vram
from kontext_slider.projector import Place
from tests.tiny import INSTRUCTION, loud, shake, tiny_image, tiny_pipeline, tiny_projector, tiny_transformer

STRENGTHS = [0.0, 0.4, 1.0]
STEPS = 3
ROUNDING = 1e-5  # largest error of a float32 velocity, in units of its root mean square


def pipeline(place: Place = "text_stream", guidance: bool = True, with_lora: bool = True):
    """Every parameter random, so that no term of a modulation is invisible for being zero."""
    pipe = tiny_pipeline(slider=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        pipe.register_modules(transformer=loud(tiny_transformer(guidance_embeds=guidance)))
        shake([p for p in pipe.transformer.parameters() if p.ndim == 1], 0.3)
        pipe.add_slider(tiny_projector(place=place), 4)
        shake(pipe.slider_parameters(), 0.2)
    if not with_lora:
        lora.remove_lora(pipe.transformer)
    return pipe


@torch.no_grad()
def edit_of(pipe):
    """The encodings and timesteps of one edit."""
    base, image = pipe.base, tiny_image(40, 24)
    text = base.encode_text(INSTRUCTION, 16)
    dtype = text.embeds.dtype
    source, noise = base.encode_source(image, dtype), base.draw_noise(image.size, 0, dtype)
    edit = Conditioning(text, source, noise, base.guidance(2.5))
    return edit, base.schedule(STEPS, noise.latents.shape[1]).timesteps


def cached_velocity(pipe, strengths, fused=True, **how):
    edit, timesteps = edit_of(pipe)
    place = pipe.slider_projector.config.place
    cached = CachedModel(inference_copy(pipe.transformer, fused, **how)).open(edit, timesteps, place)
    return cached.velocity_at(offsets_at(pipe, edit, strengths))


def plain_answer(pipe, latents, step, strengths):
    edit, timesteps = edit_of(pipe)
    velocity = plain_velocity(pipe, edit, timesteps, len(strengths))
    with pipe.slider_applied(strengths, edit.text.pooled):
        return velocity(latents, step)


def relative_error(answer, exact):
    return (answer - exact).square().mean().sqrt() / exact.square().mean().sqrt()


def assert_parity(pipe, strengths, steps=range(STEPS), **how):
    velocity, noise = cached_velocity(pipe, strengths, **how), edit_of(pipe)[0].noise.latents
    for step in steps:
        latents = noise if step == 0 else torch.randn(len(strengths), *noise.shape[1:])
        exact = plain_answer(pipe, latents, step, strengths)
        largest = (velocity(latents, step) - exact).abs().max() / exact.square().mean().sqrt()
        assert largest < ROUNDING, largest


@torch.no_grad()
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("place", get_args(Place))
@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize("strengths", [[0.4], STRENGTHS])
def test_a_velocity_is_the_librarys_own(fused, place, guidance, strengths):
    """A part of a modulation taken for another, a rotation turned the other way, a LoRA left out: pictures that are
    nearly right."""
    assert_parity(pipeline(place, guidance), strengths, fused=fused)


@torch.no_grad()
@pytest.mark.parametrize("fused", [True, False])
def test_a_slider_without_lora(fused):
    """An error where there is nothing to merge or to switch on."""
    assert_parity(pipeline(with_lora=False), STRENGTHS, fused=fused)


@torch.no_grad()
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("place", get_args(Place))
@pytest.mark.parametrize(
    "target", ["x_embedder", "context_embedder", "timestep_embedder.linear_1", "norm1.linear", "norm_out.linear"]
)
def test_a_lora_outside_of_the_blocks_matrices(place, target, fused):
    """Other trainers put one on embedders and modulation layers too, which are run once for an edit."""
    pipe = pipeline(place)
    pipe.add_slider(pipe.slider_projector, LoraConfig(r=4, lora_alpha=8, target_modules=[target], use_rslora=True))
    shake(pipe.slider_parameters(), 0.3)
    assert can_be_copied(pipe.transformer)
    assert_parity(pipe, [0.5], steps=[1], fused=fused)


@torch.no_grad()
@pytest.mark.parametrize("how", [{"fused": True}, {"fused": False}, {"fused": True, "dtype": torch.bfloat16}])
def test_the_original_is_left_alone(how):
    """A merged, narrowed or replaced layer of the original would change the plain pipeline for good."""
    pipe = pipeline()
    transformer = pipe.transformer
    weights = {name: p.clone() for name, p in transformer.state_dict().items()}
    modules, processors = dict(transformer.named_modules()), transformer.attn_processors
    noise = edit_of(pipe)[0].noise.latents
    before = plain_answer(pipe, noise, 0, [0.4])
    cached_velocity(pipe, [0.4], **how)(noise, 0)
    after = transformer.state_dict()
    assert list(after) == list(weights) and all(torch.equal(weights[name], p) for name, p in after.items())
    assert all(p.dtype == torch.float32 for p in after.values())
    assert dict(transformer.named_modules()) == modules and transformer.attn_processors == processors
    assert all(layer._active_adapter == [] for layer in lora.slider_layers(transformer))
    assert torch.equal(plain_answer(pipe, noise, 0, [0.4]), before)


def test_only_what_is_merged_or_joined_is_copied():
    """Gigabytes of a large model, for nothing: its modulation layers alone are 27 %."""
    transformer = pipeline().transformer
    held = {p.data_ptr() for p in transformer.parameters()}

    def own(copied):
        parts = [copied.trunk, *(getattr(copied, name) for name in ("x_embedder", "context_embedder"))]
        parts += copied.modulation
        return sum(p.numel() for part in parts for p in part.parameters() if p.data_ptr() not in held)

    width, num_double, num_single = transformer.inner_dim, 2, 2
    bias = 3 * width  # of a joined matrix; merged layers keep the original's biases
    merged = num_double * 2 * (4 + 8) * width**2 + num_single * 3 * width**2
    assert own(inference_copy(transformer, fused=True)) == merged + (2 * num_double + num_single) * bias
    assert own(inference_copy(transformer, fused=False)) == 0


@torch.no_grad()
def test_the_papers_offsets_run_no_modulation_layer_again():
    """The table is one for all strengths: 27 % of the 12 billion weights are read once per edit, not once per step."""
    pipe = pipeline("text_stream")
    edit, timesteps = edit_of(pipe)
    model = inference_copy(pipe.transformer, fused=True)
    cached = CachedModel(model).open(edit, timesteps, "text_stream")
    calls = []
    layers = model.modulation
    assert len(layers) == 7
    for layer in layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    velocity = cached.velocity_at(offsets_at(pipe, edit, [0.7]))
    for step in range(STEPS):
        velocity(edit.noise.latents, step)
    assert not calls


@torch.no_grad()
def test_renders_of_two_strengths_may_alternate_between_steps():
    """A render that goes first between two steps of another would leave its strength there."""
    pipe = pipeline()
    edit, timesteps = edit_of(pipe)
    cached = CachedModel(inference_copy(pipe.transformer, fused=True)).open(edit, timesteps, "text_stream")
    low, high = (cached.velocity_at(offsets_at(pipe, edit, [s])) for s in (0.1, 0.9))
    first = low(edit.noise.latents, 1)
    assert not torch.equal(high(edit.noise.latents, 1), first) and torch.equal(low(edit.noise.latents, 1), first)


@torch.no_grad()
def test_offloaded_modulation_layers():
    """A product with weights that are on no device, or their copies in main memory once more."""
    pipe, noise = pipeline(), edit_of(pipeline())[0].noise.latents
    exact = plain_answer(pipe, noise, 1, [0.4])
    place_with_low_vram(pipe, torch.device("cpu"))
    assert can_be_copied(pipe.transformer)
    velocity = cached_velocity(pipe, [0.4], fused=False)
    torch.testing.assert_close(velocity(noise, 1), exact, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(plain_answer(pipe, noise, 1, [0.4]), exact, rtol=0, atol=0)


@torch.no_grad()
def test_quantized_blocks_are_shared():
    """torchao's tensors that a copy cannot share, or loses."""
    quantization = pytest.importorskip("torchao.quantization")
    pipe = pipeline(with_lora=False)
    config = quantization.Int8WeightOnlyConfig(set_inductor_config=False)
    for block in (*pipe.transformer.transformer_blocks, *pipe.transformer.single_transformer_blocks):
        quantization.quantize_(block, config, filter_fn=lambda layer, name: name.endswith(("to_q", "proj_out")))
    assert_parity(pipe, [0.4], steps=[1], fused=False)


@torch.no_grad()
def test_bfloat16_is_a_rounding_away_and_the_latents_keep_their_precision():
    """Half precision that leaks into the Euler steps adds up from step to step."""
    pipe = pipeline("time_text_embed", guidance=False)
    noise = edit_of(pipe)[0].noise.latents
    answer = cached_velocity(pipe, [0.4], dtype=torch.bfloat16)(noise, 1)
    assert answer.dtype == noise.dtype == torch.float32
    assert 1e-5 < relative_error(answer, plain_answer(pipe, noise, 1, [0.4])) < 0.05


@torch.no_grad()
def test_eight_bits_are_a_rounding_of_the_blocks(monkeypatch):
    """A LoRA that is lost, or embeddings and latents that lose bits too. Of torchao's kinds a CPU has int8 alone."""
    quantization = pytest.importorskip("torchao.quantization")
    int8 = quantization.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    monkeypatch.setattr(quantization, "Float8DynamicActivationFloat8WeightConfig", lambda granularity: int8)
    pipe = pipeline()
    noise = edit_of(pipe)[0].noise.latents
    answer = cached_velocity(pipe, [0.4], dtype=torch.float8_e4m3fn)(noise, 1)
    assert answer.dtype == torch.float32
    assert 1e-4 < relative_error(answer, plain_answer(pipe, noise, 1, [0.4])) < 0.1


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("how", [{}, {"fused": False}, {"dtype": torch.bfloat16}])
def test_compiled_blocks_are_the_same(monkeypatch, how):
    """A block that the compiler cannot capture, or a program for each block in place of each kind."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    pipe = pipeline()
    noise = edit_of(pipe)[0].noise.latents
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    answer = cached_velocity(pipe, [0.4], compiled=True, **how)(noise, 1)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3  # double, single, single with fewer tokens
    torch._dynamo.reset()
    torch.testing.assert_close(answer, cached_velocity(pipe, [0.4], **how)(noise, 1), rtol=1e-4, atol=2e-5)


def _hook(pipe):
    pipe.transformer.transformer_blocks[0].register_forward_hook(lambda *_: None)


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


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
@pytest.mark.parametrize(
    "change",
    [_hook, _other_lora, _other_lora_elsewhere, _other_attention, _offload, _cast_by_layers, _offload_in_groups],
)
def test_a_transformer_that_does_more_is_not_copied(change):
    """Somebody's second LoRA, hook or offload is silently left out, and the frame is of another model."""
    pipe = pipeline()
    assert can_be_copied(pipe.transformer)
    change(pipe)
    assert not can_be_copied(pipe.transformer)
