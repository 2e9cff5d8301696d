"""The edits of the synthetic scenes, one row each: function, category, phrasings and reparametrisation.

A *picture edit* maps any picture to a picture, so it has a ground truth on photographs too (`picture_edits`). A *scene
edit* changes the numbers of a scene, which is then drawn again (`scene_edits`). Strength 0 is the source itself, 1 the
whole edit. An edit's phrasings are its frames times its words; one in five is held out from training.

An exposure, a haze or a size that grows evenly does not look as if it did. So each edit has a *reparametrisation*: its
own parameter at strengths 1/8 to 7/8, where the distance to the source is that share of the whole way, by the mean of
two distances: the pocket model's features, which see little of how much lighter or paler a picture is, and the root
mean square of pixels, which sees little else. Measured on held-out scenes and, for edits of the whole picture, on crops
of photographs. SHAPES go only half of that way: distances between pictures say little of how much larger a thing looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature

import numpy as np

from . import picture_edits as pictures
from . import scene_edits as scenes
from .paint import Picture, Strength
from .phrasings import ADD, BECOME, COLOUR, DRAW, LIGHT, MATERIAL, MOUNTAINS, PATTERN, SHAPE, SIZE, SKY, split
from .scene import COLOURS, Scene, draw
from .things import KINDS

NOT_TREES = tuple(kind for kind in KINDS if kind != "tree")
NOUNS = tuple(f"{side}{kind}" for side in ("", "left ", "right ") for kind in KINDS)
STRENGTHS = np.linspace(0, 1, 9)  # the reparametrisation holds the parameter at those between the ends
UNCHANGED = tuple(STRENGTHS[1:-1].tolist())  # for a new edit, until its own is measured


@dataclass(frozen=True)
class Edit:
    """A named edit with its phrasings ("{thing}" stands for the object) and exactly one of two functions.

    category: the paper's name for its kind. reparametrisation: the parameter at strengths 1/8 to 7/8. kinds: objects it
    can be done to; none for edits of the whole scene. goes_on: whether it has a ground truth beyond strength 1, up to
    1.5. more: phrasings of no frame, all of them trained. takes_map: whether every pixel may have its own strength; not
    where outlines move, as an object has one size and one shape.

    Raises ValueError where the reparametrisation is missing or does not rise, or there is not one function."""

    name: str
    category: str
    frames: tuple[str, ...]
    words: tuple[str, ...] = ("",)
    reparametrisation: tuple[float, ...] = ()
    on_picture: Callable[..., Picture] | None = None
    on_scene: Callable[[Scene, int, Strength], Scene] | None = None
    kinds: tuple[str, ...] = ()
    fits: Callable[[Scene, int], bool] = lambda scene, index: True
    goes_on: bool = False
    more: tuple[str, ...] = ()
    takes_map: bool = True

    def __post_init__(self) -> None:
        ways = (0.0, *self.reparametrisation, 1.0)
        if len(ways) != len(STRENGTHS) or any(a >= b for a, b in zip(ways, ways[1:], strict=False)):
            raise ValueError(
                f"The edit {self.name!r} has no reparametrisation of {len(STRENGTHS) - 2} rising numbers between 0 "
                "and 1. Begin with UNCHANGED and replace it by what measure_reparametrisation.py prints."
            )
        if (self.on_picture is None) == (self.on_scene is None):
            raise ValueError(f"The edit {self.name!r} needs one function: on_picture or on_scene.")

    @property
    def is_global(self) -> bool:
        """Whether the edit has a ground truth on any picture, not only on synthetic scenes."""
        return self.on_picture is not None

    def targets(self, scene: Scene) -> list[int]:
        """The objects of a scene that this edit can be done to; [0] for an edit of the whole scene."""
        if not self.kinds:
            return [0]
        return [n for n, thing in enumerate(scene.things) if thing.kind in self.kinds and self.fits(scene, n)]

    def parameter_at(self, strength: Strength) -> Strength:
        """The edit's own parameter at a strength, or at each of a map; beyond 1 it is the strength itself."""
        if isinstance(strength, np.ndarray):
            return np.where(
                strength >= 1, strength, np.interp(strength, STRENGTHS, (0.0, *self.reparametrisation, 1.0))
            )
        if strength >= 1:
            return strength
        return float(np.interp(strength, STRENGTHS, (0.0, *self.reparametrisation, 1.0)))

    def apply(
        self,
        scene: Scene,
        strength: Strength,
        width: int,
        height: int,
        index: int = 0,
        reparametrised=True,
        unit: int = 1,
    ) -> Picture:
        """The ground truth: this edit at `strength` on a synthetic scene, or on its object `index`, as `apply_to`."""
        if self.on_scene is None:
            return self.apply_to(draw(scene, width, height), strength, reparametrised, unit)
        parameter = self._parameter(strength, (height, width), reparametrised)
        return draw(self.on_scene(scene, index, parameter), width, height)

    def apply_to(self, picture: Picture, strength: Strength, reparametrised: bool = True, unit: int = 1) -> Picture:
        """The ground truth of an edit of the whole picture, (H, W, 3). Not `reparametrised`, the strength is the edit's
        own parameter. `unit` as in `picture_edits`.

        strength: one number, or (H, W), a strength for every pixel: each is as in the picture of its own strength, up
        to rounding. Raises ValueError for another shape, and for an edit that does not take a map."""
        assert self.on_picture is not None
        parameter = self._parameter(strength, picture.shape[:2], reparametrised)
        if isinstance(parameter, np.ndarray):
            parameter = parameter[..., None].astype(np.float32)
        sized = {"unit": unit} if "unit" in signature(self.on_picture).parameters else {}
        return self.on_picture(picture, parameter, **sized)

    def _parameter(self, strength: Strength, size: tuple[int, ...], reparametrised: bool) -> Strength:
        """The edit's own parameter for a picture of `size` (H, W), checked."""
        if isinstance(strength, np.ndarray) and not self.takes_map:
            raise ValueError(f"The edit {self.name!r} moves outlines: it has one strength, not one for every pixel.")
        if isinstance(strength, np.ndarray) and strength.shape != size:
            raise ValueError(f"A strength map of a picture of {size} has that shape, not {strength.shape}.")
        return self.parameter_at(strength) if reparametrised else strength

    def instructions(self, noun: str | None = None, held_out: bool = False) -> list[str]:
        """Phrasings that are trained on, or the `held_out` ones, made of words that training does see: for one noun
        ("tree", "left tree") or for all that the edit fits."""
        nouns = [n for n in NOUNS if n.split()[-1] in self.kinds] if noun is None else [noun]
        pairs = [(i, j) for j in range(len(self.words)) for i in range(len(self.frames))]
        chosen = [(i, j) for i, j in pairs if ((i + 2 * j) % 5 == 4) == held_out]
        texts = [*([] if held_out else self.more), *(self.frames[i].replace("{}", self.words[j]) for i, j in chosen)]
        return list(dict.fromkeys(text.replace("{thing}", noun) for text in texts for noun in nouns or [""]))


def _picture(name, category, frames, words, function, reparametrisation, more, **rest) -> Edit:
    return Edit(name, category, frames, split(words), reparametrisation, on_picture=function, more=split(more), **rest)


def _object(name, category, frames, words, function, reparametrisation, kinds=KINDS, more="", **rest) -> Edit:
    rest |= {"kinds": kinds, "more": split(more) if more else ()}
    return Edit(name, category, frames, split(words), reparametrisation, on_scene=function, **rest)


# fmt: off
PICTURE_EDITS = (
    _picture("night", "environment_change", BECOME, "night|nighttime|a night scene|dark", pictures.night,
             (0.176, 0.252, 0.315, 0.379, 0.462, 0.557, 0.677), "turn day into night|change the time to night",
             goes_on=True),
    _picture("sepia", "stylization", BECOME, "sepia|an old photo|old and brown", pictures.sepia,
             (0.211, 0.307, 0.392, 0.475, 0.557, 0.64, 0.731), "add a sepia tone|make it look like an old photo"),
    _picture("black-and-white", "stylization", BECOME, "black and white|greyscale|monochrome", pictures.black_and_white,
             (0.125, 0.246, 0.364, 0.481, 0.6, 0.724, 0.857), "remove the color|remove the colour"),
    _picture("fog", "environment_change", ADD, "fog|mist|haze", pictures.fog,
             (0.057, 0.115, 0.185, 0.261, 0.37, 0.516, 0.709), "make it foggy|cover it in fog", goes_on=True),
    _picture("snow", "environment_change", ADD, "snow|winter|snow and ice", pictures.snow,
             (0.297, 0.374, 0.441, 0.509, 0.579, 0.653, 0.732), "make it snow|cover it in snow"),
    _picture("sunset", "environment_change", BECOME, "sunset|a sunset|evening", pictures.sunset,
             (0.278, 0.367, 0.44, 0.511, 0.583, 0.659, 0.742), "add a sunset|change the time to sunset"),
    _picture("pencil", "stylization", DRAW, "a pencil sketch|a pencil drawing|a sketch", pictures.pencil,
             (0.107, 0.201, 0.296, 0.397, 0.507, 0.637, 0.821),
             "draw it with a pencil|make it look like a pencil sketch"),
    _picture("autumn", "environment_change", BECOME, "autumn|fall|an autumn scene", pictures.autumn,
             (0.114, 0.226, 0.341, 0.46, 0.584, 0.715, 0.853), "change the season to autumn|make it look like autumn"),
    _picture("rain", "environment_change", ADD, "rain|rainy weather|wet weather", pictures.rain,
             (0.098, 0.202, 0.311, 0.427, 0.549, 0.68, 0.832), "make it rain|make it rainy"),
    _picture("underwater", "reimagining", BECOME, "underwater|an underwater scene|the sea", pictures.underwater,
             (0.053, 0.106, 0.178, 0.261, 0.36, 0.486, 0.674), "put it under water|sink it in the sea", goes_on=True),
    _picture("desert", "reimagining", BECOME, "a desert|the desert|a sandy desert", pictures.desert,
             (0.243, 0.355, 0.443, 0.524, 0.598, 0.683, 0.785), "turn it into sand|cover it in sand"),
    _picture("neon", "reimagining", BECOME, "neon|a neon scene|cyberpunk", pictures.neon,
             (0.229, 0.305, 0.371, 0.444, 0.52, 0.601, 0.693), "add neon light|make it look like cyberpunk"),
    _picture("comic", "stylization", DRAW, "a comic|a cartoon|a comic book", pictures.comic,
             (0.088, 0.179, 0.274, 0.376, 0.496, 0.644, 0.82), "make it look like a cartoon|make it look like a comic"),
    _picture("posterise", "stylization", DRAW, "a poster|a screen print|flat colors", pictures.posterise,
             (0.065, 0.131, 0.211, 0.305, 0.421, 0.566, 0.743), "posterize it|posterise it"),
    _picture("oil", "stylization", DRAW, "an oil painting|a painting|oil paint", pictures.oil,
             (0.104, 0.209, 0.331, 0.453, 0.584, 0.716, 0.862), "paint it in oil|make it look like an oil painting"),
    _picture("watercolour", "stylization", DRAW, "a watercolor|a watercolour|a wash", pictures.watercolour,
             (0.27, 0.347, 0.422, 0.497, 0.575, 0.657, 0.743), "paint it in watercolor|paint it in watercolour"),
    _picture("pixel-art", "stylization", DRAW, "pixel art|pixelated|big pixels", pictures.pixel_art,
             (0.106, 0.215, 0.329, 0.447, 0.571, 0.701, 0.843), "make it look pixelated|draw it with big pixels"),
    _picture("dreamy", "stylization", BECOME, "dreamy|glow softly|a soft dream", pictures.dreamy,
             (0.116, 0.233, 0.351, 0.472, 0.597, 0.727, 0.862), "add a soft glow|make it glow", goes_on=True),
    _picture("brighter", "attribute_change", BECOME, "brighter|bright|full of light", pictures.brighter,
             (0.077, 0.159, 0.249, 0.352, 0.472, 0.613, 0.787), "add more light|brighten it", goes_on=True),
)
SCENE_EDITS = (
    *(_object(f"recolour-{colour}", "appearance_change", COLOUR, colour, partial(scenes.recolour, colour),
              (0.079, 0.169, 0.275, 0.396, 0.535, 0.69, 0.852),
              NOT_TREES if colour == "white" else KINDS, fits=partial(scenes.is_far_from, colour))
      for colour in COLOURS),
    _object("stripes", "appearance_change", PATTERN, "stripes|white stripes", partial(scenes.add_pattern, "stripes"),
            (0.084, 0.168, 0.253, 0.361, 0.48, 0.613, 0.778), goes_on=True, fits=partial(scenes.is_far_from, "white")),
    _object("dots", "appearance_change", PATTERN, "dots|white dots", partial(scenes.add_pattern, "dots"),
            (0.164, 0.3, 0.418, 0.534, 0.643, 0.75, 0.868), goes_on=True, fits=partial(scenes.is_far_from, "white")),
    _object("metal", "material_change", MATERIAL, "metal|steel", partial(scenes.refinish, "metal"),
            (0.119, 0.239, 0.358, 0.476, 0.596, 0.722, 0.855), NOT_TREES),
    _object("wood", "material_change", MATERIAL, "wood|timber", partial(scenes.refinish, "wood"),
            (0.133, 0.262, 0.388, 0.512, 0.635, 0.758, 0.879), NOT_TREES),
    _object("glass", "material_change", MATERIAL, "glass|clear glass", partial(scenes.refinish, "glass"),
            (0.075, 0.153, 0.24, 0.34, 0.454, 0.589, 0.756), NOT_TREES),
    _object("into-ball", "object_morphing", SHAPE, "ball", partial(scenes.become, "ball"),
            (0.102, 0.209, 0.322, 0.445, 0.572, 0.714, 0.859), ("box", "cone"), takes_map=False),
    _object("into-box", "object_morphing", SHAPE, "box", partial(scenes.become, "box"),
            (0.103, 0.215, 0.342, 0.473, 0.613, 0.74, 0.864), ("ball", "cone"), takes_map=False),
    _object("into-cone", "object_morphing", SHAPE, "cone", partial(scenes.become, "cone"),
            (0.092, 0.184, 0.295, 0.412, 0.541, 0.675, 0.832), ("ball", "box"), takes_map=False),
    _object("bigger", "attribute_change", SIZE, "bigger|larger|big", partial(scenes.resize, 1.6),
            (0.1, 0.211, 0.346, 0.483, 0.617, 0.753, 0.878), more="enlarge the {thing}|grow the {thing}", goes_on=True,
            takes_map=False),
    _object("smaller", "attribute_change", SIZE, "smaller|tiny|small", partial(scenes.resize, 0.55),
            (0.082, 0.163, 0.245, 0.348, 0.468, 0.606, 0.785), more="shrink the {thing}|make the {thing} shrink",
            goes_on=True, takes_map=False),
    _object("lamp-on", "attribute_change", LIGHT, "", scenes.light_up,
            (0.223, 0.391, 0.525, 0.639, 0.74, 0.832, 0.918), ("lamp",), goes_on=True),
    _object("taller-mountains", "attribute_change", MOUNTAINS, "taller|higher|tall", scenes.raise_mountains,
            (0.103, 0.21, 0.327, 0.459, 0.595, 0.733, 0.869), (), "raise the mountains|grow the mountains",
            goes_on=True, takes_map=False),
    _object("cloudy", "environment_change", SKY, "cloudy|overcast|grey", scenes.cloud_over,
            (0.1, 0.194, 0.288, 0.382, 0.482, 0.595, 0.742), ()),
)
# fmt: on
EDITS = {edit.name: edit for edit in (*PICTURE_EDITS, *SCENE_EDITS)}
SHAPES = ("bigger", "smaller", "into-ball", "into-box", "into-cone", "taller-mountains", "stripes")
NO_EDIT = ("change nothing", "keep it as it is", "do nothing", "leave it alone")


def family(edit: str) -> str:
    """All colours of "recolour" are one family."""
    return edit.split("-")[0] if edit.startswith("recolour-") else edit


def trained_instructions() -> dict[str, list[str]]:
    """Every sentence of training: edit name -> instructions."""
    return {name: edit.instructions() for name, edit in EDITS.items()}


def known_instructions() -> dict[str, list[str]]:
    """What the pocket model can be asked for, in words; "left" and "right" are understood before every object."""
    plain: dict[str, Sequence[str | None]] = {name: edit.kinds or (None,) for name, edit in EDITS.items()}
    return {name: [text for noun in plain[name] for text in edit.instructions(noun)] for name, edit in EDITS.items()}
