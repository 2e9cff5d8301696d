"""A picture codec in closed form: the lapped Karhunen-Loeve transform of 8x8x3 patches.

It stands where a convolutional VAE stands in FLUX (`vae` of the pipeline), answers the same calls, and needs
no gradient: `PatchCodec.fit` reads pictures and solves one eigenproblem. Each picture is first *lapped*
(Malvar's fast LOT filter across patch borders, so that an error in one patch fades into the next instead of
ending in a step), then cut into patches, projected on the leading eigenvectors of their covariance, and scaled.

Legend: B batch, H and W pixels, h = H/8 and w = W/8 patches, C latent channels, D = 192 values of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, IdentityDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

PATCH = 8


def dct_matrix(size: int, kind: int) -> Tensor:
    """Orthonormal DCT of kind 2 or 4. Returns (size, size), rows are basis vectors."""
    k, n = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)[None]
    matrix = torch.cos(math.pi / size * (k + (0.5 if kind == 4 else 0.0)) * (n + 0.5)) * math.sqrt(2.0 / size)
    if kind == 2:
        matrix[0] /= math.sqrt(2.0)
    return matrix


def lapping_matrix(size: int = PATCH) -> Tensor:
    """The orthogonal filter that joins the `size` samples around a patch border.

    Malvar, Signal Processing with Lapped Transforms (1992), the fast LOT: butterflies around
    V = J (DCT-II)^T (DCT-IV) J, written as a filter in front of any block transform
    (Tran, Liang, Tu 2003). Returns (size, size); its transpose undoes it.
    """
    half = size // 2
    eye, flip = torch.eye(half, dtype=torch.float64), torch.eye(half, dtype=torch.float64).flip(0)
    butterfly = torch.cat([torch.cat([eye, flip], 1), torch.cat([flip, -eye], 1)], 0) / math.sqrt(2.0)
    rotation = flip @ dct_matrix(half, 2).T @ dct_matrix(half, 4) @ flip
    middle = torch.block_diag(eye, rotation)
    return butterfly @ middle @ butterfly


def lap(picture: Tensor, filter_matrix: Tensor) -> Tensor:
    """Apply a border filter along both axes; the outermost half patch has no neighbour and stays.

    picture (B, 3, H, W), filter_matrix (8, 8) -> (B, 3, H, W)."""
    for _ in range(2):
        half = PATCH // 2
        inner = picture[..., half:-half]  # (B, 3, H, W - 8), its groups of 8 straddle the borders
        inner = inner.unflatten(-1, (-1, PATCH)) @ filter_matrix.T.to(picture)
        picture = torch.cat([picture[..., :half], inner.flatten(-2), picture[..., -half:]], dim=-1)
        picture = picture.transpose(-1, -2)
    return picture


def to_patches(picture: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, h, w, D)."""
    return pixel_unshuffle(picture, PATCH).permute(0, 2, 3, 1).contiguous()


def from_patches(patches: Tensor) -> Tensor:
    """(B, h, w, D) -> (B, 3, H, W)."""
    return pixel_shuffle(patches.permute(0, 3, 1, 2), PATCH)


class PatchCodec(ModelMixin, ConfigMixin):
    """`encode`: (B, 3, H, W) in [-1, 1], sides multiples of 8 -> latents (B, C, H/8, W/8); `decode` goes back.

    Args:
        latent_channels: number of eigenvectors that are kept, 1 to 192.
        block_out_channels: read by diffusers' pipelines only, for its length: 2 ** (4 - 1) = 8 pixels per latent.
        scaling_factor, shift_factor: as in `AutoencoderKL`; the scaling is inside the codec, so 1 and 0.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 48,
        block_out_channels: tuple[int, ...] = (3, 3, 3, 3),
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ):
        super().__init__()
        size = 3 * PATCH * PATCH
        self.mean = nn.Parameter(torch.zeros(size), requires_grad=False)  # (D,)
        self.basis = nn.Parameter(torch.eye(size)[:, :latent_channels].clone(), requires_grad=False)  # (D, C)
        self.gain = nn.Parameter(torch.ones(latent_channels), requires_grad=False)  # (C,)
        self.lapping = nn.Parameter(lapping_matrix().float(), requires_grad=False)  # (8, 8)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[IdentityDistribution]:
        """(B, 3, H, W) -> a distribution whose `mode()` is (B, C, H/8, W/8). ValueError for sides that are not
        multiples of 8."""
        if x.shape[-2] % PATCH or x.shape[-1] % PATCH:
            raise ValueError(f"Picture sides must be multiples of {PATCH}, got {tuple(x.shape[-2:])}.")
        patches = to_patches(lap(x, self.lapping)) - self.mean
        posterior = IdentityDistribution(((patches @ self.basis) * self.gain).permute(0, 3, 1, 2).contiguous())
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """(B, C, h, w) -> `sample` (B, 3, 8h, 8w), not clipped."""
        patches = (z.permute(0, 2, 3, 1) / self.gain) @ self.basis.T + self.mean
        sample = lap(from_patches(patches), self.lapping.T)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    @torch.no_grad()
    def fit(self, pictures: Iterable[Tensor]) -> PatchCodec:
        """Solve for mean, basis and gain on pictures (each (B, 3, H, W) in [-1, 1]); returns itself.

        Channel k is divided by the square root of its standard deviation, which keeps detail audible next to
        brightness under a noise of one size, and the whole is scaled to unit variance."""
        size = 3 * PATCH * PATCH
        count, total, outer = 0, torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
        for picture in pictures:
            patches = to_patches(lap(picture.double(), self.lapping)).flatten(0, 2)
            count, total, outer = count + len(patches), total + patches.sum(0), outer + patches.T @ patches
        mean = total / count
        variance, vectors = torch.linalg.eigh(outer / count - mean[:, None] * mean)
        keep = self.config.latent_channels
        deviation = variance.flip(0)[:keep].clamp_min(1e-12).sqrt()
        gain = deviation.rsqrt()
        gain /= (deviation * gain).square().mean().sqrt()
        self.mean.copy_(mean)
        self.basis.copy_(vectors.flip(1)[:, :keep])
        self.gain.copy_(gain)
        return self
