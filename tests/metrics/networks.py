"""Tiny networks of real classes in folders, and packages that are not installed, in their documented shape."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

from tests.tiny import tiny_clip


def save_tiny_clip(folder: Path) -> Path:
    """CLIP with pictures of 32 x 32 and embeddings of 8."""
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokenizer = tiny_clip()[1]
    words = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**tower, **words}, vision_config={**tower, "image_size": 32, "patch_size": 8}, projection_dim=8
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def fake_lpips(calls: list) -> SimpleNamespace:
    """`lpips`: LPIPS(net=...)(a, b) takes pictures in [-1, 1] and gives (n, 1, 1, 1)."""

    class Lpips(torch.nn.Module):
        def __init__(self, net: str = "alex", verbose: bool = True):
            super().__init__()
            calls.append(net)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            assert a.shape[1] == 3 and a.min() >= -1 and a.max() <= 1 and a.min() < 0
            calls.append(len(a))
            return (a - b).square().mean((1, 2, 3), keepdim=True)

    return SimpleNamespace(LPIPS=Lpips)


def fake_dreamsim(calls: list) -> SimpleNamespace:
    """`dreamsim`: dreamsim(pretrained, device, cache_dir) gives a model with `embed` and a preprocessing of images."""

    def preprocess(image):
        pixels = torch.from_numpy(np.asarray(image.resize((4, 4)), dtype=np.float32) / 255)
        return pixels.permute(2, 0, 1)[None]  # (1, 3, 4, 4)

    def embed(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        return pixels.flatten(1) + 0.1

    def dreamsim(pretrained: bool = True, device: str = "cuda", cache_dir: str = "./models"):
        calls.append(device)
        return SimpleNamespace(embed=embed), preprocess

    return SimpleNamespace(dreamsim=dreamsim)
