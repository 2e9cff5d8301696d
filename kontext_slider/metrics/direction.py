"""Does a sweep go where the words say, and how much of the picture's identity stays: two measures in CLIP's space.

Legend: y_0 the source, y_1..y_N frames at strengths i/N, all (H, W, 3) in [0, 1]; E embeds pictures, T sentences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch.nn.functional import cosine_similarity

from kontext_slider.metrics.networks import ImageEmbedder, TextImageEmbedder
from kontext_slider.metrics.picture import Picture


def clip_direction(embedder: TextImageEmbedder, sweep: Sequence[Picture], captions: tuple[str, str]) -> float:
    """CLIP-dir of y_0..y_N: mean over i >= 1 of c_i / (i/N), c_i = cos(E(y_i) - E(y_0), T(target) - T(source)).

    The division is the paper's: a change that points the right way counts for more the earlier it comes. So the
    figure is no cosine; for cosines that are all 1 it is N (1 + 1/2 + ... + 1/N) / N. 0 for frames that do not move.

    Args:
        captions: of the source and of the target, different ones.
    """
    images, texts = embedder.embed_images(sweep), embedder.embed_texts(captions)
    cosines = cosine_similarity(images[1:] - images[0], texts[1:] - texts[0], eps=1e-8).double().numpy()  # (N,)
    strengths = np.arange(1, len(sweep)) / (len(sweep) - 1)
    return float(np.mean(cosines / strengths))


def identity_curve(embedder: ImageEmbedder, sweep: Sequence[Picture]) -> NDArray[np.float64]:
    """Cosine of E(y_i) and E(y_0) for i = 0..N, (N + 1,); 1 at the source."""
    images = embedder.embed_images(sweep).double()
    return (images @ images[0]).numpy()
