"""Instructions from a vision-language model that sees the source: any image-text-to-text model of transformers.

As in the paper: a fixed system prompt per category, some examples drawn for each picture, an answer in JSON. Any other
answer is drawn again with another seed, and in the end the item is rejected with the last answer. Words and examples
are this repository's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from kontext_slider.errors import CheckpointError
from kontext_slider.train.data.instruct import Written, draw_one
from kontext_slider.train.data.recipe import CATEGORIES, Category, Rejected
from kontext_slider.train.data.sources import Source

REFUSED, UNUSABLE = "the writer refused", "the writer's answer is unusable"
NUM_EXAMPLES = 4
MAX_TRIES = 3
MAX_NEW_TOKENS = 128
MAX_WORDS = 24
# Qwen3-VL's own. Qwen2.5-VL's files say top_k 1, with which every seed gives one answer (QwenLM/Qwen3-VL #722).
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
VIDEOS = "video_processor"
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


class ChatModel(Protocol):
    """Answers a system prompt and a request about a picture, the same for the same seed."""

    def answer(self, system: str, request: str, image: Image.Image, seed: int) -> str: ...


@dataclass(frozen=True)
class VisionWriter:
    """Draws a category and has a model write an instruction."""

    model: ChatModel

    def write(self, source: Source, categories: Sequence[str], rng: np.random.Generator) -> Written:
        category = CATEGORIES[draw_one(rng, categories)]
        request, problem = draw_request(category, rng), ""
        for _ in range(MAX_TRIES):
            seed = int(rng.integers(2**31))
            answer = self.model.answer(system_prompt(category), request, source.image, seed)
            try:
                return Written(parse_answer(answer), category.name)
            except ValueError as error:
                problem = f"{error} The answer was {answer[:200]!r}."
        raise Rejected(UNUSABLE, problem)


def system_prompt(category: Category) -> str:
    """The fixed part of the prompt, about a category."""
    reach = "the picture as a whole" if category.whole else "one thing in the picture, everything else left alone"
    return (
        "You write instructions for a program that edits pictures. Each instruction will also be carried out by "
        "halves and quarters, so it must name a change that has degrees and never one that adds or removes a thing.\n"
        f"Kind of edit: {category.name.replace('_', ' ')}; it concerns {reach}.\n"
        f"Task: {category.task} Not wanted here: {category.avoid}.\n"
        f"Look at the picture and name things by what is really there. Write one English sentence of at most "
        f"{MAX_WORDS} words that begins with a verb.\n"
        'Answer with JSON and nothing else: {"instruction": "..."}. If no edit of this kind suits the picture, answer '
        '{"refusal": "why"}.'
    )


def draw_request(category: Category, rng: np.random.Generator) -> str:
    """The request that goes with the picture: examples of the category, drawn anew each time."""
    drawn = rng.choice(len(category.examples), NUM_EXAMPLES, replace=False)
    lines = "\n".join(json.dumps({"instruction": category.examples[k]}) for k in drawn)
    return f"Answers for other pictures, to show the form:\n{lines}\nNow write one for this picture."


def parse_answer(answer: str) -> str:
    """The instruction in a model's answer: a JSON object with that one key, bare or in a code fence.

    Raises ValueError for anything else, Rejected where the model refuses."""
    fenced = _FENCE.fullmatch(answer.strip())
    try:
        content = json.loads(fenced.group(1) if fenced else answer)
    except ValueError as error:
        raise ValueError("This is no JSON.") from error
    if not isinstance(content, dict) or len(content) != 1:
        raise ValueError("This is no object with one key.")
    ((key, words),) = content.items()
    if key == "refusal":
        raise Rejected(REFUSED, str(words))
    instruction = " ".join(words.split()) if key == "instruction" and isinstance(words, str) else ""
    if not 2 <= len(instruction.split()) <= MAX_WORDS or not instruction[0].isalpha():
        raise ValueError(f"An instruction has 2 to {MAX_WORDS} words and begins with one.")
    return instruction


def load_processor(name: str) -> Any:
    """The processor of a model, a folder or a hub id, without its part for videos: that one needs torchvision, and
    Qwen2.5-VL and Qwen3-VL could not be loaded without it."""
    kind: Any = PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(name)), None)
    parts = kind.get_attributes() if kind is not None else []
    if VIDEOS not in parts:
        return AutoProcessor.from_pretrained(name)
    without = {"get_attributes": classmethod(lambda cls: [part for part in parts if part != VIDEOS])}
    of_pictures: Any = type(kind.__name__, (kind,), without)
    return of_pictures.from_pretrained(name)


class VisionModel:
    """A `ChatModel` made of a transformers processor and model."""

    def __init__(self, processor, model, max_new_tokens: int = MAX_NEW_TOKENS):
        self.processor, self.model, self.max_new_tokens = processor, model.eval(), max_new_tokens

    @classmethod
    def from_pretrained(cls, name: str, device: torch.device, dtype: torch.dtype) -> VisionModel:
        """From a folder or a hub id. CheckpointError where that is no such model, or cannot be fetched."""
        try:
            processor = load_processor(name)
            model = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype)
        except (OSError, ValueError, ImportError) as error:
            raise CheckpointError(
                f"{name!r} cannot be loaded as a vision-language model ({error}). Name a folder or a hub id such as "
                "'Qwen/Qwen2.5-VL-7B-Instruct', or use --writer grammar."
            ) from error
        return cls(processor, model.to(device))

    @torch.no_grad()
    def answer(self, system: str, request: str, image: Image.Image, seed: int) -> str:
        """The generated text, drawn with `seed`; the global random state is left as it was."""
        messages = [
            {"role": "system", "content": [{"type": "text", "text": system}]},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request}]},
        ]
        words = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        inputs = self.processor(images=[image], text=[words], return_tensors="pt")
        inputs = inputs.to(self.model.device, self.model.dtype)  # floating tensors only
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            tokens = self.model.generate(**inputs, **SAMPLING, max_new_tokens=self.max_new_tokens)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(new, skip_special_tokens=True)[0].strip()
