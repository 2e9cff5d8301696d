"""The slider's LoRA: on where a strength is asked for, active beside others, refused where it would be lost."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig

from kontext_slider.errors import InvalidInput
from kontext_slider.lora import ADAPTER, slider_layers
from tests.renders import add_style, render


def test_other_adapters_act_together_with_the_slider(pipe):
    """A style LoRA that is active must stay active at a strength, and one that is off must stay off."""
    alone = render(pipe, 0.5)
    add_style(pipe)
    both = render(pipe, 0.5)
    assert (both - alone).abs().max() > 1e-3
    pipe.disable_lora()
    torch.testing.assert_close(render(pipe, 0.5), alone)
    pipe.enable_lora()
    torch.testing.assert_close(render(pipe, 0.5), both)


@pytest.mark.filterwarnings("ignore:Already unmerged:UserWarning")  # peft, of layers without the fused adapter
def test_fused_adapters_are_refused(pipe):
    """peft skips every unfused adapter of a fused layer: the slider's LoRA would silently be missing."""
    add_style(pipe)
    pipe.fuse_lora(adapter_names=["style"])
    with pytest.raises(InvalidInput, match="unfuse_lora"):
        render(pipe, 0.5)
    pipe.unfuse_lora()
    render(pipe, 0.5)


@pytest.mark.parametrize(
    "more", [{"use_dora": True}, {"lora_bias": True}, {"bias": "lora_only"}, {"modules_to_save": ["proj_out"]}]
)
def test_a_lora_that_no_slider_file_holds_is_refused(pipe, more):
    """Trained for a night, saved, and refused when it is loaded."""
    before = render(pipe, 0.5)
    with pytest.raises(InvalidInput, match="two matrices"):
        pipe.add_slider(pipe.slider_projector, LoraConfig(r=2, target_modules=["attn.to_q"], **more))
    torch.testing.assert_close(render(pipe, 0.5), before, rtol=0, atol=0)


def test_fused_projections_are_refused(pipe):
    """diffusers makes the one matrix of the layers without their LoRA: the slider's would silently be missing."""
    pipe.transformer.fuse_qkv_projections()
    render(pipe)  # which needs no slider
    with pytest.raises(InvalidInput, match="unfuse_qkv_projections"):
        render(pipe, 0.5)
    pipe.transformer.unfuse_qkv_projections()
    render(pipe, 0.5)


def test_the_lora_is_off_outside_and_on_inside(pipe):
    """Peft activates what it loads."""
    assert all(ADAPTER not in layer.active_adapters for layer in slider_layers(pipe.transformer))
    with pipe.slider_applied([0.5], torch.zeros(1, 24)):
        assert all(ADAPTER in layer.active_adapters for layer in slider_layers(pipe.transformer))
