"""The engine: one pipeline, its caches and its queue; it opens edit sessions."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..base import Conditioning, FastModel, TextEncoding, Tokens, fast_model
from ..edit import MAX_STRENGTH, EditSpec
from ..errors import InvalidInput, MissingSlider
from ..images import ImageLike, Photo, read_photo, working_image
from ..memory import has_room, is_quantized
from .cache import ByteCache
from .disk import DiskCache, FrameCache
from .full_size import Fit
from .model_hash import model_hash
from .queue import BatchSize, RenderQueue
from .sampling import EditSettings, OnStep, Sampler, offsets_at
from .session import EditSession
from .speed import find_speed

if TYPE_CHECKING:
    from ..pipeline import KontextSliderPipeline
    from .shortcuts import Shortcuts

MB = 1024**2


@dataclass(frozen=True)
class Caches:
    """What is remembered across the sessions of an engine."""

    texts: ByteCache[TextEncoding]  # encoded instructions, on the pipeline's device
    sources: ByteCache[Tokens]  # encoded sources, there too
    frames: ByteCache[Image.Image] | FrameCache  # finished frames
    previews: ByteCache[Image.Image] = field(default_factory=lambda: ByteCache(64 * MB))  # of few steps
    residuals: ByteCache[Tensor] = field(default_factory=lambda: ByteCache(64 * MB))  # source minus frame at strength 0
    fits: ByteCache[Fit] = field(default_factory=lambda: ByteCache(256 * MB))  # transfers, to the photograph's size
    latents: ByteCache[Tensor] = field(default_factory=lambda: ByteCache(64 * MB))  # between steps, for shortcuts

    def clear(self) -> None:
        for part in fields(self):
            getattr(self, part.name).clear()


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
        speed: "exact", "fast" or "fastest" (`shortcuts/` says what the frames of each may differ by).
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
        frames: ByteCache[Image.Image] = ByteCache(frame_cache_bytes)
        disk = None if frame_folder is None else DiskCache(frame_folder, frame_folder_bytes)
        self.caches = Caches(
            texts=ByteCache(text_cache_bytes),
            sources=ByteCache(source_cache_bytes),
            frames=frames if disk is None else FrameCache(frames, disk, self._model_hash),
        )
        self.queue = RenderQueue()
        self._hash: str | None = None
        preset = find_speed(speed, pipe._execution_device, pipe.transformer.num_parameters())
        can_compile = shutil.which("c++") is not None
        if compiled and not can_compile:
            raise InvalidInput("Compiling the model needs a C++ compiler, which is not installed. Leave it out.")
        if compiled is None:
            compiled = preset.compiled and can_compile and not is_quantized(pipe.transformer)
        self.speed = preset.when(compiled)
        self.batch = BatchSize(self.speed.batch)
        self._fast: tuple[FastModel | None] | None = None  # None until it is needed

    def open(
        self,
        image: ImageLike | Photo,
        instruction: str,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
        allow_extrapolation: bool = False,
        source_at_zero: bool = True,
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
            source_at_zero: the frame at strength 0 is the source itself (`residual.py`). False, for research: the
                model's own, as in the paper.

        Raises InvalidInput, UnreadableImage, or MissingSlider when the pipeline has no slider weights.
        """
        spec = EditSpec.from_defaults(self.pipe.defaults, instruction, seed, steps, guidance, size)
        photo = image if isinstance(image, Photo) else read_photo(image)
        return self.open_spec(photo, spec, MAX_STRENGTH if allow_extrapolation else 1.0, source_at_zero=source_at_zero)

    def open_spec(
        self,
        photo: Photo,
        spec: EditSpec,
        highest: float = 1.0,
        source: Image.Image | None = None,
        source_at_zero: bool = True,
    ) -> EditSession:
        """As `open`, with settings that are put together already.

        highest: strength of the session, up to 1.5. source: the working image of the photograph, where it is at hand.
        """
        if not self.pipe.has_slider:
            raise MissingSlider("This model has no slider weights. Load some with pipe.load_slider(...) first.")
        if source is None:
            source = working_image(photo.on_white(), spec.size, self.pipe.vae_scale_factor * 2)
        settings = EditSettings(digest(source), source.size, spec, self.speed)
        return self._session(photo, source, settings, self.caches.frames, highest, source_at_zero)

    def open_chain(
        self,
        image: ImageLike | Photo,
        earlier_edits: Sequence[tuple[str, float | np.ndarray]],
        instruction: str,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> EditSession:
        """Do edits, each an instruction and a strength (a number or a map), one after the other, and open a last one on
        what they make of the picture.

        on_step: counts the steps of each of them. settings: those of `open`, for all. Raises as `open` and
        `EditSession.picture`.
        """
        photo = image
        for words, strength in earlier_edits:
            with self.open(photo, words, **settings) as session:
                photo = session.edited(strength, on_step)
        return self.open(photo, instruction, **settings)

    def clear(self) -> None:
        """Forget everything remembered, as after a change of the pipeline's weights. Open sessions keep working.

        Frames in a folder stay: they are found again when the weights are those that made them.
        """
        self.caches.clear()
        self._hash = self._fast = None

    def _session(
        self,
        photo: Photo,
        source: Image.Image,
        settings: EditSettings,
        frames: ByteCache[Image.Image] | FrameCache,
        highest: float,
        source_at_zero: bool,
    ) -> EditSession:
        """Put a session together of its parts."""
        pipe, edit = self.pipe, self._encode(source, settings)
        shortcuts = self._shortcuts(edit, settings)
        parts = (self.queue, self.batch)
        sampler = Sampler(pipe, edit, source, settings, *parts, self.caches.residuals, self._fast_model, shortcuts)

        def open_preview(steps: int) -> EditSession:
            fewer = replace(settings, spec=replace(settings.spec, steps=steps))
            return self._session(photo, source, fewer, self.caches.previews, highest, source_at_zero)

        return EditSession(
            photo,
            source,
            settings,
            sampler,
            frames,
            self.caches.fits,
            *parts,
            shortcuts=shortcuts,
            highest=highest,
            source_is_frame=pipe.defaults.anchor_source,
            source_at_zero=source_at_zero,
            open_preview=open_preview,
            open_next=partial(self.open_spec, highest=highest, source_at_zero=source_at_zero),
        )

    def _shortcuts(self, edit: Conditioning, settings: EditSettings) -> Shortcuts | None:
        bounds, projector = settings.speed.shortcuts, self.pipe.slider_projector
        if bounds is None or projector is None:
            return None
        from .shortcuts import Shortcuts

        return Shortcuts(
            bounds,
            self.caches.latents,
            settings,
            settings.spec.steps,
            offsets_at=partial(offsets_at, self.pipe, edit),
            is_smooth=projector.config.degree is not None,
            source_is_frame=self.pipe.defaults.anchor_source,
        )

    def _fast_model(self) -> FastModel | None:
        """A faster model of the transformer, made once; None where the transformer itself must be used."""
        if self._fast is None:
            transformer, speed = self.pipe.transformer, self.speed
            self._fast = (fast_model(transformer, has_room(transformer), speed.dtype, speed.compiled),)
        return self._fast[0]

    def _model_hash(self) -> str:
        """Of the pipeline as it is; computed at the first question, and after `clear`, while nothing is rendered."""
        known = self._hash
        if known is None:
            with self.queue.turn(urgent=True, check=_always_wanted):
                known = self._hash = self._hash or model_hash(self.pipe)
        return known

    @torch.no_grad()
    def _encode(self, source: Image.Image, settings: EditSettings) -> Conditioning:
        base, spec = self.pipe.base, settings.spec
        words = (spec.instruction, spec.max_sequence_length)
        text = self._remembered(self.caches.texts, words, lambda: base.encode_text(*words))
        dtype = text.embeds.dtype
        pixels = (settings.source_digest, settings.size, str(dtype))
        encoded = self._remembered(self.caches.sources, pixels, lambda: base.encode_source(source, dtype))
        noise = base.draw_noise(settings.size, spec.seed, dtype, self.pipe.defaults.noise_scale)
        return Conditioning(text, encoded, noise, base.guidance(spec.guidance))

    def _remembered(self, cache: ByteCache[Any], key: Hashable, encode: Callable[[], Any]) -> Any:
        """From the cache, else encoded on the device and put there."""
        encoding = cache.get(key)
        if encoding is not None:
            return encoding
        with self.queue.turn(urgent=True, check=_always_wanted):
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
