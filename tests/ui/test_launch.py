"""Flags, how the page is served, and what a process leaves behind."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

import app
from kontext_slider.errors import InvalidInput
from kontext_slider.ui import launch
from kontext_slider.ui.launch import MODEL, SLIDER, add_arguments, check_place, launch_options
from tests.ui.fake_engine import FakeEngine


def test_flags_have_the_promised_names():
    """A Space, the Dockerfile and the command line all rely on them."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([])
    assert (args.model, args.slider, args.share, args.host) == (None, None, False, None)
    assert args.frame_folder is None
    words = "--model m --slider s --device cpu --dtype float32 --host 0.0.0.0 --port 8000 --share"
    assert parser.parse_args(words.split()).port == 8000


@pytest.mark.parametrize(
    ("variables", "flags", "chosen"),
    [
        ({}, [], ("pocket", None)),
        ({MODEL: "", SLIDER: ""}, [], ("pocket", None)),
        ({MODEL: "kontext-dev", SLIDER: "me/mine"}, [], ("kontext-dev", "me/mine")),
        ({SLIDER: "me/mine"}, [], ("pocket", "me/mine")),
        ({MODEL: "kontext-dev", SLIDER: "me/mine"}, ["--slider", "other"], ("kontext-dev", "other")),
        ({MODEL: "kontext-dev", SLIDER: "me/mine"}, ["--model", "pocket"], ("pocket", None)),
        ({MODEL: "kontext-dev"}, ["--model", "pocket", "--slider", "other"], ("pocket", "other")),
    ],
    ids=str,
)
def test_the_environment_names_the_model_where_no_flag_does(monkeypatch, variables, flags, chosen):
    """A Space passes no flags, so it could show nothing but pocket. A slider of another model must not come along."""
    for name in (MODEL, SLIDER):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    loaded: list[argparse.Namespace] = []

    def load(args: argparse.Namespace) -> FakeEngine:
        loaded.append(args)
        raise InvalidInput("far enough")

    monkeypatch.setattr(launch, "load_engine", load)
    with pytest.raises(SystemExit, match="far enough"):
        app.main(flags)
    assert (loaded[0].model, loaded[0].slider) == chosen


def test_a_port_that_cannot_be_had_is_a_sentence(monkeypatch, capsys):
    """gradio's own advice names an argument that the command line does not have."""
    monkeypatch.setattr(launch, "load_engine", lambda args: FakeEngine())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"port {port} is taken"):
            app.main(["--port", str(port)])
    with pytest.raises(SystemExit):
        app.main(["--port", "99999"])
    assert "from 1 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("203.0.113.7", 7999, "203.0.113.7 is no address of this computer"),
        ("no-such-name.invalid", 7999, "There is no address 'no-such-name.invalid'"),
        ("a" * 70, 7999, "There is no address"),
    ],
)
def test_a_place_that_cannot_be_had_says_why(host, port, reason):
    """Whatever was wrong with --host, the port was "taken"."""
    with pytest.raises(InvalidInput, match=reason):
        check_place(host, port)


def test_a_model_that_is_not_there_ends_with_a_sentence():
    """A traceback of a hub client tells a person nothing."""
    with pytest.raises(SystemExit, match="no-such-model"):
        app.main(["--model", "no-such-model", "--device", "cpu"])


def test_uploads_are_bounded_and_history_is_off():
    """Defaults of gradio keep a history of runs and take files of any size."""
    options = launch_options()
    assert options["max_file_size"] and options["run_history"] is False and options["enable_monitoring"] is False


PROCESS = """
import sys, time
from kontext_slider.ui.folder import own_folder
from kontext_slider.ui.launch import ends_by_signal
with ends_by_signal(), own_folder() as folder:
    (folder / "frame.png").write_bytes(b"x")
    print(folder, flush=True)
    time.sleep(60)
"""


@contextmanager
def process(root: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A process with a temporary folder of its own in `root`, as the app is one, and that folder."""
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(root)}
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS], stdout=subprocess.PIPE, text=True, env=environment
    ) as started:
        try:
            yield started, Path(started.stdout.readline().strip())
        finally:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_app_and_its_files(tmp_path, number):
    """SIGTERM, which is how a container or a service manager ends it, left every frame and photograph on disk."""
    with process(tmp_path) as (started, folder):
        assert folder.parent == tmp_path and (folder / "frame.png").exists()
        started.send_signal(number)
        assert started.wait(60) == 128 + number
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_killed_app_leaves_nothing_after_the_next_start(tmp_path):
    """SIGKILL gives no process the time to clean up: the next one has to. One that runs beside it keeps its files."""
    with process(tmp_path) as (_, beside):
        with process(tmp_path) as (killed, left):
            killed.kill()
            killed.wait()
            assert left.is_dir()
        with process(tmp_path) as (_, new):
            assert new.is_dir() and beside.is_dir() and not left.exists()


@pytest.mark.parametrize(
    ("flags", "sentence"), [(["--mcp", "--no-api"], "leave out one of them"), (["--mcp"], r"kontext-slider\[mcp\]")]
)
def test_mcp_that_cannot_be_served_is_a_sentence(monkeypatch, flags, sentence):
    """gradio's own advice installs another version of pydantic."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=sentence):
        app.main(flags)


def test_mcp_that_fails_ends_the_start(monkeypatch):
    """gradio goes on without the tools, and the app said where they were."""
    monkeypatch.setattr(launch, "load_engine", lambda args: FakeEngine())
    monkeypatch.setattr("gradio.mcp.GradioMCPServer.create_mcp_server", lambda server: 1 / 0)
    with pytest.raises(SystemExit, match=r"division by zero.*Leave out --mcp"):
        app.main(["--mcp"])


class Shared:
    """An app whose public link is there at once: a tunnel would need the internet."""

    mcp_server_obj = None

    def launch(self, **options):
        return None, "http://127.0.0.1:7860/", "https://x.gradio.live"


@pytest.mark.parametrize("auth", [None, ("anna", "secret")])
def test_a_public_link_says_who_can_see_what(monkeypatch, capsys, auth):
    """Whoever shares should know that the link is all that a stranger needs."""
    monkeypatch.setattr(launch, "load_engine", lambda args: FakeEngine())
    monkeypatch.setattr("kontext_slider.ui.layout.create_app", lambda *args, **options: Shared())
    interrupted = SimpleNamespace(sleep=Mock(side_effect=KeyboardInterrupt))  # in launch alone: other threads sleep too
    monkeypatch.setattr(launch, "time", interrupted)
    monkeypatch.setattr(Shared, "close", lambda self, verbose: None, raising=False)
    app.main(["--share", *(["--auth", ":".join(auth)] if auth else [])])
    printed = capsys.readouterr().out
    assert "https://x.gradio.live" in printed and "secret" not in printed
    assert (launch.OPEN_TO_ALL in printed) == (auth is None)
