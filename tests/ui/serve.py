"""The app in a process of its own, on the fake engine, as `app.py` runs it: `python -m tests.ui.serve --port 7861`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from kontext_slider.ui import launch
from tests.ui.fake_engine import FakeEngine

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0


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
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait for the end: exit status and all that was printed."""
        self._process.send_signal(number)
        printed, _ = self._process.communicate(timeout=START_SECONDS)
        return self._process.returncode, printed

    def _answers(self) -> bool:
        try:
            return urlopen(self.address, timeout=5).status == 200
        except HTTPError as error:
            return error.code == 401  # it wants a password
        except (URLError, ConnectionError):
            return False


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
