"""What a method is, and two ways to make one: from latents at each strength, or from a field of velocities.

Legend: L target tokens, C channels of a packed token; latents and velocities (1, L, C); sigma in (0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image
from torch import Generator, Tensor

from kontext_slider.base_edit import BaseEdit, edited_picture
from kontext_slider.metrics import Picture, to_image, to_picture
from kontext_slider.pipeline import KontextSliderPipeline

Method = Callable[[KontextSliderPipeline, Image.Image, str, Sequence[float], int], list[Picture]]
LatentsAt = Callable[[float], Tensor]  # strength -> latents
VelocityAt = Callable[[float, Tensor, float], Tensor]  # (strength, latents, sigma) -> velocity
Morpher = Callable[[KontextSliderPipeline, Image.Image, Image.Image, str, Sequence[float], int], list[Image.Image]]


def ours(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """The slider of this pipeline."""
    generator = Generator().manual_seed(seed)
    return list(pipe(image, instruction, strength=list(strengths), generator=generator, output_type="np").images)


@dataclass(frozen=True)
class ByLatents(ABC):
    """A method whose frames are decoded from latents that an edit of the base model has at each strength. Its fields
    are its free numbers."""

    @abstractmethod
    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        """The latents of an edit, by strength."""

    def __call__(
        self, pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Picture]:
        edit = BaseEdit(pipe, image, instruction, seed)
        latents_at = self.latents_at(edit)
        return [edit.picture(latents_at(s)) for s in strengths]


@dataclass(frozen=True)
class ByVelocity(ByLatents):
    """A method that takes Euler steps along a field of velocities, for each strength by itself."""

    @abstractmethod
    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        """The field of an edit, by strength."""

    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        velocity = self.velocity_at(edit)
        return lambda s: edit.sample(partial(velocity, s))


def by_morpher(morpher: Morpher) -> Method:
    """A morpher between the source and the base model's edit, as a method."""

    def method(
        pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Picture]:
        edited = to_image(edited_picture(pipe, image, instruction, seed))
        return [to_picture(frame) for frame in morpher(pipe, image, edited, instruction, strengths, seed)]

    return method
