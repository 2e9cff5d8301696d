"""The one place where the `spaces` package matters."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from PIL import Image

from kontext_slider.metadata import read_metadata
from kontext_slider.ui.saving import write_picture
from kontext_slider.ui.zero_gpu import ZeroGpuEngine, on_zero_gpu
from tests.ui.fake_engine import FakeEngine, faded


@pytest.mark.parametrize(("value", "answer"), [(None, False), ("", False), ("false", False), ("true", True)])
def test_the_variable_decides(monkeypatch, value, answer):
    """The `spaces` package is in every Space, so one on CPUs took the detour: no step progress, every frame anew."""
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    if value is not None:
        monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert on_zero_gpu() is answer


def test_every_frame_is_made_inside_a_call_that_has_a_gpu(monkeypatch, tmp_path):
    """A session opened outside `@spaces.GPU` would touch CUDA where ZeroGPU has none. Saving failed: it had no spec."""
    inside: list[bool] = []

    def gpu(duration):
        def decorate(function):
            def call(*arguments):
                inside.append(True)
                try:
                    return function(*arguments)
                finally:
                    inside.pop()

            return call

        return decorate

    spaces = ModuleType("spaces")
    spaces.GPU = gpu
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    engine = FakeEngine()
    opened_inside: list[bool] = []
    real_open = engine.open
    monkeypatch.setattr(engine, "open", lambda *a, **k: (opened_inside.append(bool(inside)), real_open(*a, **k))[1])
    session = ZeroGpuEngine(engine).open(Image.new("RGB", (400, 300), "teal"), "make it night", seed=0, steps=1)
    assert opened_inside == []
    [(_, frame)] = list(session.frames([0.5]))
    assert frame.tobytes() == faded(session.source, 0.5).tobytes() == session.show(0.5).tobytes()
    assert opened_inside and all(opened_inside)
    before = len(opened_inside)
    assert session.picture(0.5).size == (400, 300) and session.picture(0).tobytes() == session.photo.image.tobytes()
    assert session.full_size_facts(0.5)["size"] == [400, 300]
    assert len(opened_inside) == before, "each call costs seconds: a frame that is there is not made again"
    path, _, _ = write_picture(session, tmp_path, 0.5, "png", {})
    assert read_metadata(path)["instruction"] == "make it night"
    session.want(0.5)
    assert session.preview_steps == 0  # a preview would be a second call
