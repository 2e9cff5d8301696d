"""The app in a process of its own, on the fake engine, as `app.py` runs it: `python -m tests.ui.serve --port 7861`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from kontext_slider.ui import launch
from tests.ui.fake_engine import FakeEngine

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
READY = "Kontext Slider is at "  # printed once everything is served; before, MCP clients may lack the password


class Server:
    """A running app. `temporary` is its temporary folder, `address` where it answers, `flags` those of `app.py`."""

    def __init__(self, temporary: Path, port: int, *flags: str, **environment: str) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ui.serve", "--port", str(port), *flags],
            cwd=ROOT,
            env={**os.environ, "GRADIO_TEMP_DIR": str(temporary), "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START_SECONDS
        while not any(line.startswith(READY) for line in self._printed):
            assert self._process.poll() is None and time.monotonic() < deadline, "".join(self._printed)
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait for the end: exit status and all that was printed."""
        self._process.send_signal(number)
        status = self._process.wait(timeout=START_SECONDS)
        self._reader.join(START_SECONDS)
        return status, "".join(self._printed)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._printed.append(line)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    launch.add_arguments(parser)
    launch.load_engine = lambda args: FakeEngine()
    launch.run(parser.parse_args())


if __name__ == "__main__":
    main()
