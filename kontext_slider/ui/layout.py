"""The page: widgets, where they stand, and which handler answers which event."""

from __future__ import annotations

import html
import json
from typing import Any

import gradio as gr

from ..edit import MAX_SEED
from ..images import read_image
from ..instructions import whole_picture_first
from .api import Endpoints, add_endpoints
from .batch_panel import Batches, BatchPanel, wire_batches
from .components import Canvas, Photograph, asset, choices, note, refuse_addresses, thumbnail
from .edits import MOST_JOBS, OpenEdits
from .examples import Example, Opening, credits, read_examples, read_opening
from .handlers import EDIT_INPUTS, GUIDANCE_RANGE, MAX_FRAMES, MAX_STEPS, NUM_FRAMES, Handlers
from .inputs import look, sizes_of
from .links import Links, wire_links
from .messages import OUTPUTS
from .restore import Restoring, SavedFile, wire_restoring
from .saving import PRIVATE, Saving, save_panel, wire_saving
from .sources import Sources, wire_sources

GENERAL_INSTRUCTIONS = [
    "make it snow",
    "turn day into night",
    "make it a watercolour painting",
    "make it look like autumn",
    "add thick fog",
    "turn it into a pencil sketch",
]
LITTLE_NOISE = 0.5  # share of the noise below which seeds hardly differ
SEEDS_ALIKE = "This model starts from little noise: another seed changes next to nothing."
ONE_STEP = "This model was trained for one step: more are no better."
NO_GUIDANCE = "Not available: this model was trained without a guidance input, so a value would change nothing."
# Events of one kind at a time. Who is one too many is told so by `OpenEdits.job`, not by gradio, which says nothing.
PARALLEL_EVENTS = 2 * MOST_JOBS
MOST_WAITING = 1000  # events: a flood of calls is refused, and does not fill the memory
HEADER = """<header class="masthead"><h1>Kontext Slider</h1>
<p>Edit a photograph in words, then slide from untouched to fully edited.</p></header>
<style>@media (pointer: coarse) { footer a, footer button { min-height: 44px !important; } }</style>"""  # page.css ends
# above gradio's own footer
NEW_SEED = "() => Math.floor(Math.random() * 2 ** 32)"
QUICK: dict[str, Any] = {**PRIVATE, "queue": False}


def create_app(
    engine: Any,
    model: str | None = None,
    slider: str | None = None,
    speed: str | None = None,
    edits: OpenEdits | None = None,
    has_endpoints: bool = True,
) -> gr.Blocks:
    """Build the page over a `SliderEngine`. Nothing is rendered or served yet: call `launch()` on the result.

    model, slider: the weights' names; speed: the engine's. Exported files tell them. edits: how long an edit stays open
    and how much room all have. has_endpoints: whether scripts may edit, too (`api.py`). The page's own look is in
    `launch.launch_options()`.
    """
    examples, opening = read_examples(), read_opening(model, slider)
    with gr.Blocks(title="Kontext Slider", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as app:
        gr.HTML(HEADER, padding=False)
        with gr.Row(equal_height=False, elem_classes="page"):
            with gr.Column(scale=2, min_width=300, elem_classes="side"):
                widgets = _inputs(engine.pipe, examples, opening)
            with gr.Column(scale=5, min_width=340, elem_classes="work"):
                canvas = Canvas(value=opening.canvas() if opening else None, elem_id="filmstrip")
                sizes = sizes_of(read_image(opening.photograph).size, engine.pipe) if opening else ""
                panel = save_panel(note(sizes) if opening else "")
                batch = BatchPanel(elem_id="batch")
        handlers = Handlers(engine, canvas.GRADIO_CACHE, opening, examples, edits)
        saving = Saving(handlers, model=model, slider=slider, speed=speed)
        if has_endpoints:  # before the page's own events, which would take their names
            known = suggestions(engine.pipe.known_instructions)
            add_endpoints(Endpoints(engine, handlers.edits, canvas.GRADIO_CACHE, known, saving.origin))
        outputs = [{"canvas": canvas, **widgets, **panel}[name] for name in OUTPUTS]
        _wire_edits(app, handlers, widgets, canvas, outputs)
        looked = _wire_inputs(app, handlers, widgets)
        restored = [*(widgets[name] for name in (*EDIT_INPUTS, "saved_file")), *outputs]
        wire_restoring(Restoring(handlers, saving.origin), widgets, canvas, looked, restored)
        wire_links(Links(handlers), widgets, canvas, restored)
        inputs = [widgets[name] for name in EDIT_INPUTS]
        wire_sources(Sources(handlers), canvas, widgets["photograph"], inputs, outputs)
        wire_saving(saving, panel, widgets["num_frames"], outputs)
        wire_batches(Batches(handlers, saving.origin, canvas.GRADIO_CACHE), batch, widgets, panel["options"])
        refuse_addresses(app)
    # No call goes past gradio's queue.
    return app.queue(default_concurrency_limit=PARALLEL_EVENTS, max_size=MOST_WAITING, api_open=False)


def suggestions(known: dict[str, list[str]]) -> list[str]:
    """One phrasing per family of edits that the model knows ("recolour-red" and "recolour-blue" are one), those that
    suit any picture first, or a short general list for a model that takes anything."""
    first: dict[str, str] = {}
    for name, phrases in whole_picture_first(known).items():
        if phrases:
            first.setdefault(name.split("-")[0], phrases[0])
    return list(first.values()) or GENERAL_INSTRUCTIONS


def _inputs(pipe: Any, examples: list[Example], opening: Opening | None) -> dict[str, Any]:
    """The widgets of the left column, by name, with what the page opens with."""
    path, words = (str(opening.photograph), opening.settings["instruction"]) if opening else (None, "")
    widgets: dict[str, Any] = {}
    with gr.Group(elem_id="photograph"):
        widgets["photograph"] = Photograph(value=path, label="Photograph")
        widgets["look"] = gr.HTML(look(path, pipe), padding=False)
        widgets["saved_file"] = SavedFile(elem_id="saved-file")
    hint = "What should change?"
    instruction = gr.Textbox(words, label="Instruction", placeholder=hint, lines=1, max_lines=1, elem_id="instruction")
    widgets["instruction"] = instruction
    chips = suggestions(pipe.known_instructions)
    widgets["suggestions"] = choices(chips, label="Suggested instructions", elem_id="suggestions")
    widgets["edit"] = gr.Button("Edit", variant="primary", size="lg", elem_id="edit")
    widgets["notice"] = gr.HTML("", elem_id="notice", padding=False)
    widgets["nearest"] = choices([], label="Nearest known instructions", elem_id="nearest")
    widgets |= _settings(pipe)
    if examples:
        pictures = [{"text": each.instruction, "image": thumbnail(read_image(each.image), 160)} for each in examples]
        widgets["examples"] = choices(pictures, "gallery", label="Examples", elem_id="examples")
        gr.HTML(f'<p class="credits">Pictures: {html.escape(credits(examples))}</p>', padding=False)
    return widgets


def _settings(pipe: Any) -> dict[str, Any]:
    defaults, has_guidance = pipe.defaults, bool(pipe.transformer.config.guidance_embeds)
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        num_frames = gr.Slider(3, MAX_FRAMES, value=NUM_FRAMES, step=2, label="Frames in the strip and in exports")
        with gr.Row(equal_height=False, elem_classes="seed"):
            whole = {"precision": 0, "minimum": 0, "maximum": MAX_SEED}
            info = SEEDS_ALIKE if defaults.noise_scale < LITTLE_NOISE else None
            seed = gr.Number(0, label="Seed", info=info, elem_id="seed", scale=3, min_width=100, **whole)
            reroll = gr.Button("New seed", size="sm", scale=1, min_width=90)
        reroll.click(None, outputs=seed, js=NEW_SEED)
        about = {"info": ONE_STEP if defaults.steps == 1 else None, "elem_id": "steps", "label": "Steps"}
        steps = gr.Slider(1, max(MAX_STEPS, defaults.steps), value=defaults.steps, step=1, **about)
        options = {"interactive": has_guidance, "info": None if has_guidance else NO_GUIDANCE, "elem_id": "guidance"}
        guidance = gr.Slider(*GUIDANCE_RANGE, value=defaults.guidance, step=0.1, label="Guidance", **options)
    return {"num_frames": num_frames, "seed": seed, "steps": steps, "guidance": guidance}


def _wire_edits(
    app: gr.Blocks, handlers: Handlers, widgets: dict[str, Any], canvas: Canvas, outputs: list[Any]
) -> None:
    """Edit (button and Enter), and the slider at rest. A newer event does not wait for an older one: it replaces it."""
    inputs, events = [widgets[name] for name in EDIT_INPUTS], [widgets["edit"].click, widgets["instruction"].submit]
    gr.on(events, handlers.edit, inputs, outputs, trigger_mode="multiple", **PRIVATE)
    canvas.commit(handlers.commit, None, outputs, trigger_mode="multiple", **PRIVATE)
    for event, handler in [(canvas.draw, handlers.draw), (canvas.complete, handlers.complete)]:
        event(handler, None, outputs, **PRIVATE)
    for event, handler in [
        (canvas.reopen, handlers.reopen),
        (canvas.chain, handlers.chain),
        (canvas.tile, handlers.tile),
        (canvas.beyond, handlers.beyond),
    ]:
        event(handler, None, outputs, trigger_mode="multiple", **PRIVATE)
    app.unload(handlers.leave)


def _wire_inputs(app: gr.Blocks, handlers: Handlers, widgets: dict[str, Any]) -> Any:
    """The upload, whatever fills in inputs, and the browser, which keeps them and gives them back after a reload.

    Returns the event that has looked at a new photograph."""
    photograph, instruction, notice = widgets["photograph"], widgets["instruction"], widgets["notice"]
    looked = photograph.change(handlers.inputs.look, photograph, [photograph, widgets["look"], notice], **QUICK)
    photograph.refused(handlers.inputs.refused, None, notice, **QUICK)
    for chips in (widgets["suggestions"], widgets["nearest"]):
        chips.pick(handlers.inputs.pick, None, instruction, **QUICK)
    if "examples" in widgets:
        widgets["examples"].pick(handlers.inputs.pick_example, None, [photograph, instruction], **QUICK)
    inputs = [widgets[name] for name in EDIT_INPUTS]
    defaults = json.dumps([photograph.value and photograph.value["path"], *(widget.value for widget in inputs[1:])])
    keep = f"(...values) => {{ {asset('keep.js')}\n keepInputs(...values); }}"
    restore = f"async () => {{ {asset('keep.js')}\n return await restoredInputs({defaults}); }}"
    gr.on([widget.change for widget in inputs], None, inputs, None, js=keep, **QUICK)
    app.load(None, None, inputs, js=restore, **QUICK)
    return looked
