"""A fake above the engine: the same interface, frames drawn by arithmetic, so that the page is tested for seconds.

A frame is the source faded to its negative: strength 0 is the source itself, strength 1 the negative.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from kontext_slider.edit import MAX_STRENGTH, EditDefaults, EditSpec, check_strength
from kontext_slider.engine.full_size import edited
from kontext_slider.errors import InvalidInput, SessionClosed, Superseded
from kontext_slider.images import ImageLike, Photo, read_photo, working_image
from kontext_slider.transfer import Transfer, apply

KNOWN = {
    "night": ["make it night", "turn day into night"],
    "sepia": ["make it sepia", "turn it into a sepia photograph"],
    "recolour red": ["make the ball red"],
    "fog": ["add thick fog", "make it foggy"],
    "sketch": ["turn it into a pencil sketch"],
}
OnStep = Callable[[int, int], None]


def faded(source: Image.Image, strength: float) -> Image.Image:
    """What the fake model makes of `source` at `strength`."""
    pixels = np.asarray(source, dtype=np.float64)
    return Image.fromarray(np.round(pixels + strength * (255 - 2 * pixels)).clip(0, 255).astype(np.uint8))


class FakeSession:
    """`steps` steps of `step_seconds` per frame; a newer `render` supersedes an older one between two steps."""

    def __init__(
        self, engine: FakeEngine, photo: Photo, spec: EditSpec, highest: float, source: Image.Image | None
    ) -> None:
        self._highest = highest
        self.photo, self.spec, self._engine = photo, spec, engine
        self.instruction, self.seed, self.steps, self.guidance = spec.instruction, spec.seed, spec.steps, spec.guidance
        defaults, multiple = engine.pipe.defaults, 2 * engine.pipe.vae_scale_factor
        self.source = source or working_image(photo.on_white(), defaults.size, multiple)
        self.preview_steps = spec.steps // 2
        self._frames: dict[float, Image.Image] = {}
        self._wanted: float | None = None
        self._open = True

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def num_bytes(self) -> int:
        return 4 * self.photo.image.width * self.photo.image.height

    def has(self, strength: float) -> bool:
        return check_strength(strength, self._highest) in {0.0, *self._frames}

    def want(self, strength: float) -> None:
        self._wanted = check_strength(strength, self._highest)

    def render(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        self.want(strength)
        return self._render(strength, on_step, lambda: self._wanted == strength)

    def preview(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        """All grey, so that nobody takes it for the frame."""
        self.want(strength)
        with self._engine.lock:
            self._step(strength, self.preview_steps, on_step, lambda: self._wanted == strength)
            self._engine.previewed.append(strength)
        return Image.new("RGB", self.source.size, "gray")

    def frames(self, strengths: Iterable[float], on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        for strength in strengths:
            yield strength, self._render(strength, on_step, lambda: True)

    def picture(self, strength: float | np.ndarray, *, width: int | None = None) -> Image.Image:
        """What `faded` makes of the photograph at its own size; renders the frame as the real session does. With a map
        (of a photograph without transparency), the same with a strength for every pixel."""
        photograph = self.photo.image
        if width is not None and photograph.width > width:
            photograph = photograph.resize((width, round(photograph.height * width / photograph.width)))
        if isinstance(strength, np.ndarray):
            whole = {0.0: Transfer.identity(self.source.size), 1.0: Transfer.fit(self.source, faded(self.source, 1.0))}
            return apply(whole, photograph, strength)
        if strength == 0:
            return photograph.copy()
        self._render(strength, None, lambda: True)
        return faded(photograph.convert("RGB"), strength)

    def transfer(self, strength: float, frame: Image.Image | None = None) -> Transfer:
        return Transfer.fit(self.source, frame or self._render(strength, None, lambda: True))

    def full_size_facts(self, strength: float) -> dict[str, Any]:
        facts = {"size": list(self.photo.image.size), "edited_at": list(self.source.size)}
        return facts | ({"warning": self._engine.warning} if self._engine.warning and strength else {})

    def edited(self, strength: float, on_step: OnStep | None = None) -> Photo:
        return edited(self.photo, self.picture(strength), self.spec.facts() | self.full_size_facts(strength), strength)

    def close(self) -> None:
        self._open = False

    def _render(self, strength: float, on_step: OnStep | None, is_wanted: Callable[[], bool]) -> Image.Image:
        if strength == 0:
            return self.source.copy()
        with self._engine.lock:
            if not self.has(strength):
                self._step(strength, self.steps, on_step, is_wanted)
                self._engine.rendered.append(strength)
                self._frames[strength] = faded(self.source, strength)
        return self._frames[strength].copy()

    def _step(self, strength: float, steps: int, on_step: OnStep | None, is_wanted: Callable[[], bool]) -> None:
        for step in range(steps):
            time.sleep(self._engine.step_seconds)
            if len(self._engine.rendered) >= self._engine.pause_after:
                self._engine.may_go_on.wait(60)  # a failed test does not set it
            if not self._open:
                raise SessionClosed("closed")
            if not is_wanted():
                raise Superseded("superseded")
            if self._engine.fails_at == strength:
                raise InvalidInput("The fake model cannot render this strength.")
            if on_step is not None:
                on_step(step + 1, steps)


class FakeEngine:
    """`rendered` and `previewed` list strengths in the order in which they were made; `opened` what `open` was told
    and `sessions` what it gave. After `pause_after` frames it waits until `may_go_on` is set."""

    def __init__(
        self,
        step_seconds: float = 0.0,
        known: dict[str, list[str]] | None = None,
        guidance_embeds: bool = False,
        fails_at: float | None = None,
        steps: int = 4,
        warning: str = "",
    ) -> None:
        self.warning = warning  # of full size
        self.step_seconds, self.fails_at = step_seconds, fails_at
        self.lock = threading.Lock()
        self.pause_after: float = math.inf
        self.may_go_on = threading.Event()
        self.rendered: list[float] = []
        self.previewed: list[float] = []
        self.opened: list[dict[str, Any]] = []
        self.sessions: list[FakeSession] = []
        self.pipe = SimpleNamespace(
            known_instructions=KNOWN if known is None else known,
            defaults=EditDefaults(size=256, steps=steps, guidance=2.5, max_sequence_length=16, anchor_source=True),
            vae_scale_factor=8,
            transformer=SimpleNamespace(
                config=SimpleNamespace(guidance_embeds=guidance_embeds), num_parameters=lambda: 9_000_000
            ),
        )

    def open(
        self, image: ImageLike | Photo, instruction: str, allow_extrapolation: bool = False, **settings: Any
    ) -> FakeSession:
        spec = EditSpec.from_defaults(self.pipe.defaults, instruction, **settings)
        photo = image if isinstance(image, Photo) else read_photo(image)
        self.opened.append({"instruction": instruction, **settings})
        return self.open_spec(photo, spec, MAX_STRENGTH if allow_extrapolation else 1.0)

    def open_spec(
        self, photo: Photo, spec: EditSpec, highest: float = 1.0, source: Image.Image | None = None
    ) -> FakeSession:
        self.sessions.append(FakeSession(self, photo, spec, highest, source))
        return self.sessions[-1]
