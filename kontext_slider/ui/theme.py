"""The look of the page: calm, with neutral greys, one accent, soft corners and the system's own fonts."""

from __future__ import annotations

import gradio as gr

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace")
COLOURS = {  # of gradio's themes: on a light page, on a dark one
    "body_background_fill": ("#fafaf9", "#131316"),
    "background_fill_secondary": ("#f0f0ee", "#232328"),
    "block_background_fill": ("#ffffff", "#1b1b1f"),
    "block_border_color": ("#e4e4e1", "#303036"),
    "border_color_primary": ("#dededa", "#3a3a41"),
    "body_text_color_subdued": ("#62626a", "#a6a6b0"),
    "input_placeholder_color": ("#7b7b84", "#8f8f99"),
    "button_secondary_background_fill": ("#ececea", "#2c2c32"),
    "button_secondary_background_fill_hover": ("#e0e0dd", "#3a3a41"),
    "input_background_fill": ("#f4f4f2", "#26262b"),
    "button_primary_background_fill": ("#0f766e", "#0f766e"),
    "button_primary_background_fill_hover": ("#115e59", "#14857c"),
    "button_primary_text_color": ("#ffffff", "#ffffff"),
}


def theme() -> gr.themes.Base:
    """Of gradio."""
    base = gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="zinc",
        radius_size="lg",
        font=[gr.themes.Font(name) for name in SANS],
        font_mono=[gr.themes.Font(name) for name in MONO],
    )
    light = {name: pair[0] for name, pair in COLOURS.items()}
    dark = {f"{name}_dark": pair[1] for name, pair in COLOURS.items()}
    return base.set(
        **light,
        **dark,
        background_fill_primary_dark="#1b1b1f",
        color_accent="#0f766e",
        block_shadow="none",
        block_label_text_weight="500",
        block_title_text_weight="500",
    )
