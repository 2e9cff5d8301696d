"""Does a model know an instruction, and if not, which of those that it knows come nearest?

Comparison is by words, and of an unknown word by its letters. Filler ("please", "the picture") is dropped, so "Turn it
into night!" counts as "make it night", while "make the ball blue" never counts as "make the ball red". What it costs is
bounded: of a long text the first words count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches

# The words for no edit, in place of an empty instruction: pocket is trained on them, and FLUX understands them too.
NO_EDIT = "change nothing"

FILLER = frozenset(
    ("a", "an", "the", "this", "that", "it", "its", "my", "to", "into", "in", "of", "on", "with", "as", "like", "some")
    + ("please", "make", "turn", "change", "give", "put", "let", "get", "add", "look", "looks", "be", "become", "is")
    + ("day", "picture", "image", "photo", "photograph", "scene", "everything")
    + ("left", "right")  # which one, not what is done to it
)

MAX_WORDS, MAX_LETTERS = 40, 24  # of an instruction, and of a word in it, that are compared with what a model knows
MAX_TEXT = 2000  # letters of an instruction that are looked at
MAX_NAME = 100  # letters of a folder's name


@dataclass(frozen=True)
class Advice:
    """`is_known`: the model was trained for the instruction. If not, `nearest`: known phrasings, nearest first."""

    is_known: bool
    nearest: list[str] = field(default_factory=list)


def advise(instruction: str, known: Mapping[str, Sequence[str]], num_nearest: int = 3) -> Advice:
    """Compare `instruction` with what a model was trained for: `known`, edit name -> phrasings; empty for a model that
    takes any instruction. `nearest` holds at most `num_nearest` phrasings, one per edit; none for a known one."""
    phrasings = [phrase for phrases in known.values() for phrase in phrases]
    words, meaning = _words(instruction[:MAX_TEXT]), _meaning(instruction[:MAX_TEXT])
    if not phrasings or any(_same(words, meaning, phrase) for phrase in phrasings):
        return Advice(is_known=True)
    words = [word[:MAX_LETTERS] for word in words[:MAX_WORDS]]
    closeness = _closeness(frozenset(words) - FILLER, {word for phrase in phrasings for word in _meaning(phrase)})
    likeness = {phrase: _likeness(words, phrase, closeness) for phrase in phrasings}
    best = [max(phrases, key=likeness.__getitem__) for phrases in known.values() if phrases]
    best.sort(key=lambda phrase: -likeness[phrase])  # stable: ties keep the model's own order
    return Advice(is_known=False, nearest=best[:num_nearest])


def whole_picture_first(known: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Edits that suit any picture ("make it snow") before those whose phrasings mostly name a thing that it may not
    show ("make the ball red"). Files of models keep names in the order of the alphabet."""

    def names_a_thing(phrases: Sequence[str]) -> bool:
        return sum("the" in _words(phrase) for phrase in phrases) > len(phrases) / 2

    return dict(sorted(known.items(), key=lambda item: names_a_thing(item[1])))


def folder_name(instruction: str) -> str:
    """What belongs to an instruction is kept under this name: "Make it snow!" -> "make-it-snow"."""
    return "-".join(_words(instruction))[:MAX_NAME]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _meaning(text: str) -> frozenset[str]:
    return frozenset(_words(text)) - FILLER


def _same(words: list[str], meaning: frozenset[str], phrase: str) -> bool:
    return bool(words) and words == _words(phrase) or bool(meaning) and meaning == _meaning(phrase)


def _closeness(ours: frozenset[str], theirs: set[str]) -> dict[str, dict[str, float]]:
    """For each of our words how like it some others are by their letters, in [0, 1]."""
    close: dict[str, dict[str, float]] = {}
    for word in ours:
        close[word] = {word: 1.0} if word in theirs else {}
        if not close[word]:
            near = get_close_matches(word, theirs, n=5, cutoff=0.5)
            close[word] = {other: SequenceMatcher(None, other, word).ratio() for other in near}
    return close


def _likeness(words: list[str], phrase: str, closeness: dict[str, dict[str, float]]) -> float:
    """In [0, 2]: share of meaning in common, misspellings counted by letters, plus likeness of the sentences' words."""
    ours, theirs = closeness.keys(), _meaning(phrase)
    close = sum(max((closeness[word].get(near, 0.0) for near in theirs), default=0.0) ** 2 for word in ours)
    shared = close / max(len(ours | theirs), 1)
    return shared + SequenceMatcher(None, words, _words(phrase)).ratio()
