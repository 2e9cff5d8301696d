"""Does a model know an instruction, and if not, which of those that it knows come nearest?

Comparison is by words. Filler ("please", "the picture") is dropped, so "Turn it into night!" counts as "make it night",
while "make the ball blue" never counts as "make the ball red".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

# The words for no edit, in place of an empty instruction: pocket is trained on them, and FLUX understands them too.
NO_EDIT = "change nothing"

FILLER = frozenset(
    ("a", "an", "the", "this", "that", "it", "its", "my", "to", "into", "in", "of", "on", "with", "as", "like", "some")
    + ("please", "make", "turn", "change", "give", "put", "let", "get", "add", "look", "looks", "be", "become", "is")
    + ("day", "picture", "image", "photo", "photograph", "scene", "everything")
    + ("left", "right")  # which one, not what is done to it
)


@dataclass(frozen=True)
class Advice:
    """`is_known`: the model was trained for the instruction. If not, `nearest`: known phrasings, nearest first."""

    is_known: bool
    nearest: list[str] = field(default_factory=list)


def advise(instruction: str, known: Mapping[str, Sequence[str]], num_nearest: int = 3) -> Advice:
    """Compare `instruction` with what a model was trained for: `known`, edit name -> phrasings; empty for a model that
    takes any instruction. `nearest` holds at most `num_nearest` phrasings, one per edit; none for a known one."""
    phrasings = [phrase for phrases in known.values() for phrase in phrases]
    if not phrasings or any(_same(instruction, phrase) for phrase in phrasings):
        return Advice(is_known=True)
    best = [max(phrases, key=lambda phrase: _likeness(instruction, phrase)) for phrases in known.values() if phrases]
    best.sort(key=lambda phrase: -_likeness(instruction, phrase))  # stable: ties keep the model's own order
    return Advice(is_known=False, nearest=best[:num_nearest])


def whole_picture_first(known: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Edits that suit any picture ("make it snow") before those whose phrasings mostly name a thing that it may not
    show ("make the ball red"). Files of models keep names in the order of the alphabet."""

    def names_a_thing(phrases: Sequence[str]) -> bool:
        return sum("the" in _words(phrase) for phrase in phrases) > len(phrases) / 2

    return dict(sorted(known.items(), key=lambda item: names_a_thing(item[1])))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _meaning(text: str) -> frozenset[str]:
    return frozenset(_words(text)) - FILLER


def _same(one: str, other: str) -> bool:
    if _words(one) == _words(other):
        return bool(_words(one))
    return bool(_meaning(one)) and _meaning(one) == _meaning(other)


def _likeness(one: str, other: str) -> float:
    """In [0, 2]: share of meaning in common, misspellings counted by letters, plus likeness of the whole sentences."""
    ours, theirs = _meaning(one), _meaning(other)
    close = sum(max((SequenceMatcher(None, word, near).ratio() for near in theirs), default=0.0) ** 2 for word in ours)
    shared = close / max(len(ours | theirs), 1)
    return shared + SequenceMatcher(None, " ".join(_words(one)), " ".join(_words(other))).ratio()
