"""A perceptual distance without another network: the base model's own features.

Like LPIPS, but by a Kontext transformer's blocks. The pictures go in as sources, alone, with the words for no edit.
Every block's answer at their tokens is brought to unit length and averaged over the squares of a spatial pyramid (the
whole picture, its quarters, their quarters), so that an object that moves a little changes little. It takes lengths and
not their squares: then the triangle inequality holds, and the triangle deficit means a detour. It does not see what the
codec drops.

Legend: n pictures, S source tokens in h rows of w, D width of the transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from kontext_slider.base import Conditioning, Tokens, base_of, family_of
from kontext_slider.errors import InvalidInput
from kontext_slider.instructions import NO_EDIT
from kontext_slider.lora import slider_lora
from kontext_slider.metrics import Picture, networks, to_image
from kontext_slider.metrics.distances import Distance, Matrix, Rulers, rms, ssim
from kontext_slider.metrics.efficientnet import POOLED, STAGES, EfficientNetLite
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import load_pipeline

DISTANCES = ("dreamsim", "lpips", "clip", STAGES, POOLED, "pocket", "ssim", "rms")
FITTED = ("pocket", "rms")  # the synthetic edits move evenly by their mean (`world.edits`), so they judge nothing there
JUDGES = (STAGES, POOLED, "ssim")  # nothing of ours was fitted to these
DEFAULT_RULERS = (*JUDGES, "rms")
SIGMA = 1.0
PYRAMID = (1, 2, 4)  # squares along each side


def find_rulers(
    names: Sequence[str] = DEFAULT_RULERS, pipe: KontextSliderPipeline | None = None, clip: str | None = None
) -> Rulers:
    """Several distances side by side, as `find_distance` finds each; both of EfficientNet come from one pass."""
    network = EfficientNetLite(_device(pipe)) if {STAGES, POOLED} & set(names) else None
    others = {name: find_distance(name, pipe, clip) for name in names if name not in (STAGES, POOLED)}

    def measure(pictures: Sequence[Picture]) -> dict[str, Matrix]:
        found = {name: distance(pictures) for name, distance in others.items()}
        found |= network.distances(pictures) if network else {}
        return {name: found[name] for name in names}

    return measure


def find_distance(name: str, pipe: KontextSliderPipeline | None = None, clip: str | None = None) -> Distance:
    """The distance of that name, ready to use on the pipeline's device.

    Args:
        name: one of DISTANCES; "pocket" is `block_distance` of a pipeline's base model.
        pipe: the model under test. None: the pocket model in the box, on the CPU.
        clip: a folder or hub id of CLIP, for the distance of that name.

    Raises InvalidInput for a name that is none, a package that is not installed, weights that cannot be read.
    """
    device = _device(pipe)
    makers: dict[str, Callable[[], Distance]] = {
        "dreamsim": lambda: networks.dreamsim_distance(device),
        "lpips": lambda: networks.lpips_distance(device),
        "clip": lambda: networks.cosine_distance(networks.ClipEmbedder(clip or networks.CLIP, device).embed_images),
        STAGES: lambda: _one_of(EfficientNetLite(device), STAGES),
        POOLED: lambda: _one_of(EfficientNetLite(device), POOLED),
        "pocket": lambda: block_distance(pipe or load_pipeline("pocket", device=device)),
        "ssim": lambda: ssim,
        "rms": lambda: rms,
    }
    if name not in makers:
        raise InvalidInput(f"There is no distance '{name}'. Choose one of: {', '.join(DISTANCES)}.")
    return makers[name]()


def _one_of(network: EfficientNetLite, name: str) -> Distance:
    return lambda pictures: network.distances(pictures)[name]


def _device(pipe: KontextSliderPipeline | None) -> torch.device:
    return pipe._execution_device if pipe else torch.device("cpu")


def block_distance(pipe: KontextSliderPipeline) -> Distance:
    """Root mean square over a pyramid's squares of the difference of unit features, mean over its levels and over all
    blocks; in [0, 2], a metric of what the features see.

    Pictures have sides that the pipeline works on. The slider, if there is one, is off."""

    def distance(pictures: Sequence[Picture]) -> Matrix:
        matrices: list[Matrix] = []
        stride = 2 * pipe.vae_scale_factor
        shape = pictures[0].shape[0] // stride, pictures[0].shape[1] // stride

        def compare(_block: nn.Module, _inputs: tuple, answer: tuple[Tensor, Tensor]) -> None:
            matrices.append(feature_distances(answer[1].unflatten(1, shape)))  # of image tokens (n, S, D)

        blocks = family_of(pipe.transformer).blocks(pipe.transformer)
        hooks = [block.register_forward_hook(compare) for block in blocks]
        try:
            run_on_sources(pipe, pictures)
        finally:
            for hook in hooks:
                hook.remove()
        return np.mean(matrices, axis=0)

    return distance


def feature_distances(features: Tensor) -> Matrix:
    """(n, h, w, D) -> (n, n)."""
    unit = normalize(features.float(), dim=-1).permute(0, 3, 1, 2)
    levels = {side: adaptive_avg_pool2d(unit, side).flatten(1).cpu() for side in PYRAMID}  # (n, D side side) each
    return np.mean([squareform(pdist(level)) / side for side, level in levels.items()], axis=0)


@torch.no_grad()
def run_on_sources(pipe: KontextSliderPipeline, pictures: Sequence[Picture]) -> None:
    """One pass of the plain base model over pictures as sources, without target tokens."""
    base = base_of(pipe)
    text = base.encode_text(NO_EDIT, pipe.defaults.max_sequence_length)
    sources = [base.encode_source(to_image(picture), text.embeds.dtype) for picture in pictures]
    tokens = torch.cat([source.latents for source in sources])  # (n, S, C)
    nothing = Tokens(tokens[:, :0], sources[0].ids[:0])
    edit = Conditioning(text, Tokens(tokens, sources[0].ids), nothing, base.guidance(pipe.defaults.guidance))
    time = torch.tensor(SIGMA, dtype=tokens.dtype, device=tokens.device)
    with slider_lora(pipe.transformer, on=False):
        base.velocity(pipe.transformer, nothing.latents, time, edit)
