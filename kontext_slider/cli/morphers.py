"""Flags that choose morphers with models of their own."""

from __future__ import annotations

import argparse

import torch

from kontext_slider.morph import LLAVA, OWN_MODELS, Morpher, MorpherLoader


def add_morpher_arguments(parser: argparse._ActionsContainer) -> None:
    """A flag for each of OWN_MODELS, and those of what they share."""
    for name, own in OWN_MODELS.items():
        words = f"{own.title}: a folder or hub id (without one: {own.model})"
        parser.add_argument(f"--{name}", nargs="?", const=own.model, metavar="ID", help=words)
    parser.add_argument(
        "--captions",
        default=LLAVA,
        metavar="ID",
        help="words for the two pictures of a morph: a .json file, or LLaVA-NeXT, a folder or hub id (default: "
        "%(default)s)",
    )
    add_offload_argument(parser)


def add_offload_argument(parser: argparse._ActionsContainer) -> None:
    """How a morpher that is too large for the device runs."""
    parser.add_argument(
        "--offload", action="store_true", help="keep WAN in main memory, its running part on the device"
    )


def chosen_morphers(args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> dict[str, Morpher]:
    """The morphers that the flags of `add_morpher_arguments` name, loaded, in the order of OWN_MODELS."""
    loader = MorpherLoader(device, dtype, args.captions, args.offload)
    models = {name: getattr(args, name.replace("-", "_")) for name in OWN_MODELS}
    return {name: loader.load(name, model) for name, model in models.items() if model is not None}
