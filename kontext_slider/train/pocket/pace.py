"""Even steps: how far an edit's own parameter is at each strength, so that equal steps of the slider look equal.

An exposure, a haze or a size that grows evenly does not look as if it did. The table holds the parameter at strengths
1/8 to 7/8 where the distance to the source, by the pocket model's features, is that share of the whole way; measured
on held-out scenes by `python -m kontext_slider.evaluate.pace`. Shapes go only half of that way: distances between
pictures say little of how much larger a thing looks.
"""

from __future__ import annotations

import numpy as np

SHAPES = ("bigger", "smaller", "into-ball", "into-box", "into-cone", "taller-mountains", "stripes")
PACES: dict[str, tuple[float, ...]] = {
    "night": (0.2, 0.269, 0.32, 0.37, 0.454, 0.554, 0.684),
    "sepia": (0.186, 0.262, 0.333, 0.406, 0.485, 0.567, 0.659),
    "black-and-white": (0.123, 0.239, 0.35, 0.461, 0.576, 0.701, 0.841),
    "fog": (0.045, 0.09, 0.14, 0.21, 0.303, 0.442, 0.632),
    "snow": (0.256, 0.311, 0.366, 0.431, 0.5, 0.587, 0.687),
    "sunset": (0.281, 0.359, 0.425, 0.488, 0.557, 0.628, 0.721),
    "pencil": (0.078, 0.152, 0.22, 0.295, 0.378, 0.491, 0.669),
    "autumn": (0.089, 0.182, 0.28, 0.384, 0.504, 0.648, 0.812),
    "rain": (0.102, 0.204, 0.307, 0.412, 0.524, 0.65, 0.806),
    "underwater": (0.044, 0.089, 0.139, 0.218, 0.303, 0.404, 0.573),
    "desert": (0.244, 0.336, 0.414, 0.485, 0.557, 0.631, 0.732),
    "neon": (0.216, 0.284, 0.338, 0.397, 0.471, 0.559, 0.671),
    "comic": (0.096, 0.192, 0.291, 0.402, 0.533, 0.683, 0.841),
    "posterise": (0.076, 0.155, 0.236, 0.335, 0.451, 0.592, 0.768),
    "oil": (0.108, 0.216, 0.339, 0.464, 0.594, 0.725, 0.862),
    "watercolour": (0.251, 0.318, 0.386, 0.454, 0.527, 0.606, 0.704),
    "pixel-art": (0.085, 0.175, 0.274, 0.385, 0.52, 0.681, 0.85),
    "dreamy": (0.105, 0.212, 0.32, 0.431, 0.55, 0.68, 0.829),
    "brighter": (0.06, 0.121, 0.197, 0.282, 0.393, 0.55, 0.744),
    "recolour": (0.067, 0.137, 0.224, 0.326, 0.447, 0.599, 0.793),
    "stripes": (0.08, 0.16, 0.24, 0.329, 0.43, 0.548, 0.688),
    "dots": (0.178, 0.297, 0.405, 0.517, 0.62, 0.722, 0.842),
    "metal": (0.113, 0.228, 0.342, 0.454, 0.569, 0.693, 0.832),
    "wood": (0.142, 0.274, 0.4, 0.523, 0.645, 0.765, 0.883),
    "glass": (0.072, 0.147, 0.232, 0.331, 0.445, 0.582, 0.752),
    "into-ball": (0.106, 0.215, 0.328, 0.45, 0.572, 0.718, 0.863),
    "into-box": (0.113, 0.246, 0.374, 0.495, 0.63, 0.745, 0.868),
    "into-cone": (0.096, 0.195, 0.317, 0.435, 0.567, 0.686, 0.839),
    "bigger": (0.104, 0.23, 0.377, 0.508, 0.635, 0.766, 0.883),
    "smaller": (0.084, 0.168, 0.257, 0.383, 0.519, 0.654, 0.831),
    "lamp-on": (0.283, 0.446, 0.567, 0.668, 0.76, 0.844, 0.923),
    "taller-mountains": (0.11, 0.224, 0.355, 0.485, 0.622, 0.748, 0.878),
    "cloudy": (0.102, 0.193, 0.281, 0.367, 0.454, 0.55, 0.672),
}


def family(edit: str) -> str:
    """All colours of "recolour" are one family."""
    return edit.split("-")[0] if edit.startswith("recolour-") else edit


def parameter_at(edit: str, strength: float) -> float:
    """The parameter of an edit at a strength; beyond 1 it is the strength itself."""
    if strength >= 1:
        return strength
    return float(np.interp(strength, np.linspace(0, 1, 9), (0.0, *PACES[family(edit)], 1.0)))
