"""The app, for a desk and for a Hugging Face Space: `python app.py --help` lists the flags.

A Space runs this file with no flags and sets its own address by environment variables, which gradio reads.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from kontext_slider import __version__
from kontext_slider.errors import KontextSliderError
from kontext_slider.threads import limit_spinning
from kontext_slider.ui.launch import add_arguments, run


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags, then serve the page until interrupted."""
    limit_spinning()
    parser = argparse.ArgumentParser(description="Edit a photograph in words, then slide the edit's strength.")
    parser.add_argument("--version", action="version", version=f"kontext-slider {__version__}")
    add_arguments(parser)
    try:
        run(parser.parse_args(argv))
    except KontextSliderError as error:
        raise SystemExit(f"app.py: {error}") from error


if __name__ == "__main__":
    main()
