"""What the engine's tests share: an independent reference, counters, and a gate between two denoise steps."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from kontext_slider.engine.sampling import Denoiser, EditSettings, Sampler
from kontext_slider.engine.speed import Speed
from kontext_slider.projector import ModulationOffsets

TIMEOUT = 60  # seconds; only a test that fails waits that long


def reference(pipe, session, strength: float, **how) -> Image.Image:
    """The pipeline's own call, which knows nothing of the engine."""
    width, height = session.size
    return pipe(
        session.source,
        session.instruction,
        strength=strength,
        generator=torch.Generator().manual_seed(session.seed),
        num_inference_steps=session.steps,
        guidance_scale=session.guidance,
        height=height,
        width=width,
        max_area=height * width,
        _auto_resize=False,
        max_sequence_length=pipe.defaults.max_sequence_length,
        **how,
    ).images[0]


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.mode == second.mode and first.size == second.size and first.tobytes() == second.tobytes()


def alike(first: Image.Image, second: Image.Image) -> bool:
    """Up to the rounding of a channel to the level beside, which two orders of the same sums may differ in."""
    difference = np.abs(np.asarray(first, dtype=np.int16) - np.asarray(second, dtype=np.int16))
    return first.size == second.size and bool(difference.max() <= 1) and float((difference > 0).mean()) < 0.02


def held_bytes(pipe) -> int:
    """Of weights that are held between two calls."""
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return sum(p.nbytes for part in parts for p in part.parameters() if p.device.type != "meta")


@contextmanager
def counted(pipe, monkeypatch):
    """Counts calls of everything that a render must not, and must, run."""
    calls: Counter[str] = Counter()
    hooks = []
    for name in ("text_encoder", "text_encoder_2", "transformer"):
        hooks.append(getattr(pipe, name).register_forward_hook(lambda *_, name=name: calls.update([name])))
    for owner, method in (("tokenizer", "__call__"), ("tokenizer_2", "__call__"), ("vae", "encode"), ("vae", "decode")):
        kind = type(getattr(pipe, owner))
        monkeypatch.setattr(kind, method, _counting(getattr(kind, method), f"{owner}.{method}", calls))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _counting(method, name, calls):
    def call(self, *args, **kwargs):
        calls[name] += 1
        return method(self, *args, **kwargs)

    return call


def other_settings(settings: EditSettings) -> list[EditSettings]:
    """Those that differ in one value, for every value there is."""
    changed = {"source_digest": "x", "size": (1, 1), "speed": Speed(torch.bfloat16)}
    in_spec = {"instruction": "x", "max_sequence_length": 1, "seed": 9, "steps": 9, "guidance": 9.0, "size": 99}
    assert set(changed) | {"spec"} == set(settings.__dataclass_fields__)
    assert set(in_spec) == set(settings.spec.__dataclass_fields__)
    others = [replace(settings, **{name: value}) for name, value in changed.items()]
    return others + [replace(settings, spec=replace(settings.spec, **{name: v})) for name, v in in_spec.items()]


class Gate:
    """An on_step callback that stops its render after step `at` until it is opened."""

    def __init__(self, at: int = 1):
        self.at = at
        self.steps: list[tuple[int, int]] = []
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, step: int, total: int) -> None:
        self.steps.append((step, total))
        if step == self.at:
            self.reached.set()
            assert self.opened.wait(TIMEOUT), "nobody opened the gate"

    def wait(self) -> None:
        assert self.reached.wait(TIMEOUT), "the render did not reach the gate"


class Call(threading.Thread):
    """A call in a thread of its own; `result()` gives what it returned or raises what it raised."""

    def __init__(self, function, *args, **kwargs):
        super().__init__(daemon=True)
        self._call = lambda: function(*args, **kwargs)
        self._value = self._error = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error

    def result(self):
        self.join(TIMEOUT)
        assert not self.is_alive(), "the call hangs"
        if self._error is not None:
            raise self._error
        return self._value


def until(condition) -> None:
    """Wait for something another thread does that gives no signal."""
    pause = threading.Event()
    for _ in range(TIMEOUT * 200):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("what was waited for did not happen")


def note_renders(monkeypatch) -> list[float]:
    """The strengths that are rendered from now on, and not cached or interpolated."""
    rendered, render = [], Sampler.render

    def noted(self, strengths, *rest):
        rendered.extend(strengths)
        return render(self, strengths, *rest)

    monkeypatch.setattr(Sampler, "render", noted)
    return rendered


def note_velocities(monkeypatch, fits: Callable[[int], bool] = lambda rows: True) -> list[int]:
    """The rows of every velocity that is computed from now on; memory runs out unless `fits(rows)`."""
    tried = []

    def noted(velocity, attached):
        def count(latents, step):
            answer = velocity(latents, step)
            tried.append(len(answer))
            if not fits(len(answer)):
                raise torch.OutOfMemoryError("too large")
            return answer

        return Denoiser(count, attached)

    monkeypatch.setattr("kontext_slider.engine.sampling.Denoiser", noted)
    return tried


def smooth_offsets(strengths) -> ModulationOffsets:
    """Offsets (B, 3) of a slider that are polynomial in s."""
    s = torch.tensor(list(strengths), dtype=torch.float64)
    return ModulationOffsets(*(torch.stack([s, s**2, s**3], dim=1) for _ in range(2)))


def bent_offsets(strengths) -> ModulationOffsets:
    """Offsets (B, 4) of a slider that are piecewise linear in s, with a bend at .5."""
    smooth = smooth_offsets(strengths).scale
    bent = (smooth[:, :1] - 0.5).clamp(min=0)
    return ModulationOffsets(*(torch.cat([smooth, bent], dim=1) for _ in range(2)))
