"""An edit carried over to a photograph of another size: exact where it can be, close to the truth elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

from kontext_slider.errors import InvalidInput
from kontext_slider.metrics.distances import psnr
from kontext_slider.transfer import TILE_PIXELS, Transfer, apply, mix
from tests.tiny import tiny_image


def textured(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft shapes with fine texture on them."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = rng.integers(-20, 21, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(shapes, dtype=np.int64) + grain, 0, 255).astype(np.uint8))


def small(photograph: Image.Image, factor: int = 4) -> Image.Image:
    return photograph.resize((photograph.width // factor, photograph.height // factor), Image.Resampling.BOX)


def darker(picture: Image.Image) -> Image.Image:
    """A colour edit: less light, more of the blue."""
    pixels = np.asarray(picture, dtype=np.float64) * [0.5, 0.6, 0.7] + [5, 10, 40]
    return Image.fromarray(np.round(pixels).astype(np.uint8))


def blocks(picture: Image.Image, side: int) -> Image.Image:
    """Pixel art: squares of one colour each."""
    columns, rows = picture.width // side, picture.height // side
    return picture.resize((columns, rows), Image.Resampling.BOX).resize(picture.size, Image.Resampling.NEAREST)


def decibels(first: Image.Image, second: Image.Image) -> float:
    return psnr(*(np.asarray(picture, dtype=np.float32) / 255 for picture in (first, second)))


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_a_colour_edit_keeps_the_detail_of_the_photograph():
    """The frame alone, enlarged, is a blur: it has lost the texture that the photograph has."""
    photograph = textured(512, 384)
    source = small(photograph)
    picture = Transfer.fit(source, darker(source)).apply(photograph)
    enlarged = darker(source).resize(photograph.size, Image.Resampling.BICUBIC)
    assert picture.size == photograph.size
    assert decibels(picture, darker(photograph)) > 40
    assert decibels(picture, darker(photograph)) > decibels(enlarged, darker(photograph)) + 10


def test_a_stylised_edit_is_the_enlarged_frame():
    """A map of colours would draw the photograph's own detail into the squares of pixel art."""
    photograph = textured(512, 384)
    source = small(photograph)
    transfer = Transfer.fit(source, blocks(source, 8))
    truth = blocks(photograph, 32)
    enlarged = blocks(source, 8).resize(photograph.size, Image.Resampling.BICUBIC)
    assert decibels(transfer.apply(photograph), truth) > decibels(enlarged, truth) - 0.3
    assert transfer.detail_share > 0.9
    assert Transfer.fit(source, darker(source)).detail_share < 0.1


def test_what_is_not_edited_keeps_its_detail_beside_something_new():
    """One new object made the whole picture soft, as the whole picture's answer counted everywhere."""
    photograph = textured(1024, 768)
    source = small(photograph)
    frame = source.copy()
    frame.paste((250, 30, 30), (10, 10, 42, 42))
    picture = Transfer.fit(source, frame).apply(photograph)
    untouched = (512, 0, 1024, 768)
    assert decibels(picture.crop(untouched), photograph.crop(untouched)) > 40
    new = np.asarray(picture.crop((60, 60, 148, 148)), dtype=np.float64).mean((0, 1))
    assert np.abs(new - [250, 30, 30]).max() < 12


def test_the_identity_changes_no_bit():
    """Strength 0 is the photograph, to the last bit."""
    photograph = textured(333, 211)
    picture = Transfer.identity((80, 48)).apply(photograph)
    assert np.array_equal(levels(picture), levels(photograph))


def test_tiles_join_without_a_seam(monkeypatch):
    """Bands of rows that were enlarged each for itself showed as lines."""
    photograph = textured(640, 480)
    source = small(photograph)
    transfer = Transfer.fit(source, blocks(darker(source), 8))
    whole = levels(transfer.apply(photograph))
    monkeypatch.setattr("kontext_slider.transfer.TILE_PIXELS", 640 * 7)
    assert TILE_PIXELS > 640 * 7
    assert np.abs(levels(transfer.apply(photograph)) - whole).max() <= 1


@pytest.mark.parametrize("size", [(8, 8), (61, 37), (37, 300), (1000, 9)])
def test_photographs_of_any_size_and_shape(size):
    """Smaller than the model's picture, odd, or a strip."""
    photograph = textured(*size)
    source = photograph.resize((64, 48), Image.Resampling.LANCZOS)
    picture = Transfer.fit(source, darker(source)).apply(photograph)
    assert picture.size == size
    assert np.abs(levels(picture) - levels(darker(photograph))).mean() < 6


def test_alpha_stays():
    photograph = textured(200, 120).convert("RGBA")
    photograph.putalpha(Image.linear_gradient("L").resize(photograph.size))
    source = photograph.convert("RGB").resize((100, 60))
    picture = Transfer.fit(source, darker(source)).apply(photograph)
    assert picture.mode == "RGBA"
    assert np.array_equal(levels(picture.getchannel("A")), levels(photograph.getchannel("A")))


def test_a_large_model_picture_is_fitted_at_a_reduced_size():
    """Maps at a model's own 1024 pixels would take a second and fifty megabytes each."""
    photograph = textured(1600, 1200)
    source = photograph.resize((1024, 768), Image.Resampling.LANCZOS)
    transfer = Transfer.fit(source, darker(source))
    assert max(transfer.affine.shape[1:]) <= 320
    assert decibels(transfer.apply(photograph), darker(photograph)) > 38


def test_unequal_sizes_are_refused():
    with pytest.raises(InvalidInput, match="one size"):
        Transfer.fit(tiny_image(), tiny_image().resize((20, 20)))


def pair_of_transfers(photograph: Image.Image) -> dict[float, Transfer]:
    source = small(photograph)
    return {0.0: Transfer.identity(source.size), 1.0: Transfer.fit(source, darker(source))}


def test_between_two_strengths_the_picture_is_between():
    photograph = textured(256, 192)
    transfers = pair_of_transfers(photograph)
    half = levels(mix(transfers, 0.5).apply(photograph))
    expected = (levels(photograph) + levels(transfers[1.0].apply(photograph))) / 2
    assert np.abs(half - expected).max() <= 1
    assert mix(transfers, 1.0) is transfers[1.0]
    with pytest.raises(InvalidInput, match="both sides"):
        mix(transfers, 1.2)


def test_a_map_gives_every_pixel_its_own_strength():
    """The same picture as one strength where the map is flat; the photograph itself where the map is 0."""
    photograph = textured(256, 192)
    transfers = pair_of_transfers(photograph)
    halves = np.zeros((192, 256))
    halves[:, 128:] = 0.7
    picture = levels(apply(transfers, photograph, halves))
    assert np.array_equal(picture[:, :127], levels(photograph)[:, :127])
    assert np.abs(picture[:, 129:] - levels(mix(transfers, 0.7).apply(photograph))[:, 129:]).max() <= 1


@pytest.mark.parametrize(
    "strength_map", [np.zeros(4), np.zeros((0, 3)), np.full((2, 2), np.nan), np.full((2, 2), "x"), np.full((2, 2), 1.5)]
)
def test_what_is_no_map_is_refused(strength_map):
    photograph = textured(64, 48)
    with pytest.raises(InvalidInput, match="strength"):
        apply(pair_of_transfers(photograph), photograph, strength_map)


def test_a_packed_transfer_is_the_transfer_to_a_level():
    """The page's shader reads this file: a row of A in another order would turn the colours."""
    photograph = textured(256, 192)
    source = small(photograph, 2)
    frame = darker(source)
    frame.paste(blocks(source, 8).crop((0, 0, 64, 96)), (0, 0))
    transfer = Transfer.fit(source, frame)
    packed = load(transfer.pack())
    rows = packed["affine"].float()  # (3, h, w, 4)
    affine = torch.cat([rows[..., :3].permute(0, 3, 1, 2).flatten(0, 1), rows[..., 3]])
    again = Transfer(affine, packed["detail"].float().permute(2, 0, 1), transfer.detail_share)
    assert np.abs(levels(again.apply(photograph)) - levels(transfer.apply(photograph))).max() <= 1


def test_a_packed_transfer_without_detail_leaves_it_out():
    """A third of what the browser fetches would be zeros."""
    source = small(textured(256, 192), 2)
    assert set(load(Transfer.fit(source, darker(source)).pack())) == {"affine"}
    assert set(load(Transfer.fit(source, blocks(source, 8)).pack())) == {"affine", "detail"}
