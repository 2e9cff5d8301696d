"""Attaching offsets to an unmodified transformer: what they do, and that nothing of them stays."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from torch._dynamo.testing import CompileCounterWithBackend

from kontext_slider.errors import InvalidInput
from kontext_slider.modulation import attach_offsets, offsets_attached
from kontext_slider.projector import ModulationOffsets, Place
from tests.tiny import INNER_DIM, POOLED_DIM, TEXT_DIM, loud, tiny_transformer


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    return loud(tiny_transformer()).requires_grad_(False)


def inputs(batch: int = 2) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(batch, 8, 16, generator=generator),
        "encoder_hidden_states": torch.randn(batch, 4, TEXT_DIM, generator=generator),
        "pooled_projections": torch.randn(batch, POOLED_DIM, generator=generator),
        "timestep": torch.full((batch,), 0.5),
        "guidance": torch.full((batch,), 2.5),
        "img_ids": torch.arange(24.0).reshape(8, 3) % 5,
        "txt_ids": torch.zeros(4, 3),
    }


PLACES = get_args(Place)


def some_offsets(seed: int = 0, batch: int = 2, place: Place = "text_stream") -> ModulationOffsets:
    scale, shift = torch.randn(2, batch, INNER_DIM, generator=torch.Generator().manual_seed(seed))
    return ModulationOffsets(scale, shift)


def run(
    transformer, offsets: ModulationOffsets | None = None, batch: int = 2, place: Place = "text_stream"
) -> torch.Tensor:
    if offsets is None:
        return transformer(**inputs(batch)).sample
    with offsets_attached(transformer, offsets, place):
        return transformer(**inputs(batch)).sample


def hooked(transformer, offsets: ModulationOffsets, batch: int = 2) -> torch.Tensor:
    """The facts' own description: forward hooks that add to items 2 and 3."""

    def add(module, args, out):
        x, gate_msa, shift, scale, gate_mlp = out
        return x, gate_msa, shift + offsets.shift.to(shift), scale + offsets.scale.to(scale), gate_mlp

    hooks = [block.norm1_context.register_forward_hook(add) for block in transformer.transformer_blocks]
    out = run(transformer, batch=batch)
    for hook in hooks:
        hook.remove()
    return out


def traces(transformer) -> list:
    """All that attaching could leave behind."""
    found = [list(transformer.state_dict()), vars(transformer).get("_gradient_checkpointing_func")]
    for module in transformer.modules():
        keys = sorted(vars(module))
        found.append((module, keys, list(module._modules.values()), list(module._forward_hooks), module.training))
    return found


def test_offsets_are_added_to_the_text_streams_mlp(transformer):
    """Shift and scale swapped, or the image stream modulated, gives pictures that look plausible."""
    offsets = some_offsets()
    expected = hooked(transformer, offsets)
    assert (expected - run(transformer)).abs().max() > 1e-3
    torch.testing.assert_close(run(transformer, offsets), expected, rtol=0, atol=0)


def test_offsets_of_the_embedding(transformer):
    """The other place: the vector that drives every modulation, scaled and shifted."""
    scale, shift = offsets = some_offsets()
    hook = transformer.time_text_embed.register_forward_hook(lambda module, args, out: (1 + scale) * out + shift)
    expected = run(transformer)
    hook.remove()
    assert (expected - run(transformer, offsets)).abs().max() > 1e-3
    torch.testing.assert_close(run(transformer, offsets, place="time_text_embed"), expected, rtol=0, atol=0)


@pytest.mark.parametrize("place", PLACES)
def test_every_sample_has_its_own_offsets(transformer, place):
    """A batch of strengths must not share the first one's offsets."""
    offsets = some_offsets(batch=3, place=place)
    together = run(transformer, offsets, batch=3, place=place)
    for i in range(3):
        alone = ModulationOffsets(offsets.scale[i : i + 1], offsets.shift[i : i + 1])
        torch.testing.assert_close(run(transformer, alone, 3, place)[i], together[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
def test_zero_offsets_change_nothing(transformer, place):
    """The way the offsets come in must not itself round."""
    zero = ModulationOffsets(*(0 * part[:1] for part in some_offsets(place=place)))
    assert torch.equal(run(transformer, zero, place=place), run(transformer))


@pytest.mark.parametrize("place", PLACES)
def test_nothing_stays_after_detaching_or_an_exception(transformer, place):
    """A hook or wrapper left behind would silently edit every later picture."""
    before, plain = traces(transformer), run(transformer)
    names = list(transformer.state_dict())
    with pytest.raises(KeyError), offsets_attached(transformer, some_offsets(place=place), place):
        assert list(transformer.state_dict()) == names
        assert [name for name, _ in transformer.named_parameters()] == names
        transformer.train()
        transformer.eval()
        raise KeyError
    handle = attach_offsets(transformer, some_offsets(place=place), place)
    handle.detach()
    handle.detach()
    assert traces(transformer) == before
    assert torch.equal(run(transformer), plain)


def test_moving_and_casting_while_attached(transformer):
    """`.to()` inside the block must reach the norm's own weights."""
    with offsets_attached(transformer, some_offsets()):
        transformer.to(torch.float64)
    assert {p.dtype for p in transformer.parameters()} == {torch.float64}


@pytest.mark.parametrize("place", PLACES)
def test_what_does_not_fit_is_refused(transformer, place):
    """Broadcasting would turn a wrong batch into a larger picture batch, a wrong width into a cryptic message."""
    narrow = ModulationOffsets(torch.zeros(2, 8), torch.zeros(2, 8))
    with pytest.raises(InvalidInput, match=str(INNER_DIM)):
        attach_offsets(transformer, narrow, place)
    with pytest.raises(InvalidInput, match="one strength per frame"):
        run(transformer, some_offsets(batch=3, place=place), 2, place)
    with offsets_attached(transformer, some_offsets(place=place), place), pytest.raises(InvalidInput, match="Detach"):
        attach_offsets(transformer, some_offsets())
    run(transformer)


def gradients(
    transformer, reentrant: bool | None, *, detach_first: bool = True, other=None, place: Place = "text_stream"
) -> list[torch.Tensor]:
    """Gradients of the offsets' source and of the input; `reentrant` None: without checkpointing."""
    if reentrant is not None:
        transformer.enable_gradient_checkpointing(
            lambda module, *args: torch.utils.checkpoint.checkpoint(module.__call__, *args, use_reentrant=reentrant)
        )
    leaf = torch.stack(some_offsets(place=place)).requires_grad_()
    given = inputs()
    given["hidden_states"].requires_grad_()
    handle = attach_offsets(transformer, ModulationOffsets(*(2.0 * leaf)), place)
    loss = transformer(**given).sample.square().mean()
    if detach_first:
        handle.detach()
    if other is not None:
        handle = attach_offsets(transformer, other, place)
    loss.backward()
    handle.detach()
    transformer.disable_gradient_checkpointing()
    return [loss.detach(), leaf.grad, given["hidden_states"].grad]


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("detach_first", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_gradient_checkpointing_keeps_the_offsets(transformer, reentrant, detach_first, place):
    """The released trainer drops them silently when checkpointing; recomputing after detaching must see them too."""
    expected = gradients(transformer, None, place=place)
    assert expected[1].abs().max() > 0
    got = gradients(transformer, reentrant, detach_first=detach_first, place=place)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("place", PLACES)
def test_recomputation_under_other_offsets(transformer, place):
    """Two micro-batches in flight: the first one's backward pass runs while the second one's offsets are attached."""
    expected = gradients(transformer, None, place=place)
    got = gradients(transformer, False, other=some_offsets(9, place=place), place=place)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)


def test_checkpointing_function_is_restored(transformer):
    """A wrapper that stays would add old offsets to later training steps."""
    transformer.enable_gradient_checkpointing()
    before = traces(transformer)
    run(transformer, some_offsets())
    assert traces(transformer) == before


@pytest.mark.parametrize("place", ["text_stream"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@torch.no_grad()
def test_compiled_blocks_follow_attach_and_detach(transformer, backend, place):
    """Dynamo ignores hooks added or removed after compilation, and would bake in or recompile for each strength."""
    first, second = some_offsets(1, place=place), some_offsets(2, place=place)
    plain, with_first, with_second = (run(transformer, offsets, place=place) for offsets in (None, first, second))
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    transformer.compile_repeated_blocks(backend=counter, fullgraph=True)
    torch.testing.assert_close(run(transformer), plain)
    compiled_plain = counter.frame_count
    torch.testing.assert_close(run(transformer, first, place=place), with_first)
    compiled_both = counter.frame_count
    if place == "text_stream":
        assert compiled_both == compiled_plain + 1
    else:  # at most every program once more; the blocks' strides differ by backend
        assert compiled_plain < compiled_both <= 2 * compiled_plain
    for offsets, expected in [(None, plain), (second, with_second), (None, plain), (first, with_first)]:
        torch.testing.assert_close(run(transformer, offsets, place=place), expected)
    assert counter.frame_count == compiled_both
    torch._dynamo.reset()


@torch.no_grad()
def test_whole_compiled_transformer(transformer):
    """torch.compile(transformer) hides the model in a wrapper; the offsets must reach the model inside."""
    plain, expected = run(transformer), run(transformer, some_offsets())
    torch._dynamo.reset()
    compiled = torch.compile(transformer, backend="eager")
    for offsets, reference in [(None, plain), (some_offsets(), expected), (None, plain)]:
        torch.testing.assert_close(run(compiled, offsets), reference)
    moved = run(transformer, some_offsets(), place="time_text_embed")
    torch.testing.assert_close(run(compiled, some_offsets(), place="time_text_embed"), moved)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")  # torch, of its RMSNorm
def test_autocast(transformer):
    """Float32 offsets must not turn a text stream that runs in bfloat16 into float32."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, expected = run(transformer, some_offsets()), hooked(transformer, some_offsets())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, expected)


def test_bfloat16_weights(transformer, monkeypatch):
    """A float32 projector on a bfloat16 transformer: its offsets take the transformer's dtype."""
    torch.nn.Module.to(transformer, torch.bfloat16)
    given = {name: tensor.bfloat16() for name, tensor in inputs().items()}
    monkeypatch.setattr(f"{__name__}.inputs", lambda batch: given)
    out, expected = run(transformer, some_offsets()), hooked(transformer, some_offsets())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, expected)


def test_a_patched_forward_still_gets_offsets(transformer):
    """accelerate's dispatch replaces `forward` on the instance, which would bypass a subclass's own forward."""
    offsets = some_offsets()
    expected = run(transformer, offsets)
    for block in transformer.transformer_blocks:
        add_hook_to_module(block.norm1_context, ModelHook())
    assert torch.equal(run(transformer, offsets), expected)
    for block in transformer.transformer_blocks:
        remove_hook_from_module(block.norm1_context)
