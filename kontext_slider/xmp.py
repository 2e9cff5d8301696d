"""The recipe of an edit as an XMP packet, which JPEG and WebP carry beside the camera's EXIF block."""

from __future__ import annotations

from xml.etree import ElementTree

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
