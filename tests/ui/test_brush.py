"""Painting the strength in a real browser: what is painted is seen, saved and kept, and can be undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kontext_slider.images import read_image
from kontext_slider.metadata import pack_map, read_metadata, strength_map, unpack_map
from tests.ui.browser import Browser
from tests.ui.fake_engine import FakeEngine
from tests.ui.page import INSTRUCTION, STAGE, UPLOAD, browser_test, open_edit, shown, text_of, wait_for_text

pytestmark = browser_test

CANVAS = "#filmstrip .picture canvas"
MAP = "document.querySelector('#filmstrip .stage').strengthMap()"
PLACE = "document.querySelector('#filmstrip .stage').picture.place"
LABEL = "#filmstrip .label"
ALT, CTRL = 1, 2


class Painter:
    """A visitor with the brush, on a photograph of 320 x 240."""

    def __init__(self, browser: Browser, address: str, photograph: Path, folder: Path) -> None:
        self.browser, self.photograph, self.folder = browser, photograph, folder
        open_edit(browser, address, photograph)
        browser.click("[data-tool=brush]")

    def map(self) -> np.ndarray | None:
        """(H, W) in [0, 1]; None: nothing is painted."""
        text = self.browser.run(MAP)
        return None if text is None else unpack_map(text)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the photograph, [0, 1] in both directions, is on the screen."""
        self.browser.box(CANVAS)
        return tuple(self.browser.run(f"document.querySelector('#filmstrip .stage').picture.screenAt({x}, {y})"))

    def stroke(self, *places: tuple[float, float], modifiers: int = 0) -> None:
        way = [self.at(*place) for place in places]

        def mouse(kind: str, place: tuple[float, float], held: int) -> None:
            where: dict[str, Any] = {"x": place[0], "y": place[1], "button": "left", "buttons": held, "clickCount": 1}
            self.browser.call("Input.dispatchMouseEvent", type=kind, modifiers=modifiers, **where)

        mouse("mousePressed", way[0], 1)
        for place in way:
            mouse("mouseMoved", place, 1)
        mouse("mouseReleased", way[-1], 0)

    def touch(self, kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(places)]
        self.browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def key(self, key: str, ctrl: bool = False, shift: bool = False) -> None:
        modifiers = 2 * ctrl + 8 * shift
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers)

    def choose(self, **what: str) -> None:
        for name, value in what.items():
            self.browser.click(f".panel.brush [data-{name}={value}]")

    def shown(self) -> np.ndarray:
        return shown(self.browser, self.folder).astype(int)

    def expected(self, strength: float = 1.0) -> np.ndarray:
        """What Python makes of the map."""
        session = FakeEngine().open(self.photograph, "make it night", steps=1)
        share = self.map()
        return np.asarray(session.picture(strength if share is None else strength * share), dtype=int)

    def check_the_picture(self, strength: float = 1.0) -> None:
        assert np.abs(self.shown() - self.expected(strength)).max() <= 2


@pytest.fixture
def painter(browser, address, photograph, tmp_path) -> Painter:
    return Painter(browser, address, photograph, tmp_path)


def test_a_stroke_changes_the_picture_where_it_is_painted_and_nowhere_else(painter):
    """The first stroke left the edit all over, or the picture on the screen is not the one that Python makes."""
    assert painter.map() is None and "painted" not in text_of(painter.browser, LABEL)
    thumb = "document.querySelector('#filmstrip .thumb:last-child canvas').toDataURL()"
    whole = painter.browser.run(thumb)
    painter.stroke((0.2, 0.2), (0.5, 0.2), (0.8, 0.2))
    share = painter.map()
    assert share[48, 160] == 1 and share[200].max() == 0
    untouched = np.asarray(read_image(painter.photograph), dtype=int)
    away = share == 0
    away[1:] &= share[:-1] == 0
    away[:-1] &= share[1:] == 0
    away[:, 1:] &= share[:, :-1] == 0
    away[:, :-1] &= share[:, 1:] == 0
    assert np.abs(painter.shown() - untouched)[away].max() <= 2
    painter.check_the_picture()
    assert " · painted" in text_of(painter.browser, LABEL)
    painter.browser.wait(f"{thumb} != {whole!r}")
    painter.browser.run("document.querySelector('#filmstrip input[type=range]').focus()")
    painter.browser.key("Home")
    for _ in range(9):
        painter.browser.key("ArrowRight")
    painter.browser.wait(f"{STAGE}.strength == '0.4500'")
    painter.check_the_picture(0.45)


def test_undo_redo_and_the_other_keys(painter):
    """A stroke that went wrong cannot be taken back, or only with the mouse."""
    painter.stroke((0.5, 0.3), (0.6, 0.3))
    first = painter.map()
    painter.stroke((0.5, 0.8), (0.6, 0.8))
    second = painter.map()
    assert not np.array_equal(first, second)
    painter.key("z", ctrl=True)
    assert np.array_equal(painter.map(), first)
    painter.check_the_picture()
    painter.key("z", ctrl=True)
    assert painter.map() is None
    painter.key("Z", ctrl=True, shift=True)
    painter.key("Z", ctrl=True, shift=True)
    assert np.array_equal(painter.map(), second)
    size = "Number(document.querySelector('[data-slider=size]').value)"
    softness = size.replace("size", "softness")
    before = painter.browser.run(f"[{size}, {softness}]")
    painter.key("]")
    painter.key("}", shift=True)
    assert [a > b for a, b in zip(painter.browser.run(f"[{size}, {softness}]"), before, strict=True)] == [True, True]
    painter.key("x")
    assert painter.browser.run("document.querySelector('[data-mode=erase]').ariaPressed") == "true"
    painter.browser.run("document.querySelector('#filmstrip .number').focus()")
    painter.key("x")
    painter.key("z", ctrl=True)
    assert painter.browser.run("document.querySelector('[data-mode=erase]').ariaPressed") == "true"
    assert np.array_equal(painter.map(), second), "a key that was meant for a field"


def test_erase_first_takes_the_edit_away_where_it_is_not_wanted(painter):
    """Who wants the edit everywhere but on one face has to paint everything else; and Alt did not erase."""
    painter.stroke((0.1, 0.2), (0.3, 0.2), modifiers=ALT)
    share = painter.map()
    assert share[48, 64] == 0 and share[200].min() == 1
    painter.check_the_picture()
    painter.choose(command="invert")
    assert np.allclose(painter.map(), 1 - share, atol=1e-6)
    painter.choose(mode="erase")
    painter.choose(command="fill")
    assert painter.map().max() == 0
    painter.choose(command="clear")
    assert painter.map() is None
    painter.check_the_picture()


def test_a_gradient_by_pointer_and_by_keys_alone(painter):
    """A gradient that needs a mouse; or one whose sliders do not move it once it is there."""
    painter.choose(shape="linear")
    painter.stroke((0.25, 0.5), (0.5, 0.5), (0.75, 0.5))
    share = painter.map()
    assert share[120, 40] == 1 and share[120, 300] == 0 and abs(share[120, 159] + share[120, 160] - 1) < 0.02
    painter.check_the_picture()
    painter.choose(command="clear")
    painter.browser.run("document.querySelector('[data-shape=radial]').focus()")
    painter.browser.key("Enter")
    painter.browser.run("document.querySelector('[data-command=place]').focus()")
    painter.browser.key("Enter")
    middle = painter.map()
    assert middle[120, 160] == 1 and middle[0, 0] == 0
    painter.browser.run("document.querySelector('[data-slider=x]').focus()")
    for _ in range(25):
        painter.browser.key("ArrowLeft")
    moved = painter.map()
    assert moved[120, 80] == 1 and moved[120, 239] == 0, "the gradient did not follow its slider"
    painter.key("z", ctrl=True)
    assert painter.map() is None, "moving a gradient is one change"


def test_saving_carries_the_map(painter):
    """What is painted was on the screen only."""
    downloads = painter.folder / "downloads"
    painter.browser.downloads_to(downloads)
    painter.stroke((0.2, 0.2), (0.5, 0.6))
    painter.browser.click("#save-picture")
    path = downloads / "photo-make-it-night-1.00.jpg"
    painter.browser.wait_for_file(path)
    wait_for_text(painter.browser, "#saved", "strength 1.00, painted")
    assert np.array_equal(strength_map(read_metadata(path)), painter.map())
    assert np.abs(np.asarray(read_image(path), dtype=int) - painter.expected()).mean() < 3


def test_the_map_stays_with_its_photograph(painter, address, tmp_path):
    """A reload or another instruction lost what was painted; or another photograph had it."""
    painter.stroke((0.2, 0.2), (0.5, 0.6))
    share = painter.map()
    painter.browser.wait("sessionStorage.getItem('kontext-slider strength map')")
    painter.browser.call("Page.reload")
    painter.browser.wait(f"'drawn' in {STAGE} && !('busy' in {STAGE})")
    wait_for_text(painter.browser, LABEL, "painted")
    assert np.array_equal(painter.map(), share)
    first = painter.browser.run(f"{STAGE}.edit")
    painter.browser.type(INSTRUCTION, "make it sepia")
    painter.browser.click("#edit")
    painter.browser.wait(f"{STAGE}.edit > {first} && 'drawn' in {STAGE} && !('busy' in {STAGE})")
    assert np.array_equal(painter.map(), share)
    other = tmp_path / "other.png"
    read_image(painter.photograph).transpose(0).resize((300, 240)).save(other)
    second = painter.browser.run(f"{STAGE}.edit")
    painter.browser.upload(UPLOAD, other)
    wait_for_text(painter.browser, "#photograph", "other.png ")
    painter.browser.click("#edit")
    painter.browser.wait(f"{STAGE}.edit > {second} && 'drawn' in {STAGE} && !('busy' in {STAGE})")
    painter.browser.wait(f"!document.querySelector('{LABEL}').textContent.includes('painted')")
    assert painter.map() is None
    third = painter.browser.run(f"{STAGE}.edit")
    painter.browser.upload(UPLOAD, painter.photograph)
    wait_for_text(painter.browser, "#photograph", "photo.png ")
    painter.browser.click("#edit")
    painter.browser.wait(f"{STAGE}.edit > {third} && 'drawn' in {STAGE} && !('busy' in {STAGE})")
    assert np.array_equal(painter.map(), share), "what was painted on the first photograph is gone"


def test_a_map_from_elsewhere_is_put_onto_the_picture(painter):
    """An edit of a chain, or of a saved file, comes back without what was painted."""
    share = np.repeat(np.repeat([[0.2, 1.0]], 120, axis=0), 80, axis=1)
    use = "document.querySelector('#filmstrip .stage').useStrengthMap(%s)"
    painter.browser.run(use % repr(pack_map(share)))
    assert abs(painter.map()[200, 20] - 0.2) < 0.01 and painter.map()[10, 300] == 1
    painter.check_the_picture()
    painter.browser.run(use % "null")
    assert painter.map() is None
    painter.key("z", ctrl=True)
    assert painter.map()[10, 300] == 1


def test_escape_takes_back_a_stroke_then_closes_the_brush(painter):
    """A stroke that goes wrong under the hand has to be finished first."""
    x, y = painter.at(0.5, 0.5)
    painter.browser.mouse("mousePressed", x, y)
    assert painter.map() is not None
    painter.browser.key("Escape")
    painter.browser.mouse("mouseReleased", x, y)
    assert painter.map() is None
    painter.browser.key("Escape")
    assert painter.browser.run("document.activeElement.dataset.tool") == "brush"
    assert painter.browser.run("document.querySelector('.panel.brush').hidden")


def test_edges_hold_a_stroke_and_ctrl_lets_it_cross(painter):
    """A stroke on the sky paints the hills, too; or one that has to cross an edge cannot."""
    for _ in range(5):
        painter.key("]")
    painter.stroke((0.7, 0.48), (0.9, 0.48))  # the sky ends at .54
    assert painter.map()[115, 250] > 0.9 and painter.map()[136, 250] < 0.1
    painter.key("z", ctrl=True)
    painter.stroke((0.7, 0.48), (0.9, 0.48), modifiers=CTRL)
    assert painter.map()[115, 250] > 0.9 and painter.map()[136, 250] > 0.9


def test_two_fingers_zoom_while_one_paints(browser, address, photograph, tmp_path):
    """On a phone the second finger of a pinch left a stroke, or the picture could not be zoomed while painting."""
    browser.resize(390, 844)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
    painter = Painter(browser, address, photograph, tmp_path)
    left, right = painter.at(0.4, 0.5), painter.at(0.6, 0.5)
    painter.touch("touchStart", left)
    painter.touch("touchStart", left, right)
    painter.touch("touchMove", (left[0] - 20, left[1]), (right[0] + 20, right[1]))
    painter.touch("touchMove", (left[0] - 60, left[1]), (right[0] + 60, right[1]))
    painter.touch("touchEnd")
    browser.wait(f"{PLACE}.zoom > 1")
    assert painter.map() is None, "the first finger of the pinch painted"
    way = [painter.at(0.45, 0.5), painter.at(0.5, 0.5), painter.at(0.55, 0.5)]
    painter.touch("touchStart", way[0])
    for place in way:
        painter.touch("touchMove", place)
    painter.touch("touchEnd")
    share = painter.map()
    assert share[120, 160] == 1 and share[120, 20] == 0
    painter.check_the_picture()


def test_the_panel_of_a_phone_lies_below_the_picture(browser, address, photograph, tmp_path):
    """A panel that covers what is painted, or buttons that a thumb misses."""
    browser.resize(390, 844)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
    Painter(browser, address, photograph, tmp_path)
    for shape in ("radial", "linear", "brush"):
        browser.click(f"[data-shape={shape}]")
        browser.run("document.querySelector('.stage').scrollIntoView(); 0")
        picture, panel = browser.run(
            "['.picture canvas', '.panel.brush'].map((each) => document.querySelector(each).getBoundingClientRect())"
            ".map(({ top, bottom, width }) => [top, bottom, width])"
        )
        assert picture[1] <= panel[0] and panel[1] <= 844 and panel[2] <= 390, shape
        heights = browser.run(
            "[...document.querySelectorAll('.panel.brush button, .panel.brush input')]"
            ".filter((each) => each.getClientRects().length).map((each) => each.getBoundingClientRect().height)"
        )
        assert min(heights) >= 43.5
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_the_map_can_be_seen(painter):
    """Nobody knows where a weak edit was painted."""
    painter.stroke((0.4, 0.5), (0.6, 0.5))
    sum_of = "(() => { const { view } = document.querySelector('#filmstrip .stage').picture; %s })()"
    read = sum_of % "return [...view.pixels({ strength: 1, showsMap: %s }).subarray(4 * 38560, 4 * 38561)];"
    plain, marked = painter.browser.run(read % "false"), painter.browser.run(read % "true")
    assert marked[0] > plain[0] and marked[1] < 150
    toggle = "document.querySelector('[data-toggle=showsMap]').ariaPressed"
    painter.key("o")
    assert painter.browser.run(toggle) == "true"
    painter.browser.click("[data-toggle=showsMap]")
    assert painter.browser.run(toggle) == "false"


def test_without_webgl2_the_page_says_why_there_is_no_brush(plain_browser, address, photograph):
    """A brush that paints what nobody sees."""
    open_edit(plain_browser, address, photograph)
    plain_browser.click("[data-tool=brush]")
    plain_browser.wait("!document.querySelector('#panel-brush').hidden")
    assert "no WebGL2" in text_of(plain_browser, "#panel-brush")
    assert not plain_browser.run("Boolean(document.querySelector('#panel-brush button'))")
