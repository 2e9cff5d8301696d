"""The engine: one pipeline, its caches and its device lock; it opens edit sessions."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

import torch
from PIL import Image

from ..edit import MAX_STRENGTH, EditSpec
from ..errors import InvalidInput, MissingSlider
from ..images import ImageLike, Photo, read_photo, working_image
from ..placement import has_room
from ..quantize import is_quantized
from .batch_size import BatchSize
from .cache import ByteCache
from .denoise import Conditioning, SourceEncoding, TextEncoding, draw_noise, encode_source, encode_text
from .device import Device
from .disk import DiskCache, FrameCache
from .model_hash import model_hash
from .session import EditSession, EditSettings
from .speed import find_speed
from .weights import Weights, is_plain

if TYPE_CHECKING:
    from ..pipeline import KontextSliderPipeline

MB = 1024**2
PREVIEW_CACHE_BYTES = 64 * MB  # a preview is looked at until its exact frame is there
LOSS_CACHE_BYTES = 64 * MB  # of what frames at strength 0 lose of their sources, on the pipeline's device
LATENT_CACHE_BYTES = 64 * MB  # of latents along the slider (`late_start.py`), on the pipeline's device

Encoding = TypeVar("Encoding", TextEncoding, SourceEncoding)


class SliderEngine:
    """Renders edits of one pipeline at any strength, from any number of threads.

    Args:
        pipe: a pipeline with a slider loaded. Its weights must not change while the engine holds results of them;
            after loading other weights, adapters or hooks call `clear`.
        text_cache_bytes: bytes of encoded instructions remembered across sessions, on the pipeline's device.
        source_cache_bytes: bytes of encoded sources remembered across sessions, on the pipeline's device.
        frame_cache_bytes: bytes of finished frames remembered across sessions, in main memory.
        frame_folder: a folder where finished frames are kept as well, for later processes and others that run now.
            The first frame then waits for the model's hash (`model_hash.py` says what that costs).
        frame_folder_bytes: bytes of PNG files in that folder.
        speed: "exact", "fast" or "fastest" (`speed.py` says what the frames of each may be off by).
        compiled: let torch compile the transformer's blocks: the first frame of a size, and of a number of strengths at
            once, waits for that. Frames differ by roundings. Raises InvalidInput where there is no C++ compiler. None:
            as the speed has it, where there is one; of a quantized model never, as nobody knows what it gains.

    Whatever was used longest ago is forgotten first. All keys are values: an edit that is opened again with the
    same picture, instruction, seed, steps, guidance and size finds its frames.
    """

    def __init__(
        self,
        pipe: KontextSliderPipeline,
        text_cache_bytes: int = 128 * MB,
        source_cache_bytes: int = 128 * MB,
        frame_cache_bytes: int = 512 * MB,
        frame_folder: str | os.PathLike[str] | None = None,
        frame_folder_bytes: int = 1024 * MB,
        *,
        speed: str = "exact",
        compiled: bool | None = None,
    ):
        self.pipe = pipe
        self._texts: ByteCache[TextEncoding] = ByteCache(text_cache_bytes)
        self._sources: ByteCache[SourceEncoding] = ByteCache(source_cache_bytes)
        frames: ByteCache[Image.Image] = ByteCache(frame_cache_bytes)
        disk = None if frame_folder is None else DiskCache(frame_folder, frame_folder_bytes)
        self._frames = frames if disk is None else FrameCache(frames, disk, self._model_hash)
        self._previews: ByteCache[Image.Image] = ByteCache(PREVIEW_CACHE_BYTES)
        self._losses: ByteCache[torch.Tensor] = ByteCache(LOSS_CACHE_BYTES)
        self._latents: ByteCache[torch.Tensor] = ByteCache(LATENT_CACHE_BYTES)
        self._device = Device()
        self._hash: str | None = None
        preset = find_speed(speed, pipe._execution_device, pipe.transformer.num_parameters())
        can_compile = shutil.which("c++") is not None
        if compiled and not can_compile:
            raise InvalidInput("Compiling the model needs a C++ compiler, which is not installed. Leave it out.")
        if compiled is None:
            compiled = preset.compiled and can_compile and not is_quantized(pipe.transformer)
        self.speed = preset.when(compiled)
        self.batch = BatchSize(self.speed.batch)
        self._prepared_weights: tuple[Weights | None] | None = None  # None while nobody has asked

    def open(
        self,
        image: ImageLike | Photo,
        instruction: str,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
        allow_extrapolation: bool = False,
    ) -> EditSession:
        """Encode a source and an instruction, each only where no session did so before.

        Args:
            image: anything `read_photo` takes, or a Photo; kept for `session.picture`.
            instruction: what to change, in words.
            seed: of the noise that all strengths start from, 0 or more.
            steps: denoise steps a frame, 1 or more.
            guidance: guidance scale, 0 or more; without effect on models that take none.
            size: side in pixels of a square of the same area as the frames; they keep the source's aspect ratio.
                What is None comes from `pipe.defaults`.
            allow_extrapolation: let the session's strengths go on to 1.5.

        Raises InvalidInput, UnreadableImage, or MissingSlider when the pipeline has no slider weights.
        """
        if not self.pipe.has_slider:
            raise MissingSlider("This model has no slider weights. Load some with pipe.load_slider(...) first.")
        spec = EditSpec.from_defaults(self.pipe.defaults, instruction, seed, steps, guidance, size)
        photo = image if isinstance(image, Photo) else read_photo(image)
        source = working_image(photo.on_white(), spec.size, self.pipe.vae_scale_factor * 2)
        settings = EditSettings(
            source_digest=digest(source),
            size=source.size,
            instruction=spec.instruction,
            max_sequence_length=spec.max_sequence_length,
            seed=spec.seed,
            steps=spec.steps,
            guidance=spec.guidance,
            speed=self.speed,
        )
        highest = MAX_STRENGTH if allow_extrapolation else 1.0
        return self._session(photo, source, settings, self._frames, highest)

    def clear(self) -> None:
        """Forget everything remembered, as after a change of the pipeline's weights. Open sessions keep working.

        Frames in a folder stay: they are found again when the weights are those that made them.
        """
        for cache in (self._texts, self._sources, self._frames, self._previews, self._losses, self._latents):
            cache.clear()
        self._hash = self._prepared_weights = None

    def _weights(self) -> Weights | None:
        """What prepared edits multiply with, made once; None for a transformer that must be asked itself."""
        if self._prepared_weights is None:
            transformer = self.pipe.transformer
            how = (has_room(transformer), self.speed.dtype, self.speed.compiled)
            self._prepared_weights = (Weights.of(transformer, *how) if is_plain(transformer) else None,)
        return self._prepared_weights[0]

    def _session(
        self,
        photo: Photo,
        source: Image.Image,
        settings: EditSettings,
        frames: ByteCache[Image.Image] | FrameCache,
        highest: float,
    ) -> EditSession:
        return EditSession(self, photo, source, settings, self._encode(source, settings), frames, highest)

    def _model_hash(self) -> str:
        """Of the pipeline as it is; computed at the first question, and after `clear`, while nothing is rendered."""
        known = self._hash
        if known is None:
            with self._device.turn(urgent=True, check=_always_wanted):
                known = self._hash = self._hash or model_hash(self.pipe)
        return known

    @torch.no_grad()
    def _encode(self, source: Image.Image, settings: EditSettings) -> Conditioning:
        words = (settings.instruction, settings.max_sequence_length)
        text = self._remembered(self._texts, words, lambda: encode_text(self.pipe, *words))
        dtype = text.embeds.dtype
        pixels = (settings.source_digest, settings.size, str(dtype))
        encoded = self._remembered(self._sources, pixels, lambda: encode_source(self.pipe, source, dtype))
        noise, ids = draw_noise(self.pipe, settings.size, settings.seed, dtype)
        guidance = None
        if self.pipe.transformer.config.guidance_embeds:
            guidance = torch.full([1], settings.guidance, device=noise.device, dtype=torch.float32)
        return Conditioning(text, encoded, noise, ids, guidance)

    def _remembered(self, cache: ByteCache[Encoding], key: Hashable, encode: Callable[[], Encoding]) -> Encoding:
        """From the cache, else encoded on the device and put there."""
        encoding = cache.get(key)
        if encoding is not None:
            return encoding
        with self._device.turn(urgent=True, check=_always_wanted):
            encoding = cache.get(key)  # another thread may have encoded it while this one waited
            if encoding is None:
                encoding = encode()
                cache.put(key, encoding, encoding.num_bytes)
                self.pipe.maybe_free_model_hooks()
        return encoding


def digest(image: Image.Image) -> str:
    """A name for the pixels of an image."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def _always_wanted() -> None:
    """An edit that is being opened has no newer request that could take its place."""
