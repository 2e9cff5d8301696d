"""How an edit was made, as JSON inside the files that show it: written by exports, read back by `read_metadata`."""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import av
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, ValidationError

from .edit import MAX_FRAMES, MAX_STRENGTH, EarlierEdit
from .errors import InvalidInput
from .files import open_regular
from .photo.exif import xmp_text
from .photo.opener import open_unlimited

if TYPE_CHECKING:
    from .engine.session import EditSession

METADATA_KEY = "kontext_slider"
EXIF_DESCRIPTION = 0x010E
MANIFEST_IN_ZIP = "manifest.json"
MAP_SIDES = (512, 384, 256, 192, 128, 96, 64, 32)  # pixels: the longer side of an embedded strength map
MAX_MAP_LETTERS = 40_000  # of all maps in a file together, in base64: a JPEG file has room for 65 000 in all
MAX_FILE = 2**34  # bytes of a result: of large ones only the beginning, or what the index names, is read
MAX_EDITS = 100  # that one file tells of
MAX_BYTES = 16 * 2**20  # of a manifest in a ZIP: a small archive can claim to hold terabytes


def recipe(
    session: EditSession,
    model: str,
    slider: str | None,
    speed: str,
    quantize: str | None,
    share: np.ndarray | None = None,
) -> dict[str, Any]:
    """How an open edit is made, and the size (width, height) at which the model sees it; values that are None are none.

    model, slider, speed, quantize: the flags that the model and its engine were made with.
    share: of the strength, for every place of the photograph: (H, W) floats in [0, 1], None for the whole.
    """
    flags = {"model": model, "slider": slider, "speed": speed, "quantize": quantize}
    facts = edit_facts(session) | flags | {"edited_at": list(session.size)}
    return facts | chain_facts(session.photo.earlier_edits, share)


def chain_facts(earlier_edits: Sequence[EarlierEdit], share: np.ndarray | None = None) -> dict[str, Any]:
    """What a file tells of the edits before its own, and of its own strength map, `share`. The maps share the room that
    a file has for them. Nothing where there is neither."""
    shares = [*(edit.share for edit in earlier_edits), share]
    most_letters = MAX_MAP_LETTERS // max(1, sum(each is not None for each in shares))
    maps = [{} if each is None else {"strength_map": pack_map(each, most_letters)} for each in shares]
    earlier = [
        {**edit.facts, "strength": edit.strength, **packed}
        for edit, packed in zip(earlier_edits, maps[:-1], strict=True)
    ]
    return ({"earlier_edits": earlier} if earlier else {}) | maps[-1]


def edit_facts(session: EditSession) -> dict[str, Any]:
    """The settings of an open edit and the digest of its photograph's file; None where that was no file."""
    return session.spec.facts() | {"source_sha256": session.photo.sha256 or None}


def describe(
    strengths: Iterable[float], size: tuple[int, int], source: str | os.PathLike[str] | None, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What a file embeds: of `facts` what is not None, the source's bare file name, and what the file shows.

    strengths: of the pictures in the file. size: (width, height) of each, pixels.
    """
    known = {name: value for name, value in facts.items() if value is not None}
    if source is not None:
        known["source"] = Path(source).name
    return known | {"size": list(size), "strengths": list(strengths)}


def pack_map(share: np.ndarray, most_letters: int = MAX_MAP_LETTERS) -> str:
    """A map as files embed it: a grey PNG of 8 bits in base64, of at most 512 pixels a side and `most_letters` (2000 or
    more), as large as fits.

    share: (H, W) floats in [0, 1], the share of the strength that each place of the photograph gets.
    """
    picture = Image.fromarray(np.asarray(share, dtype=np.float32) * 255)
    for side in MAP_SIDES:
        scale = min(1.0, side / max(picture.size))
        width, height = (max(1, round(scale * length)) for length in picture.size)
        levels = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
        buffer = io.BytesIO()
        Image.fromarray(np.rint(levels).clip(0, 255).astype(np.uint8)).save(buffer, format="PNG", optimize=True)
        text = base64.b64encode(buffer.getvalue()).decode("ascii")
        if len(text) <= most_letters:
            return text
    raise InvalidInput(f"No strength map fits {most_letters} letters: embed fewer maps in one file.")


def unpack_map(text: str) -> np.ndarray:
    """What `pack_map` made: (h, w) float32 in [0, 1]. Raises InvalidInput for anything else."""
    try:
        with open_unlimited(base64.b64decode(text, validate=True)) as picture:
            if picture.mode == "L" and max(picture.size) <= MAP_SIDES[0]:
                return np.asarray(picture, dtype=np.float32) / 255
        reason = None
    except Exception as error:  # a stranger's text can break a decoder in any way
        reason = error
    raise InvalidInput("The file's strength map cannot be read: it was changed or cut short.") from reason


def strength_map(metadata: Mapping[str, Any]) -> np.ndarray | None:
    """The map that a file was made with, (h, w) float32 in [0, 1] to be multiplied by its strength; None for none.
    Raises InvalidInput for one that cannot be read."""
    return unpack_map(metadata["strength_map"]) if "strength_map" in metadata else None


def summary(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata for a person to read: of each strength map its size and mean in place of its pixels."""
    facts = dict(metadata)
    if "earlier_edits" in facts:
        facts["earlier_edits"] = [summary(edit) for edit in facts["earlier_edits"]]
    if "strength_map" in facts:
        try:
            share = unpack_map(facts["strength_map"])
            facts["strength_map"] = f"{share.shape[1]} x {share.shape[0]} pixels, mean {share.mean():.2f}"
        except InvalidInput as error:
            facts["strength_map"] = str(error)
    return facts


def metadata_text(metadata: dict[str, Any]) -> str:
    """JSON in ASCII (it escapes the rest), as files embed it."""
    return json.dumps(metadata, sort_keys=True)


def png_text(text: str) -> PngInfo:
    """The chunk that holds `text` in a PNG file."""
    info = PngInfo()
    info.add_text(METADATA_KEY, text)
    return info


def exif_text(text: str) -> Image.Exif:
    """EXIF data with `text` (ASCII) as the picture's description."""
    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = text
    return exif


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save_sweep` or `save_picture` embedded in the file.

    Raises InvalidInput, with a sentence, where there is no file, it cannot be read, or it holds nothing of ours.
    """
    with open_regular(path, MAX_FILE) as file:
        return _read_metadata(file, Path(path))


def _read_metadata(file: BinaryIO, path: Path) -> dict[str, Any]:
    try:
        text = _embedded_text(file, path.suffix.lower().removeprefix("."))
        metadata = json.loads(text, parse_constant=_refuse)
        if is_ours(metadata):
            return metadata
        reason = None
    except Exception as error:  # a stranger's file can break a decoder in any way: each means that it is not ours
        reason = error
    raise InvalidInput(f"{path} does not say how it was made: it is no file of kontext-slider.") from reason


def _embedded_text(file: BinaryIO, suffix: str) -> str | bytes:
    """The text in a file of that suffix; any exception where there is none."""
    if suffix == "zip":
        with zipfile.ZipFile(file) as archive, archive.open(MANIFEST_IN_ZIP) as member:
            return member.read(MAX_BYTES)
    if suffix == "mp4":
        with av.open(file, format="mp4") as container:  # no other: a playlist may name files and addresses
            return container.metadata["comment"]
    with open_unlimited(file) as picture:
        if suffix == "gif":
            return picture.info["comment"]
        if suffix == "png":
            return picture.info[METADATA_KEY]
        packet = picture.info.get("xmp")  # sweeps and version 0.1 use the description of the EXIF block
        return xmp_text(packet) if packet else picture.getexif()[EXIF_DESCRIPTION]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def is_ours(metadata: Any) -> bool:
    """Whether a JSON value is what an export embeds: an object that tells of an edit, each known name with a value that
    it can have."""
    if not isinstance(metadata, dict) or not metadata.keys() & {"instruction", "instructions", "strengths"}:
        return False
    try:
        _Recipe.model_validate(metadata)
    except ValidationError:
        return False
    return True


_Strength = Annotated[float, Field(ge=0, le=MAX_STRENGTH)]
_Words = Annotated[
    str, AfterValidator(lambda text: text.encode().decode())
]  # UnicodeError, a ValueError: half a letter
_Size = Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]


class _Edit(BaseModel):
    """What a file may say of one edit; other names may have any value."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    instruction: _Words = ""
    seed: int = 0  # whoever makes the edit again checks what is too much, and says so
    steps: int = 1
    guidance: NonNegativeFloat = 0
    strength: _Strength = 0
    model: str = ""
    slider: str = ""
    source: str = ""
    source_sha256: str = ""
    speed: str = ""
    quantize: str = ""
    warning: str = ""
    strength_map: str = ""
    size: _Size = [1, 1]
    edited_at: _Size = [1, 1]
    strengths: Annotated[list[_Strength], Field(max_length=MAX_FRAMES)] = []
    instructions: list[_Words] = []


class _EarlierEdit(_Edit):
    """One edit at one strength, before the last one."""

    instruction: _Words
    strength: _Strength
    earlier_edits: Literal[None] = None


class _Recipe(_Edit):
    """What a file says of the edit that it shows."""

    earlier_edits: Annotated[list[_EarlierEdit], Field(max_length=MAX_EDITS)] = []
