"""Even steps: how far an edit's own parameter is at each strength, so that equal steps of the slider look equal.

An exposure, a haze or a size that grows evenly does not look as if it did. The table holds the parameter at strengths
1/8 to 7/8 where the distance to the source is that share of the whole way, by the mean of two rulers: the pocket
model's features, which see little of how much lighter or paler a picture is, and the root mean square of pixels, which
sees little else. Measured on held-out scenes and, where an edit is of the whole picture, on crops of photographs that
training crops too, by `python -m kontext_slider.evaluate.pace`. Shapes go only half of that way: distances between
pictures say little of how much larger a thing looks.
"""

from __future__ import annotations

import numpy as np

SHAPES = ("bigger", "smaller", "into-ball", "into-box", "into-cone", "taller-mountains", "stripes")
PACES: dict[str, tuple[float, ...]] = {
    "night": (0.176, 0.252, 0.315, 0.379, 0.462, 0.557, 0.677),
    "sepia": (0.211, 0.307, 0.392, 0.475, 0.557, 0.64, 0.731),
    "black-and-white": (0.125, 0.246, 0.364, 0.481, 0.6, 0.724, 0.857),
    "fog": (0.057, 0.115, 0.185, 0.261, 0.37, 0.516, 0.709),
    "snow": (0.297, 0.374, 0.441, 0.509, 0.579, 0.653, 0.732),
    "sunset": (0.278, 0.367, 0.44, 0.511, 0.583, 0.659, 0.742),
    "pencil": (0.107, 0.201, 0.296, 0.397, 0.507, 0.637, 0.821),
    "autumn": (0.114, 0.226, 0.341, 0.46, 0.584, 0.715, 0.853),
    "rain": (0.098, 0.202, 0.311, 0.427, 0.549, 0.68, 0.832),
    "underwater": (0.053, 0.106, 0.178, 0.261, 0.36, 0.486, 0.674),
    "desert": (0.243, 0.355, 0.443, 0.524, 0.598, 0.683, 0.785),
    "neon": (0.229, 0.305, 0.371, 0.444, 0.52, 0.601, 0.693),
    "comic": (0.088, 0.179, 0.274, 0.376, 0.496, 0.644, 0.82),
    "posterise": (0.065, 0.131, 0.211, 0.305, 0.421, 0.566, 0.743),
    "oil": (0.104, 0.209, 0.331, 0.453, 0.584, 0.716, 0.862),
    "watercolour": (0.27, 0.347, 0.422, 0.497, 0.575, 0.657, 0.743),
    "pixel-art": (0.106, 0.215, 0.329, 0.447, 0.571, 0.701, 0.843),
    "dreamy": (0.116, 0.233, 0.351, 0.472, 0.597, 0.727, 0.862),
    "brighter": (0.077, 0.159, 0.249, 0.352, 0.472, 0.613, 0.787),
    "recolour": (0.079, 0.169, 0.275, 0.396, 0.535, 0.69, 0.852),
    "stripes": (0.084, 0.168, 0.253, 0.361, 0.48, 0.613, 0.778),
    "dots": (0.164, 0.3, 0.418, 0.534, 0.643, 0.75, 0.868),
    "metal": (0.119, 0.239, 0.358, 0.476, 0.596, 0.722, 0.855),
    "wood": (0.133, 0.262, 0.388, 0.512, 0.635, 0.758, 0.879),
    "glass": (0.075, 0.153, 0.24, 0.34, 0.454, 0.589, 0.756),
    "into-ball": (0.102, 0.209, 0.322, 0.445, 0.572, 0.714, 0.859),
    "into-box": (0.103, 0.215, 0.342, 0.473, 0.613, 0.74, 0.864),
    "into-cone": (0.092, 0.184, 0.295, 0.412, 0.541, 0.675, 0.832),
    "bigger": (0.1, 0.211, 0.346, 0.483, 0.617, 0.753, 0.878),
    "smaller": (0.082, 0.163, 0.245, 0.348, 0.468, 0.606, 0.785),
    "lamp-on": (0.223, 0.391, 0.525, 0.639, 0.74, 0.832, 0.918),
    "taller-mountains": (0.103, 0.21, 0.327, 0.459, 0.595, 0.733, 0.869),
    "cloudy": (0.1, 0.194, 0.288, 0.382, 0.482, 0.595, 0.742),
}


def family(edit: str) -> str:
    """All colours of "recolour" are one family."""
    return edit.split("-")[0] if edit.startswith("recolour-") else edit


def parameter_at(edit: str, strength: float) -> float:
    """The parameter of an edit at a strength; beyond 1 it is the strength itself."""
    if strength >= 1:
        return strength
    return float(np.interp(strength, np.linspace(0, 1, 9), (0.0, *PACES[family(edit)], 1.0)))
