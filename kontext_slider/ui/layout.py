"""The page: widgets, where they stand, and which handler answers which event."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from kontext_slider.edit import MAX_SEED
from kontext_slider.images import read_image
from kontext_slider.instructions import whole_picture_first
from kontext_slider.ui.edits import OpenEdits
from kontext_slider.ui.examples import Example, Gallery, Picking, credits, read_examples
from kontext_slider.ui.filmstrip import Chips, Filmstrip
from kontext_slider.ui.handlers import MAX_FRAMES, Handlers
from kontext_slider.ui.kept import wire_keeping
from kontext_slider.ui.opening import Opening, read_opening
from kontext_slider.ui.photograph import Looking, Photograph, look, sizes
from kontext_slider.ui.save_panel import SavePanel, save_panel, wire_saving
from kontext_slider.ui.saving import Saving
from kontext_slider.ui.sentences import note
from kontext_slider.ui.tab import Tab

GENERAL_INSTRUCTIONS = [
    "make it snow",
    "turn day into night",
    "make it a watercolour painting",
    "make it look like autumn",
    "add thick fog",
    "turn it into a pencil sketch",
]
EDIT_INPUTS = ("photograph", "instruction", "num_frames", "seed", "steps", "guidance")  # of an edit, in order
NUM_FRAMES = 11  # of the strip, unless the person chooses
NO_GUIDANCE = "Not available: this model was trained without a guidance input, so a value would change nothing."
PARALLEL_EVENTS = 16  # events of one kind that may run at once; the engine's own lock orders the device
HEADER = """<header class="masthead"><h1>Kontext Slider</h1>
<p>Edit a photograph in words, then slide from untouched to fully edited.</p></header>
<style>@media (pointer: coarse) { footer a, footer button { min-height: 44px !important; } }</style>"""  # page.css ends
# above gradio's own footer
NEW_SEED = "() => Math.floor(Math.random() * 2 ** 32)"


def create_app(
    engine: Any,
    model: str | None = None,
    slider: str | None = None,
    speed: str | None = None,
    edits: OpenEdits | None = None,
) -> gr.Blocks:
    """Build the page over a `SliderEngine`. Nothing is rendered or served yet: call `launch()` on the result.

    `model` and `slider` are the weights' names, and `speed` the engine's, as exported files shall tell them. `edits`
    says how long an edit stays open and how much room all have; the page's own look is in `launch.launch_options()`.
    """
    examples, opening = read_examples(), read_opening(model, slider)
    with gr.Blocks(title="Kontext Slider", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as app:
        tab = gr.State(Tab())
        gr.HTML(HEADER, padding=False)
        with gr.Row(equal_height=False, elem_classes="page"):
            with gr.Column(scale=2, min_width=300, elem_classes="side"):
                inputs = _inputs(engine.pipe, examples, opening)
            with gr.Column(scale=5, min_width=340, elem_classes="work"):
                strip = Filmstrip(value=opening.filmstrip() if opening else None, elem_id="filmstrip")
                panel = save_panel(note(sizes(read_image(opening.photograph).size, engine.pipe)) if opening else "")
        handlers = Handlers(engine, strip.GRADIO_CACHE, opening, edits)
        _wire(handlers, tab, inputs, strip, panel)
        _wire_photograph(Looking(engine.pipe), Picking(examples, handlers.folder), inputs)
        wire_keeping(app, handlers, tab, [inputs[name] for name in EDIT_INPUTS])
        saving = Saving(handlers.find, model, slider, speed)
        wire_saving(saving, panel, tab, strip, inputs["sentence"], inputs["num_frames"])
    return app.queue(default_concurrency_limit=PARALLEL_EVENTS)


def suggestions(known: dict[str, list[str]]) -> list[str]:
    """One phrasing per family of edits that the model knows ("recolour-red" and "recolour-blue" are one), those that
    suit any picture first, or a short general list for a model that takes anything."""
    first: dict[str, str] = {}
    for name, phrases in whole_picture_first(known).items():
        if phrases:
            first.setdefault(name.split("-")[0], phrases[0])
    return list(first.values()) or GENERAL_INSTRUCTIONS


def _inputs(pipe: Any, examples: list[Example], opening: Opening | None) -> dict[str, Any]:
    """The left column, by name, with what the page opens with."""
    path = str(opening.photograph) if opening else None
    with gr.Group(elem_id="photograph"):
        photograph = Photograph(value=path, label="Photograph")
        shown = gr.HTML(look(path, pipe), padding=False)
    instruction = gr.Textbox(
        opening.instruction if opening else "",
        label="Instruction",
        placeholder="What should change?",
        lines=1,
        max_lines=1,
        elem_id="instruction",
    )
    chips = Chips(suggestions(pipe.known_instructions), label="Suggested instructions", elem_id="suggestions")
    edit = gr.Button("Edit", variant="primary", size="lg", elem_id="edit")
    sentence = gr.HTML("", elem_id="notice", padding=False)
    nearest = Chips(label="Nearest known instructions", elem_id="nearest")
    settings = _settings(pipe)
    gallery = Gallery(examples, label="Try one of these", elem_id="examples") if examples else None
    if examples:
        gr.HTML(f'<p class="credits">Pictures: {html.escape(credits(examples))}</p>', padding=False)
    return {
        "photograph": photograph,
        "look": shown,
        "gallery": gallery,
        "instruction": instruction,
        "chips": chips,
        "edit": edit,
        "sentence": sentence,
        "nearest": nearest,
        **settings,
    }


def _settings(pipe: Any) -> dict[str, Any]:
    defaults, has_guidance = pipe.defaults, bool(pipe.transformer.config.guidance_embeds)
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        num_frames = gr.Slider(3, MAX_FRAMES, value=NUM_FRAMES, step=2, label="Frames in the strip and in exports")
        with gr.Row(equal_height=False, elem_classes="seed"):
            seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed", scale=3, min_width=100)
            reroll = gr.Button("New seed", size="sm", scale=1, min_width=90)
        reroll.click(None, outputs=seed, js=NEW_SEED)
        steps = gr.Slider(1, max(50, defaults.steps), value=defaults.steps, step=1, label="Steps")
        guidance = gr.Slider(
            1,
            10,
            value=defaults.guidance,
            step=0.1,
            label="Guidance",
            interactive=has_guidance,
            info=None if has_guidance else NO_GUIDANCE,
            elem_id="guidance",
        )
    return {"num_frames": num_frames, "seed": seed, "steps": steps, "guidance": guidance}


def _wire(handlers: Handlers, tab: gr.State, inputs: dict[str, Any], strip: Filmstrip, panel: SavePanel) -> None:
    """Edit (button and Enter), the slider at rest, suggestions."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    instruction, sentence, nearest = inputs["instruction"], inputs["sentence"], inputs["nearest"]
    outputs = [tab, strip, sentence, nearest, panel.download, panel.note]
    gr.on(
        [inputs["edit"].click, instruction.submit],
        handlers.edit,
        inputs=[tab, *(inputs[name] for name in EDIT_INPUTS)],
        outputs=outputs,
        trigger_mode="multiple",  # a newer Edit does not wait for the older: it takes over
        **quiet,
    )
    strip.reopen(handlers.reopen, tab, outputs, **quiet)
    strip.commit(handlers.commit, tab, [strip, sentence], trigger_mode="multiple", **quiet)  # the newest wins
    for chips in (inputs["chips"], nearest):
        chips.pick(handlers.pick, None, instruction, queue=False, **quiet)


def _wire_photograph(looking: Looking, picking: Picking, inputs: dict[str, Any]) -> None:
    """What stands in the upload is looked at, wherever it comes from."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    photograph, sentence = inputs["photograph"], inputs["sentence"]
    photograph.change(looking.look, photograph, [photograph, inputs["look"], sentence], **quiet)
    photograph.refused(looking.refused, None, sentence, **quiet)
    if inputs["gallery"] is not None:
        inputs["gallery"].pick(picking.pick, None, [photograph, inputs["instruction"]], **quiet)
