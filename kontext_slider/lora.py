"""The slider's LoRA on a transformer: put on, take off, switch for a while. Other adapters stay as they are.

It lives under the peft adapter name "slider" and is inactive except inside `slider_lora(transformer, on=True)`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from .errors import CheckpointError, InvalidInput
from .modulation import wrap_checkpointing

ADAPTER = "slider"
PREFIX = "transformer."


@dataclass(frozen=True)
class LoraWeights:
    """A LoRA file's content, in diffusers' names. Keys of `tensors` and `alphas` start with "transformer."."""

    tensors: dict[str, Tensor]  # <layer>.lora_A.weight (rank, in), <layer>.lora_B.weight (out, rank)
    alphas: dict[str, float] = field(default_factory=dict)  # by layer; of a layer that is not here: its rank

    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(lora_A, lora_B) by layer, without the prefix. KeyError where one of the two is missing."""
        layers = dict.fromkeys(key.removesuffix(".weight").rpartition(".")[0] for key in self.tensors)
        return {
            layer.removeprefix(PREFIX): (self.tensors[f"{layer}.lora_A.weight"], self.tensors[f"{layer}.lora_B.weight"])
            for layer in layers
        }

    def widened(self, fresh: LoraWeights) -> LoraWeights:
        """The same change of every layer at the rank of `fresh`, an untrained LoRA of the same layers: its rows stand
        where these end. Alphas are its own. InvalidInput where it has a smaller rank or other layers."""
        tensors, wider, ours = {}, fresh.pairs(), self.pairs()
        if set(wider) != set(ours) or any(len(ours[layer][0]) > len(down) for layer, (down, _) in wider.items()):
            raise InvalidInput(
                "The earlier slider's LoRA has other layers, or a higher rank: set rank=... to its rank."
            )
        for layer, (down, up) in wider.items():
            rank = len(ours[layer][0])
            share = self.alphas.get(PREFIX + layer, rank) / rank
            scaling = fresh.alphas.get(PREFIX + layer, len(down)) / len(down)
            added = up[:, rank:]  # zeros, where nothing was trained
            tensors[f"{PREFIX}{layer}.lora_A.weight"] = torch.cat([ours[layer][0].to(down), down[rank:]])
            tensors[f"{PREFIX}{layer}.lora_B.weight"] = torch.cat([ours[layer][1].to(up) * (share / scaling), added], 1)
        return LoraWeights(tensors, fresh.alphas)

    def config(self) -> dict[str, Any]:
        """A LoraConfig as a dict, keys with the prefix too, that gives every layer its own rank and alpha, by whole
        names: "proj_out" also ends other names."""
        ranks = {layer: down.shape[0] for layer, (down, _) in self.pairs().items()}
        alphas = {layer: self.alphas.get(PREFIX + layer, rank) for layer, rank in ranks.items()}
        settings: dict[str, Any] = {"target_modules": "|".join(map(re.escape, ranks))}
        for name, pattern, values in (("r", "rank_pattern", ranks), ("lora_alpha", "alpha_pattern", alphas)):
            settings[name] = usual = Counter(values.values()).most_common(1)[0][0]
            settings[pattern] = {f"^{re.escape(layer)}": value for layer, value in values.items() if value != usual}
        return {PREFIX + name: value for name, value in settings.items()}


def slider_layers(transformer: nn.Module) -> list[LoraLayer]:
    """The layers that carry the slider's LoRA."""
    return [m for m in transformer.modules() if isinstance(m, LoraLayer) and ADAPTER in m.r]


def slider_lora_parameters(transformer: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in transformer.named_parameters() if "lora_" in name and f".{ADAPTER}." in name]


@contextmanager
def slider_lora(transformer: nn.Module, on: bool) -> Iterator[None]:
    """The slider's LoRA active or inactive inside the block; restored afterwards. Other adapters stay as they are.

    Raises InvalidInput when other adapters are fused in the same layers, as peft would then skip the slider's, or where
    query, key and value are one matrix, as diffusers would.
    """
    layers = slider_layers(transformer)
    if on and any(layer.merged for layer in layers):
        raise InvalidInput("Other LoRA weights are fused into the transformer. Call unfuse_lora() to use strengths.")
    if on and layers and any(getattr(module, "fused_projections", False) for module in transformer.modules()):
        raise InvalidInput(
            "The transformer's projections are fused, which leaves the slider's LoRA out. "
            "Call transformer.unfuse_qkv_projections() to use strengths: the engine joins them by itself."
        )
    states = [(layer, *_switched(layer, on)) for layer in layers]
    unwrap = wrap_checkpointing(transformer, lambda block: _in_states(states))
    try:
        with _in_states(states):
            yield
    finally:
        unwrap()


def _switched(layer: LoraLayer, on: bool) -> tuple[list[str], bool]:
    """(active adapters, all disabled) of a layer with the slider's switched; peft's own would set requires_grad."""
    others = [] if layer.disable_adapters else [name for name in layer.active_adapters if name != ADAPTER]
    return [*others, ADAPTER] if on else others, False


@contextmanager
def _in_states(states: list[tuple[LoraLayer, Any, bool]]) -> Iterator[None]:
    before = [(layer, layer._active_adapter, layer._disable_adapters) for layer, _, _ in states]
    try:
        for layer, active, disabled in states:
            layer._active_adapter, layer._disable_adapters = active, disabled
        yield
    finally:
        for layer, active, disabled in before:
            layer._active_adapter, layer._disable_adapters = active, disabled


def put_lora(transformer: nn.Module, weights: LoraWeights) -> None:
    """Load `weights` as the inactive adapter "slider" in the place of one that is there.

    Either it is all there afterwards or everything is as before and CheckpointError is raised.
    """
    previous = take_lora(transformer)
    remove_lora(transformer)
    try:
        _load(transformer, weights)
    except Exception as error:
        remove_lora(transformer)
        if previous is not None:
            _load(transformer, previous)
        raise CheckpointError(f"The slider's LoRA could not be loaded into this transformer: {error}") from error


def _load(transformer: nn.Module, weights: LoraWeights) -> None:
    with _other_adapters_kept(transformer):
        transformer.load_lora_adapter(
            dict(weights.tensors),
            prefix=PREFIX.removesuffix("."),
            adapter_name=ADAPTER,
            metadata=weights.config(),
        )
    for parameter in slider_lora_parameters(transformer):
        parameter.requires_grad_(False)


def add_lora(transformer: nn.Module, config: LoraConfig) -> None:
    """A fresh, inactive, trainable adapter "slider" in the place of one that is there.

    Raises InvalidInput for a config that trains more than two matrices a layer, which is what a slider's file holds."""
    if config.use_dora or config.lora_bias or config.bias != "none" or config.modules_to_save:
        raise InvalidInput("A slider's LoRA is two matrices a layer: leave out DoRA, biases and modules_to_save.")
    remove_lora(transformer)
    with _other_adapters_kept(transformer):
        transformer.add_adapter(config, ADAPTER)
    for parameter in slider_lora_parameters(transformer):
        parameter.requires_grad_(True)


def take_lora(transformer: nn.Module) -> LoraWeights | None:
    """The slider's LoRA as it would be saved, or None."""
    config = getattr(transformer, "peft_config", {}).get(ADAPTER)
    if config is None:
        return None
    tensors = get_peft_model_state_dict(transformer, adapter_name=ADAPTER)
    layers = {name: m for name, m in transformer.named_modules() if isinstance(m, LoraLayer) and ADAPTER in m.r}
    root = {name: math.sqrt(m.r[ADAPTER]) if config.use_rslora else 1.0 for name, m in layers.items()}
    return LoraWeights(
        {PREFIX + name: tensor.detach().clone() for name, tensor in tensors.items()},
        {PREFIX + name: m.lora_alpha[ADAPTER] * root[name] for name, m in layers.items()},
    )


def remove_lora(transformer: nn.Module) -> None:
    """Take the slider's LoRA off; the last adapter takes peft's layers with it."""
    names = set(getattr(transformer, "peft_config", {}))
    if names == {ADAPTER} or (not names and _tuner_layers(transformer)):
        transformer.unload_lora()
    elif ADAPTER in names:
        with _other_adapters_kept(transformer):
            transformer.delete_adapters(ADAPTER)


@contextmanager
def slider_lora_kept(transformer: nn.Module) -> Iterator[None]:
    """Whatever slider's LoRA is put on inside the block, the one that was there, or none, is there again behind it (as
    one that is not trained further)."""
    previous = take_lora(transformer)
    try:
        yield
    finally:
        remove_lora(transformer)
        if previous is not None:
            put_lora(transformer, previous)


@contextmanager
def without_lora_layers(transformer: nn.Module) -> Iterator[None]:
    """The plain layers in the place of peft's wrappers, so that what is saved has the base model's names."""
    children = [(parent, *named) for parent in transformer.modules() for named in parent.named_children()]
    wrapped = [(parent, name, child) for parent, name, child in children if isinstance(child, BaseTunerLayer)]
    try:
        for parent, name, child in wrapped:
            parent._modules[name] = child.get_base_layer()
        yield
    finally:
        for parent, name, child in wrapped:
            parent._modules[name] = child


@contextmanager
def _other_adapters_kept(transformer: nn.Module) -> Iterator[None]:
    """peft activates the adapter it adds, and that one alone: give every other one its state back."""
    before = {id(m): (m._active_adapter, m._disable_adapters) for m in _tuner_layers(transformer)}
    trainable = {id(p): p.requires_grad for p in transformer.parameters()}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute", category=UserWarning)
            yield
    finally:
        for layer in _tuner_layers(transformer):
            layer._active_adapter, layer._disable_adapters = before.get(id(layer), ([], False))
        for parameter in transformer.parameters():
            parameter.requires_grad_(trainable.get(id(parameter), parameter.requires_grad))


def _tuner_layers(transformer: nn.Module) -> list[BaseTunerLayer]:
    return [m for m in transformer.modules() if isinstance(m, BaseTunerLayer)]
