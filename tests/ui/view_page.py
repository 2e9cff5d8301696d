"""The view of transfers on an empty page: what the app does with it, in a few calls."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from kontext_slider.transfer import Transfer
from kontext_slider.ui.components import CANVAS_SCRIPTS, asset
from tests.ui.browser import Browser

SCRIPTS = [name for name in CANVAS_SCRIPTS if name.startswith(("transfer_", "view_"))]
HELPERS = """
const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const textOf = (bytes) => new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(",")[1]);
  reader.readAsDataURL(new Blob([bytes]));
});
const imageAt = async (url) => { const image = new Image(); image.src = url; await image.decode(); return image; };
const canvas = document.createElement("canvas");
document.body.style.margin = 0;
document.body.append(canvas);
let view = null, transfers = [];
const drawn = (options) => { // what the canvas shows, as RGBA bytes
  view.draw(options);
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const context = copy.getContext("2d");
  context.drawImage(canvas, 0, 0);
  return context.getImageData(0, 0, copy.width, copy.height).data;
};
0"""


def address_of(image: Image.Image) -> str:
    """An address that holds all of it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + _text(buffer.getvalue())


class ViewPage:
    """One view on a canvas of `size` (width, height). `photograph` is what the view has."""

    def __init__(self, browser: Browser, size: tuple[int, int] = (320, 240)) -> None:
        self.browser = browser
        for name in SCRIPTS:
            self.run(asset(name) + "\n0")
        self.run(HELPERS)
        self.resize(*size)
        self.run("view = makeTransferView(canvas); 0")

    def run(self, script: str) -> Any:
        return self.browser.run(script)

    def resize(self, width: int, height: int) -> None:
        """So many pixels of the canvas, each one pixel of the page."""
        self.run(f"canvas.width = {width}; canvas.height = {height}; 0")
        self.size = width, height

    def set_photograph(self, photograph: Image.Image, full: tuple[int, int] | None = None) -> None:
        size = "" if full is None else f", {{width: {full[0]}, height: {full[1]}}}"
        self.run(f"imageAt('{address_of(photograph)}').then((image) => view.setPhotograph(image{size}))")
        self.photograph = photograph

    def set_transfers(self, transfers: Mapping[float, Transfer | None]) -> None:
        """One after another, as the server makes them; None changes nothing."""
        self.run("transfers = []; 0")
        for strength, transfer in transfers.items():
            parsed = f"parseTransfer(bytesOf('{_text(transfer.pack())}').buffer)" if transfer else "null"
            self.run(f"transfers.push({{strength: {strength}, transfer: {parsed}}}); view.setTransfers(transfers); 0")

    def set_strength_map(self, shares: np.ndarray | None) -> None:
        """shares: (H', W') bytes."""
        self.run(f"view.setStrengthMap({_map(shares) if shares is not None else 'null'}); 0")

    def set_tile(self, tile: Image.Image, x: float, y: float, width: float, height: float) -> None:
        """Where in the photograph, in [0, 1]."""
        place = f"x: {x}, y: {y}, width: {width}, height: {height}"
        self.run(f"imageAt('{address_of(tile)}').then((image) => view.setTile({{image, {place}}}))")

    def thumb(self, strength: float, width: int, height: int) -> np.ndarray:
        """(height, width, 4); the size must be what the picture has there."""
        self.run(f"var thumb = view.drawThumb({strength}, {width}, {height}); 0")
        assert self.run("[thumb.width, thumb.height]") == [width, height]
        pixels = "thumb.getContext('2d').getImageData(0, 0, thumb.width, thumb.height).data"
        return _array(self.run(f"textOf({pixels})"), width, height)

    def pixels(self, **options: Any) -> np.ndarray:
        """(H, W, 4) of the whole picture."""
        width, height = self.photograph.size
        return _array(self.run(f"textOf(view.pixels({json.dumps(options)}))"), width, height)

    def canvas(self, **options: Any) -> np.ndarray:
        """(height, width, 4) of what the canvas shows."""
        return _array(self.run(f"textOf(drawn({json.dumps(options)}))"), *self.size)


def _map(shares: np.ndarray) -> str:
    height, width = shares.shape
    return f"{{width: {width}, height: {height}, data: bytesOf('{_text(shares.astype(np.uint8).tobytes())}')}}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _array(text: str, width: int, height: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(height, width, 4)
