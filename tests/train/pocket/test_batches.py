"""Batches of synthetic pairs: what is drawn how often, and what counts how much."""

import numpy as np
import pytest
import torch

from kontext_slider.codec import PatchCodec
from kontext_slider.train.pocket.batches import FOCUS, PRACTISE, Batches, channel_weights
from kontext_slider.train.pocket.pairs import SCENES_ONLY, ShardSize, draw_shard
from kontext_slider.world.edits import EDITS


def test_a_share_says_how_often_the_pairs_of_a_size_are_drawn(words):
    """A slider that sees objects in half of its steps forgets photographs."""
    codec = PatchCodec(latent_channels=8)
    sizes = [ShardSize(side, side, 4, 2, share=share) for side, share in ((32, 0.25), (48, 1.0))]
    batches = Batches([draw_shard(codec, size, 1, whole=True) for size in sizes], sizes, words)
    generator = torch.Generator().manual_seed(0)
    widths = [batches.draw(generator).source.shape[-1] for _ in range(200)]
    assert 20 <= widths.count(4) <= 60 and widths.count(4) + widths.count(6) == 200


def test_tokens_of_objects_weigh_more_where_an_object_is_edited(words):
    """An object is a few tokens of a picture: with equal weights the model learns to leave it as it is."""
    size = ShardSize(64, 64, 8, 30, mix=SCENES_ONLY)
    shard = draw_shard(PatchCodec(latent_channels=8), size, 5, whole=True)
    batch = Batches([shard], [size], words).draw(torch.Generator().manual_seed(0))
    assert FOCUS > 1 and set(batch.weights.unique().tolist()) == {1.0, FOCUS}
    for target, weights in zip(batch.target, batch.weights, strict=True):
        rows = [row for row in range(len(shard)) if torch.equal(shard.target[row].float(), target)]
        assert any(torch.equal(weights > 1, shard.focus[row]) for row in rows)


def test_practised_edits_are_drawn_more_often(words):
    """The odds of another edit's sentences, or of none."""
    size = ShardSize(32, 32, 30, 2000)
    shard = draw_shard(PatchCodec(latent_channels=8), size, 1, whole=True)
    of_fog = torch.tensor([text in EDITS["fog"].instructions() for text in shard.instruction])
    assert 0 < of_fog.sum() < len(of_fog)

    def share(practised: tuple[str, ...]) -> float:
        batches, generator = Batches([shard], [size], words, practised), torch.Generator().manual_seed(0)
        fog = {words.index[text] for text in EDITS["fog"].instructions()}
        return float(np.mean([int(row) % len(words.index) in fog for row in batches.draw(generator).words]))

    even, practised = share(()), share(("fog",))
    assert practised / even == pytest.approx(PRACTISE / (1 + (PRACTISE - 1) * even), rel=0.2)


def test_channels_weigh_what_their_errors_show():
    """Brightness, of which a picture shows most, counts as little as the finest detail."""
    codec = PatchCodec.from_pretrained("weights/pocket/vae", dtype=torch.float32)
    weights = channel_weights(codec)
    assert weights.mean() == pytest.approx(1) and weights.argmax() == codec.gain.argmin() and weights.min() > 0.5
    assert channel_weights(torch.nn.Linear(1, 1)) is None
