"""The edits of the small world, each a function of its own strength: ground truth at every position of the slider.

A *picture edit* maps any picture and a strength to a picture, so it has a truth on photographs too (`picture_edits`). A
*scene edit* changes the numbers of a scene, which is then drawn again (`scene_edits`). Strength 0 is the source itself,
1 the whole edit. An edit's phrasings are its frames times its words; one in five is held out from training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from . import picture_edits, scene_edits
from .paint import Picture
from .phrasings import (
    ADD,
    BECOME,
    COLOUR,
    DRAW,
    LIGHT,
    MATERIAL,
    MORE,
    MOUNTAINS,
    PATTERN,
    SHAPE,
    SIZE,
    SKY,
    split,
)
from .reparametrisation import parameter_at
from .scene import COLOURS, Scene, draw
from .things import KINDS, SOLIDS

NOT_TREES = tuple(kind for kind in KINDS if kind != "tree")
NOUNS = tuple(f"{side}{kind}" for side in ("", "left ", "right ") for kind in KINDS)


@dataclass(frozen=True)
class Edit:
    """A named edit with its phrasings ("{thing}" stands for the object) and exactly one of two functions.

    category: the paper's name for its kind. kinds: objects it can be done to; none for edits of the whole scene.
    goes_on: whether it has a truth beyond strength 1, up to 1.5. more: phrasings of no frame, all of them trained.
    has_strokes: whether `on_picture` takes a `unit`, as its strokes have a size in pixels."""

    name: str
    category: str
    frames: tuple[str, ...]
    words: tuple[str, ...] = ("",)
    on_picture: Callable[..., Picture] | None = None
    on_scene: Callable[[Scene, int, float], Scene] | None = None
    kinds: tuple[str, ...] = ()
    fits: Callable[[Scene, int], bool] = lambda scene, index: True
    goes_on: bool = False
    more: tuple[str, ...] = ()
    has_strokes: bool = False

    @property
    def is_global(self) -> bool:
        """Whether the edit has a truth on any picture, not only on drawn scenes."""
        return self.on_picture is not None

    def targets(self, scene: Scene) -> list[int]:
        """The objects of a scene that this edit can be done to; [0] for an edit of the whole scene."""
        if not self.kinds:
            return [0]
        return [n for n, thing in enumerate(scene.things) if thing.kind in self.kinds and self.fits(scene, n)]

    def apply(
        self, scene: Scene, strength: float, width: int, height: int, index: int = 0, paced: bool = True, unit: int = 1
    ) -> Picture:
        """The truth: this edit at `strength` on a drawn scene, or on one object of it, (H, W, 3).

        Not `paced`, the strength is the edit's own parameter, which moves less evenly (`pace.py`). `unit` as in
        `picture_edits`."""
        if self.on_scene is None:
            return self.apply_to(draw(scene, width, height), strength, paced, unit)
        parameter = parameter_at(self.name, strength) if paced else strength
        return draw(self.on_scene(scene, index, parameter), width, height)

    def apply_to(self, picture: Picture, strength: float, paced: bool = True, unit: int = 1) -> Picture:
        """The truth of an edit of the whole picture, (H, W, 3), as `apply`."""
        assert self.on_picture is not None
        parameter = parameter_at(self.name, strength) if paced else strength
        return self.on_picture(picture, parameter, unit) if self.has_strokes else self.on_picture(picture, parameter)

    def instructions(self, noun: str | None = None) -> list[str]:
        """Phrasings that are trained on, for one noun ("tree", "left tree") or for all that the edit fits."""
        return self._say(noun, held_out=False)

    def held_out_instructions(self, noun: str | None = None) -> list[str]:
        """Phrasings that training never sees, made of words that it does see."""
        return self._say(noun, held_out=True)

    def _say(self, noun: str | None, held_out: bool) -> list[str]:
        nouns = [n for n in NOUNS if n.split()[-1] in self.kinds] if noun is None else [noun]
        pairs = [(i, j) for j in range(len(self.words)) for i in range(len(self.frames))]
        chosen = [(i, j) for i, j in pairs if ((i + 2 * j) % 5 == 4) == held_out]
        texts = [*([] if held_out else self.more), *(self.frames[i].replace("{}", self.words[j]) for i, j in chosen)]
        return list(dict.fromkeys(text.replace("{thing}", noun) for text in texts for noun in nouns or [""]))


STROKES = ("pencil", "comic", "oil", "watercolour", "pixel-art", "dreamy", "rain")
PICTURE_EDITS = tuple(
    Edit(
        name,
        category,
        frames,
        split(words),
        on_picture=function,
        goes_on=goes_on,
        more=MORE[name],
        has_strokes=name in STROKES,
    )
    for name, category, frames, words, function, goes_on in (
        ("night", "environment_change", BECOME, "night|nighttime|a night scene|dark", picture_edits.night, True),
        ("sepia", "stylization", BECOME, "sepia|an old photo|old and brown", picture_edits.sepia, False),
        (
            "black-and-white",
            "stylization",
            BECOME,
            "black and white|greyscale|monochrome",
            picture_edits.black_and_white,
            False,
        ),
        ("fog", "environment_change", ADD, "fog|mist|haze", picture_edits.fog, True),
        ("snow", "environment_change", ADD, "snow|winter|snow and ice", picture_edits.snow, False),
        ("sunset", "environment_change", BECOME, "sunset|a sunset|evening", picture_edits.sunset, False),
        ("pencil", "stylization", DRAW, "a pencil sketch|a pencil drawing|a sketch", picture_edits.pencil, False),
        ("autumn", "environment_change", BECOME, "autumn|fall|an autumn scene", picture_edits.autumn, False),
        ("rain", "environment_change", ADD, "rain|rainy weather|wet weather", picture_edits.rain, False),
        ("underwater", "reimagining", BECOME, "underwater|an underwater scene|the sea", picture_edits.underwater, True),
        ("desert", "reimagining", BECOME, "a desert|the desert|a sandy desert", picture_edits.desert, False),
        ("neon", "reimagining", BECOME, "neon|a neon scene|cyberpunk", picture_edits.neon, False),
        ("comic", "stylization", DRAW, "a comic|a cartoon|a comic book", picture_edits.comic, False),
        ("posterise", "stylization", DRAW, "a poster|a screen print|flat colors", picture_edits.posterise, False),
        ("oil", "stylization", DRAW, "an oil painting|a painting|oil paint", picture_edits.oil, False),
        ("watercolour", "stylization", DRAW, "a watercolor|a watercolour|a wash", picture_edits.watercolour, False),
        ("pixel-art", "stylization", DRAW, "pixel art|pixelated|big pixels", picture_edits.pixel_art, False),
        ("dreamy", "stylization", BECOME, "dreamy|glow softly|a soft dream", picture_edits.dreamy, True),
        ("brighter", "attribute_change", BECOME, "brighter|bright|full of light", picture_edits.brighter, True),
    )
)


def _object_edit(name, category, frames, words, function, kinds=KINDS, goes_on=False, fits=lambda scene, index: True):
    shared = {
        "on_scene": function,
        "kinds": kinds,
        "goes_on": goes_on,
        "fits": fits,
        "more": MORE.get(name, ()),
    }
    return Edit(name, category, frames, split(words), **shared)


SCENE_EDITS = (
    *(
        _object_edit(
            f"recolour-{colour}",
            "appearance_change",
            COLOUR,
            colour,
            partial(scene_edits.recolour, colour),
            NOT_TREES if colour == "white" else KINDS,
            fits=partial(scene_edits.is_far_from, colour),
        )
        for colour in COLOURS
    ),
    *(
        _object_edit(
            pattern,
            "appearance_change",
            PATTERN,
            words,
            partial(scene_edits.add_pattern, pattern),
            goes_on=True,
            fits=partial(scene_edits.is_far_from, "white"),
        )
        for pattern, words in (("stripes", "stripes|white stripes"), ("dots", "dots|white dots"))
    ),
    *(
        _object_edit(finish, "material_change", MATERIAL, words, partial(scene_edits.refinish, finish), NOT_TREES)
        for finish, words in (("metal", "metal|steel"), ("wood", "wood|timber"), ("glass", "glass|clear glass"))
    ),
    *(
        _object_edit(
            f"into-{kind}",
            "object_morphing",
            SHAPE,
            kind,
            partial(scene_edits.become, kind),
            tuple(other for other in SOLIDS if other != kind),
        )
        for kind in SOLIDS
    ),
    _object_edit(
        "bigger",
        "attribute_change",
        SIZE,
        "bigger|larger|big",
        partial(scene_edits.resize, 1.6),
        goes_on=True,
    ),
    _object_edit(
        "smaller",
        "attribute_change",
        SIZE,
        "smaller|tiny|small",
        partial(scene_edits.resize, 0.55),
        goes_on=True,
    ),
    _object_edit(
        "lamp-on",
        "attribute_change",
        LIGHT,
        "",
        scene_edits.light_up,
        ("lamp",),
        goes_on=True,
    ),
    Edit(
        "taller-mountains",
        "attribute_change",
        MOUNTAINS,
        split("taller|higher|tall"),
        on_scene=scene_edits.raise_mountains,
        goes_on=True,
        more=MORE["taller-mountains"],
    ),
    Edit(
        "cloudy",
        "environment_change",
        SKY,
        split("cloudy|overcast|grey"),
        on_scene=scene_edits.cloud_over,
    ),
)
EDITS = {edit.name: edit for edit in (*PICTURE_EDITS, *SCENE_EDITS)}
NO_EDIT = ("change nothing", "keep it as it is", "do nothing", "leave it alone")


def trained_instructions() -> dict[str, list[str]]:
    """Every sentence of training: edit name -> instructions."""
    return {name: edit.instructions() for name, edit in EDITS.items()}


def known_instructions() -> dict[str, list[str]]:
    """What the pocket model can be asked for, in words; "left" and "right" are understood before every object."""
    plain: dict[str, Sequence[str | None]] = {name: edit.kinds or (None,) for name, edit in EDITS.items()}
    return {name: [text for noun in plain[name] for text in edit.instructions(noun)] for name, edit in EDITS.items()}
