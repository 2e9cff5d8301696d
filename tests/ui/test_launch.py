"""Flags, and the one place where the `spaces` package matters."""

from __future__ import annotations

import argparse
import socket
import sys
from types import ModuleType

import pytest
from PIL import Image

import app
from kontext_slider.ui import gpu, launch
from kontext_slider.ui.launch import add_arguments, launch_options
from tests.ui.fake_engine import FakeEngine, faded


def test_flags_have_the_promised_names():
    """A Space, the Dockerfile and the command line all rely on them."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([])
    assert (args.model, args.slider, args.share, args.host) == ("pocket", None, False, None)
    assert args.frame_folder is None
    words = "--model m --slider s --device cpu --dtype float32 --host 0.0.0.0 --port 8000 --share"
    assert parser.parse_args(words.split()).port == 8000


def test_a_port_that_cannot_be_had_is_a_sentence(monkeypatch, capsys):
    """gradio's own advice names an argument that the command line does not have."""
    monkeypatch.setattr(launch, "load_engine", lambda args: FakeEngine())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"port {port}: it is taken"):
            app.main(["--port", str(port)])
    with pytest.raises(SystemExit):
        app.main(["--port", "99999"])
    assert "from 1 to 65535" in capsys.readouterr().err


def test_a_model_that_is_not_there_ends_with_a_sentence():
    """A traceback of a hub client tells a person nothing."""
    with pytest.raises(SystemExit, match="no-such-model"):
        app.main(["--model", "no-such-model", "--device", "cpu"])


def test_uploads_are_bounded_and_history_is_off():
    """Defaults of gradio keep a history of runs and take files of any size."""
    options = launch_options()
    assert options["max_file_size"] and options["run_history"] is False and options["enable_monitoring"] is False


@pytest.mark.parametrize("variable", [None, "", "false"])
def test_off_zero_gpu_the_engine_is_used_as_it_is(monkeypatch, variable):
    """The `spaces` package is in every Space, so one on CPUs took the detour: no step progress, every frame anew."""
    monkeypatch.setitem(sys.modules, "spaces", no_op_spaces())
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    if variable is not None:
        monkeypatch.setenv("SPACES_ZERO_GPU", variable)
    engine = FakeEngine()
    assert gpu.session_opener(engine) == engine.open


def test_on_zero_gpu_the_package_is_used_though_it_does_nothing(monkeypatch):
    """The variable decides, not whether a device is lent."""
    monkeypatch.setitem(sys.modules, "spaces", no_op_spaces())
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    engine = FakeEngine()
    session = gpu.session_opener(engine)(Image.new("RGB", (256, 256), "teal"), "make it night", seed=0, steps=1)
    assert isinstance(session, gpu.LentSession)
    assert session.show(0.5).tobytes() == faded(session.source, 0.5).tobytes()


def no_op_spaces() -> ModuleType:
    """The package as it is off ZeroGPU: its decorator changes nothing."""
    spaces = ModuleType("spaces")
    spaces.GPU = lambda duration: lambda function: function
    return spaces


def test_on_a_space_every_frame_is_made_inside_a_lent_gpu(monkeypatch):
    """A session opened outside `@spaces.GPU` would touch CUDA where ZeroGPU has none."""
    inside: list[bool] = []

    def lend(duration):
        def decorate(function):
            def lent(*arguments):
                inside.append(True)
                try:
                    return function(*arguments)
                finally:
                    inside.pop()

            return lent

        return decorate

    spaces = ModuleType("spaces")
    spaces.GPU = lend
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    engine = FakeEngine()
    opened_inside: list[bool] = []
    real_open = engine.open
    monkeypatch.setattr(engine, "open", lambda *a, **k: (opened_inside.append(bool(inside)), real_open(*a, **k))[1])
    session = gpu.session_opener(engine)(Image.new("RGB", (400, 300), "teal"), "make it night", seed=0, steps=1)
    assert opened_inside == []
    [(_, frame)] = list(session.frames([0.5]))
    assert frame.tobytes() == faded(session.source, 0.5).tobytes() == session.show(0.5).tobytes()
    assert opened_inside and all(opened_inside)
    before = len(opened_inside)
    assert session.picture(0.5).size == (400, 300) and session.picture(0).tobytes() == session.photo.image.tobytes()
    assert session.full_size_facts(0.5)["size"] == [400, 300]
    assert len(opened_inside) == before, "each loan costs seconds: a frame that is there is not made again"
    session.want(0.5)
    assert session.preview_steps == 0  # a preview would be a second loan
