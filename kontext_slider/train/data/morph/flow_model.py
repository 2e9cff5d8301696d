"""The editing model's own flow between two pictures: what the morphers in `flow` are made of.

Legend: B rows of a batch, L target tokens, S context tokens of one picture, C channels of a packed token, T text
tokens; latents z (B, L, C) float32; sigma in (0, 1]; s strengths (B, 1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from kontext_slider.encoding import decode
from kontext_slider.engine.denoise import (
    TextEncoding,
    draw_noise,
    encode_source,
    encode_text,
    prepare_scheduler,
    to_picture,
)
from kontext_slider.errors import InvalidInput
from kontext_slider.lora import slider_lora
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.pocket import KEEP


@dataclass(frozen=True)
class Words:
    """Text as the transformer takes it; one row, or one per row of the batch."""

    embeds: Tensor  # (B, T, D)
    pooled: Tensor  # (B, P)

    def toward(self, other: Words, s: Tensor) -> Words:
        """Mixed with another text, by strength."""
        s = s.to(self.embeds.dtype)
        return Words(torch.lerp(self.embeds, other.embeds, s), torch.lerp(self.pooled, other.pooled, s[:, 0]))


class FlowModel:
    """A pipeline's transformer with both pictures, both texts and the noise encoded.

    Args:
        pipe: its slider, if it has one, is off.
        source, edited: of one size, with sides that are multiples of the packing.
        instruction: what leads from one to the other.
        seed: of the noise.

    Raises InvalidInput for pictures of two sizes.
    """

    def __init__(
        self, pipe: KontextSliderPipeline, source: Image.Image, edited: Image.Image, instruction: str, seed: int
    ):
        check_pair(source, edited)
        self.pipe, self.size = pipe, source.size
        keep, change = (self._encode(text) for text in (KEEP, instruction))
        self.dtype, self.text_ids = keep.embeds.dtype, keep.ids
        self.keep, self.change = Words(keep.embeds, keep.pooled), Words(change.embeds, change.pooled)
        contexts = [encode_source(pipe, image, self.dtype) for image in (source, edited)]
        self.context_ids = contexts[0].ids
        self.ends = torch.cat([context.latents for context in contexts]).float()  # (2, L, C)
        noise, self.target_ids = draw_noise(pipe, self.size, seed, self.dtype)
        self.noise = noise.float()

    def _encode(self, text: str) -> TextEncoding:
        return encode_text(self.pipe, text, self.pipe.defaults.max_sequence_length)

    @property
    def source(self) -> Tensor:
        """The source's latents, (1, L, C)."""
        return self.ends[:1]

    def strengths(self, values: Sequence[float]) -> Tensor:
        """(B, 1, 1), where the latents are."""
        return torch.tensor(values, dtype=torch.float32, device=self.ends.device)[:, None, None]

    def sigmas(self, steps: int) -> list[float]:
        """The noise levels of a render in `steps` steps, from 1 to 0."""
        return prepare_scheduler(self.pipe, steps, self.ends.shape[1], self.ends.device).sigmas.tolist()

    @torch.no_grad()
    def velocity(
        self, z: Tensor, sigma: float, words: Words, context: Tensor, num_contexts: int = 1, bias: Tensor | None = None
    ) -> Tensor:
        """The model's velocity at z (B, L, C). `context`: (1 or B, num_contexts L, C); `bias`: added to the attention
        logits, (B, 1, T + L + num_contexts L, as much)."""
        rows = len(z)
        guidance = None
        if self.pipe.transformer.config.guidance_embeds:
            guidance = torch.full([rows], self.pipe.defaults.guidance, device=z.device)
        with slider_lora(self.pipe.transformer, on=False):
            velocity = self.pipe.transformer(
                hidden_states=torch.cat([z, context.expand(rows, -1, -1)], dim=1).to(self.dtype),
                timestep=torch.full((rows,), sigma, dtype=self.dtype, device=z.device),
                guidance=guidance,
                pooled_projections=words.pooled.expand(rows, -1),
                encoder_hidden_states=words.embeds.expand(rows, -1, -1),
                txt_ids=self.text_ids,
                img_ids=torch.cat([self.target_ids, *[self.context_ids] * num_contexts]),
                joint_attention_kwargs={} if bias is None else {"attention_mask": bias.to(self.dtype)},
                return_dict=False,
            )[0]
        return velocity[:, : z.shape[1]].float()

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> list[Image.Image]:
        """Decode (B, L, C), one row at a time."""
        return [to_picture(self.pipe, decode(self.pipe, row[None].to(self.dtype), self.size)) for row in latents]


def check_pair(source: Image.Image, edited: Image.Image) -> None:
    """InvalidInput for pictures of two sizes."""
    if source.size != edited.size:
        raise InvalidInput(
            f"The source is {source.size} and the edit {edited.size} (width, height). Resize one to the other's size."
        )
