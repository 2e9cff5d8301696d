"""What the paper's training takes on GPUs, stage by stage: bytes from files written here, hours from measured steps.

    .venv/bin/python benchmarks/size_on_paper.py              # the table of docs/training.md
    .venv/bin/python benchmarks/size_on_paper.py --formats    # bytes and dB of picture formats as well

Seconds marked "measured" are from docs/results.md (one H200, random weights of FLUX.1 Kontext's size). The others are
estimates: the operations of the real architecture, counted on torch's meta device, over a rate that is said. Nothing of
this was run with the real weights.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kontext_slider.files import shipped
from kontext_slider.images import read_image, working_image
from kontext_slider.metrics.statistics import markdown
from kontext_slider.morph.freemorph import ROUNDS, STEPS, WALKED
from kontext_slider.train.config import PAPER
from kontext_slider.train.data.recipe import Recipe
from kontext_slider.train.data.workspace import SAVED_AS, picture_bytes

MADE, KEPT, SIZES = 110_000, 64_000, 10_000  # sequences: before and after the filter, of object sizes
SIDE, FRAMES = 512, Recipe().num_steps + 1
EDIT, STEP = 2.68, 0.095  # seconds, H200: a whole plain call of 28 steps; a step with the library's layers
WRITE = 1.2  # seconds, a guess: forty tokens of a 7-billion model by transformers' generate, one picture at a time
FAST, FLOAT32 = 400e12, 40e12  # operations a second: bfloat16 (546e12 measured in FLUX's steps), float32 without TF32
PAPERS_HOURS = 72 * 8  # A100-80G hours, in the paper
FORMATS: dict[str, dict[str, Any]] = {
    **SAVED_AS,
    "webp, lossless": {"format": "WEBP", "lossless": True},
    "webp, quality 95": {"format": "WEBP", "quality": 95},
    "jpeg, quality 95, half the chroma": {"format": "JPEG", "quality": 95},
    "jpeg, quality 98": {"format": "JPEG", "quality": 98, "subsampling": 0},
}


@dataclass(frozen=True)
class Stage:
    """`items` of `seconds` each on one GPU, or on the CPU where that is 0; `kilobytes` that each leaves."""

    name: str
    items: int
    seconds: float
    source: str  # of the seconds
    kilobytes: float


def photographs() -> list[Image.Image]:
    """The shipped ones, at the area that the trainer sees."""
    files = sorted(shipped("assets/photos").glob("*.jpg"))
    return [working_image(read_image(file), SIDE, 16) for file in files]


def kilobytes(pictures: str) -> float:
    """Of one picture of 512 x 512, mean over the photographs."""
    return float(np.mean([len(picture_bytes(photo, pictures)) for photo in photographs()])) / 1e3


def encoded_kilobytes() -> float:
    """Of a row that the trainer reads: source, frames, text and pooled text in bfloat16."""
    latents, text = 16 * (SIDE // 8) ** 2, PAPER.max_sequence_length * 4096
    return 2 * ((FRAMES + 1) * latents + text + 768) / 1e3


def operations(module: nn.Module, *inputs: torch.Tensor, **named: torch.Tensor) -> float:
    """Multiplications and additions of one call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs, **named)
    return float(counter.get_total_flops())


def free_morph_operations() -> float:
    """Of one sequence, Stable Diffusion 2.1 at its 768 pixels: fixed-point rounds up, guidance doubles the way down."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=96, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
        )
        once = operations(
            unet, torch.zeros(1, 4, 96, 96), torch.tensor(1), encoder_hidden_states=torch.zeros(1, 77, 1024)
        )
    return once * FRAMES * int(STEPS * WALKED) * (ROUNDS + 2)


def encoder_operations() -> float:
    """Of one picture through an encoder of FLUX's size."""
    with torch.device("meta"):
        codec = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=16,
        )
        return operations(codec.encoder, torch.zeros(1, 3, SIDE, SIDE))


def vgg_operations() -> float:
    """Of LPIPS on one strip: VGG-16 on both pictures of every pair of its tiles."""
    side, before, total = SIDE, 3, 0
    for width, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            total, before = total + 2 * 9 * before * width * side * side, width
        side //= 2
    tiles = FRAMES + 2
    return float(total * tiles * (tiles - 1))


def stages() -> list[Stage]:
    """In their order."""
    png, jpeg, rows = kilobytes("png"), kilobytes("jpeg"), KEPT + SIZES
    strip = (FRAMES + 2) * jpeg
    return [
        Stage("instruct (7 B writer)", MADE, WRITE, "a guess", png),
        Stage("edit (28 steps)", MADE, EDIT, "measured, H200", png),
        Stage("morph (FreeMorph)", MADE, free_morph_operations() / FLOAT32, "estimate, 40 TFLOP/s", strip),
        Stage("score and filter (LPIPS)", MADE, vgg_operations() / FLOAT32, "estimate, 40 TFLOP/s", 0.5),
        Stage("pack", KEPT, 0, "CPU", strip),
        Stage("object-size", SIZES, 0, "CPU", strip),
        Stage("encode", rows, (FRAMES + 1) * encoder_operations() / FAST + 0.05, "estimate", encoded_kilobytes()),
        Stage("train (batch 8)", PAPER.steps * 8, 3.1 * STEP, "estimate: 3.1 forward steps of 95 ms", 0),
    ]


def table() -> str:
    """Stages with disk, GPU-hours and hours on eight GPUs."""
    rows, bytes_, hours = [], 0.0, 0.0
    for stage in stages():
        size, spent = stage.items * stage.kilobytes / 1e6, stage.items * stage.seconds / 3600
        bytes_, hours = bytes_ + size, hours + spent
        seconds = f"{stage.seconds:.2f}" if stage.seconds else "-"
        rows.append((stage.name, f"{stage.items:,}", seconds, stage.source, f"{spent:.0f}", f"{size:.0f}"))
    rows.append(("all", "", "", f"training in the paper: {PAPERS_HOURS} on A100", f"{hours:.0f}", f"{bytes_:.0f}"))
    return markdown(("stage", "items", "seconds each", "from", "GPU-hours", "GB"), rows)


def psnr(first: Image.Image, second: Image.Image) -> float:
    error = np.mean((np.asarray(first, float) - np.asarray(second, float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def formats() -> str:
    """Kilobytes and dB of every format, written once and twice."""
    rows = []
    for name, how in FORMATS.items():
        sizes, once, twice = list[float](), list[float](), list[float]()
        for photo in photographs():
            files, seen = list[io.BytesIO](), photo
            for _ in range(2):
                files.append(io.BytesIO())
                seen.save(files[-1], **how)
                seen = Image.open(files[-1]).convert("RGB")
                (once if len(files) == 1 else twice).append(psnr(photo, seen))
            sizes.append(files[0].tell() / 1e3)
        rows.append((name, f"{np.mean(sizes):.0f}", *(f"{np.mean(x):.1f} ({min(x):.1f})" for x in (once, twice))))
    return markdown(("format", "kB", "dB (least)", "written twice"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", action="store_true", help="picture formats as well")
    parser.add_argument("--out", type=Path, help="write it there as well")
    args = parser.parse_args()
    text = "\n\n".join([table(), *([formats()] if args.formats else [])])
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
