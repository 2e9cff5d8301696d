"""The edit that a saved file tells of, as the page can open it again. A file may come from anybody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..edit import MAX_STRENGTH, check_strength
from ..engine import grid
from ..errors import InvalidInput
from ..files import file_sha256
from ..metadata import read_metadata, unpack_map
from .api import checked_settings
from .handlers import MAX_FRAMES
from .open_chain import layers_of
from .open_edit import LayerInputs

LEAST_FRAMES = 3  # that the page's strip can have
MAX_SENTENCE = 300  # letters of what is said of somebody's values
MAX_NAME = 80  # letters of a file's name in a sentence
BAD_MAP = "Its strength map cannot be read: the whole picture gets the slider's strength."
IS_CHAIN = "It is the last of {} edits, which the page cannot do one after the other; those before it are not restored."
BEYOND = "It was made at strength {:.2f}, beyond the full edit; the slider stands at 1."
OTHER_MODEL = "It was made by another model ({}), so this edit will look different."


@dataclass(frozen=True)
class SavedEdit:
    """settings: those of `SliderEngine.open`, None for the model's own. num_frames: of a sweep that the page's strip
    can have, else None. strength: of the slider. num_strengths: of the pictures in the file.
    layers: of several edits, one after the other, all of them; else none.
    source, source_sha256: name and digest of the photograph's file, "" where the file does not tell.
    strength_map: as `metadata.pack_map` makes it, "" for none.
    remarks: sentences about what will differ.
    """

    settings: dict[str, Any]
    strength: float
    num_strengths: int
    num_frames: int | None = None
    layers: tuple[LayerInputs, ...] = ()
    source: str = ""
    source_sha256: str = ""
    strength_map: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def instruction(self) -> str:
        return str(self.settings["instruction"])

    @property
    def photograph(self) -> str:
        """What a sentence calls the photograph that the edit was made of."""
        return self.source or "the photograph that it was made from"

    def is_made_from(self, path: str | os.PathLike[str]) -> bool:
        """Whether the photograph is the edit's: by its bytes, and for files that do not tell these by its name."""
        if self.source_sha256:
            return file_sha256(Path(path)) == self.source_sha256
        return Path(path).name == self.source


def has_recipe(path: str | os.PathLike[str]) -> bool:
    """Whether a file tells of an edit."""
    try:
        read_metadata(path)
    except InvalidInput:
        return False
    return True


def read_saved_edit(path: str | os.PathLike[str], pipe: Any, origin: Mapping[str, Any]) -> SavedEdit:
    """The edit that a file was made by. pipe: the page's model; origin: its names, as in `Saving`.

    Raises InvalidInput, with a sentence, for a file that tells of no edit, and for values that the page does not take.
    """
    metadata, name = read_metadata(path), shortened(Path(path).name, MAX_NAME)
    try:
        return saved_edit(metadata, pipe, origin)
    except InvalidInput as error:
        reason = shortened(str(error), MAX_SENTENCE)
        raise InvalidInput(f"The edit of {name} cannot be opened here. {reason}") from error


def saved_edit(metadata: Mapping[str, Any], pipe: Any, origin: Mapping[str, Any]) -> SavedEdit:
    """The same of what `read_metadata` has read."""
    guidance = metadata.get("guidance") if pipe.transformer.config.guidance_embeds else None
    if "instruction" not in metadata:
        raise InvalidInput("The file does not say by which words it was made.")
    given = (metadata["instruction"], metadata.get("seed", 0), metadata.get("steps"), guidance)
    settings = {"steps": None, "guidance": None} | checked_settings(pipe, *given)
    strengths = metadata.get("strengths", [])
    strength = check_strength(strengths[-1] if strengths else 1.0, MAX_STRENGTH)
    edit = SavedEdit(
        settings,
        min(strength, 1.0),
        num_strengths=len(strengths),
        num_frames=_num_frames(strengths),
        layers=_layers(metadata, min(strength, 1.0)),
        source=shortened(Path(metadata.get("source", "").replace("\\", "/")).name, MAX_NAME),
        source_sha256=metadata.get("source_sha256", ""),
        strength_map=metadata.get("strength_map", "") if _can_read_map(metadata) else "",
    )
    return replace(edit, remarks=tuple(_remarks(metadata, strength, origin, bool(edit.layers))))


def _layers(metadata: Mapping[str, Any], strength: float) -> tuple[LayerInputs, ...]:
    """The edits of a file as the page's list. None where there is one, or where they differ in settings that the list
    has once or are no list that the page takes."""
    earlier, shared = metadata.get("earlier_edits", []), ("seed", "steps", "guidance")
    if not earlier or any(edit.get(name) != metadata.get(name) for edit in earlier for name in shared):
        return ()
    names = ("instruction", "strength", "strength_map")
    listed = [{name: edit[name] for name in names if name in edit} for edit in earlier]
    try:
        return tuple(layers_of([*listed, {"instruction": metadata["instruction"], "strength": strength}]))
    except InvalidInput:
        return ()


def _num_frames(strengths: list[float]) -> int | None:
    """Of a sweep that the page can make again."""
    num_frames = len(strengths)
    fits = LEAST_FRAMES <= num_frames <= MAX_FRAMES and num_frames % 2 == 1
    return num_frames if fits and strengths == grid(num_frames) else None


def _remarks(
    metadata: Mapping[str, Any], strength: float, origin: Mapping[str, Any], is_list: bool = False
) -> list[str]:
    """Sentences about what will differ from the file. is_list: whether its earlier edits are done as well."""
    found = []
    made_by, here = ([names.get("model"), names.get("slider")] for names in (metadata, origin))
    if made_by[0] and here[0] and made_by != here:
        found.append(OTHER_MODEL.format(", ".join(shortened(name, MAX_NAME) for name in made_by if name)))
    if strength > 1:
        found.append(BEYOND.format(strength))
    if metadata.get("earlier_edits") and not is_list:
        found.append(IS_CHAIN.format(len(metadata["earlier_edits"]) + 1))
    if not _can_read_map(metadata):
        found.append(BAD_MAP)
    return found


def _can_read_map(metadata: Mapping[str, Any]) -> bool:
    """Whether the strength map of a file can be read; True where it has none."""
    try:
        return "strength_map" not in metadata or unpack_map(metadata["strength_map"]).size > 0
    except InvalidInput:
        return False


def shortened(text: str, most: int) -> str:
    """At most `most` letters of a text from a stranger, in one line, without letters that cannot be printed."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= most else f"{plain[:most]} …"
