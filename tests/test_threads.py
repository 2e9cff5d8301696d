"""How torch's threads wait: set once, before torch is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kontext_slider.threads import SPIN_COUNT, limit_spinning

ROOT = Path(__file__).resolve().parents[1]
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
ENTRIES = {
    "app": "import app as entry; words = ['--port', '0']",
    "command line": "import kontext_slider.cli as entry; words = ['info']",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_sets_it_before_torch_is_imported(entry):
    """A frame took up to 26 times as long beside two busy processes; torch reads the setting once, on import."""
    code = f"""
import contextlib, os, sys
{ENTRIES[entry]}
assert "torch" not in sys.modules
with contextlib.suppress(SystemExit):
    entry.main(words)
print(os.environ["GOMP_SPINCOUNT"])
"""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.split() == [SPIN_COUNT], done.stderr


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "active")])
def test_what_the_user_has_set_stays(monkeypatch, name, value):
    """A user who measured another value for this machine, and is not listened to."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    limit_spinning()
    assert {name: os.environ[name] for name in VARIABLES if name in os.environ} == {name: value}


def test_workers_end_with_the_run_that_started_them(tmp_path):
    """A killed run leaves two processes that hold a gigabyte each and wait for ever."""
    script = tmp_path / "run.py"
    script.write_text(
        "import os\nfrom concurrent.futures import ProcessPoolExecutor\nfrom multiprocessing import get_context\n"
        "from kontext_slider.threads import end_with_parent\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, get_context('spawn'), end_with_parent)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    ran = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, timeout=120)
    assert ran.returncode == -9 and ran.stdout.strip().isdigit()
    # The worker has the pipe too, so `run` came back when the worker was gone, and has raised TimeoutExpired otherwise.
