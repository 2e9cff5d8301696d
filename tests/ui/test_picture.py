"""The picture in a real browser that draws: any strength at once, zoom, tiles, and what the label says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.images import read_image
from kontext_slider.presets import PRESETS, load_pipeline
from kontext_slider.ui.examples import OPENING
from tests.ui import fake_engine
from tests.ui.fake_engine import faded
from tests.ui.page import (
    READY,
    SLIDER,
    STAGE,
    browser_test,
    drag,
    open_edit,
    release,
    rest_at,
    served,
    shown,
    start_edit,
    text_of,
)

POCKET = Path(PRESETS["pocket"].model)
PICTURE = "document.querySelector('#filmstrip .stage').picture"
LABEL = "#filmstrip .label"
pytestmark = browser_test


def check_alike(pixels: np.ndarray, picture: Image.Image) -> None:
    """Equal but for rounding and half floats."""
    difference = np.abs(pixels.astype(int) - np.asarray(picture.convert("RGB")))
    assert difference.mean() < 1 and difference.max() <= 3, (difference.mean(), difference.max())


def test_every_strength_is_there_without_a_request(browser, address, engine, photograph, tmp_path):
    """The picture jumped between eleven frames, and each rest between them cost a render."""
    open_edit(browser, address, photograph)
    rendered, requests = list(engine.rendered), len(browser.requests)
    passed = drag(browser, 1.0, 0.234)
    assert len(set(passed)) >= 20, "the picture did not follow the slider"
    release(browser)
    strength = float(browser.run(f"{STAGE}.strength"))
    assert "interpolated" in text_of(browser, LABEL)
    check_alike(shown(browser, tmp_path), faded(read_image(photograph), strength))
    browser.key("Home")
    assert "untouched" in text_of(browser, LABEL)
    check_alike(shown(browser, tmp_path), read_image(photograph))
    browser.key("End")
    assert "interpolated" not in text_of(browser, LABEL)
    sent = [address for address in browser.requests[requests:] if not address.endswith("/app_id")]  # is it there?
    assert sent == [] and engine.rendered == rendered


def test_a_strength_is_rendered_where_that_would_be_seen(browser, address, engine, photograph, monkeypatch, tmp_path):
    """An edit that happens at once would be shown as a fade that the model never made."""
    monkeypatch.setattr(fake_engine, "faded", lambda source, strength: faded(source, float(strength > 0.5)))
    open_edit(browser, address, photograph)
    rendered = len(engine.rendered)
    strength = rest_at(browser, 0.56)
    browser.wait(f"{STAGE}.exact == 'true'")
    assert "interpolated" not in text_of(browser, LABEL)
    assert engine.rendered[rendered:] == [float(strength)]
    check_alike(shown(browser, tmp_path), faded(read_image(photograph), 1.0))


def test_a_second_edit_takes_the_place_of_the_first(browser, address, photograph, tmp_path):
    """The photograph of the first edit under the transfers of the second."""
    open_edit(browser, address, photograph)
    first = browser.run(f"{STAGE}.edit")
    browser.run("document.querySelector('#filmstrip .picture canvas').focus()")
    browser.key("+")
    browser.wait(f"{PICTURE}.place.zoom != 'fit'")
    other = tmp_path / "other.png"
    Image.new("RGB", (200, 320), (200, 30, 60)).save(other)
    browser.upload("#photograph input[type=file]", other)
    browser.wait("document.querySelector('#photograph').textContent.includes('other.png ')")
    browser.click("#edit")
    browser.wait(f"{STAGE}.edit > {first} && {STAGE}.frames >= 5 && 'drawn' in {STAGE}")
    assert browser.run(f"{PICTURE}.view.photographSize") == {"width": 200, "height": 320}
    assert browser.run(f"{PICTURE}.place.zoom") == "fit", "another photograph is shown whole"
    check_alike(shown(browser, tmp_path), faded(read_image(other), 1.0))


def test_a_zoomed_view_gets_the_photograph_at_its_own_size(browser, address, tmp_path):
    """At 100 % a large photograph is a blur of 2048 pixels, and nobody can judge what will be saved."""
    grain = np.random.default_rng(0).integers(0, 256, (1600, 3200, 1), dtype=np.uint8).repeat(3, axis=2)
    path = tmp_path / "large.png"
    Image.fromarray(grain).save(path)
    open_edit(browser, address, path)
    browser.run("document.querySelector('#filmstrip .picture canvas').focus()")
    for _ in range(30):
        browser.key("+")
        if browser.run(f"{PICTURE}.place.zoom") == 1:
            break
    tiles = "performance.getEntriesByType('resource').filter((e) => e.name.includes('/tile-')).length"
    browser.wait(f"{tiles} == 1")
    browser.click("#edit")  # the zoom stays, and with it what is sharp
    browser.wait(f"{tiles} == 2 && {PICTURE}.place.zoom > 0.9")
    browser.run("document.querySelector('#filmstrip .picture canvas').focus()")
    browser.key("0")
    browser.wait(f"{PICTURE}.place.zoom == 'fit'")


@pytest.mark.skipif(not OPENING.is_file(), reason="assets/opening is not in this checkout")
def test_the_opening_is_drawn_as_well(browser, opening_address, engine):
    """The first thing that a visitor drags would jump."""
    browser.open(opening_address, f"{READY} && {STAGE}.frames == 11")
    assert engine.opened == [], "a visitor who only looks costs a session"
    browser.mouse("mouseMoved", *browser.middle(SLIDER))
    browser.wait(f"'drawn' in {STAGE}")
    passed = drag(browser, 1.0, 0.5)
    assert len(set(passed)) >= 12
    release(browser)
    assert engine.rendered == []


@pytest.mark.skipif(not (POCKET / "model_index.json").is_file(), reason="weights/pocket is not in this checkout")
def test_what_is_drawn_is_what_is_saved(browser, photograph, tmp_path):
    """The whole way on the model in the box: the canvas at the photograph's size is `session.picture`."""
    engine = SliderEngine(load_pipeline("pocket", device="cpu"), speed="exact")
    with served(engine) as address, engine.open(photograph, "make it night") as session:
        open_edit(browser, address, photograph, "make it night")
        check_alike(shown(browser, tmp_path), session.picture(1.0))
        strength = float(rest_at(browser, 0.43))
        check_alike(shown(browser, tmp_path), session.picture(strength))


def test_a_button_zooms(browser, address, photograph):
    """Nothing on the page told a visitor with a telephone that the picture can be judged at its own size."""
    open_edit(browser, address, photograph)
    assert text_of(browser, ".zoom") == "Fit"
    browser.click(".zoom")
    browser.wait(f"{PICTURE}.place.zoom > 1")
    assert text_of(browser, ".zoom").endswith(" %")
    browser.run("document.querySelector('.zoom').focus()")
    browser.key("Enter")
    browser.wait(f"{PICTURE}.place.zoom == 'fit' && document.querySelector('.zoom').textContent == 'Fit'")


def test_another_size_of_the_window_leaves_what_is_drawn(browser, address, photograph):
    """A telephone that was turned between Edit and the first frame showed an empty place."""
    open_edit(browser, address, photograph)
    width = browser.run(f"{PICTURE}.canvas.width")
    browser.run(f"{PICTURE}.begin()")
    browser.resize(700, 900)
    browser.wait(f"{PICTURE}.canvas.clientWidth < {width}")
    browser.run("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    assert browser.run(f"{PICTURE}.canvas.width") == width, "the canvas was emptied"


def test_a_damaged_transfer_is_fetched_again(browser, address, photograph):
    """A file that was cut short on its way ended in an error that nobody saw, and its strength was never shown."""
    browser.before_pages("""
      const real = fetch; window.isBroken = true; window.numRejected = 0;
      addEventListener("unhandledrejection", () => numRejected++);
      fetch = async (url, ...more) =>
        isBroken && String(url).includes(".safetensors") ? new Response("cut short") : real(url, ...more);
    """)
    start_edit(browser, address, photograph)
    browser.wait(f"{STAGE}.edit > 1 && !('busy' in {STAGE}) && {STAGE}.frames == 1")
    assert browser.run(f"'drawn' in {STAGE}") is False
    browser.run("isBroken = false; document.querySelector('#filmstrip input[type=range]').focus()")
    browser.key("Home")
    browser.key("End")
    browser.wait(f"'drawn' in {STAGE} && {STAGE}.shown == '1.0000'")
    assert browser.run("numRejected") == 0
