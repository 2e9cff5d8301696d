"""The whole path in a real browser: upload, type, Edit, drag, keys, save. Every wait is bounded (`browser.TIMEOUT`)."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kontext_slider.engine import SliderEngine
from kontext_slider.images import read_image
from kontext_slider.presets import PRESETS, load_pipeline
from kontext_slider.ui import create_app
from kontext_slider.ui.launch import launch_options
from tests.ui.browser import Browser, find_chromium
from tests.ui.fake_engine import FakeEngine, faded

CHROMIUM = find_chromium()
POCKET = Path(PRESETS["pocket"].model)
STAGE = "document.querySelector('#filmstrip .stage').dataset"
SLIDER = "#filmstrip input[type=range]"
INSTRUCTION = "#instruction textarea, #instruction input"
PIXELS = """(() => {
  const image = document.querySelector('#filmstrip .picture img'), canvas = document.createElement('canvas');
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);
  return canvas.toDataURL('image/png').split(',')[1];
})()"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine: install one to run this test"),
    # gradio 6.31 counts its events with calls that pandas 3 deprecates.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


@contextmanager
def served(engine: Any, **options: Any) -> Iterator[str]:
    """The app on a free port of this machine; `options` are those of `create_app`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = create_app(engine, **options)
    try:
        _, address, _ = app.launch(
            server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, **launch_options()
        )
        yield address
    finally:
        app.close()


@pytest.fixture
def browser(tmp_path) -> Iterator[Browser]:
    browser = Browser(str(CHROMIUM), tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture
def photograph(tmp_path) -> Path:
    """A photograph drawn on the spot: sky, hills, a ball, some grain."""
    image = Image.new("RGB", (320, 240), (150, 190, 235))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 130, 320, 240), fill=(70, 120, 60))
    draw.polygon([(0, 130), (90, 60), (190, 130)], fill=(110, 105, 120))
    draw.ellipse((180, 140, 250, 210), fill=(200, 60, 40))
    grain = np.random.default_rng(0).normal(0, 4, (240, 320, 3))
    path = tmp_path / "photograph.png"
    Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)).save(path)
    return path


def shown(browser: Browser, folder: Path) -> np.ndarray:
    """The pixels of the large picture, (H, W, 3)."""
    path = folder / "shown.png"
    path.write_bytes(base64.b64decode(browser.run(PIXELS)))
    return np.asarray(read_image(path))


def open_edit(browser: Browser, address: str, photograph: Path, instruction: str) -> None:
    """Upload, type, press Edit, and wait for the eleven frames of the strip.

    As a new visitor: what an earlier page has kept would come back over what is typed here."""
    browser.run("try { sessionStorage.clear() } catch (error) {}")  # there is none on about:blank
    browser.open(
        address, "document.querySelector('#filmstrip .stage') && document.querySelector('#photograph input').accept"
    )
    browser.upload("#photograph input[type=file]", photograph)
    browser.wait("document.querySelector('#photograph img').naturalWidth")
    browser.type(INSTRUCTION, instruction)
    browser.click("#edit")
    browser.wait(f"{STAGE}.frames == 11 && !('busy' in {STAGE})")


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


def let_go(browser: Browser) -> None:
    x, y = browser.middle(SLIDER)
    browser.mouse("mouseReleased", x, y)
    browser.wait(f"{STAGE}.exact == 'true'")


def check_the_slider(browser: Browser, source: Image.Image, folder: Path) -> None:
    """What must hold on any model once the strip is full."""
    full = shown(browser, folder)
    requests = len(browser.requests)
    passed = drag(browser, 1.0, 0.234)
    assert len(set(passed)) >= 7, "the picture did not follow the hand"
    asked = [address for address in browser.requests[requests:] if not address.endswith("/app_id")]  # is it there?
    assert asked == [], "dragging over finished frames asked the network"
    assert browser.run(f"{STAGE}.exact") == "false"
    assert "nearest" in browser.run("document.querySelector('#filmstrip .label').textContent")
    let_go(browser)
    strength = float(browser.run(f"{STAGE}.strength"))
    assert abs(strength - 0.234) < 0.02
    assert not np.array_equal(shown(browser, folder), full)

    browser.key("ArrowRight", shift=True)
    browser.key("ArrowRight")
    browser.wait(f"{STAGE}.exact == 'true'")
    assert float(browser.run(f"{STAGE}.shown")) == pytest.approx(strength + 0.06)

    browser.key("Home")
    browser.wait(f"{STAGE}.shown == '0.0000'")
    assert np.array_equal(shown(browser, folder), np.asarray(source)), "strength 0 is not the untouched source"
    browser.key("End")
    browser.wait(f"{STAGE}.shown == '1.0000'")
    assert np.array_equal(shown(browser, folder), full)


def test_upload_edit_drag_and_keys(browser, photograph, tmp_path):
    """The promise of the project: the picture follows the hand at once, and the exact strength when it rests."""
    engine = FakeEngine(step_seconds=0.01)
    with served(engine) as address:
        open_edit(browser, address, photograph, "make it night")
        source = engine.open(read_image(photograph), "", steps=1).source
        check_the_slider(browser, source, tmp_path)
        browser.key("PageDown")
        browser.wait(f"{STAGE}.shown == '0.9000'")
        assert np.array_equal(shown(browser, tmp_path), np.asarray(faded(source, 0.9)))
    assert len(engine.rendered) == 12  # ten frames of the strip and two exact strengths; nothing twice


def test_a_preview_is_marked_until_the_exact_frame_is_there(browser, photograph, tmp_path):
    """A rough picture under the word "exact"; or a badge that stays on the exact one; or a preview in the strip."""
    engine = FakeEngine(step_seconds=0.1, steps=8)
    with served(engine) as address:
        open_edit(browser, address, photograph, "make it night")
        drag(browser, 1.0, 0.234)
        x, y = browser.middle(SLIDER)
        browser.mouse("mouseReleased", x, y)
        browser.wait(f"'preview' in {STAGE}")
        assert browser.run(f"{STAGE}.exact") == "false" and browser.run(f"{STAGE}.frames") == "11"
        assert "preview" in browser.run("document.querySelector('#filmstrip .label').textContent")
        browser.wait(f"{STAGE}.exact == 'true' && !('preview' in {STAGE})")
        source = engine.open(read_image(photograph), "", steps=1).source
        strength = float(browser.run(f"{STAGE}.strength"))
        assert np.array_equal(shown(browser, tmp_path), np.asarray(faded(source, strength)))


def test_the_frame_under_the_hand_comes_before_the_strip(browser, photograph):
    """A second edit begins, and the person, who rests on 0.3, sees it after eleven other frames."""
    engine = FakeEngine(step_seconds=0.05)
    with served(engine) as address:
        open_edit(browser, address, photograph, "make it night")
        drag(browser, 1.0, 0.33)
        let_go(browser)
        strength = float(browser.run(f"{STAGE}.strength"))
        engine.rendered.clear()
        browser.click("#suggestions .chip:nth-child(2)")
        browser.wait(f"document.querySelector('{INSTRUCTION}').value == 'make it sepia'")
        browser.click("#edit")
        browser.wait(f"{STAGE}.exact == 'true' && {STAGE}.shown == '{strength:.4f}' && {STAGE}.frames < 5")
        assert strength in engine.rendered[:2]  # at most one frame of the strip was under way


def test_words_errors_and_a_second_edit(browser, photograph, tmp_path):
    """An error must leave what was typed and rendered; a suggestion must land in the box; Enter must edit."""
    with served(FakeEngine()) as address:
        open_edit(browser, address, photograph, "add a dragon")
        browser.wait("document.querySelector('#notice').textContent.includes('not trained')")
        before = shown(browser, tmp_path)
        browser.type(INSTRUCTION, " ")
        browser.click("#edit")
        browser.wait("document.querySelector('#notice .error').textContent.includes('Say what to change')")
        assert browser.run(f"{STAGE}.frames") == "11"
        assert np.array_equal(shown(browser, tmp_path), before)
        first = browser.run(f"{STAGE}.edit")
        browser.run(f"document.querySelector('{SLIDER}').focus()")
        browser.key("ArrowLeft", shift=True)
        browser.wait(f"{STAGE}.shown == '0.9900'")
        browser.click("#suggestions .chip:nth-child(2)")
        browser.wait(f"document.querySelector('{INSTRUCTION}').value == 'make it sepia'")
        browser.run(f"document.querySelector('{INSTRUCTION}').focus()")
        browser.key("Enter")
        browser.wait(f"{STAGE}.edit > {first} && {STAGE}.frames == 12")
        assert browser.run(f"{STAGE}.shown") == "0.9900"  # where the hand was, though the strip has no such frame
        assert not browser.run("Boolean(document.querySelector('#notice .notice'))")


def test_saving_downloads_the_sweep(browser, photograph, tmp_path):
    """A press on GIF must end with a file on the person's disk, with a frame per strength."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    with served(FakeEngine()) as address:
        open_edit(browser, address, photograph, "make it night")
        browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        browser.click("#save-options button")
        browser.wait("document.querySelector('#save-gif')?.offsetHeight")  # gradio mounts it when the part is unfolded
        browser.click("#save-gif")
        browser.wait("document.querySelector('#download').textContent.includes('Download GIF')")
        browser.wait_for_file(folder / "make-it-night.gif")
    with Image.open(folder / "make-it-night.gif") as gif:
        assert gif.n_frames == 11


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_the_page_fits_a_phone_and_a_desk(browser, photograph, width, height):
    """A strip of eleven thumbnails once made the page of a phone twice as wide as its screen."""
    with served(FakeEngine()) as address:
        browser.resize(width, height)
        open_edit(browser, address, photograph, "make it night")
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.box("#filmstrip .picture")["width"] >= 0.6 * width
        open_edit(browser, address, photograph, "x" * 300)
        browser.wait("document.querySelector('#notice').textContent.includes('not trained')")
        assert browser.run("document.documentElement.scrollWidth") <= width


@pytest.mark.skipif(not (POCKET / "model_index.json").is_file(), reason="weights/pocket is not in this checkout")
def test_the_pocket_model_in_the_page(browser, photograph, tmp_path):
    """The same on the model in the box: nothing on the path is faked."""
    engine = SliderEngine(load_pipeline("pocket", device="cpu"))
    instruction = next(iter(engine.pipe.known_instructions.values()))[0]
    with served(engine) as address:
        open_edit(browser, address, photograph, instruction)
        with engine.open(photograph, instruction) as session:
            check_the_slider(browser, session.source, tmp_path)
