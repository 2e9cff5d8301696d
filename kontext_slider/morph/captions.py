"""Words for the two pictures of a morph: by LLaVA-NeXT, as FreeMorph's authors have them, or from a file.

The file is JSON, from instructions to the captions of source and edit:
`{"make it snow": ["a temple by a lake", "a temple by a frozen lake in the snow"]}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from PIL.Image import Image
from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor

from kontext_slider.errors import CheckpointError, InvalidInput

Captions = Callable[[Image, Image, str], tuple[str, str]]  # (source, edited, instruction) -> their captions

QUESTION = "Describe this picture in one short sentence."
MOST_TOKENS = 60  # CLIP reads 77


def load_captions(place: str, device: torch.device, dtype: torch.dtype) -> Captions:
    """Captions from a file that ends in .json, or from LLaVA-NeXT, a folder or hub id.

    Raises InvalidInput for a file of another form, CheckpointError for a model that cannot be loaded."""
    if place.endswith(".json"):
        return GivenCaptions(Path(place))
    return LlavaCaptions.from_pretrained(place, device, dtype)


class GivenCaptions:
    """Captions from a file. InvalidInput for a file of another form, and for an instruction that is not in it."""

    def __init__(self, path: Path):
        self.path = path
        try:
            pairs = json.loads(path.read_text(encoding="utf-8"))
            self.pairs = {
                str(instruction): (str(source), str(edited)) for instruction, (source, edited) in pairs.items()
            }
        except (OSError, ValueError, AttributeError) as error:
            raise InvalidInput(
                f"{path} holds no captions ({error}). Write JSON, from an instruction to captions of source and edit."
            ) from error

    def __call__(self, source: Image, edited: Image, instruction: str) -> tuple[str, str]:
        if instruction not in self.pairs:
            raise InvalidInput(f"{self.path} has no captions for '{instruction}'. Add them.")
        return self.pairs[instruction]


class LlavaCaptions:
    """A LLaVA-NeXT that describes each picture by itself."""

    def __init__(self, model: LlavaNextForConditionalGeneration, processor: LlavaNextProcessor):
        self.model, self.processor = model, processor

    @classmethod
    def from_pretrained(cls, name: str, device: torch.device, dtype: torch.dtype) -> LlavaCaptions:
        """From a folder or hub id. CheckpointError where it cannot be loaded."""
        try:
            processor = LlavaNextProcessor.from_pretrained(name)
            model = LlavaNextForConditionalGeneration.from_pretrained(name, dtype=dtype)
        except (OSError, ValueError, ImportError) as error:
            raise CheckpointError(
                f"{name!r} cannot be loaded as LLaVA-NeXT ({error}). Name a folder or hub id that has it, or a .json "
                "file of captions, with --captions."
            ) from error
        return cls(model.to(device).eval(), processor)

    def __call__(self, source: Image, edited: Image, instruction: str) -> tuple[str, str]:
        return self.describe(source), self.describe(edited)

    @torch.no_grad()
    def describe(self, picture: Image) -> str:
        """One sentence."""
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
        prompt = self.processor.apply_chat_template(asked, add_generation_prompt=True)
        inputs = self.processor(images=picture, text=prompt, return_tensors="pt").to(
            self.model.device, self.model.dtype
        )
        answer = self.model.generate(**inputs, do_sample=False, max_new_tokens=MOST_TOKENS)
        words = self.processor.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return " ".join(words.split())
