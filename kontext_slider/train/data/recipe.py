"""What data is made by: the recipe, and the paper's kinds of edits, each with examples to draw from.

The words, in categories.json, are this repository's own. An edit must be one that can be done by half, since a slider
stops anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from kontext_slider.errors import InvalidInput
from kontext_slider.morph import LLAVA, MORPHERS

GRAMMAR = "grammar"
SCENES, SUBJECTS = "scenes", "subjects200k"  # sources besides folders of pictures


class Rejected(Exception):
    """An item that goes no further. `reason` is one of few words, to be counted; `detail` says more."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Category:
    """`whole`: of the whole picture, else of one thing in it. `task` and `avoid` go into the system prompt."""

    name: str
    whole: bool
    task: str
    avoid: str
    examples: list[str]


CATEGORIES = {
    name: Category(name, **row)
    for name, row in json.loads(Path(__file__).with_name("categories.json").read_text(encoding="utf-8")).items()
}


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in CATEGORIES]
    if unknown or not names:
        raise ValueError(f"the categories are {', '.join(CATEGORIES)}, not {', '.join(unknown) or 'none'}")
    return tuple(dict.fromkeys(names))


def _morpher(name: str) -> str:
    if name not in MORPHERS:
        raise ValueError(f"the morphers are {', '.join(MORPHERS)}, not {name}")
    return name


def _one_of_several(share: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= share[0] < share[1]:
        raise ValueError("a share is K/N with K from 0 to N - 1, such as 0/4")
    return share


class Recipe(BaseModel):
    """All that decides what the data looks like, apart from how many items there are. The descriptions are the help of
    `kontext-slider data run`, which has a flag for each setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(
        default="pocket", description="the editing model: pocket, kontext-dev, a model folder or a hub id"
    )
    sources: str = Field(
        default=SCENES,
        description="subjects200k, subjects200k:FOLDER, a folder of pictures, or scenes, which are drawn (default: "
        "scenes for pocket, none for others)",
    )
    writer: str = Field(
        default=GRAMMAR,
        description="a vision-language model, a folder or hub id such as Qwen/Qwen2.5-VL-7B-Instruct, or grammar "
        "(default: grammar for pocket, none for others)",
    )
    categories: Annotated[tuple[str, ...], AfterValidator(_known)] = Field(
        default=tuple(CATEGORIES), description="kinds of edits (default: all seven)"
    )
    morpher: Annotated[str, AfterValidator(_morpher)] = Field(
        default="warp-fade",
        description=f"one of {', '.join(MORPHERS)} (default: warp-fade for pocket, else free-morph)",
    )
    morpher_model: str | None = Field(
        default=None, description="the morpher's own model, a folder or hub id (default: the method's)"
    )
    captions: str = Field(
        default=LLAVA,
        description=f"words for free-morph and diff-morpher: a .json file, or LLaVA-NeXT (default: {LLAVA})",
    )
    distance: Literal["ssim", "lpips"] = Field(
        default="ssim", description="behind scores and filter: ssim or lpips (default: ssim for pocket, else lpips)"
    )
    pictures: Literal["png", "jpeg"] = Field(
        default="png",
        description="format of strips and packed data: png, or jpeg of quality 95, which takes a third (default: png "
        "for pocket, else jpeg)",
    )
    size: int | None = Field(
        default=None,
        ge=16,
        le=2048,
        description="side in pixels of a square of the pictures' area (default: the model's)",
    )
    num_steps: int = Field(default=6, ge=2, description="N; strengths are k / N")
    max_kl: float = Field(default=0.15, gt=0, description="the most that adjacent distances may differ from even ones")
    seed: int = Field(default=0, ge=0, description="draws sources, instructions and noise")
    share: Annotated[
        tuple[int, int],
        BeforeValidator(lambda value: value.split("/") if isinstance(value, str) else value),
        AfterValidator(_one_of_several),
    ] = Field(default=(0, 1), description="K/N: do each N-th item from K on, as one of N machines")

    @property
    def strengths(self) -> list[float]:
        """k / N, k = 0..N."""
        return [k / self.num_steps for k in range(self.num_steps + 1)]


PAPERS_TOOLS = {"morpher": "free-morph", "distance": "lpips", "pictures": "jpeg"}


def complete(values: Mapping[str, Any], takes_any_instruction: bool) -> dict[str, Any]:
    """The settings of a recipe with those that its base model wants where they are not given: the defaults of `Recipe`
    are for a model that knows a closed list of edits, as pocket does; others get the paper's tools.

    InvalidInput where such a model is given no sources or no writer: synthetic scenes and the grammar's edits would
    teach it nothing, and nobody would see it before the end."""
    if not takes_any_instruction:
        return dict(values)
    missing = [f"--{name}" for name in ("sources", "writer") if name not in values]
    if missing:
        raise InvalidInput(
            f"The model {values.get('model', 'pocket')} takes any instruction, so its data needs "
            f"{' and '.join(missing)}. Give --sources subjects200k (the paper's, from the hub), subjects200k:FOLDER "
            "(downloaded) or a folder of pictures, and --writer Qwen/Qwen2.5-VL-7B-Instruct or another vision-language "
            "model. --sources scenes and --writer grammar, the defaults for pocket, can be given too."
        )
    return {**PAPERS_TOOLS, **values}
