"""Many photographs on the page: choose them, edit all as the page says, fetch one ZIP."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from ..edit import check_strength
from ..errors import InvalidInput, KontextSliderError
from . import messages
from .api import checked_settings
from .batch_run import MAX_BYTES, MAX_PHOTOGRAPHS, Batch, BatchRecipe, check_photographs
from .components import ACCEPT, asset
from .edits import visitor_of
from .handlers import Handlers
from .saving import PRIVATE, picture_options

RECIPE_INPUTS = ("instruction", "seed", "steps", "guidance")


class Item(GradioModel):
    """A photograph of a batch: its upload, "waits", "edits", "done" or "failed", and a sentence about it."""

    path: str
    state: str
    sentence: str = ""


class BatchData(GradioModel):
    """A batch as the browser gets it: always whole. fraction: of the work that is done. file: the ZIP."""

    runs: bool = False
    items: list[Item] = []
    text: str = ""
    fraction: float = 0.0
    is_error: bool = False
    file: FileData | None = None


class BatchPanel(gr.HTML):
    """The folded panel. The browser has the list of photographs.

    Events: `start` {"paths": [str], "strength": float}; `cancel` {}."""

    data_model = BatchData

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            value=BatchData(),
            html_template=asset("batch.html"),
            js_on_load=asset("batch.js"),
            apply_default_css=False,
            accept=ACCEPT,
            most=MAX_PHOTOGRAPHS,
            most_bytes=MAX_BYTES,
            **kwargs,
        )

    def preprocess(self, payload: Any) -> None:
        """The browser sends nothing of it back."""

    def postprocess(self, value: BatchData | None) -> BatchData:
        return value or BatchData()


class Batches:
    """The handlers: at most one batch of a page. `origin`: the names of model, slider and speed."""

    def __init__(self, handlers: Handlers, origin: Mapping[str, Any], cache: str) -> None:
        self._handlers = handlers
        self._origin = origin
        self._cache = cache
        self._batches: dict[str, Batch] = {}
        self._lock = threading.Lock()

    def start(self, event: gr.EventData, request: gr.Request, *inputs: Any) -> Iterator[BatchData]:
        """Edit the photographs that an event names. inputs: of `RECIPE_INPUTS`, then those of `picture_options`."""
        values, page = messages.values_of(event), str(request.session_hash)
        try:
            recipe = self._recipe(values.get("strength"), *inputs)
            batch = Batch(
                self._handlers.engine, check_photographs(values.get("paths")), recipe, self._origin, self._cache
            )
            with self._handlers.edits.job(visitor_of(request)) as num_others, self._only(page, batch):
                for busy in batch.run():
                    busy = messages.shared(busy, num_others())
                    yield described(batch, text=busy.text, fraction=busy.fraction or 0.0, runs=True)
        except KontextSliderError as error:
            yield BatchData(text=str(error), is_error=True)
            return
        yield described(batch, text=_summary(batch), fraction=1.0, file=_file(batch.result))

    def cancel(self, request: gr.Request) -> None:
        """End the batch of a page."""
        with self._lock:
            batch = self._batches.get(str(request.session_hash))
        if batch is not None:
            batch.cancel()

    def _recipe(self, strength: Any, *inputs: Any) -> BatchRecipe:
        instruction, seed, steps, guidance, *options = inputs
        pipe = self._handlers.engine.pipe
        if not pipe.transformer.config.guidance_embeds:
            guidance = None
        settings = checked_settings(pipe, instruction, seed, steps, guidance)
        return BatchRecipe(settings, round(check_strength(strength), 4), options[0], picture_options(*options))

    @contextmanager
    def _only(self, page: str, batch: Batch) -> Iterator[None]:
        """Note a page's batch while it runs. Raises InvalidInput where it has one."""
        with self._lock:
            if page in self._batches:
                raise InvalidInput("A batch of this page is under way: wait for its end, or cancel it.")
            self._batches[page] = batch
        try:
            yield
        finally:
            with self._lock:
                del self._batches[page]


def described(batch: Batch, **values: Any) -> BatchData:
    rows = zip(batch.paths, batch.states, batch.sentences, strict=True)
    items = [Item(path=path, state=state, sentence=sentence) for path, state, sentence in rows]
    return BatchData(items=items, **values)


def _summary(batch: Batch) -> str:
    failed = batch.states.count("failed")
    made = f"{batch.num_done} of {len(batch.paths)} photographs are edited."
    return " ".join(filter(None, [batch.remark or made, f"{failed} could not be edited." if failed else ""]))


def _file(path: Path | None) -> FileData | None:
    return path and FileData(path=str(path), orig_name=path.name, size=path.stat().st_size)


def wire_batches(batches: Batches, batch: BatchPanel, widgets: Mapping[str, Any], options: list[Any]) -> None:
    """Connect the panel. options: the widgets of `picture_options`."""
    inputs = [*(widgets[name] for name in RECIPE_INPUTS), *options]
    batch.start(batches.start, inputs, batch, **PRIVATE)
    batch.cancel(batches.cancel, None, None, **PRIVATE, queue=False)
