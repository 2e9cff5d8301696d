"""Colours and type of the page. System fonts only: nothing is fetched from elsewhere."""

from __future__ import annotations

import gradio as gr

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """A calm page: neutral greys, one accent, soft corners."""
    base = gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="zinc",
        radius_size="lg",
        font=[gr.themes.Font(name) for name in SANS],
        font_mono=[gr.themes.Font(name) for name in MONO],
    )
    return base.set(
        body_background_fill="#fafaf9",
        body_background_fill_dark="#131316",
        background_fill_primary_dark="#1b1b1f",
        background_fill_secondary="#f0f0ee",
        background_fill_secondary_dark="#232328",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1b1b1f",
        block_border_color="#e4e4e1",
        block_border_color_dark="#303036",
        border_color_primary="#dededa",
        border_color_primary_dark="#3a3a41",
        body_text_color_subdued="#62626a",
        body_text_color_subdued_dark="#a6a6b0",
        input_placeholder_color="#7b7b84",
        input_placeholder_color_dark="#8f8f99",
        button_secondary_background_fill="#ececea",
        button_secondary_background_fill_hover="#e0e0dd",
        button_secondary_background_fill_dark="#2c2c32",
        button_secondary_background_fill_hover_dark="#3a3a41",
        input_background_fill="#f4f4f2",
        input_background_fill_dark="#26262b",
        color_accent="#0f766e",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover_dark="#14857c",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        block_shadow="none",
        block_label_text_weight="500",
        block_title_text_weight="500",
    )
