"""The page in a real browser: served from this process, and what a visitor does there. Every wait is bounded."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kontext_slider.images import read_image
from kontext_slider.ui import create_app
from kontext_slider.ui.launch import launch_options, let_mcp_in
from tests.ui.browser import Browser
from tests.ui.serve import free_port

STAGE = "document.querySelector('#filmstrip .stage').dataset"
SLIDER = "#filmstrip input[type=range]"
INSTRUCTION = "#instruction textarea, #instruction input"
UPLOAD = "#photograph input[type=file]"
READY = (
    "document.querySelector('#filmstrip .stage') && document.querySelector('#photograph input').accept"
    " && document.querySelector('#save-picture')"
)
FILLED = f"'drawn' in {STAGE} && {STAGE}.frames >= 5 && !('busy' in {STAGE})"  # what a browser that draws waits for
FULL = f"{STAGE}.frames == 11 && !('busy' in {STAGE})"  # and one that cannot
SETTLED = f"({STAGE}.exact == 'true' || 'drawn' in {STAGE})"  # what is shown stays: it is computed, or as good
NO_WEBGL = """(() => {
  const real = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
    return kind === 'webgl2' ? null : real.call(this, kind, ...more);
  };
})()"""
PIXELS = """(() => {
  const image = document.querySelector('#filmstrip .picture img'), canvas = document.createElement('canvas');
  const context = canvas.getContext('2d'), drawing = document.querySelector('#filmstrip .picture canvas');
  if (drawing) {
    const { view } = document.querySelector("#filmstrip .stage").picture, size = view.photographSize;
    canvas.width = size.width; canvas.height = size.height;
    const strength = Number(document.querySelector('#filmstrip .stage').dataset.strength);
    context.putImageData(new ImageData(new Uint8ClampedArray(view.pixels({ strength }).buffer), size.width), 0, 0);
  } else {
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    context.drawImage(image, 0, 0);
  }
  return canvas.toDataURL('image/png').split(',')[1];
})()"""

queue_test = [  # gradio 6.31 counts its events with calls that pandas 3 deprecates
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]
browser_test = [pytest.mark.browser, *queue_test]


@contextmanager
def served(engine: Any, auth: tuple[str, str] | None = None, mcp: bool = False, **options: Any) -> Iterator[str]:
    """The app on a free port of this machine; `auth` and `mcp` as in `launch_options`, `options` as in `create_app`."""
    app, how = create_app(engine, **options), launch_options(auth, mcp)
    try:
        _, address, _ = app.launch(
            server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **how
        )
        if auth:
            let_mcp_in(app, auth)
        yield address
    finally:
        app.close()


class EngineOfTest:
    """Stands for the engine of the test that runs, so that one server does for many."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def text_of(browser: Browser, selector: str) -> str:
    return browser.run(f"document.querySelector({selector!r}).textContent")


def wait_for_text(browser: Browser, selector: str, text: str) -> None:
    browser.wait(f"document.querySelector({selector!r}).textContent.includes({text!r})")


def shown(browser: Browser, folder: Path) -> np.ndarray:
    """The pixels of the large picture, (H, W, 3)."""
    path = folder / "shown.png"
    path.write_bytes(base64.b64decode(browser.run(PIXELS)))
    return np.asarray(read_image(path))


def start_edit(browser: Browser, address: str, photograph: Path, instruction: str = "make it night") -> None:
    """Upload, type and press Edit."""
    browser.open(address, READY)
    browser.upload(UPLOAD, photograph)
    wait_for_text(browser, "#photograph", f"{photograph.name} ")  # its name in the preview
    browser.wait("document.querySelector('#photograph img').naturalWidth")
    browser.type(INSTRUCTION, instruction)
    browser.click("#edit")


def open_edit(browser: Browser, address: str, photograph: Path, instruction: str = "make it night") -> None:
    """The same, and wait until nothing more is rendered."""
    start_edit(browser, address, photograph, instruction)
    browser.wait(f"{STAGE}.edit > 1 && ({FILLED} || {FULL})")


def drag(browser: Browser, begin: float, end: float) -> list[str]:
    """Drag the slider with the mouse, not let go yet; the strengths of the frames that were shown on the way."""
    box = browser.box(SLIDER)
    thumb = 26  # pixels
    way = [box["x"] + thumb / 2 + s * (box["width"] - thumb) for s in np.linspace(begin, end, 25)]
    height = box["y"] + box["height"] / 2
    browser.mouse("mousePressed", way[0], height)
    passed = []
    for x in way:
        browser.mouse("mouseMoved", x, height)
        passed.append(browser.run(f"{STAGE}.shown"))
    return passed


def release(browser: Browser) -> None:
    browser.mouse("mouseReleased", *browser.middle(SLIDER))


def rest_at(browser: Browser, strength: float) -> str:
    """Drag to a strength, let go, and wait for its picture; the strength that was reached."""
    drag(browser, 1.0, strength)
    release(browser)
    browser.wait(SETTLED)
    return browser.run(f"{STAGE}.strength")
