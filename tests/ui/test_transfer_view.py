"""The picture that the browser computes is the picture that Python computes, pixel by pixel, in a real Chromium."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.images import read_image
from kontext_slider.metrics import to_image, to_picture
from kontext_slider.metrics.distances import psnr
from kontext_slider.transfer import Transfer, apply, mix
from kontext_slider.world.edits import EDITS
from tests.ui.browser import Browser
from tests.ui.view_page import ViewPage

ROOT = Path(__file__).resolve().parents[2]
STRENGTHS = (0.0, 1.0, 0.35, 0.8, 0.1)  # in the order of arrival; uneven
SOURCE_SIZE = (160, 112)
SIZE = (480, 336)  # of the photograph
browser_test = pytest.mark.browser


@functools.cache
def photograph() -> Image.Image:
    return read_image(ROOT / "assets" / "photos" / "temple.jpg").resize(SIZE, Image.Resampling.LANCZOS)


@functools.cache
def transfers_of(edit: str, strengths: tuple[float, ...] = STRENGTHS) -> dict[float, Transfer]:
    """Of a real edit of a real photograph."""
    source = photograph().resize(SOURCE_SIZE, Image.Resampling.BOX)
    frames = {strength: EDITS[edit].apply_to(to_picture(source), strength) for strength in strengths}
    return {strength: Transfer.fit(source, to_image(frame)) for strength, frame in frames.items()}


def check_equal(pixels: np.ndarray, expected: Image.Image, most: int = 2, mean: float = 0.5) -> None:
    """Opaque, and within `most` levels of `expected` at every pixel."""
    assert (pixels[..., 3] == 255).all()
    difference = np.abs(pixels[..., :3].astype(int) - np.asarray(expected.convert("RGB")))
    assert difference.max() <= most and difference.mean() <= mean, (difference.max(), difference.mean())


@pytest.fixture
def page(browser: Browser) -> ViewPage:
    view = ViewPage(browser)
    view.set_photograph(photograph())
    return view


@browser_test
@pytest.mark.parametrize("edit", ["fog", "night", "pencil", "watercolour"])
def test_the_canvas_is_transfer_apply(page, edit):
    """A slider in the browser that shows another edit than the one that is saved."""
    known = transfers_of(edit)
    page.set_transfers(known)
    assert page.run("transfers.some((each) => each.transfer.detail)") == (edit in ("pencil", "watercolour"))
    for strength in (0.0, 0.1, 0.35, 1.0):
        check_equal(page.pixels(strength=strength), known[strength].apply(photograph()))
    for strength in (0.05, 0.2, 0.5, 0.97):
        check_equal(page.pixels(strength=strength), mix(known, strength).apply(photograph()))


@browser_test
@pytest.mark.parametrize("edit", ["night", "watercolour"])
def test_a_strength_for_every_pixel(page, edit):
    """A map whose edges lie elsewhere in the browser, or whose strengths are those of the nearest transfer."""
    known = transfers_of(edit)
    page.set_transfers(known)
    shares = np.random.default_rng(0).integers(0, 256, (9, 13), dtype=np.uint8)
    page.set_strength_map(shares)
    page.resize(*SIZE)
    for overall in (1.0, 0.6):
        expected = apply(known, photograph(), overall * shares / 255.0)
        check_equal(page.pixels(strength=overall), expected)
        for _ in range(3):  # from the second draw at a place on, it is prepared
            check_equal(page.canvas(strength=overall), expected)
    shares = shares.copy()
    shares[2:5, 3:10] = np.arange(21, dtype=np.uint8).reshape(3, 7) * 12
    stroke = ", ".join(str(share) for share in shares[2:5, 3:10].flatten())
    page.run(f"view.updateStrengthMap(3, 2, 7, 3, new Uint8Array([{stroke}])); 0")
    expected = apply(known, photograph(), shares / 255.0)
    check_equal(page.pixels(strength=1.0), expected)
    check_equal(page.canvas(strength=1.0), expected)
    other = transfers_of("fog" if edit == "night" else "pencil")
    page.set_transfers(other)
    for _ in range(2):
        check_equal(page.canvas(strength=1.0), apply(other, photograph(), shares / 255.0))
    page.set_transfers(known)
    page.set_strength_map(None)
    check_equal(page.pixels(strength=0.35), known[0.35].apply(photograph()))


@browser_test
@pytest.mark.parametrize("missing", ["OES_texture_float_linear", "EXT_color_buffer"])
@pytest.mark.parametrize("edit", ["night", "watercolour"])
def test_browsers_that_can_less(browser, edit, missing):
    """A phone that filters no whole floats, or draws into none, showed no picture."""
    browser.run(
        "const all = WebGL2RenderingContext.prototype.getExtension;"
        " WebGL2RenderingContext.prototype.getExtension = function (name) {"
        f" return name.startsWith('{missing}') ? null : all.call(this, name); }}; 0"
    )
    page = ViewPage(browser)
    page.set_photograph(photograph())
    known = transfers_of(edit)
    page.set_transfers(known)
    for strength in (0.2, 1.0):
        check_equal(page.pixels(strength=strength), mix(known, strength).apply(photograph()))


@browser_test
def test_strengths_beyond_full(page):
    """A table of strengths that ends at 1."""
    known = transfers_of("night", (0.0, 0.5, 1.0, 1.5))
    page.set_transfers(known)
    check_equal(page.pixels(strength=1.3), mix(known, 1.3).apply(photograph()))
    shares = np.linspace(0, 255, 20).round().reshape(1, 20)
    page.set_strength_map(shares)
    check_equal(page.pixels(strength=1.5), apply(known, photograph(), 1.5 * shares / 255))


@browser_test
def test_transfers_that_come_and_go(page):
    """A layer that still holds an older transfer, after one was replaced or the edit changed to one of other parts."""
    known = transfers_of("watercolour")
    page.set_transfers({0.0: None, 1.0: known[1.0]})
    check_equal(page.pixels(strength=0.0), photograph(), most=0)
    expected = mix({0.0: Transfer.identity(SOURCE_SIZE), 1.0: known[1.0]}, 0.5).apply(photograph())
    check_equal(page.pixels(strength=0.5), expected)
    fog = transfers_of("fog")
    page.set_transfers({0.0: None, 1.0: fog[1.0]})
    check_equal(page.pixels(strength=1.0), fog[1.0].apply(photograph()))
    many = transfers_of("fog", tuple(np.linspace(0, 1, 14).round(3).tolist()))
    page.set_transfers(many)
    page.run("view.setTransfers(transfers.slice(3)); view.setTransfers(transfers); 0")
    for strength in (0.077, 0.5, 0.9):
        check_equal(page.pixels(strength=strength), mix(many, strength).apply(photograph()))


@browser_test
def test_zoom_pan_and_what_is_outside(page):
    """100 % that is not sharp, a picture off its place by half a pixel, or a black frame around it."""
    page.set_transfers(transfers_of("pencil"))
    whole = page.pixels(strength=0.7)
    at_full_size = page.canvas(strength=0.7, zoom=1, centre=[160 / 480, 200 / 336])
    assert np.array_equal(at_full_size, whole[80:320, :320])
    fitted = page.canvas(strength=0.7)  # 320 x 224, rows 8 to 231
    assert (fitted[:8] == 0).all() and (fitted[232:] == 0).all() and (fitted[8:232, :, 3] == 255).all()
    page.run("view.setTransfers([{ strength: 0, transfer: null }]); 0")
    fitted = page.canvas(strength=0)
    reduced = photograph().resize((320, 224), Image.Resampling.LANCZOS)
    assert psnr(fitted[8:232, :, :3] / 255.0, np.asarray(reduced) / 255.0) > 32  # soft mipmaps: 30


@browser_test
def test_zoomed_into_a_picture_with_detail(page):
    """Detail that is enlarged for other columns of the canvas than those that are seen, or lies beside the picture."""
    known = transfers_of("watercolour")
    page.set_transfers(known)
    twice = photograph().resize((960, 672), Image.Resampling.BILINEAR)
    seen = page.canvas(strength=1, zoom=2, centre=[0.75, 0.25])  # columns 560 to 879, rows 48 to 287
    expected = np.asarray(known[1.0].apply(twice))[48:288, 560:880]
    page.set_strength_map(np.full((2, 2), 255))
    for _ in range(2):  # what is kept of another place must not be used
        page.canvas(strength=1, zoom=2, centre=[0.3, 0.25])
    with_map = [page.canvas(strength=1, zoom=2, centre=[0.75, 0.25]) for _ in range(3)]
    for picture in (seen, *with_map):
        difference = np.abs(picture[..., :3].astype(int) - expected)
        assert difference.max() <= 3 and difference.mean() <= 0.5
    night = transfers_of("night")
    page.set_transfers(night)
    expected = np.asarray(night[1.0].apply(twice))[48:288, 560:880]
    seen = page.canvas(strength=1, zoom=2, centre=[0.75, 0.25])
    assert np.abs(seen[..., :3].astype(int) - expected).max() <= 3
    assert page.run("view.drawMilliseconds({ strength: 1 })") > 0


@browser_test
def test_before_after_and_difference(page):
    """A split line on the wrong side, or a heat map that is hot where nothing changes."""
    page.set_transfers(transfers_of("night"))
    after, before = page.canvas(strength=1), page.canvas(strength=1, show="source")
    split = page.canvas(strength=1, split=0.25)
    assert np.array_equal(split[:, :80], before[:, :80]) and np.array_equal(split[:, 80:], after[:, 80:])
    check_equal(page.pixels(strength=1, show="source"), photograph(), most=0)
    cold = page.pixels(strength=0, show="difference")
    hot = page.pixels(strength=1, show="difference").astype(int)[..., :3].sum(-1)
    assert cold[..., :3].max() <= 4
    change = np.abs(page.pixels(strength=1).astype(int)[..., :3] - np.asarray(photograph())).max(-1)
    order = np.argsort(change.flatten())
    assert np.corrcoef(change.flatten()[order], hot.flatten()[order])[0, 1] > 0.95


@browser_test
def test_a_tile_is_sharper_inside_and_nothing_else(page):
    """A tile that is drawn beside its place, or all over."""
    coarse = photograph().resize((120, 84), Image.Resampling.BOX)
    page.set_photograph(coarse, full=SIZE)
    known = transfers_of("night")
    page.set_transfers(known)
    without = page.canvas(strength=1, zoom=1, centre=[0.5, 0.5])  # columns 80 to 399, rows 48 to 287
    box = (120, 84, 240, 252)
    page.set_tile(photograph().crop(box), 0.25, 0.25, 0.25, 0.5)
    seen = page.canvas(strength=1, zoom=1, centre=[0.5, 0.5])
    expected = np.asarray(known[1.0].apply(photograph()))[84:252, 120:240]
    inside = seen[84 - 48 : 252 - 48, 120 - 80 : 240 - 80]
    assert np.abs(inside[..., :3].astype(int) - expected).max() <= 2
    changed = (seen != without).any(-1)
    changed[84 - 48 : 252 - 48, 120 - 80 : 240 - 80] = False
    assert not changed.any()
    page.set_photograph(coarse, full=SIZE)
    assert np.array_equal(page.canvas(strength=1, zoom=1, centre=[0.5, 0.5]), without), (
        "a tile of the photograph before"
    )


@browser_test
def test_thumbs(page):
    """A thumb of another strength, upside down, or full of false patterns."""
    known = transfers_of("watercolour")
    page.set_transfers(known)
    thumb = page.thumb(1.0, 96, 67)
    expected = known[1.0].apply(photograph()).resize((96, 67), Image.Resampling.BOX)
    assert np.abs(thumb[..., :3].astype(int) - np.asarray(expected)).mean() < 5


@browser_test
def test_a_lost_context_comes_back(page):
    """A laptop that slept showed an empty canvas until the page was loaded again."""
    page.set_transfers(transfers_of("watercolour"))
    page.set_strength_map(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20)
    before = page.canvas(strength=0.8)
    page.run("var lose = canvas.getContext('webgl2').getExtension('WEBGL_lose_context'); lose.loseContext(); 0")
    page.browser.wait("canvas.getContext('webgl2').isContextLost()")
    page.run("view.draw({strength: 0.8}); 0")
    page.run(
        "new Promise((resolve) => { canvas.addEventListener('webglcontextrestored', resolve); lose.restoreContext(); })"
        ".then(() => 0)"
    )
    assert np.array_equal(page.canvas(strength=0.8), before)


@browser_test
def test_without_webgl2_there_is_no_view(browser):
    """A page that fails on an old computer, where it could show frames."""
    browser.run("HTMLCanvasElement.prototype.getContext = () => null; 0")
    assert ViewPage(browser).run("view === null")


@browser_test
def test_transfers_that_do_not_fit_together_are_refused(page):
    """Two edits in one stack would show a picture that no edit gives."""
    page.set_transfers(transfers_of("fog"))
    said = page.run(
        "(() => { try { view.setTransfers([transfers[0], { strength: 0.5, transfer: identityTransfer(3, 3) }]); }"
        " catch (error) { return error.message; } })()"
    )
    assert said == "The transfers of one edit must have one size."


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on this machine")
def test_the_pure_functions_in_node():
    """Reading files, limits of zoom and pan, the table of strengths: `node --test tests/ui`."""
    files = [str(path) for path in sorted((ROOT / "tests" / "ui").glob("*.test.mjs"))]
    result = subprocess.run(["node", "--test", *files], capture_output=True, text=True, timeout=120)
    assert files and result.returncode == 0, result.stdout + result.stderr
