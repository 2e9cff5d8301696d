"""What a method is, and two ways to make one: from latents at each scale, or from a field of velocities.

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
from kontext_slider.errors import InvalidInput
from kontext_slider.metrics import Picture, to_image, to_picture
from kontext_slider.morph import Morpher
from kontext_slider.pipeline import KontextSliderPipeline

Method = Callable[[KontextSliderPipeline, Image.Image, str, Sequence[float], int], list[Picture]]
LatentsAt = Callable[[float], Tensor]  # scale -> latents
VelocityAt = Callable[[float, Tensor, float], Tensor]  # (scale, latents, sigma) -> velocity


def ours(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """The slider of this pipeline; its own frame at strength 0, not the source in its place."""
    how = {"generator": Generator().manual_seed(seed), "output_type": "np", "source_at_zero": False}
    return list(pipe(image, instruction, strength=list(strengths), **how).images)


@dataclass(frozen=True, kw_only=True)
class ByScale(ABC):
    """A method with one scale, which goes with the strength on a straight line from `start` to `end`. The fields are
    its free numbers, their defaults what `benchmarks/tune_baselines.py` chose on pocket."""

    start: float = 0.0  # the scale at strength 0
    end: float = 1.0  # the scale at strength 1
    steps: int | None = None  # of a render; None: the pipeline's own

    @abstractmethod
    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        """The latents of an edit, by scale."""

    def unavailable(self, pipe: KontextSliderPipeline) -> str | None:
        """Why the method cannot run on a pipeline, as a sentence; None where it can."""
        return None

    def __call__(
        self, pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Picture]:
        if problem := self.unavailable(pipe):
            raise InvalidInput(problem)
        edit = BaseEdit(pipe, image, instruction, seed, self.steps)
        latents_at = self.latents_at(edit)
        return [edit.picture(latents_at(self.start + s * (self.end - self.start))) for s in strengths]


@dataclass(frozen=True, kw_only=True)
class ByVelocity(ByScale):
    """A method that takes Euler steps along a field of velocities, for each scale by itself."""

    @abstractmethod
    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        """The field of an edit, by scale."""

    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        velocity = self.velocity_at(edit)
        return lambda scale: edit.sample(partial(velocity, scale))


def by_morpher(morpher: Morpher) -> Method:
    """A morpher between the source and the base model's edit, as a method."""

    def method(
        pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Picture]:
        edited = to_image(edited_picture(pipe, image, instruction, seed))
        return [to_picture(frame) for frame in morpher(pipe, image, edited, instruction, strengths, seed)]

    return method
