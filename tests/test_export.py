"""Exports are read back: every frame, its time, its pixels, and how it was made."""

from __future__ import annotations

import io
import json
import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from kontext_slider.errors import DiskError, InvalidInput
from kontext_slider.export import ANIMATIONS, FORMATS, read_metadata, save_sweep
from tests.mounts import mounted

FACTS = {"model": "pocket", "steps": 12, "guidance": 2.5}
MADE_WITH = {"instruction": "make it snow — naïve", "seed": 7}


def drawn(strength: float, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A smooth picture that goes from blue to orange with the strength, with a dark square that never changes."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    rgb = np.stack([60 + 150 * strength + 40 * x, 100 + 40 * y, 200 - 150 * strength + 30 * x], axis=-1)
    rgb[8:16, 8:16] = (20, 30, 40)
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


def sweep(count: int = 5, size: tuple[int, int] = (64, 48)) -> list[tuple[float, Image.Image]]:
    return [(k / (count - 1), drawn(k / (count - 1), size)) for k in range(count)]


def psnr(first: Image.Image, second: Image.Image) -> float:
    error = np.mean((np.asarray(first, float) - np.asarray(second, float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def read_frames(path: Path) -> tuple[list[Image.Image], list[float]]:
    """All pictures of an animation and each one's time in seconds."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            decoded = list(container.decode(stream))
            pictures = [frame.to_image(src_colorspace="ITU709", dst_colorspace="ITU709") for frame in decoded]
            return pictures, [float(frame.duration * frame.time_base) for frame in decoded]
    pictures, seconds = [], []
    with Image.open(path) as animation:
        for k in range(animation.n_frames):
            animation.seek(k)
            pictures.append(animation.convert("RGB"))
            seconds.append(animation.info["duration"] / 1000)
    return pictures, seconds


@pytest.mark.parametrize(("suffix", "bound"), [("gif", 33), ("webp", 38), ("mp4", 38)])
def test_animation_reads_back(tmp_path: Path, suffix: str, bound: float) -> None:
    """Frames in the wrong order, in swapped colours or with the wrong times would still be a playable file."""
    frames = sweep()
    path = save_sweep(frames, tmp_path / f"out.{suffix}", fps=8)
    pictures, seconds = read_frames(path)
    assert len(pictures) == len(frames)
    assert sum(seconds) == pytest.approx(len(frames) / 8, abs=0.006)
    assert [psnr(a, b) > bound for a, (_, b) in zip(pictures, frames, strict=True)] == [True] * len(frames)


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_identical_frames_are_all_kept(tmp_path: Path, suffix: str) -> None:
    """Pillow and libwebp merge equal neighbours: a strength without effect would vanish from the file."""
    frames = [(k / 6, drawn(0.5)) for k in range(7)]
    pictures, seconds = read_frames(save_sweep(frames, tmp_path / f"out.{suffix}", fps=10))
    assert len(pictures) == 7
    assert seconds == pytest.approx([0.1] * 7, abs=1e-6)
    assert all(psnr(picture, drawn(0.5)) > 33 for picture in pictures)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (33, 17)])
def test_odd_and_tiny_sizes(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    """yuv420p takes even sides only; a picture must not lose a row, nor an export fail, because of that."""
    frames = [(s, Image.new("RGB", size, (200, round(200 * s), 10))) for s in (0.0, 1.0)]
    path = save_sweep(frames, tmp_path / f"out.{suffix}")
    if suffix in ANIMATIONS:
        pictures, _ = read_frames(path)
        assert len(pictures) == 2
        grown = tuple(side + side % 2 for side in size) if suffix == "mp4" else size
        assert {picture.size for picture in pictures} == {grown}
        assert psnr(pictures[1].crop((0, 0, *size)), frames[1][1]) > 30


def test_mp4_says_how_its_colours_are_meant(tmp_path: Path) -> None:
    """Without tags a player guesses the matrix by the height, and reds and greens shift."""
    with av.open(str(save_sweep(sweep(), tmp_path / "out.mp4"))) as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert [int(tag) for tag in tags] == [1, 1, 1, 1]
        assert context.pix_fmt == "yuv420p"


def test_gif_and_webp_loop_forever(tmp_path: Path) -> None:
    """A sweep that stops after one pass shows only its end in a README."""
    for suffix in ("gif", "webp"):
        with Image.open(save_sweep(sweep(), tmp_path / f"out.{suffix}")) as animation:
            assert animation.info["loop"] == 0


def test_unchanging_pixels_of_a_gif_stay_still(tmp_path: Path) -> None:
    """A palette for each frame makes the untouched part of a picture flicker while the edit moves."""
    pictures, _ = read_frames(save_sweep(sweep(8), tmp_path / "out.gif"))
    squares = np.stack([np.asarray(picture)[8:16, 8:16] for picture in pictures])
    assert (squares == squares[0]).all()


def test_uneven_rates_do_not_drift(tmp_path: Path) -> None:
    """12.5 hundredths of a second rounded for each frame would make an 8-per-second GIF 4 % too fast."""
    _, seconds = read_frames(save_sweep(sweep(17), tmp_path / "out.gif", fps=8))
    assert sum(seconds) == pytest.approx(17 / 8, abs=0.006)


@pytest.mark.parametrize("suffix", FORMATS)
def test_metadata_reads_back(tmp_path: Path, suffix: str) -> None:
    """A sweep whose file does not say how it was made cannot be made again; a whole path would tell whose it is."""
    path = save_sweep(sweep(), tmp_path / f"out.{suffix}", **MADE_WITH, facts=FACTS, source="/home/someone/cat.jpg")
    metadata = read_metadata(path)
    for name, value in (MADE_WITH | FACTS).items():
        assert metadata[name] == value
    assert metadata["strengths"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert metadata["source"] == "cat.jpg"


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_long_metadata(tmp_path: Path, suffix: str) -> None:
    """A GIF comment is cut into blocks of 255 bytes: a long instruction must survive them."""
    instruction = "make it snow " * 100
    assert read_metadata(save_sweep(sweep(), tmp_path / f"a.{suffix}", instruction=instruction))["instruction"] == (
        instruction
    )


def test_strip_is_the_frames_side_by_side(tmp_path: Path) -> None:
    """Frames in another order, or that overlap, would still be a picture."""
    frames = sweep()
    with Image.open(save_sweep(frames, tmp_path / "out.png")) as strip:
        assert strip.size == (5 * 64, 48)
        for k, (_, frame) in enumerate(frames):
            assert psnr(strip.crop((64 * k, 0, 64 * k + 64, 48)), frame) > 80


def test_zip_holds_lossless_frames_and_a_manifest(tmp_path: Path) -> None:
    """Frame names must sort in the order of strengths, and the manifest name each of them."""
    frames = sweep()
    with zipfile.ZipFile(save_sweep(frames, tmp_path / "out.zip", **MADE_WITH)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        names = [entry["file"] for entry in manifest["frames"]]
        assert names[0] == "frame_000_s0.000.png" and names[1] == "frame_001_s0.250.png"
        assert sorted(names) == names == archive.namelist()[:-1]
        for name, (_, frame) in zip(names, frames, strict=True):
            assert psnr(Image.open(io.BytesIO(archive.read(name))), frame) > 80


@pytest.mark.parametrize("suffix", FORMATS)
def test_same_sweep_same_bytes(tmp_path: Path, suffix: str) -> None:
    """A time stamp in a file makes equal results look different to every tool that compares them."""
    first = save_sweep(sweep(), tmp_path / f"a.{suffix}").read_bytes()
    assert save_sweep(sweep(), tmp_path / f"b.{suffix}").read_bytes() == first


def test_alpha_and_grey_frames_are_taken(tmp_path: Path) -> None:
    """Callers hand over what they have; mixed modes must not crash an encoder."""
    frames = [(0.0, Image.new("RGBA", (8, 8), "red")), (1.0, Image.new("L", (8, 8), 128))]
    assert len(read_frames(save_sweep(frames, tmp_path / "out.webp"))[0]) == 2


@pytest.mark.parametrize(
    ("name", "frames", "options", "words"),
    [
        ("out.avi", sweep(), {}, r"\.gif"),
        ("out", sweep(), {}, r"\.gif"),
        ("out.gif", [], {}, "no frames"),
        ("out.gif", [(0.0, drawn(0)), (1.0, drawn(1, (32, 32)))], {}, "one size"),
        ("out.gif", [(1.6, drawn(0))], {}, "from 0"),
        ("out.gif", [(float("nan"), drawn(0))], {}, "from 0"),
        ("out.gif", sweep(), {"fps": 0}, "frames per second"),
        ("out.gif", sweep(), {"fps": float("nan")}, "frames per second"),
        ("absent/out.gif", sweep(), {}, "folder"),
    ],
)
def test_silly_values_get_a_sentence(tmp_path: Path, name: str, frames: list, options: dict, words: str) -> None:
    """A wrong value must be told in words before anything is written."""
    with pytest.raises(InvalidInput, match=words):
        save_sweep(frames, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_stopped_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]) -> None:
    """Half a file, or its temporary, left behind would pass for a finished sweep; the older file must stay."""
    path = save_sweep(sweep(), tmp_path / "out.gif")
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise stop("stopped")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises((KeyboardInterrupt, InvalidInput)):
        save_sweep(sweep(3), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_of_others_have_no_metadata(tmp_path: Path, suffix: str) -> None:
    """Reading back a stranger's file must end in a sentence, not in a KeyError."""
    path = tmp_path / f"out.{suffix}"
    path.write_bytes(b"not what the suffix says")
    with pytest.raises(InvalidInput, match="does not say"):
        read_metadata(path)


def atoms(data: bytes) -> list[str]:
    """The names of an MP4 file's top-level boxes, in order."""
    names, place = [], 0
    while place < len(data):
        names.append(data[place + 4 : place + 8].decode())
        place += int.from_bytes(data[place : place + 4], "big")
    return names


def test_mp4_starts_before_it_is_loaded(tmp_path: Path) -> None:
    """With the index behind the frames, a browser shows nothing until it has the whole file."""
    names = atoms(save_sweep(sweep(), tmp_path / "out.mp4").read_bytes())
    assert names[0] == "ftyp" and names.index("moov") < names.index("mdat")


def counted_sweep(count: int, most: list[int]) -> Iterator[tuple[float, Image.Image]]:
    """A sweep made frame by frame, which notes how many of its pictures are in memory."""
    alive: weakref.WeakValueDictionary[int, Image.Image] = weakref.WeakValueDictionary()
    for k in range(count):
        picture = alive[k] = drawn(k / (count - 1))
        most.append(len(alive))
        yield k / (count - 1), picture
        del picture


@pytest.mark.parametrize("suffix", FORMATS)
def test_frames_are_written_as_they_are_made(tmp_path: Path, suffix: str) -> None:
    """A sweep of a large photograph does not fit in memory: eleven pictures of 24 megapixels are 800 MB."""
    strengths = [k / 11 for k in range(12)]
    most: list[int] = []
    path = save_sweep(counted_sweep(12, most), tmp_path / f"a.{suffix}", strengths=strengths)
    assert len(most) == 12 and max(most) <= 4
    held = save_sweep(sweep(12), tmp_path / f"b.{suffix}")
    assert path.read_bytes() == held.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("strengths", [[0.0, 0.5], [0.0, 0.5, 1.0, 1.0], [0.0, 0.4, 1.0]])
def test_frames_that_are_not_the_announced_ones(tmp_path: Path, strengths: list[float]) -> None:
    """A file that names other strengths than it shows, or too few frames, would be silently wrong."""
    with pytest.raises(InvalidInput, match="those of its strengths"):
        save_sweep(iter(sweep(3)), tmp_path / "a.zip", strengths=strengths)
    assert list(tmp_path.iterdir()) == []


def test_what_is_transparent_is_laid_over_white(tmp_path: Path) -> None:
    """The colour under transparent pixels is anything; only a zip, for other programs, keeps it with its alpha."""
    frames = [(s, Image.new("RGBA", (8, 8), (0, 0, 0, 0))) for s in (0.0, 1.0)]
    pictures, _ = read_frames(save_sweep(frames, tmp_path / "out.gif"))
    assert pictures[0].getpixel((0, 0)) == (255, 255, 255)
    with zipfile.ZipFile(save_sweep(frames, tmp_path / "out.zip")) as archive:
        assert Image.open(io.BytesIO(archive.read("frame_000_s0.000.png"))).mode == "RGBA"


@pytest.mark.parametrize(("suffix", "size"), [("webp", (16_384, 1)), ("gif", (65_536, 1)), ("png", (40_000, 2_000))])
def test_a_picture_too_large_for_its_format(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    """An encoder's own words (struct.error, encoder error -2), or a strip that no program opens."""
    frame = Image.new("RGB", size)
    with pytest.raises(InvalidInput, match="zip"):
        save_sweep([(0.0, frame), (1.0, frame)], tmp_path / f"a.{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_disk_that_fills_during_an_export(tmp_path: Path, suffix: str) -> None:
    """Each encoder meets a full disk in a place of its own; all must end in the one sentence, with nothing left."""
    rng = np.random.default_rng(0)
    frames = [(s, Image.fromarray(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8))) for s in (0.0, 0.5, 1.0)]
    with mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=40k", "tmpfs") as folder:
        with pytest.raises(DiskError, match="No space left"):
            save_sweep(frames, folder / f"a.{suffix}")
        assert list(folder.iterdir()) == []
