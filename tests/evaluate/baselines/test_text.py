"""Baselines in the embeddings of the text."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kontext_slider.base_edit import BaseEdit
from kontext_slider.evaluate.baselines.text import (
    EmbeddingSteering,
    PadTokens,
    concept_tokens,
    elastic_range,
    steering,
    text_pieces,
)
from kontext_slider.instructions import NO_EDIT
from tests.tiny import tiny_image, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def test_pad_tokens_leave_nothing_of_the_instruction_at_zero(pipe):
    """A token that is not replaced, or the pooled text, would still ask for the edit."""
    method = PadTokens(start=0.0, end=1.0, pads=True)
    first, second = (method(pipe, tiny_image(), text, (0.0, 1.0), 0) for text in ("snow it", "burn it"))
    assert np.array_equal(first[0], second[0]) and not np.array_equal(first[1], second[1])


def test_pad_tokens_change_no_pad(pipe):
    """The authors interpolate the instruction's own tokens alone."""
    edit, asked = BaseEdit(pipe, tiny_image(), "snow", 0), []
    edit.velocity = lambda z, sigma, text: asked.append(text.embeds)
    PadTokens(pads=False).velocity_at(edit)(0.0, edit.noise.latents, 1.0)
    num_tokens = len(text_pieces(edit, "snow"))
    changed = (asked[0] != edit.text.embeds).any(-1)[0]
    assert num_tokens == 6 < len(changed) and changed[:num_tokens].all() and not changed[num_tokens:].any()


@pytest.mark.parametrize(
    ("pieces", "chosen"),
    [
        (["▁make", "▁the", "▁ball", "▁red", "</s>"], [2, 3]),
        (["▁Make", "▁it", "▁under", "water", "!", "</s>"], [2, 3, 4]),
        (["▁change", "▁nothing", "</s>"], [1]),
        (["▁make", "▁it", "</s>"], [0, 1]),
        (["</s>"], [0]),
    ],
)
def test_the_concept_is_in_the_words_that_are_no_filler(pieces, chosen):
    """Steered at "make" and "the", the authors found, the edit fails."""
    assert concept_tokens(pieces) == chosen


def test_steered_to_zero_the_concept_has_the_mean_of_no_edit(pipe):
    """The direction the wrong way round would make the edit stronger towards 0."""
    edit = BaseEdit(pipe, tiny_image(), "snow", 0)
    chosen, direction = steering(edit)
    none = edit.encode_text(NO_EDIT)
    mean = none.embeds[:, concept_tokens(text_pieces(edit, NO_EDIT))].mean(1)
    assert torch.allclose((edit.text.embeds[:, chosen] - direction.embeds).mean(1), mean, atol=1e-5)
    assert torch.allclose(edit.text.pooled - direction.pooled, none.pooled, atol=1e-5)


def test_the_elastic_range_has_equal_gaps_and_leaves_out_what_is_too_far():
    """Pictures at 0, 3, 4, 6 and 10 on a line; the source lies at 2, so that the first one is farther from the edit
    than it. Of what is left, the way from 3 to 10 is shared evenly."""
    line = np.array([2.0, 0, 3, 4, 6, 10])
    shares, found = elastic_range(np.abs(line[:, None] - line), np.linspace(-1, 1, 5), 1.0)
    assert np.allclose(found, [-0.5, 0, 0.5, 1]) and np.allclose(shares, [0, 1 / 7, 3 / 7, 1])


def test_the_elastic_range_ends_where_the_straight_one_does(pipe):
    """The unsteered edit stays at strength 1, whatever the search finds."""
    straight = EmbeddingSteering(start=0.0, end=1.0, elastic=False)
    frames = [made(pipe, tiny_image(), "snow", (0.5, 1.0), 0) for made in (straight, replace(straight, elastic=True))]
    assert np.array_equal(frames[0][1], frames[1][1]) and not np.array_equal(frames[0][0], frames[1][0])
