"""Sliders on a pipeline: added, loaded, trained, taken off."""

from __future__ import annotations

import pytest
import torch

from kontext_slider import KontextSliderPipeline, MissingSlider
from kontext_slider.errors import CheckpointError
from kontext_slider.lora import ADAPTER
from tests.renders import STRENGTHS, add_style, render
from tests.tiny import (
    tiny_pipeline,
    tiny_projector,
    write_authors_layout,
)


def test_without_a_slider(plain_pipe):
    """Rendering the plain edit at every strength would look like a slider that does nothing."""
    with pytest.raises(MissingSlider, match="load_slider"):
        render(plain_pipe, 0.5)
    with pytest.raises(MissingSlider), plain_pipe.slider_applied([0.5], torch.zeros(1, 24)):
        pass
    assert not plain_pipe.has_slider


def test_the_projector_must_fit(plain_pipe):
    """A projector of another model would fail in the first block, far from its cause."""
    with pytest.raises(CheckpointError, match="wide"):
        KontextSliderPipeline(**{**plain_pipe.components, "slider_projector": tiny_projector(modulation_dim=64)})


def test_unloading(pipe):
    """Without its LoRA a slider renders something it was not trained for."""
    add_style(pipe)
    pipe.unload_slider()
    assert not pipe.has_slider and list(pipe.transformer.peft_config) == ["style"]
    assert pipe.transformer.active_adapters() == ["style"]
    pipe = tiny_pipeline()
    pipe.unload_lora_weights()
    assert not pipe.has_slider
    assert list(pipe.transformer.state_dict()) == list(tiny_pipeline(slider=False).transformer.state_dict())
    pipe = tiny_pipeline()
    add_style(pipe)
    pipe.set_adapters("style")
    pipe.delete_adapters(ADAPTER)
    assert not pipe.has_slider and list(pipe.transformer.peft_config) == ["style"]


def test_training_reaches_projector_and_lora_only_through_the_slider(plain_pipe):
    """A fresh slider must be trainable at once, also with gradient checkpointing, and start at the plain model."""
    plain_pipe.transformer.requires_grad_(False)
    plain_pipe.add_slider(tiny_projector().zero_last_layer(), 2)
    parameters = plain_pipe.slider_parameters()
    assert all(p.requires_grad for p in parameters) and len(parameters) == 10 + 2 * (24 + 6)
    plain_pipe.transformer.enable_gradient_checkpointing()
    tensors = {
        "hidden_states": torch.randn(2, 8, 16),
        "encoder_hidden_states": torch.randn(2, 4, 20),
        "pooled_projections": torch.randn(2, 24),
        "timestep": torch.full((2,), 0.5),
        "guidance": torch.ones(2),
        "img_ids": torch.zeros(8, 3),
        "txt_ids": torch.zeros(4, 3),
    }
    with torch.no_grad():
        plain = plain_pipe.transformer(**tensors).sample
    with plain_pipe.slider_applied([0.2, 0.9], tensors["pooled_projections"]):
        out = plain_pipe.transformer(**tensors).sample
    torch.testing.assert_close(out, plain)
    out.square().mean().backward()
    assert plain_pipe.slider_projector.projector[-1].weight.grad.abs().max() > 0
    lora_b = [p for n, p in plain_pipe.transformer.named_parameters() if "lora_B.slider" in n]
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in lora_b)
    assert all(p.grad is None for n, p in plain_pipe.transformer.named_parameters() if "lora_" not in n)


def test_a_slider_loaded_under_offload_takes_part(plain_pipe, tmp_path):
    """enable_model_cpu_offload before load_slider is the order of every tutorial."""
    plain_pipe.enable_model_cpu_offload(device="cpu")
    plain_pipe.load_slider(write_authors_layout(tmp_path))
    assert plain_pipe.transformer._hf_hook.prev_module_hook.model is plain_pipe.slider_projector
    render(plain_pipe, STRENGTHS)
    plain_pipe.remove_all_hooks()
