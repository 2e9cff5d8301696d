"""Fixtures of the page's tests: visitors of the handlers, one Chromium for all browser tests, photographs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kontext_slider.ui.handlers import Handlers
from tests.ui.browser import Browser, find_chromium
from tests.ui.fake_engine import FakeEngine
from tests.ui.page import NO_WEBGL, EngineOfTest, served
from tests.ui.visitor import Visitor


@pytest.fixture(autouse=True, scope="session")
def uploads_of_this_process(tmp_path_factory):
    """An app that closes deletes its uploads, and the same picture has the same path in every process."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        yield


@pytest.fixture
def photograph(tmp_path) -> Path:
    """A photograph drawn on the spot, 320 x 240: sky, hills, a ball, some grain."""
    image = Image.new("RGB", (320, 240), (150, 190, 235))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 130, 320, 240), fill=(70, 120, 60))
    draw.polygon([(0, 130), (90, 60), (190, 130)], fill=(110, 105, 120))
    draw.ellipse((180, 140, 250, 210), fill=(200, 60, 40))
    grain = np.random.default_rng(0).normal(0, 4, (240, 320, 3))
    path = tmp_path / "photo.png"
    Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def handlers(engine, tmp_path) -> Handlers:
    return Handlers(engine, str(tmp_path / "cache"))


@pytest.fixture
def visitor(handlers) -> Visitor:
    return Visitor(handlers)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium or Chrome on this machine: install one to run this test")
    browser = Browser(path, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium) -> Browser:
    """A new visitor: nothing is kept of an earlier test."""
    chromium.new_visitor()
    return chromium


@pytest.fixture
def plain_browser(chromium) -> Browser:
    """The same without WebGL2: the page shows the model's frames as they are."""
    chromium.new_visitor()
    chromium.before_pages(NO_WEBGL)
    return chromium


@pytest.fixture(scope="session")
def site() -> Iterator[tuple[EngineOfTest, str]]:
    engine = EngineOfTest(FakeEngine())
    with served(engine) as address:
        yield engine, address


@pytest.fixture(scope="session")
def opening_site() -> Iterator[tuple[EngineOfTest, str]]:
    engine = EngineOfTest(FakeEngine())
    with served(engine, model="pocket") as address:
        yield engine, address


@pytest.fixture
def address(site, engine) -> str:
    """Where the app runs, over the `engine` of the test."""
    site[0].engine = engine
    return site[1]


@pytest.fixture
def opening_address(opening_site, engine) -> str:
    """The same for a page that opens with the shipped edit."""
    opening_site[0].engine = engine
    return opening_site[1]
