"""A link to the page: what its address names is on the page when it opens.

`?example=cat&strength=0.4` opens a shipped example, `?instruction=make it snow` fills the words in and edits nothing.
`seed` goes with both. Values that cannot be used are left out with a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ..edit import check_instruction, check_seed, check_strength
from ..errors import InvalidInput
from . import messages
from .examples import Example, Opening
from .handlers import EDIT_INPUTS, MAX_LETTERS, Handlers
from .restore import Message, Offer, begin, values
from .saved_edit import MAX_NAME, MAX_SENTENCE, shortened
from .saving import PRIVATE

MAX_DIGITS = 40  # of a number in an address


class Links:
    """The handler of links."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def follow(self, event: gr.EventData, request: gr.Request, *inputs: Any) -> Iterator[Message]:
        """Fill in what a link names, and open its example. Outputs: `RESTORED`; inputs: values of `EDIT_INPUTS`.

        The event has texts by name. The browser has put the slider where the link wants it.
        """
        given, handlers = messages.values_of(event), self._handlers
        problems: list[str] = []
        changes = _checked(given, problems)
        example = _named_example(handlers.examples, given.get("example"), problems)
        if example is not None:
            changes = {"photograph": handlers.inputs.upload_of(example), "instruction": example.instruction} | changes
        yield values(saved_file=Offer(sentence=" ".join(problems)), **changes)
        runs = example is not None and changes["instruction"] == example.instruction
        if runs and not _is_opening(handlers.opening, changes):
            yield from begin(handlers, request, dict(zip(EDIT_INPUTS, inputs, strict=True)) | changes, strength=None)


def _checked(given: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Instruction and seed for the inputs; the strength is only checked."""
    checks = {
        "instruction": lambda text: check_instruction(text, MAX_LETTERS).strip(),
        "seed": lambda text: check_seed(_number(text, int)),
        "strength": lambda text: check_strength(_number(text, float)),
    }
    found = {}
    for name, check in checks.items():
        try:
            if name in given:
                found[name] = check(given[name])
        except InvalidInput as error:
            problems.append(f"The link's {name} is left out. {shortened(str(error), MAX_SENTENCE)}")
    found.pop("strength", None)
    return found


def _number(text: Any, kind: type) -> Any:
    """A number from a link; what is none as it is, for the check to refuse."""
    try:
        return kind(text) if isinstance(text, str) and len(text) <= MAX_DIGITS else text
    except ValueError:
        return text


def _named_example(examples: Any, name: Any, problems: list[str]) -> Example | None:
    if name is None:
        return None
    found = next((each for each in examples if each.name == name), None)
    if found is None:
        known = ", ".join(each.name for each in examples) or "none"
        problems.append(f"There is no example “{shortened(str(name), MAX_NAME)}” here; there are: {known}.")
    return found


def _is_opening(opening: Opening | None, changes: dict[str, Any]) -> bool:
    """Whether the page opens with that very edit."""
    if opening is None or opening.photograph.name != Path(changes["photograph"]).name:
        return False
    wanted = {"seed": opening.settings["seed"]} | changes
    return all(wanted[name] == opening.settings[name] for name in ("instruction", "seed"))


def wire_links(links: Links, widgets: dict[str, Any], canvas: Any, restored: list[Any]) -> None:
    """Connect the event of the canvas. restored: the widgets of `RESTORED`."""
    canvas.follow(links.follow, [widgets[name] for name in EDIT_INPUTS], restored, **PRIVATE)
