"""FluxKontextPipeline with an edit strength.

Legend: N strengths, T text tokens, P width of the pooled text, L packed target tokens, C latent channels.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_output import FluxPipelineOutput
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPVisionModelWithProjection, T5EncoderModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from . import calls, checkpoint, hub, lora, model_folder, residual
from .base import BaseModel, base_of
from .codec import PatchCodec
from .drift import fit_in_place
from .edit import MAX_STRENGTH, EditDefaults, check_strengths, check_whole
from .errors import InvalidInput
from .files import writing
from .images import Photo, fitted
from .projector import StrengthProjector
from .slider_weights import SliderWeightsMixin, slider_on
from .transfer import Transfer


class KontextSliderPipeline(SliderWeightsMixin, FluxKontextPipeline):
    """FLUX Kontext whose edits have a strength from 0 (untouched) to 1 (fully edited).

    Without `strength` it is FluxKontextPipeline to the last bit, whatever slider is loaded.

    Args:
        scheduler, vae, text_encoder, tokenizer, text_encoder_2, tokenizer_2, transformer, image_encoder,
            feature_extractor: the parent's components.
        slider_projector: the projector of a slider; usually `load_slider` or `add_slider` sets it.
        edit_defaults: the model's own settings for edits (names of EditDefaults), stored in `model_index.json`. Calls
            with a strength take from them what the caller does not give.
        known_instructions: edit name -> phrasings, for a model trained on a closed list; stored as well.
    """

    model_cpu_offload_seq = FluxKontextPipeline.model_cpu_offload_seq.replace(
        "->transformer", "->slider_projector->transformer"
    )
    _optional_components = [*FluxKontextPipeline._optional_components, hub.PROJECTOR_FOLDER]

    def __init__(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKL | PatchCodec,
        text_encoder: CLIPTextModel,
        tokenizer: Tokenizer,
        text_encoder_2: T5EncoderModel,
        tokenizer_2: Tokenizer,
        transformer: FluxTransformer2DModel,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        slider_projector: StrengthProjector | None = None,
        edit_defaults: dict | None = None,
        known_instructions: dict | None = None,
    ) -> None:
        super().__init__(
            scheduler=scheduler,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
            transformer=transformer,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
        )
        EditDefaults.from_config(edit_defaults)
        if slider_projector is not None:
            checkpoint.check_projector_fit(slider_projector, transformer)
        self.register_modules(slider_projector=slider_projector)
        self.register_to_config(edit_defaults=edit_defaults, known_instructions=known_instructions)

    @property
    def defaults(self) -> EditDefaults:
        """The model's own edit settings, or those of FLUX Kontext."""
        return EditDefaults.from_config(self.config.edit_defaults)

    @property
    def known_instructions(self) -> dict[str, list[str]]:
        """Edit name -> phrasings the model was trained on; empty where it takes any instruction."""
        return copy.deepcopy(dict(self.config.known_instructions or {}))

    @property
    def base(self) -> BaseModel:
        """What depends on the base model's family: encoders, schedule, velocity, codec."""
        return base_of(self)

    @torch.no_grad()
    @calls.with_signature_of(FluxKontextPipeline.__call__)
    def __call__(
        self,
        *args: Any,
        strength: float | Sequence[float] | None = None,
        strength_batch_size: int | None = None,
        allow_extrapolation: bool = False,
        full_size: bool = False,
        source_at_zero: bool = True,
        **kwargs: Any,
    ) -> FluxPipelineOutput | tuple:
        """Edit a picture, at one strength or at several. The parent's arguments mean what they mean there.

        All strengths share one source, one instruction and one noise: the noise that a plain call with this generator
        draws, times the model's `noise_scale`. Text and source are encoded once. Tensors given (`latents`, embeddings,
        `image` as latents) have a batch of one. With a negative prompt, the slider acts on both branches.

        Args:
            strength: None for the plain parent (no offsets, slider LoRA off), or numbers from 0 to 1.
            strength_batch_size: how many strengths are denoised at a time; None: all. Memory changes with it, frames
                do not (up to rounding).
            allow_extrapolation: let strengths go on to 1.5.
            full_size: return pictures of the photograph's own size (`transfer.py`), RGB or RGBA as it is; strength 0 is
                the photograph itself. The frames have its shape, so leave height, width and output_type out.
            source_at_zero: strength 0 is the source itself, to the last bit of a picture (`residual.py`), and is not
                denoised. False, for research: the model's own frame at strength 0, as in the paper.

        Where the model's `edit_defaults` say `anchor_source`, frames are residual corrected (`residual.py`): one more
        frame is denoised first, for strength 0. Latents, in or out, are corrected by the source's latents, which are
        the frame at strength 0.

        Returns:
            FluxPipelineOutput, or a tuple with `return_dict=False`: one frame per strength, in their order. A call
            that a callback interrupts (`pipe._interrupt = True`) returns the frames of the batches it began.

        Raises:
            InvalidInput (a ValueError): a strength outside [0, 1], an empty instruction, several prompts or images;
                frames of another size than the source, where one is to be the source or they are to be held to it;
                `full_size` without a strength or with what it does not go with.
            MissingSlider (a ValueError): no slider is loaded.
        """
        if strength is None:
            if full_size:
                raise InvalidInput("full_size goes with a strength: add strength=1.0 for the full edit.")
            with lora.slider_lora(self.transformer, on=False):
                return super().__call__(*args, **kwargs)
        strengths = check_strengths(strength, MAX_STRENGTH if allow_extrapolation else 1.0)
        self.require_slider()
        given = dict(calls.parent_signature(self).bind(*args, **kwargs).arguments)
        photo = calls.photo_for_full_size(given) if full_size else None
        defaults = self.defaults if self.config.edit_defaults or full_size else None
        call = calls.complete_arguments(self, given, defaults)
        return_dict = call.pop("return_dict")
        if strength_batch_size is not None:
            check_whole("strength_batch_size", strength_batch_size, 1, sys.maxsize)
        if call["image"] is not None and residual.needs_source(self.defaults.anchor_source, source_at_zero, strengths):
            frames = self._held_to_source(call, strengths, strength_batch_size)
        else:
            frames = self._denoised(calls.encode_edit(self, call), strengths, strength_batch_size)
        if photo is not None:
            frames = self._full_size(photo, strengths, frames)
        return FluxPipelineOutput(images=frames) if return_dict else (frames,)

    def _held_to_source(self, call: dict[str, Any], strengths: list[float], batch_size: int | None) -> Any:
        """Frames with the source at strength 0, the others residual corrected where the model is anchored: by pixels
        or, where latents go in or out, by latents. If a callback interrupts, those before the first one missing."""
        source, output_type = calls.correctable_source(self, call), call["output_type"]
        encoded = calls.encode_edit(self, {**call, "output_type": "latent" if source is None else "pt"})
        tokens = calls.packed_source(self, encoded)
        if tokens is None:
            raise InvalidInput(calls.other_size(self, encoded))
        made = self._denoised_with_source(encoded, strengths, batch_size, tokens if source is None else source)
        if not len(made):
            return [] if output_type == "pil" else made.cpu().numpy() if output_type == "np" else made
        if output_type == "latent":
            return made
        pixels = made if source is not None else self.base.decode(made, (encoded["width"], encoded["height"]))
        frames = self.image_processor.postprocess(pixels, output_type, do_denormalize=[False] * len(pixels))
        return frames.to(tokens.dtype) if output_type == "pt" else frames

    def _denoised_with_source(
        self, encoded: dict[str, Any], strengths: list[float], batch_size: int | None, source: Tensor
    ) -> Tensor:
        """Pixels (N, 3, H, W) in float32, or latents (N, L, C); `source` is one row of them."""
        computed, anchored = [strength for strength in strengths if strength != 0], self.defaults.anchor_source
        with_untouched = anchored and min(computed, default=1) < 1
        wanted = [0.0, *computed] if with_untouched else computed
        made = self._denoised(encoded, wanted, batch_size) if wanted else source[:0]
        made = made.to(source.dtype)
        if with_untouched:
            made = residual.add_residual(made[1:], computed[: len(made) - 1], source - made[:1])
        rest, rows = iter(made.clamp(0, 1) if source.ndim == 4 else made), list[Tensor]()
        for strength in strengths:
            row = source[0] if strength == 0 else next(rest, None)
            if row is None:
                break
            rows.append(row)
        return torch.stack(rows) if rows else made[:0]

    def _full_size(self, photo: Photo, strengths: list[float], frames: list[Image.Image]) -> list[Image.Image]:
        """The frames carried over to the photograph."""
        if not frames:  # a callback interrupted
            return []
        source = fitted(photo.on_white(), frames[0].size)
        fit = Transfer.fit if self.defaults.anchor_source else lambda *pair: fit_in_place(*pair)[0]
        return [
            photo.image.copy() if strength == 0 else fit(source, frame).apply(photo.image)
            for strength, frame in zip(strengths, frames, strict=False)
        ]

    def _denoised(self, call: dict[str, Any], strengths: list[float], batch_size: int | None) -> Any:
        """The frames of an encoded call, batch by batch; of the batches begun, if a callback interrupts."""
        parts: list[Any] = []
        step = batch_size or len(strengths)
        for first in range(0, len(strengths), step):
            chunk = strengths[first : first + step]
            batch = calls.for_frames(call, len(chunk))
            with self.slider_applied(chunk, batch["pooled_prompt_embeds"]):
                parts.append(super().__call__(**batch).images)
            if self.interrupt:
                break
        if isinstance(parts[0], list):
            return [frame for part in parts for frame in part]
        return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else torch.cat(parts)

    @contextmanager
    def slider_applied(self, strengths: float | Sequence[float], pooled: Tensor) -> Iterator[None]:
        """The slider on the transformer inside the block (`slider_on`).

        Args:
            strengths: from 0 to 1.5, one per frame of the transformer's batch, or one for all.
            pooled: pooled text, (frames, P) or (1, P).

        Raises MissingSlider without a slider, InvalidInput for bad strengths.
        """
        values = torch.tensor(check_strengths(strengths, MAX_STRENGTH), device=pooled.device)
        with slider_on(self.transformer, self.require_slider(), values, pooled):
            yield

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Self:
        """As the parent, from a folder or a hub id; a slider that was saved with the pipeline comes along.

        Without `dtype` every component is float32 (the parent leaves text encoders at the precision of their files,
        which half-precision folders do not survive). Raises CheckpointError when the folder has a projector whose
        LoRA file is damaged.
        """
        with_slider = "slider_projector" not in kwargs  # a projector that the caller brings is not the folder's
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            kwargs["dtype"] = torch.float32
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            model_folder.check_model(folder, kwargs.keys())
            with model_folder.loading(f"The model in {str(folder)!r}"):
                pipe = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        else:
            pipe = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        checkpoint.check_parts(pipe)
        if with_slider and pipe.has_slider:
            names = ("revision", "token", "cache_dir", "local_files_only")
            options = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
            home = hub.find_projector(pretrained_model_name_or_path, **options)
            if (home / hub.LORA_FILE).is_file():
                with model_folder.loading(home / hub.LORA_FILE):
                    weights = checkpoint.read_lora(home)
                    checkpoint.check_fit(pipe.slider_projector, weights, pipe.transformer)
                    lora.put_lora(pipe.transformer, weights)
        return pipe

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> str | Path:
        """As the parent, which refuses hub repositories with a component class of another package, as ours is. What is
        in the hub's cache is checked as any folder: CheckpointError."""
        folder = hub.download_pipeline(pretrained_model_name, **kwargs)
        folder = folder or Path(super().download(pretrained_model_name, **kwargs))
        model_folder.check_model(folder, kwargs.keys())
        return folder

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As the parent; the slider's LoRA lies beside the projector and the transformer is saved without it. Raises
        InvalidInput, DiskError where the disk is full."""
        with writing(save_directory):
            self._save_pretrained(save_directory, *args, **kwargs)

    def _save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        self.register_modules(slider_projector=self.slider_projector)  # assigned by hand, it may not be registered
        home = Path(save_directory) / hub.PROJECTOR_FOLDER
        (home / hub.LORA_FILE).unlink(missing_ok=True)
        weights = lora.take_lora(self.transformer)
        if weights is not None and self.has_slider:
            checkpoint.write_lora(home, weights)
        with lora.without_lora_layers(self.transformer):
            super().save_pretrained(save_directory, *args, **kwargs)
        present = [name for name, part in self.components.items() if part is not None]
        checkpoint.forget_local_paths(Path(save_directory), present)
        saved = (file for name in present for file in (Path(save_directory) / name).rglob("*") if file.is_file())
        names = [model_folder.INDEX, *(file.relative_to(save_directory).as_posix() for file in saved)]
        (Path(save_directory) / model_folder.CHECKSUMS).unlink(missing_ok=True)
        model_folder.write_checksums(Path(save_directory), names)
