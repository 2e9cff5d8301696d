"""WAN 2.1 (arXiv 2503.20314) between a first and a last frame: a video from source to edit, of which frames are taken.

All of it is diffusers' pipeline. The instruction is the prompt; frames are taken at even times, the first and the last
of the video at strengths 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.utils import is_ftfy_available
from PIL.Image import Image, Resampling
from transformers import CLIPImageProcessorPil

from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.images import working_size
from kontext_slider.morph.fade import check_pair

SIDE = 960  # of a square of 720 x 1280
NUM_FRAMES = 81  # five seconds
STEPS = 50
GUIDANCE = 5.5


class WanMorpher:
    """A morpher that needs no editing model.

    Args:
        model: of first and last frames ("FLF2V").
        side: of a square of the video's area, pixels.
        num_frames: 1 more than a multiple of the codec's temporal factor.
    """

    def __init__(
        self, model: WanImageToVideoPipeline, side: int = SIDE, num_frames: int = NUM_FRAMES, steps: int = STEPS
    ):
        self.model, self.side, self.num_frames, self.steps = model, side, num_frames, steps

    @classmethod
    def from_pretrained(cls, name: str, device: torch.device, dtype: torch.dtype, offload: bool = False) -> WanMorpher:
        """From a folder or a hub id; codec and image encoder in float32.

        `offload`: weights stay in main memory, and only the part that is running is on the device. Raises
        CheckpointError where there is no such pipeline, InvalidInput without the package that cleans its prompts."""
        if not is_ftfy_available():
            raise InvalidInput("WAN needs the package ftfy, which is not installed: 'pip install ftfy'.")
        dtypes = {"vae": torch.float32, "image_encoder": torch.float32, "default": dtype}
        try:
            images = CLIPImageProcessorPil.from_pretrained(name, subfolder="image_processor")  # needs no torchvision
            model = WanImageToVideoPipeline.from_pretrained(name, dtype=dtypes, image_processor=images)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{name!r} cannot be loaded as WAN ({error}). Name a folder or a hub id that has it."
            ) from error
        model.set_progress_bar_config(disable=True)
        if offload and device.type != "cpu":
            model.enable_model_cpu_offload(device=device)
        else:
            model.to(device)
        return cls(model)

    def __call__(
        self, pipe: object, source: Image, edited: Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Image]:
        check_pair(source, edited)
        multiple = self.model.vae_scale_factor_spatial * self.model.transformer.config.patch_size[1]
        width, height = working_size(source.size, self.side, multiple)
        video = self.model(
            image=source,
            last_image=edited,
            prompt=instruction,
            height=height,
            width=width,
            num_frames=self.num_frames,
            num_inference_steps=self.steps,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(seed),
            output_type="pil",
        ).frames[0]
        taken = [video[round(strength * (len(video) - 1))] for strength in strengths]
        return [frame.resize(source.size, Resampling.LANCZOS) for frame in taken]
