"""Metadata of a photograph: the EXIF data that a result keeps, and an XMP packet that holds how it was made.

A result keeps camera, lens, exposure, date and author; the place only on request. EXIF values are moved as bytes:
Pillow would write some in other types and lose letters outside ASCII. JPEG and WebP carry the XMP packet beside the
EXIF block.
Sources: EXIF 2.32 (CIPA DC-008), TIFF 6.0.

Legend: a directory maps a tag to (type, count, value in bytes of the block's byte order).
"""

from __future__ import annotations

import struct
from xml.etree import ElementTree

Directory = dict[int, tuple[int, int, bytes]]

_PREFIX = b"Exif\0\0"
_ORDERS = {b"II": "<", b"MM": ">"}
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SHORT, _LONG = 3, 4
_EXIF, _GPS = 0x8769, 0x8825  # tags of the first directory that point to others
_MAKER_NOTE, _COLOUR_SPACE, _WIDTH, _HEIGHT, _INTEROPERABILITY = 0x927C, 0xA001, 0xA002, 0xA003, 0xA005
_IMAGE_TAGS = (  # of the first directory: what is not about how pixels are stored
    *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C),
    *(0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),
)
_CAMERA_TAGS = range(0x829A, 0xA500)  # those of the standard; programs put others behind them


def kept_exif(
    block: bytes, size: tuple[int, int], keep_location: bool = False, is_srgb: bool = True
) -> tuple[bytes, list[str]]:
    """The EXIF block for a result of `size` (width, height), and in words what of `block` was left out.

    Orientation goes without a word, as a result's pixels are upright. b"" where nothing of a broken block is readable.
    """
    block = block.removeprefix(_PREFIX)
    order = _ORDERS.get(block[:2])
    if order is None:
        return b"", ["camera data (EXIF) that cannot be read"]
    first, thumbnail_at = _read(block, order, _offset(block, order, 4))
    camera = _directory_at(block, order, first.get(_EXIF))
    place = _directory_at(block, order, first.get(_GPS))
    left_out = []
    if place and not keep_location:
        left_out.append("the place (GPS)")
    if thumbnail_at and _read(block, order, thumbnail_at)[0]:
        left_out.append("the embedded thumbnail")
    if _MAKER_NOTE in camera:
        left_out.append("the camera's private notes")
    kept = {tag: value for tag, value in first.items() if tag in _IMAGE_TAGS}
    private = (_MAKER_NOTE, _INTEROPERABILITY)  # the latter names the colour space of the file as it was
    camera = {tag: value for tag, value in camera.items() if tag in _CAMERA_TAGS and tag not in private}
    if camera:
        camera |= {_WIDTH: _number(order, size[0]), _HEIGHT: _number(order, size[1])}
        camera[_COLOUR_SPACE] = (_SHORT, 1, struct.pack(f"{order}H", 1 if is_srgb else 0xFFFF))
    return _block(order, kept, camera, place if keep_location else {}), left_out


def exif_of_tiff(content: bytes) -> bytes | None:
    """The EXIF block of a TIFF file, or of a raw photograph that is one. There it stands among the tags of pixels."""
    order = _ORDERS.get(content[:2])
    if order is None:
        return None
    first, _ = _read(content, order, _offset(content, order, 4))
    kept = {tag: value for tag, value in first.items() if tag in _IMAGE_TAGS}
    camera, place = (_directory_at(content, order, first.get(tag)) for tag in (_EXIF, _GPS))
    return _block(order, kept, camera, place) or None


def _offset(block: bytes, order: str, at: int) -> int:
    """The number at `at`, 0 behind the end."""
    return struct.unpack_from(f"{order}I", block, at)[0] if 0 <= at <= len(block) - 4 else 0


def _read(block: bytes, order: str, at: int) -> tuple[Directory, int]:
    """The directory at `at` and where the next one is, 0 for none. What points outside the block is left out."""
    directory: Directory = {}
    if not 8 <= at <= len(block) - 2:
        return directory, 0
    (count,) = struct.unpack_from(f"{order}H", block, at)
    room = len(block)  # values do not overlap in an honest file
    end = at + 2 + 12 * count
    for entry in range(at + 2, min(end, len(block) - 11), 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", block, entry)
        length = _TYPE_SIZES.get(kind, 0) * number
        start = entry + 8 if length <= 4 else _offset(block, order, entry + 8)
        if 0 < length <= min(room, len(block) - start):
            room -= length
            directory[tag] = (kind, number, block[start : start + length])
    return directory, _offset(block, order, end)


def _directory_at(block: bytes, order: str, pointer: tuple[int, int, bytes] | None) -> Directory:
    if pointer is None or len(pointer[2]) != 4:
        return {}
    return _read(block, order, _offset(pointer[2], order, 0))[0]


def _number(order: str, value: int) -> tuple[int, int, bytes]:
    return _LONG, 1, struct.pack(f"{order}I", value)


def _block(order: str, first: Directory, camera: Directory, place: Directory) -> bytes:
    """An EXIF block of three directories, b"" when all are empty."""
    parts = {tag: part for tag, part in ((_EXIF, camera), (_GPS, place)) if part}
    first = first | dict.fromkeys(parts, _number(order, 0))
    if not first:
        return b""
    packed, at = b"", 8 + len(_packed(order, first, 0))
    for tag, part in parts.items():
        first[tag] = _number(order, at + len(packed))
        packed += _packed(order, part, at + len(packed))
    start = b"II*\0" if order == "<" else b"MM\0*"
    return _PREFIX + start + struct.pack(f"{order}I", 8) + _packed(order, first, 8) + packed


def _packed(order: str, directory: Directory, at: int) -> bytes:
    """Entries in the order of their tags, no next directory, then the values of more than four bytes."""
    entries, values = struct.pack(f"{order}H", len(directory)), b""
    start = at + 6 + 12 * len(directory)
    for tag, (kind, count, value) in sorted(directory.items()):
        held = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(f"{order}I", start + len(values))
        entries += struct.pack(f"{order}HHI", tag, kind, count) + held
        values += value + b"\0" * (len(value) % 2) if len(value) > 4 else b""
    return entries + b"\0\0\0\0" + values


RECIPE_URI = "urn:kontext-slider:1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMP = "http://ns.adobe.com/xap/1.0/"
_PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{}<?xpacket end="r"?>'


def xmp_packet(text: str) -> bytes:
    """An XMP packet that holds `text` as the recipe."""
    for prefix, uri in (("x", "adobe:ns:meta/"), ("rdf", _RDF), ("xmp", _XMP), ("slider", RECIPE_URI)):
        ElementTree.register_namespace(prefix, uri)
    root = ElementTree.Element("{adobe:ns:meta/}xmpmeta")
    about = {f"{{{_RDF}}}about": "", f"{{{_XMP}}}CreatorTool": "kontext-slider", f"{{{RECIPE_URI}}}recipe": text}
    ElementTree.SubElement(ElementTree.SubElement(root, f"{{{_RDF}}}RDF"), f"{{{_RDF}}}Description", about)
    return _PACKET.format(ElementTree.tostring(root, "unicode")).encode()


def xmp_text(packet: bytes) -> str:
    """The recipe that `xmp_packet` wrote. Raises KeyError where there is none and ValueError for a broken packet."""
    try:
        root = ElementTree.fromstring(packet.rstrip(b"\0"))
    except ElementTree.ParseError as error:
        raise ValueError(f"The XMP packet is broken: {error}") from error
    for element in root.iter(f"{{{_RDF}}}Description"):
        if text := element.get(f"{{{RECIPE_URI}}}recipe"):
            return text
    raise KeyError("recipe")
