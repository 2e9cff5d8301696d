"""From the command line to the page: flags, model, engine, server. `app.py` and `kontext-slider app` share it."""

from __future__ import annotations

import argparse
from typing import Any

from kontext_slider.commands.options import add_engine_arguments, load_engine, number
from kontext_slider.errors import InvalidInput
from kontext_slider.ui.gpu import has_spaces

MAX_UPLOAD = "40mb"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the app's flags to a parser of its own or to a subcommand."""
    parser.add_argument("--model", default="pocket", help="pocket, kontext-dev, a folder, or a Hugging Face id")
    parser.add_argument("--slider", default=None, help="slider weights: a folder or a Hugging Face id")
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument("--dtype", default=None, help="float32, bfloat16 or float16 (default: by device)")
    add_engine_arguments(parser, speed="fast")
    parser.add_argument("--host", default=None, help="address to listen on (default: 127.0.0.1; 0.0.0.0 for all)")
    parser.add_argument(
        "--port", type=number(int, 1, 65535), help="port to listen on (default: the first free from 7860)"
    )
    parser.add_argument("--share", action="store_true", help="also open a public link through gradio's tunnel")
    parser.add_argument("--open", action="store_true", help="open the page in this machine's browser")


def run(args: argparse.Namespace) -> None:
    """Load the model, build the page and serve it until interrupted.

    Raises InvalidInput, CheckpointError or MissingSlider, each with a sentence, when the model cannot be loaded, and
    InvalidInput when the port is taken.
    """
    if has_spaces():
        import spaces  # noqa: F401  before torch touches CUDA

    from kontext_slider.ui.layout import create_app

    app = create_app(load_engine(args), model=args.model, slider=args.slider)
    options = launch_options() | {"share": args.share, "inbrowser": args.open}
    try:
        app.launch(server_name=args.host, server_port=args.port, **options)
    except OSError as error:
        where = "any port from 7860 on" if args.port is None else f"port {args.port}"
        raise InvalidInput(f"The page cannot be served at {where}: it is taken. Choose another with --port.") from error


def launch_options() -> dict[str, Any]:
    """How the page is served everywhere: our look, no outside fonts, no history, no monitoring, bounded uploads."""
    from kontext_slider.ui.filmstrip import asset
    from kontext_slider.ui.theme import theme

    return {
        "theme": theme(),
        "css": asset("page.css"),
        "max_file_size": MAX_UPLOAD,
        "show_error": True,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "footer_links": ["gradio", "settings"],
    }
