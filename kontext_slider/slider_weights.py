"""Loading, saving, adding and removing a slider (projector and LoRA together), for pipelines to inherit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from torch import Tensor, nn

from . import checkpoint, lora
from .base import family_of
from .errors import InvalidInput, MissingSlider
from .model_folder import loading
from .modulation import offsets_attached, token_appended
from .projector import ModulationOffsets, Projector, StrengthProjector, TextSpaceProjector


class SliderWeightsMixin(DiffusionPipeline):
    """For a pipeline with a `transformer` and, where a slider is loaded, a `slider_projector`."""

    slider_projector: StrengthProjector | None

    @property
    def has_slider(self) -> bool:
        """Whether calls with a strength are possible."""
        return self.slider_projector is not None

    def load_slider(
        self,
        source: str | os.PathLike,
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
    ) -> None:
        """Load slider weights, ours or the authors' layout, in the place of those that are there.

        Args:
            source: a folder, or a hub id (owner/name).
            subfolder: where the slider lies in it.
            revision, token, cache_dir, local_files_only: as in `huggingface_hub.snapshot_download`.

        Raises CheckpointError (a ValueError), everything as it was before: nothing there, an unknown layout, damaged
        files, weights made for another model, a gated, private or unreachable repository.
        """
        hub = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        weights = checkpoint.read_slider(source, subfolder, **hub)
        with loading(f"The slider {os.fspath(source)!r}"):
            checkpoint.check_fit(weights.projector, weights.lora, self.transformer)
        with self._offload_paused():
            lora.put_lora(self.transformer, weights.lora)
            self._set_projector(weights.projector)

    def save_slider(self, folder: str | os.PathLike, *, card: str | None = None) -> None:
        """Write the slider as an adapter folder (projector, LoRA, model card) that `load_slider` reads.

        Args:
            folder: made where it does not exist.
            card: the text of its README.md; None for one from the slider's own facts, where no other README.md lies.

        Other files in the folder stay as they are. Raises MissingSlider when there is no projector or no LoRA.
        """
        projector = self.require_slider()
        weights = lora.take_lora(self.transformer)
        if weights is None:
            raise MissingSlider("The slider has no LoRA to save. Load a slider, or add one with add_slider, first.")
        slider = checkpoint.SliderWeights(projector, weights)
        if card is None and not checkpoint.has_foreign_card(Path(folder)):
            name = self.name_or_path
            is_local = not name or os.path.isabs(name) or os.path.exists(name)
            card = checkpoint.slider_card(slider, None if is_local else name)
        checkpoint.write_slider(Path(folder), slider, card)

    def add_slider(self, projector: StrengthProjector, config: LoraConfig | int = 4) -> None:
        """A fresh slider to train, in the place of one that is there; its parameters require gradients.

        Args:
            projector: fits the transformer (`zero_last_layer` starts it at the plain model).
            config: a LoraConfig of two matrices a layer, or a rank for the released settings (alpha = rank, gaussian
                init, the family's `lora_targets`).

        Raises InvalidInput for a config that trains more (DoRA, biases, modules_to_save), CheckpointError for a
        projector that does not fit.
        """
        checkpoint.check_projector_fit(projector, self.transformer)
        if isinstance(config, int):
            targets = list(family_of(self.transformer).lora_targets)
            config = LoraConfig(r=config, lora_alpha=config, target_modules=targets, init_lora_weights="gaussian")
        with self._offload_paused():
            lora.add_lora(self.transformer, config)
            self._set_projector(projector)
        projector.requires_grad_(True)

    def unload_slider(self) -> None:
        """Take the slider off; other LoRA adapters stay."""
        with self._offload_paused():
            lora.remove_lora(self.transformer)
            self.slider_projector = None

    def slider_parameters(self) -> list[nn.Parameter]:
        """The parameters of the projector and of the slider's LoRA, in a fixed order."""
        return [*self.require_slider().parameters(), *lora.slider_lora_parameters(self.transformer)]

    def unload_lora_weights(self, *args: Any, **kwargs: Any) -> None:
        """As the parent, which takes off every adapter; a slider without its LoRA is none, so it goes as well."""
        super().unload_lora_weights(*args, **kwargs)
        self.slider_projector = None

    def delete_adapters(self, *args: Any, **kwargs: Any) -> None:
        """As the parent; with the adapter "slider" the slider goes."""
        with_lora = bool(lora.slider_layers(self.transformer))
        super().delete_adapters(*args, **kwargs)
        if with_lora and not lora.slider_layers(self.transformer):
            self.slider_projector = None

    def require_slider(self) -> StrengthProjector:
        """The projector. Raises MissingSlider without a slider."""
        if self.slider_projector is None:
            raise MissingSlider(
                "This pipeline has no slider weights. Call load_slider with a folder or hub id first, or leave "
                "`strength` out for a plain edit."
            )
        return self.slider_projector

    def _set_projector(self, projector: StrengthProjector) -> None:
        # not ModelMixin's own `to`, which warns of an empty list of modules at every cast
        nn.Module.to(projector, device=self.transformer.device, dtype=self.transformer.dtype)
        self.register_modules(slider_projector=projector)

    @contextmanager
    def _offload_paused(self) -> Iterator[None]:
        """Model offloading off while components change, and on again with the new ones in the chain."""
        if self.transformer.device.type == "meta":
            raise InvalidInput("Sequential offloading is on. Load or add the slider first, then switch it on.")
        offloaded = bool(getattr(self, "_all_hooks", []))
        if offloaded:
            self.remove_all_hooks()
        try:
            yield
        finally:
            if offloaded:
                self.enable_model_cpu_offload(device=self._offload_device)


@contextmanager
def slider_on(
    transformer: nn.Module, projector: Projector, strengths: Tensor, pooled: Tensor, kept: Tensor | None = None
) -> Iterator[None]:
    """A slider on the transformer inside the block: its LoRA active, its offsets or token attached; restored
    afterwards.

    Gradients reach the projector and the LoRA where the caller has them enabled.

    Args:
        strengths: (B,) from 0 on.
        pooled: (B, P) or (1, P).
        kept: (B,) of 0 and 1; rows with 0 have no strength: their offsets (or their token) are zero. None: all 1.
    """
    answer, weight = projector(strengths, pooled), torch.ones_like(strengths) if kept is None else kept
    if isinstance(projector, TextSpaceProjector):
        attached = token_appended(transformer, answer * weight.to(answer)[:, None, None])
    else:
        offsets = ModulationOffsets(*(part * weight.to(part)[:, None] for part in answer))
        attached = offsets_attached(transformer, offsets, projector.config.place)
    with lora.slider_lora(transformer, on=True), attached:
        yield
