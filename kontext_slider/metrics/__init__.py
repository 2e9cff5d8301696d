"""Measures of pictures and sweeps: distances, smoothness, PSNR, statistics. A leaf: imports nothing of ours but errors.

Here: between pictures (H, W, 3) in [0, 1], as measures want them, and images, as pipelines and files want them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.float32]


def to_image(picture: Picture) -> Image.Image:
    """Clipped and rounded to 8 bits."""
    return Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))


def to_picture(image: Image.Image) -> Picture:
    """(H, W, 3) float32."""
    return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
