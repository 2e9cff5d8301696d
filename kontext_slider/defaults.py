"""What an edit takes when the caller does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .errors import CheckpointError

MAX_STRENGTH = 1.5  # where extrapolation is allowed; 1 is the full edit


@dataclass(frozen=True)
class EditDefaults:
    """Settings of an edit; a model folder may carry its own under "edit_defaults" of its `model_index.json`.

    Attributes:
        size: side in pixels of a square with the area of the working image.
        steps: denoise steps.
        guidance: distilled guidance (ignored by transformers without a guidance input).
        max_sequence_length: tokens of the second text encoder, at most 512.
        anchor_source: whether strength 0 is the source itself (`anchor.py`) or, as in the paper, the model's frame.
    """

    size: int = 512
    steps: int = 28
    guidance: float = 2.5
    max_sequence_length: int = 512
    anchor_source: bool = False

    @classmethod
    def from_config(cls, values: Mapping[str, Any] | None) -> EditDefaults:
        """Defaults with the given ones in place. Raises CheckpointError for a name that does not exist."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values or {}) - known)
        if unknown:
            raise CheckpointError(
                f"The model's edit_defaults name {', '.join(unknown)}; only {', '.join(sorted(known))} exist. "
                "Correct model_index.json."
            )
        return cls(**(values or {}))
