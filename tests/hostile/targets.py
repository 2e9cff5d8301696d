"""What the fuzzer asks of the product: each method makes one odd input of a random generator, and hands it over."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kontext_slider.batch import SweepOptions, listed_results, plan_sweeps
from kontext_slider.edit import EditDefaults, EditSpec, check_strengths
from kontext_slider.engine import SliderEngine
from kontext_slider.export import save_sweep
from kontext_slider.hub import CHECKSUMS
from kontext_slider.images import read_image, working_image
from kontext_slider.instructions import advise
from kontext_slider.metadata import read_metadata, strength_map, summary
from kontext_slider.picture_file import save_picture
from kontext_slider.presets import load_pipeline
from kontext_slider.strength_map import read_map
from kontext_slider.transfer import check_strength_map
from tests.hostile.mutate import ODD_VALUES, damage_folder, damaged, damaged_json
from tests.hostile.training import TrainingTargets
from tests.tiny import KNOWN_INSTRUCTIONS, tiny_image, tiny_pipeline, write_authors_layout

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF", "ICO", "TGA", "PPM", "JPEG2000", "PCX", "SGI")
SIZES = ((12_000, 9000), (30_000, 30_000), (65_535, 1), (65_535, 1600), (2**31 - 1, 2**31 - 1))
SHAPES = (
    *((), (0,), (5,), (1, 1), (4, 4), (4, 4, 1), (4, 4, 2), (4, 4, 3), (4, 4, 4)),
    *((4, 4, 5), (0, 4, 3), (2, 4, 4, 3)),
)
INFO = ("icc_profile", "gamma", "exif", "transparency", "chromaticity", "nclx_profile")
MODES = (
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "I;16B",
)
DTYPES = [
    "?",
    "b",
    "B",
    "<i2",
    ">u2",
    "<i4",
    ">i8",
    "u8",
    "<f2",
    ">f4",
    "f8",
    "g",
    "c8",
    "c16",
    "O",
    "S3",
    "U2",
    "M8[s]",
    "m8[s]",
    "V4",
]
RECIPE = {
    "instruction": "make it snow", "seed": 3, "steps": 4, "guidance": 2.5, "model": "pocket", "speed": "exact",
    "size": [64, 48], "edited_at": [64, 48], "strengths": [0.0, 0.5, 1.0], "source": "a.jpg",
    "earlier_edits": [{"instruction": "make it night", "strength": 0.5}],
}  # fmt: skip


class Targets(TrainingTargets):
    """Methods by name in `weights`, how often each is drawn. They take a random generator; an error of ours is fine."""

    weights = {
        **{"picture": 30, "bomb": 3, "mask": 8, "array": 12, "image": 4, "value": 14, "recipe": 12, "result": 12},
        **{"manifest": 6, "instruction": 3, "model": 3, "slider": 3},
        **TrainingTargets.weights,
    }

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures = _pictures()
        self.pipe = tiny_pipeline(known_instructions=KNOWN_INSTRUCTIONS)
        self.model_folder = folder / "model"
        self.pipe.save_pretrained(self.model_folder)
        self.sliders = [folder / "slider", write_authors_layout(folder / "authors")]
        self.pipe.save_slider(self.sliders[0])
        self.engine = SliderEngine(self.pipe)
        self.results = self._results()

    def _results(self) -> list[Path]:
        frames = [(strength, tiny_image(24, 16, seed=1 + k)) for k, strength in enumerate((0.0, 0.5, 1.0))]
        paths = [self.folder / f"sweep.{suffix}" for suffix in ("gif", "webp", "mp4", "png", "zip")]
        for path in paths:
            save_sweep(frames, path, facts=RECIPE)
        for suffix in ("jpg", "webp", "png"):
            paths.append(self.folder / f"edit.{suffix}")
            save_picture(tiny_image(24, 16), paths[-1], RECIPE | {"strengths": [0.5]})
        return paths

    def picture(self, rng: random.Random) -> None:
        read_image(damaged(rng.choice(self.pictures), rng))

    def bomb(self, rng: random.Random) -> None:
        """Few bytes, many pixels."""
        width, height = rng.choice(
            ((12_000, 9000), (30_000, 30_000), (65_535, 1), (65_535, 1600), (2**31 - 1, 2**31 - 1))
        )
        kind = rng.randrange(4)
        if kind == 0:
            depth, colour = rng.choice(((1, 0), (8, 2), (16, 0), (16, 2), (16, 6), (8, 3), (16, 4)))
            read_image(png(width, height, depth, colour))
        elif kind == 1:  # lossless WebP: 14 bits for each side less one
            bits = (min(width, 16_384) - 1) | (min(height, 16_384) - 1) << 14
            body = b"\x2f" + struct.pack("<I", bits) + rng.randbytes(rng.randrange(4, 40))
            body += b"\0" * (len(body) % 2)
            chunk = b"VP8L" + struct.pack("<I", len(body)) + body
            read_image(b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk)
        elif kind == 2:
            screen = struct.pack("<HH", min(width, 65_535), min(height, 65_535))
            disposal = rng.choice((b"", b"!\xf9\x04\x09\0\0\0\0"))
            head = b"GIF89a" + screen + b"\x80\0\0" + b"\0" * 6 + disposal
            read_image(head + b",\0\0\0\0" + screen + b"\0\x02\x02D\x01\0;")
        else:
            bits, packing = rng.choice((1, 8, 24, 32)), rng.choice((0, 1))
            header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packing, 0, 0, 0, 0, 0)
            read_image(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header + rng.randbytes(64))

    def mask(self, rng: random.Random) -> None:
        path = self.folder / "mask.png"
        path.write_bytes(damaged(rng.choice(self.pictures), rng))
        read_map(path)

    def array(self, rng: random.Random) -> None:
        values = odd_array(rng)
        if rng.random() < 0.3:
            check_strength_map(values)
        else:
            read_image(values)

    def image(self, rng: random.Random) -> None:
        """A Pillow image of any mode, perhaps closed."""
        image = Image.new(rng.choice(MODES), (rng.choice((0, 1, 2, 40)), rng.choice((0, 1, 3, 40))))
        if rng.random() < 0.5:
            odd = (*ODD_VALUES, b"", b"\0" * 200, rng.randbytes(300))
            image.info = {rng.choice(INFO): rng.choice(odd)}
        if rng.random() < 0.1:
            image.close()
        working_image(read_image(image), 32, 8)

    def value(self, rng: random.Random) -> None:
        value = odd_value(rng)
        kind = rng.randrange(4)
        if kind == 0:
            check_strengths(value, rng.choice((1.0, 1.5)))
        elif kind == 1:
            good = {"instruction": "make it snow", "seed": 0, "steps": 1, "guidance": 1.0, "size": 32}
            EditSpec(**good | {rng.choice([*good, "max_sequence_length"]): value})
        elif kind == 2:
            EditDefaults.from_config(
                {rng.choice(("size", "steps", "guidance", "x")): value} if rng.random() < 0.9 else value
            )
        else:
            with self.engine.open(tiny_image(), "make it snow", steps=1) as session:
                session.render(value)

    def recipe(self, rng: random.Random) -> None:
        """A damaged recipe in a whole file."""
        text = damaged_json(RECIPE, rng)
        path = self.folder / rng.choice(("r.zip", "r.png"))
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
                archive.writestr("manifest.json", text)
        else:
            path.write_bytes(png(2, 2, 8, 2, b"kontext_slider\0" + text))
        facts = read_metadata(path)
        json.dumps(summary(facts))
        strength_map(facts)
        EditSpec(facts.get("instruction"), facts.get("seed", 0), facts.get("steps", 1), facts.get("guidance", 0), 32)
        check_strengths(facts.get("strengths") or [0], 1.5)

    def result(self, rng: random.Random) -> None:
        """A damaged result file, read as one and as a picture."""
        source = rng.choice(self.results)
        path = self.folder / f"x{source.suffix}"
        path.write_bytes(damaged(source.read_bytes(), rng))
        json.dumps(summary(read_metadata(path)))

    def manifest(self, rng: random.Random) -> None:
        """A batch's manifest with damaged lines."""
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        line = RECIPE | {"file": "a.gif", "source": "/x/a.png", "source_sha256": "0" * 64, "result_sha256": "1" * 64}
        lines = [damaged_json(line, rng).replace(b"\n", b" ") for _ in range(3)]
        (out / "manifest.jsonl").write_bytes(b"\n".join(lines))
        listed_results(out)
        plan_sweeps([self.results[0]], SweepOptions("make it snow"), out)

    def instruction(self, rng: random.Random) -> None:
        letters = rng.choice(("x", "ab ", "make it ", "雪 ", "\ud800", "\0", "e\u0301"))
        advise(letters * rng.choice((1, 100, 50_000)), KNOWN_INSTRUCTIONS)

    def model(self, rng: random.Random) -> None:
        """A model folder with one or two files damaged, as ours with checksums or as others without."""
        copy = self.folder / "damaged"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.model_folder, copy)
        if rng.random() < 0.8:
            (copy / CHECKSUMS).unlink()
        damage_folder(copy, rng)
        pipe = load_pipeline(str(copy), device="cpu")
        pipe(tiny_image(), "warm", strength=0.5, num_inference_steps=1)

    def slider(self, rng: random.Random) -> None:
        copy = self.folder / "damaged slider"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(rng.choice(self.sliders), copy)
        (copy / CHECKSUMS).unlink(missing_ok=True)
        damage_folder(copy, rng)
        self.pipe.load_slider(copy)


def png(width: int, height: int, depth: int, colour: int, text: bytes = b"") -> bytes:
    """A black PNG, or the beginning of one where it would be large to make."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = 1 + (width * depth * channels + 7) // 8 if width < 100_000 else 0
    body = zeros(row * min(height, 16_000))
    extra = (chunk(b"PLTE", bytes(6)) if colour == 3 else b"") + (chunk(b"tEXt", text) if text else b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """So many zeros as a zlib stream, made of one block that is repeated (RFC 1950, RFC 1951)."""
    block = 1 << 20
    packer = zlib.compressobj(9, wbits=-15)
    repeated = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, wbits=-15)
    end = last.compress(bytes(count % block)) + last.flush()
    return b"\x78\xda" + repeated * (count // block) + end + struct.pack(">HH", count % 65_521, 1)


def odd_array(rng: random.Random) -> np.ndarray:
    """An array of any dtype and shape, its memory in any order, sometimes masked or of odd numbers."""
    shape = rng.choice(SHAPES)
    with np.errstate(all="ignore"):
        kind = np.dtype(rng.choice(DTYPES)) if rng.random() < 0.9 else np.dtype([("a", "f4"), ("b", "i2")])
        values = np.zeros(shape, kind)
        if kind.kind == "O":
            values.fill(rng.choice(ODD_VALUES) if rng.random() < 0.5 else Fraction(1, 3))
        elif kind.kind in "iuf" and values.size:
            numbers = np.random.default_rng(rng.randrange(2**32)).normal(size=shape) * rng.choice((1, 300, 1e5, 1e300))
            values = np.nan_to_num(numbers).astype(kind)
            if kind.kind == "f" and rng.random() < 0.3:
                values.flat[0] = rng.choice((np.nan, np.inf, -np.inf))
    if values.ndim and rng.random() < 0.3:
        values = values[::-1]
    if rng.random() < 0.2:
        values = np.asfortranarray(values)
    return np.ma.masked_invalid(values) if kind.kind == "f" and rng.random() < 0.1 else values


def odd_value(rng: random.Random) -> Any:
    """A setting that nobody means."""
    kinds = (*ODD_VALUES, 10**5000, -(10**400), Fraction(10**5000), Fraction(1, 3), 1j, b"x", object(), type, range(3))
    kind = rng.randrange(4)
    if kind == 0:
        return odd_array(rng)
    if kind == 1:
        number = np.dtype(rng.choice(("f2", "f4", "f8", "i1", "i8", "u8", "?"))).type(rng.choice((0, 1)))
        return number if rng.random() < 0.5 else [number, rng.choice(kinds)]
    return rng.choice(kinds)


def _pictures() -> list[bytes]:
    """Small whole pictures of every format."""
    pictures = []
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in FORMATS:
        for mode in ("RGB", "L", "RGBA", "P", "1", "I;16", "F", "CMYK"):
            stream = io.BytesIO()
            source = Image.new("I;16", (40, 24), 9) if mode == "I;16" else tiny_image(40, 24, seed=2).convert(mode)
            options = {"exif": exif} if kind in ("JPEG", "WEBP", "TIFF", "PNG", "HEIF", "AVIF") else {}
            try:
                source.save(stream, kind, **options)
            except (OSError, ValueError, KeyError, TypeError):  # a format that does not have the mode
                continue
            pictures.append(stream.getvalue())
    return pictures
