"""The pocket model's parts: tokenizers that know every word, and a transformer that starts at "no edit"."""

from dataclasses import replace

import pytest
import torch

from kontext_slider.base import family_of
from kontext_slider.errors import InvalidInput
from kontext_slider.train.flow import velocity
from kontext_slider.train.pocket.batches import all_instructions
from kontext_slider.train.pocket.model import build_clip_tokenizer, build_transformer, kept_tokenizers
from tests.train.pocket.conftest import TINY


def test_words_are_single_tokens_in_any_spelling(parts):
    """A word cut into letters makes an instruction longer than the model has room for."""
    for text in all_instructions():
        words = len(text.split())
        assert len(parts["tokenizer"](text).input_ids) == words + 2
        for spelling in (text, text.capitalize()):
            assert len(parts["tokenizer_2"](spelling).input_ids) == words + 1


def test_words_have_the_same_numbers_every_time(parts):
    """A process that numbers its words anew reads another one's embeddings in another order."""
    vocabularies = [build_clip_tokenizer(all_instructions(), 16).get_vocab() for _ in range(3)]
    assert all(vocabulary == parts["tokenizer"].get_vocab() for vocabulary in vocabularies)


def test_a_run_keeps_its_words(tmp_path):
    """A run that is resumed by a version that knows more instructions, and would number all words anew."""
    first = kept_tokenizers(tmp_path / "words", ["add fog"], 16)
    again = kept_tokenizers(tmp_path / "words", ["a word before them", "add fog"], 16)
    for name, tokenizer in first.items():
        assert tokenizer.get_vocab() == again[name].get_vocab()
        assert tokenizer("add fog").input_ids == again[name]("add fog").input_ids
    (tmp_path / "words" / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(InvalidInput, match="words of the run"):
        kept_tokenizers(tmp_path / "words", ["add fog"], 16)


@pytest.mark.parametrize("sigma", [0.125, 0.5, 1.0])
@torch.no_grad()
def test_training_starts_at_no_edit(parts, sigma):
    """Before the first step the velocity leads from the noisy picture to the source, whatever the instruction."""
    target, source, noise = torch.randn(3, 2, 16, 16, 24)
    pack = family_of(parts["transformer"]).pack
    noisy = pack((1 - sigma) * target + sigma * noise)
    texts = torch.randn(2, 16, 32), torch.randn(2, 32)
    found = velocity(parts["transformer"], noisy, source, *texts, torch.full((2,), sigma))
    wanted = (noisy - pack(source)) / sigma
    assert (found - wanted).square().mean() < 0.01 * wanted.square().mean()


def test_a_width_without_room_cannot_start_as_a_copy():
    """The ballast needs dimensions of its own."""
    with pytest.raises(ValueError, match="spare"):
        build_transformer(replace(TINY, latent_channels=32))
