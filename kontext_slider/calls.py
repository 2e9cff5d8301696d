"""The arguments of pipeline calls with strengths: bound as the parent binds them, completed, encoded, in batches.

Legend: L target tokens, C latent channels, h and w sides of the latents.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .base import base_of
from .edit import EditDefaults, check_instruction
from .errors import InvalidInput
from .images import Photo, fitted, read_image, read_photo, working_size
from .model_folder import loading

_EMBEDS = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds")
ROWS = ("image", "latents", *_EMBEDS)  # have a batch of one, which serves every strength


def with_signature_of(parent: Callable) -> Callable[[Callable], Callable]:
    """A decorator: show the parent's parameters, then the function's own keyword-only ones."""

    def decorate(function: Callable) -> Callable:
        shown = inspect.signature(parent)
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        vars(function)["__signature__"] = shown.replace(parameters=[*shown.parameters.values(), *own])
        return function

    return decorate


def parent_signature(pipe: Any) -> inspect.Signature:
    """Of a call without what this package adds, which is keyword-only."""
    shown = inspect.signature(pipe)
    return shown.replace(parameters=[p for p in shown.parameters.values() if p.kind is not p.KEYWORD_ONLY])


def complete_arguments(pipe: Any, given: dict[str, Any], defaults: EditDefaults | None) -> dict[str, Any]:
    """Every argument of the parent's: the caller's, then the model's own defaults, then the parent's.

    Raises InvalidInput for what has no meaning with strengths: several instructions, images, noises or seeds.
    """
    given = {name: _the_only(name, value) for name, value in given.items()}
    if isinstance(given.get("prompt"), str):
        check_instruction(given["prompt"])
    if defaults is not None:
        given = _with_defaults(pipe, given, defaults)
    return {name: p.default for name, p in parent_signature(pipe).parameters.items()} | given


def photo_for_full_size(given: dict[str, Any]) -> Photo:
    """The photograph of a call whose results have its size. InvalidInput where the call cannot be one."""
    image = _the_only("image", given.get("image"))
    if not isinstance(image, Image.Image | np.ndarray):
        raise InvalidInput("full_size needs `image`: a path, a PIL image or an array of one photograph.")
    for name in ("height", "width", "max_area", "_auto_resize"):
        if given.get(name) is not None:
            raise InvalidInput(f"full_size chooses the size that the model works at: leave `{name}` out.")
    if given.get("output_type", "pil") != "pil":
        raise InvalidInput("full_size returns PIL images: leave output_type out.")
    return read_photo(image)


def encode_edit(pipe: Any, call: dict[str, Any]) -> dict[str, Any]:
    """The same call with everything that does not depend on the strength encoded, in batches of one."""
    height, width = parent_output_size(pipe, call["height"], call["width"], call["max_area"])
    call = {**call, "height": height, "width": width, "max_area": height * width}
    call = _encode_texts(pipe, call)
    dtype, device = call["prompt_embeds"].dtype, pipe._execution_device
    image = call["image"]
    if image is not None and not is_latents(pipe, image):
        pixels = source_pixels(pipe, image, call["_auto_resize"]).to(device=device, dtype=dtype)
        call["image"] = pipe._encode_vae_image(pixels, call["generator"])  # (1, C, h, w)
    channels = pipe.transformer.config.in_channels // 4
    scale = 1.0 if call["latents"] is not None else pipe.defaults.noise_scale
    call["latents"], *_ = pipe.prepare_latents(
        None, 1, channels, height, width, dtype, device, call["generator"], call["latents"]
    )  # (1, L, 4 C)
    call["latents"] = call["latents"] * scale
    for name in ROWS:
        if call[name] is not None and len(call[name]) != 1:
            raise InvalidInput(f"With strengths, `{name}` has a batch of one, not of {len(call[name])}.")
    return {**call, "generator": None}


def packed_source(pipe: Any, call: dict[str, Any]) -> Tensor | None:
    """The source of an encoded call as target tokens, (1, L, 4 C); None where the output has another size."""
    *_, height, width = call["image"].shape
    fits = (height * pipe.vae_scale_factor, width * pipe.vae_scale_factor) == (call["height"], call["width"])
    return pipe._pack_latents(call["image"], *call["image"].shape) if fits else None


def other_size(pipe: Any, call: dict[str, Any]) -> str:
    """The sentence for an encoded call whose frames have another size than its source, which one of them is to be."""
    height, width = (side * pipe.vae_scale_factor for side in call["image"].shape[2:])
    own = "" if pipe.defaults.anchor_source else ", or source_at_zero=False for the model's own frame there"
    return (
        f"Strength 0 is the source itself, so the frames must have its size, and not {call['width']} x "
        f"{call['height']}: give height={height}, width={width} and max_area={height * width}{own}."
    )


def parent_output_size(pipe: Any, height: int | None, width: int | None, area: int) -> tuple[int, int]:
    """(height, width) that the parent renders for its arguments `height`, `width` and `max_area`."""
    default, multiple = pipe.default_sample_size * pipe.vae_scale_factor, packing(pipe)
    aspect = (width or default) / (height or default)
    height, width = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
    return height // multiple * multiple, width // multiple * multiple


def source_pixels(pipe: Any, image: Any, auto_resize: bool) -> Tensor:
    """The picture as the parent feeds it to its VAE: (1, 3, H, W) in [-1, 1]."""
    height, width = pipe.image_processor.get_default_height_width(image)
    if auto_resize:
        aspect = width / height
        _, width, height = min((abs(aspect - w / h), w, h) for w, h in base_of(pipe).preferred_sizes)
    multiple, processor = packing(pipe), pipe.image_processor
    height, width = height // multiple * multiple, width // multiple * multiple
    return processor.preprocess(processor.resize(image, height, width), height, width)


def is_latents(pipe: Any, image: Any) -> bool:
    """Whether the parent takes `image` for latents (B, C, h, w)."""
    return isinstance(image, Tensor) and image.ndim == 4 and image.shape[1] == pipe.latent_channels


def for_frames(call: dict[str, Any], num_frames: int) -> dict[str, Any]:
    """An encoded call for a batch of `num_frames`."""
    return call | {name: torch.cat([call[name]] * num_frames) for name in ROWS if call[name] is not None}


def correctable_source(pipe: Any, call: dict[str, Any]) -> Tensor | None:
    """The source's pixels (1, 3, H, W) in [0, 1], where it is a picture of the size of its frames; else None."""
    image = call["image"]
    if is_latents(pipe, image) or call["output_type"] == "latent":
        return None
    size = parent_output_size(pipe, call["height"], call["width"], call["max_area"])
    pixels = pipe.image_processor.denormalize(source_pixels(pipe, image, call["_auto_resize"]))
    return pixels.to(pipe._execution_device) if tuple(pixels.shape[2:]) == size else None


def packing(pipe: Any) -> int:
    """Pixels per token side."""
    return pipe.vae_scale_factor * 2


def _the_only(name: str, value: Any) -> Any:
    """The item of a list of one, the picture at a path. InvalidInput for a list of several."""
    if name == "num_images_per_prompt" and value not in (None, 1):
        raise InvalidInput("With strengths, num_images_per_prompt is 1: call once per seed for other pictures.")
    if name == "image" and isinstance(value, str | os.PathLike):
        return read_image(value)
    names = ("image", "prompt", "prompt_2", "negative_prompt", "negative_prompt_2", "generator")
    if name not in names or not isinstance(value, list):
        return value
    if len(value) != 1:
        raise InvalidInput(
            f"With strengths, `{name}` is one and not a list of {len(value)}: all strengths share one source, one "
            "instruction and one noise. Call once per edit."
        )
    return value[0]


def _with_defaults(pipe: Any, given: dict[str, Any], defaults: EditDefaults) -> dict[str, Any]:
    settings = {
        "num_inference_steps": defaults.steps,
        "guidance_scale": defaults.guidance,
        "max_sequence_length": defaults.max_sequence_length,
    }
    given = {name: v for name, v in given.items() if v is not None or name not in ("height", "width")}
    width, height = _output_size(pipe, given, defaults.size)
    settings |= {"_auto_resize": False} | given | {"height": height, "width": width, "max_area": height * width}
    if "_auto_resize" not in given and given.get("image") is not None:
        settings["image"] = _working_source(pipe, given, (width, height))
    return settings


def _output_size(pipe: Any, given: dict[str, Any], size: int) -> tuple[int, int]:
    """(width, height) in pixels, of whole tokens, in the source's aspect ratio as far as the caller leaves it open."""
    height, width = given.get("height"), given.get("width")
    if height and width:
        height, width = parent_output_size(pipe, height, width, given.get("max_area", height * width))
        return width, height
    source_width, source_height = _source_size(pipe, given.get("image"), size)
    if is_latents(pipe, given.get("image")) and not (height or width or "max_area" in given):
        return source_width, source_height
    aspect = source_width / source_height
    area = height**2 * aspect if height else width**2 / aspect if width else given.get("max_area", size**2)
    return working_size((source_width, source_height), round(math.sqrt(area)), packing(pipe))


def _source_size(pipe: Any, image: Any, size: int) -> tuple[int, int]:
    if image is None:
        return size, size
    if isinstance(image, Image.Image):
        return read_image(image).size
    if is_latents(pipe, image):
        return image.shape[3] * pipe.vae_scale_factor, image.shape[2] * pipe.vae_scale_factor
    height, width = pipe.image_processor.get_default_height_width(image)
    return width, height


def _working_source(pipe: Any, given: dict[str, Any], output: tuple[int, int]) -> Any:
    """The whole source at the size of the output; at its area where the caller wants another shape, by a token or more,
    than the source's own. Latents have the size they have."""
    image = given["image"]
    if is_latents(pipe, image):
        return image
    source, token, width, height = _source_size(pipe, image, 0), packing(pipe), given.get("width"), given.get("height")
    if width and height:
        stretch = math.sqrt(source[0] / source[1] * height / width)  # of the width, where areas are the same
        if max(abs(width * stretch - width), abs(height / stretch - height)) >= token:
            output = working_size(source, round(math.sqrt(math.prod(output))), token)
    if isinstance(image, Image.Image):
        return fitted(read_image(image), output)
    return pipe.image_processor.resize(image, output[1], output[0])


def _encode_texts(pipe: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Prompts become embeddings: (1, T, width) and pooled (1, P); the negative ones only where they are used."""
    pipe.check_inputs(**{name: call[name] for name in inspect.signature(pipe.check_inputs).parameters})
    names = ("prompt", "prompt_2", "prompt_embeds", "pooled_prompt_embeds")
    has_negative = call["negative_prompt"] is not None or call["negative_prompt_embeds"] is not None
    settings = {"device": pipe._execution_device, "max_sequence_length": call["max_sequence_length"]}
    scale = (call["joint_attention_kwargs"] or {}).get("scale")
    encoded = dict(call)
    for prefix, is_used in ("", True), ("negative_", has_negative and call["true_cfg_scale"] > 1):
        embeds = pooled = None
        if is_used:
            texts = {name: call[f"{prefix}{name}"] for name in names}
            with loading("A text encoder of the model"):
                embeds, pooled, _ = pipe.encode_prompt(**texts, **settings, lora_scale=scale)
        values = dict(zip(names, (None, None, embeds, pooled), strict=True))
        encoded |= {f"{prefix}{name}": value for name, value in values.items()}
    return encoded
