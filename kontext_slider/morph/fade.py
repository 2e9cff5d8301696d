"""Cross-fades: the plainest morphs, and one along the movement between two pictures.

`warp_fade`: what grows, grows; what does not move, fades. The movement is the displacement that makes one picture look
like the other, each going half the way, smooth but for a few breaks; it is found from coarse to fine by gradient
descent, and is dropped where it explains nothing.

Legend: pictures (1, 3, H, W) in [0, 1]; displacement u (1, 2, H, W), x before y, in shares of half the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from kontext_slider.base_edit import BaseEdit
from kontext_slider.errors import InvalidInput
from kontext_slider.metrics import to_image, to_picture
from kontext_slider.pipeline import KontextSliderPipeline

Morpher = Callable[[KontextSliderPipeline, Image, Image, str, Sequence[float], int], list[Image]]

SIDES = (16, 32, 64, 128)  # shorter side of the pictures at each level, pixels
ROUNDS = 60  # per level
RATE = 0.01  # Adam's, in shares of half the picture
SMOOTHNESS = 0.1
MIN_GAIN = 0.4  # share of the difference that a movement takes away; on pocket shapes reach it, looks do not
TINY = 1e-3


def pixel_fade(
    pipe: KontextSliderPipeline, source: Image, edited: Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Image]:
    """Mixed as pictures; both ends are the pictures themselves."""
    check_pair(source, edited)
    first, last = to_picture(source), to_picture(edited)
    return [to_image(first + (last - first) * s) for s in strengths]


def latent_fade(
    pipe: KontextSliderPipeline, source: Image, edited: Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Image]:
    """Mixed as latents of the model's codec."""
    check_pair(source, edited)
    edit = BaseEdit(pipe, source, instruction, seed)
    first, last = edit.source.latents.float(), edit.base.encode_source(edited, edit.dtype).latents.float()
    return [to_image(edit.picture(torch.lerp(first, last, s))) for s in strengths]


def warp_fade(
    pipe: KontextSliderPipeline, source: Image, edited: Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Image]:
    """Mixed as pictures, each moved by its share of the way; both ends are the pictures themselves."""
    check_pair(source, edited)
    first, last = (_tensor(image) for image in (source, edited))
    u = find_movement(first, last)
    frames = [torch.lerp(displaced(first, -s * u), displaced(last, (1 - s) * u), s) for s in strengths]
    return [to_image(frame[0].permute(1, 2, 0).numpy()) for frame in frames]


def check_pair(source: Image, edited: Image) -> None:
    """InvalidInput for pictures of two sizes."""
    if source.size != edited.size:
        raise InvalidInput(
            f"The source is {source.size} and the edit {edited.size} (width, height). Resize one to the other's size."
        )


def find_movement(first: Tensor, last: Tensor) -> Tensor:
    """The displacement from `first` to `last`; zeros where it would explain too little."""
    last = _toned_like(last, first)
    u = first.new_zeros(1, 2, *_level(first, SIDES[0]).shape[-2:])
    for side in SIDES:
        a, b = _level(first, side), _level(last, side)
        u = _descend(a, b, interpolate(u, a.shape[-2:], mode="bilinear", align_corners=False))
    still, following = _difference(a, b, torch.zeros_like(u)), _difference(a, b, u)
    if following > (1 - MIN_GAIN) * still:
        u = torch.zeros_like(u)
    return interpolate(u, first.shape[-2:], mode="bilinear", align_corners=False)


def _descend(a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    u = u.detach().clone().requires_grad_()
    adam = torch.optim.Adam([u], RATE)
    with torch.enable_grad():
        for _ in range(ROUNDS):
            adam.zero_grad()
            (_difference(a, b, u) + SMOOTHNESS * _roughness(u)).backward()
            adam.step()
    return u.detach()


def _difference(a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    """Of the two pictures, met half way; a robust mean."""
    return ((displaced(a, -u / 2) - displaced(b, u / 2)).square().sum(1) + TINY**2).sqrt().mean()


def _roughness(u: Tensor) -> Tensor:
    """Total variation per pixel of the level, times its side: the same for the same movement at any level."""
    down, right = u.diff(dim=2)[..., :-1], u.diff(dim=3)[:, :, :-1]
    return ((down.square() + right.square()).sum(1) + 1e-8).sqrt().mean() * min(u.shape[-2:]) / 2


def displaced(picture: Tensor, by: Tensor) -> Tensor:
    """The picture sampled through a displacement."""
    grid = affine_grid(torch.eye(2, 3)[None].to(picture), list(picture.shape), align_corners=False)
    return grid_sample(picture, grid + by.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


def _toned_like(picture: Tensor, other: Tensor) -> Tensor:
    """With the other's mean and spread per channel, so that more light does not count as movement."""
    mean, spread = picture.mean((2, 3), keepdim=True), picture.std((2, 3), keepdim=True) + TINY
    return (picture - mean) / spread * other.std((2, 3), keepdim=True) + other.mean((2, 3), keepdim=True)


def _level(picture: Tensor, side: int) -> Tensor:
    factor = max(1, min(picture.shape[-2:]) // side)
    return avg_pool2d(picture, factor)


def _tensor(image: Image) -> Tensor:
    return torch.from_numpy(to_picture(image)).permute(2, 0, 1)[None].contiguous()
