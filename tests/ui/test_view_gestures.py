"""Zoom and pan in a real browser: wheel, mouse, fingers, keys."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.ui.browser import Browser
from tests.ui.view_page import ViewPage

SIZE = (1600, 1200)
pytestmark = pytest.mark.browser


class Gestures:
    """What a person does to a canvas of 400 x 300 pixels, on a page that can scroll."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        page = ViewPage(browser, (400, 300))
        page.set_photograph(Image.new("RGB", SIZE, (90, 120, 150)))
        self.run = page.run
        self.run("document.body.style.height = '3000px'; canvas.style.display = 'block'; canvas.tabIndex = 0; 0")
        on_change = "(place) => { shown = place; }"
        self.run(
            "var shown = null, pinches = 0;"
            f" var gestures = attachGestures(canvas, view, {on_change}, {{ onPinch: () => pinches++ }}); 0"
        )

    @property
    def zoom(self) -> float | str:
        return self.run("gestures.place.zoom")

    def at(self, x: float, y: float) -> list[float]:
        """The place of the photograph that is seen at a pixel."""
        return self.run(f"photographAt(gestures.place, [{x}, {y}], view.canvasSize, view.photographSize)")

    def wheel(self, x: float, y: float, down: float, ctrl: bool = False) -> None:
        modifiers = 2 if ctrl else 0
        self.browser.call(
            "Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=down, modifiers=modifiers
        )

    def drag(self, x: float, y: float, to_x: float, to_y: float) -> None:
        self.browser.mouse("mousePressed", x, y)
        for part in (0.3, 0.6, 1.0):
            self.browser.mouse("mouseMoved", x + part * (to_x - x), y + part * (to_y - y))
        self.browser.mouse("mouseReleased", to_x, to_y)

    def double_click(self, x: float, y: float) -> None:
        for _ in range(2):
            self.browser.mouse("mousePressed", x, y)
            self.browser.mouse("mouseReleased", x, y)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
        self.browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)


@pytest.fixture
def gestures(browser: Browser) -> Gestures:
    return Gestures(browser)


def test_the_wheel_zooms_about_the_pointer(gestures):
    """A zoom about the middle throws what one looks at out of the window."""
    before = gestures.at(100, 80)
    gestures.wheel(100, 80, -40, ctrl=True)
    gestures.browser.wait("gestures.place.zoom !== 'fit'")
    assert 0.25 < gestures.zoom < 1
    assert gestures.at(100, 80) == pytest.approx(before, abs=0.003)
    assert gestures.run("shown === gestures.place && scrollY === 0 && 'zoomed' in canvas.dataset")
    for _ in range(30):
        gestures.wheel(100, 80, -400)
    gestures.browser.wait("gestures.place.zoom === MOST_ZOOM")
    for _ in range(30):
        gestures.wheel(10, 10, 400)
    gestures.browser.wait("gestures.place.zoom === 'fit' && !('zoomed' in canvas.dataset)")


def test_the_wheel_scrolls_the_page_where_the_picture_is_whole(gestures):
    """A page that cannot be scrolled with the pointer over the picture."""
    gestures.wheel(100, 80, 200)
    gestures.browser.wait("scrollY > 0")
    gestures.wheel(100, 80, -200)
    gestures.browser.wait("scrollY === 0")
    assert gestures.zoom == "fit"


def test_drags_pan_only_where_the_picture_is_enlarged(gestures):
    """A drag at fit moved the picture into a corner, or a drag when zoomed lost it."""
    gestures.drag(200, 150, 300, 200)
    assert gestures.zoom == "fit"
    gestures.double_click(200, 150)
    gestures.browser.wait("gestures.place.zoom === 1")
    before = gestures.at(200, 150)
    gestures.drag(200, 150, 260, 120)
    assert gestures.at(260, 120) == pytest.approx(before, abs=1e-3)
    for _ in range(5):
        gestures.drag(50, 50, 390, 290)
    assert gestures.at(0, 0) == pytest.approx([0, 0], abs=1e-3)
    gestures.double_click(200, 150)
    gestures.browser.wait("gestures.place.zoom === 'fit'")


def test_with_a_brush_single_drags_and_double_clicks_are_left_alone(gestures):
    """A stroke of the brush that moves the picture under itself."""
    gestures.run("gestures.set({ zoom: 1, centre: [0.5, 0.5] }); gestures.oneFinger = false; 0")
    gestures.drag(200, 150, 260, 120)
    gestures.double_click(100, 100)
    assert gestures.run("gestures.place") == {"zoom": 1, "centre": [0.5, 0.5]}
    gestures.wheel(100, 80, -300)
    gestures.browser.wait("gestures.place.zoom > 1")


def test_two_fingers_zoom_and_pan(gestures):
    """On a phone the page scrolled or was enlarged as a whole."""
    left, right = gestures.at(150, 150), gestures.at(250, 150)
    gestures.touch("touchStart", (150, 150))
    gestures.touch("touchStart", (150, 150), (250, 150))
    gestures.touch("touchMove", (120, 150), (270, 150))
    gestures.touch("touchMove", (70, 180), (310, 180))
    gestures.browser.wait("gestures.place.zoom > 0.59")
    assert gestures.zoom == pytest.approx(0.25 * 2.4)
    assert gestures.at(70, 180) == pytest.approx(left, abs=0.003)
    assert gestures.at(310, 180) == pytest.approx(right, abs=0.003)
    assert gestures.run("[pinches, scrollY, visualViewport.scale]") == [1, 0, 1]
    gestures.touch("touchEnd")


def test_one_finger_scrolls_the_page_and_pans_where_zoomed(gestures):
    """A picture that fills a phone's screen is a trap if a finger on it cannot scroll."""
    assert gestures.run("getComputedStyle(canvas).touchAction") == "pan-x pan-y"
    gestures.run("gestures.oneFinger = false; 0")
    assert gestures.run("getComputedStyle(canvas).touchAction") == "none"
    gestures.run("gestures.oneFinger = true; gestures.set({ zoom: 1, centre: [0.5, 0.5] }); 0")
    before = gestures.at(200, 200)
    gestures.touch("touchStart", (200, 200))
    gestures.touch("touchMove", (180, 170))
    gestures.touch("touchMove", (150, 120))
    gestures.touch("touchEnd")
    assert gestures.at(150, 120) == pytest.approx(before, abs=1e-3)
    assert gestures.run("scrollY") == 0


def test_keys(gestures):
    """Zoom that needs a mouse."""
    gestures.run("canvas.focus(); 0")
    gestures.browser.key("+")
    assert gestures.zoom == pytest.approx(0.25 * 1.25)
    gestures.browser.key("ArrowRight")
    assert gestures.run("gestures.place.centre[0]") > 0.5
    gestures.browser.key("-")
    assert gestures.zoom == "fit"
    gestures.browser.key("=")
    gestures.browser.key("0")
    assert gestures.zoom == "fit"
    gestures.run("gestures.detach(); 0")
    gestures.browser.key("+")
    assert gestures.zoom == "fit"
