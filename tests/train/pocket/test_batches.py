"""Batches of synthetic pairs: what is drawn how often, and what counts how much."""

import numpy as np
import pytest
import torch

from kontext_slider.codec import PatchCodec
from kontext_slider.train.pocket.batches import FOCUS, PRACTISE, Batches, channel_weights
from kontext_slider.train.pocket.pairs import SCENES_ONLY, draw_shard
from kontext_slider.world.edits import EDITS


def test_a_share_says_how_often_the_pairs_of_a_size_are_drawn(words):
    """A slider that sees objects in half of its steps forgets photographs."""
    codec = PatchCodec(latent_channels=8)
    shards = [draw_shard(codec, (side, side), 4, seed=1, workers=1) for side in (32, 48)]
    batches = Batches(shards, [2, 2], words, shares=[0.25, 1.0])
    generator = torch.Generator().manual_seed(0)
    widths = [batches.draw(generator).source.shape[-1] for _ in range(200)]
    assert 20 <= widths.count(4) <= 60 and widths.count(4) + widths.count(6) == 200


def test_tokens_of_objects_weigh_more_where_an_object_is_edited(words):
    """An object is a few tokens of a picture: with equal weights the model learns to leave it as it is."""
    shard = draw_shard(PatchCodec(latent_channels=8), (64, 64), 8, seed=5, workers=1, mix=SCENES_ONLY)
    batch = Batches([shard], [30], words).draw(torch.Generator().manual_seed(0))
    assert FOCUS > 1 and set(batch.weights.unique().tolist()) == {1.0, FOCUS}
    for target, weights in zip(batch.target, batch.weights, strict=True):
        rows = [row for row in range(len(shard)) if torch.equal(shard.target[row].float(), target)]
        assert any(torch.equal(weights > 1, shard.focus[row]) for row in rows)


def test_practised_edits_are_drawn_more_often(words):
    """The odds of another edit's sentences, or of none."""
    shard = draw_shard(PatchCodec(latent_channels=8), (32, 32), 30, seed=1, workers=1)
    of_fog = torch.tensor([text in EDITS["fog"].instructions() for text in shard.instruction])
    assert 0 < of_fog.sum() < len(of_fog)

    def share(practised: tuple[str, ...]) -> float:
        batches, generator = Batches([shard], [2000], words, practised=practised), torch.Generator().manual_seed(0)
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
