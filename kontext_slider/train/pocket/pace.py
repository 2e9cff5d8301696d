"""Even steps: how far an edit's own parameter is at each strength, so that equal steps of the slider look equal.

An exposure, a haze or a size that grows evenly does not look as if it did. The table holds the parameter at strengths
1/8 to 7/8 where the distance to the source, the mean of three (pixels, SSIM, the pocket model's features), is that
share of the whole way; measured on held-out scenes by `python -m kontext_slider.evaluate.pace`. Shapes go only half of
that way: distances between pictures say little of how much larger a thing looks.
"""

from __future__ import annotations

import numpy as np

SHAPES = ("bigger", "smaller", "into-ball", "into-box", "into-cone", "taller-mountains", "stripes")
PACES: dict[str, tuple[float, ...]] = {
    "night": (0.236, 0.317, 0.392, 0.467, 0.549, 0.639, 0.743),
    "sepia": (0.161, 0.253, 0.335, 0.415, 0.494, 0.571, 0.658),
    "black-and-white": (0.123, 0.247, 0.371, 0.495, 0.62, 0.745, 0.872),
    "fog": (0.068, 0.139, 0.223, 0.32, 0.434, 0.573, 0.75),
    "snow": (0.262, 0.347, 0.425, 0.5, 0.575, 0.653, 0.734),
    "sunset": (0.297, 0.392, 0.472, 0.549, 0.624, 0.698, 0.782),
    "pencil": (0.131, 0.243, 0.354, 0.47, 0.592, 0.728, 0.865),
    "autumn": (0.129, 0.257, 0.385, 0.511, 0.634, 0.757, 0.879),
    "rain": (0.085, 0.177, 0.28, 0.395, 0.521, 0.648, 0.816),
    "underwater": (0.06, 0.12, 0.198, 0.285, 0.393, 0.533, 0.721),
    "desert": (0.234, 0.349, 0.44, 0.522, 0.598, 0.685, 0.789),
    "neon": (0.281, 0.379, 0.46, 0.537, 0.61, 0.685, 0.766),
    "comic": (0.083, 0.171, 0.268, 0.382, 0.519, 0.663, 0.823),
    "posterise": (0.057, 0.115, 0.191, 0.28, 0.393, 0.536, 0.725),
    "oil": (0.093, 0.185, 0.301, 0.44, 0.588, 0.718, 0.881),
    "watercolour": (0.255, 0.344, 0.428, 0.508, 0.588, 0.669, 0.753),
    "pixel-art": (0.113, 0.229, 0.348, 0.47, 0.596, 0.727, 0.861),
    "dreamy": (0.12, 0.242, 0.366, 0.49, 0.616, 0.743, 0.871),
    "brighter": (0.081, 0.169, 0.265, 0.374, 0.499, 0.642, 0.808),
    "recolour": (0.062, 0.123, 0.217, 0.327, 0.462, 0.626, 0.826),
    "stripes": (0.082, 0.163, 0.244, 0.348, 0.466, 0.592, 0.746),
    "dots": (0.1, 0.227, 0.352, 0.471, 0.587, 0.71, 0.85),
    "metal": (0.1, 0.206, 0.321, 0.446, 0.579, 0.717, 0.858),
    "wood": (0.111, 0.224, 0.34, 0.461, 0.588, 0.72, 0.858),
    "glass": (0.07, 0.142, 0.226, 0.323, 0.435, 0.572, 0.745),
    "into-ball": (0.092, 0.184, 0.293, 0.412, 0.545, 0.69, 0.845),
    "into-box": (0.087, 0.175, 0.274, 0.395, 0.547, 0.717, 0.854),
    "into-cone": (0.082, 0.163, 0.245, 0.343, 0.452, 0.585, 0.768),
    "bigger": (0.089, 0.177, 0.287, 0.418, 0.569, 0.716, 0.863),
    "smaller": (0.077, 0.155, 0.232, 0.31, 0.412, 0.532, 0.688),
    "lamp-on": (0.137, 0.277, 0.415, 0.55, 0.676, 0.792, 0.899),
    "taller-mountains": (0.087, 0.174, 0.272, 0.383, 0.516, 0.679, 0.845),
    "cloudy": (0.073, 0.149, 0.23, 0.323, 0.431, 0.56, 0.737),
}


def family(edit: str) -> str:
    """All colours of "recolour" are one family."""
    return edit.split("-")[0] if edit.startswith("recolour-") else edit


def parameter_at(edit: str, strength: float) -> float:
    """The parameter of an edit at a strength; beyond 1 it is the strength itself."""
    if strength >= 1:
        return strength
    return float(np.interp(strength, np.linspace(0, 1, 9), (0.0, *PACES[family(edit)], 1.0)))
