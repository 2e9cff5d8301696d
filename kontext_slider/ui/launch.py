"""From the command line to the page: flags, model, engine, server. `app.py` and `kontext-slider app` share it."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import io
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from ..cli.options import add_engine_arguments, checked, hush_libraries, load_engine, number
from ..errors import InvalidInput
from .folder import own_folder
from .gate import OriginGate, names_of
from .password import VARIABLE, PasswordGate, auth_of_environment, check_auth

MAX_UPLOAD = "200mb"  # raw files and PNGs of large cameras have more than a hundred
MAX_THREADS = 400  # an event under way has one, and waits in it for its turn on the device
FOREVER = 3600.0  # seconds
MODEL, SLIDER = "KONTEXT_SLIDER_MODEL", "KONTEXT_SLIDER_SLIDER"  # in the environment: what no flag says, as in a Space
MOST_PAGES = 500  # whose state gradio keeps, 0.1 MB each; a page that it has forgotten goes on with a new one
OPEN_TO_ALL = (
    "The public link has no password: everybody who has it can edit with this computer for as long as this runs. "
    "Nobody is shown another's photographs, but all pass through gradio's servers. --auth sets a password."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the app's flags to a parser of its own or to a subcommand."""
    parser.add_argument(
        "--model", help=f"pocket, kontext-dev, a folder, or a Hugging Face id (default: {MODEL}, else pocket)"
    )
    parser.add_argument(
        "--slider", help=f"slider weights: a folder or a Hugging Face id (default: {SLIDER}, else the model's own)"
    )
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument("--dtype", default=None, help="float32, bfloat16 or float16 (default: by device)")
    add_engine_arguments(parser, speed="fast")
    parser.add_argument("--host", default=None, help="address to listen on (default: 127.0.0.1; 0.0.0.0 for all)")
    parser.add_argument(
        "--port", type=number(int, 1, 65535), help="port to listen on (default: the first free from 7860)"
    )
    parser.add_argument("--share", action="store_true", help="also open a public link through gradio's tunnel")
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        type=checked(str, check_auth),
        help=f"let only those in who know both; {VARIABLE} in the environment does the same and hides it from `ps`",
    )
    parser.add_argument("--no-api", action="store_true", help="only the page, no endpoints for scripts")
    parser.add_argument("--mcp", action="store_true", help="serve the endpoints as tools for MCP clients, too")
    parser.add_argument("--open", action="store_true", help="open the page in this machine's browser")


def chosen_model(model: str | None, slider: str | None) -> tuple[str, str | None]:
    """Model and slider as `load_pipeline` takes them: of the flags, else of the environment, where an empty variable
    is none. With a model of the flags the environment's slider does not count, as it belongs to the model there."""
    if model is not None:
        return model, slider
    return os.environ.get(MODEL) or "pocket", os.environ.get(SLIDER) or None if slider is None else slider


def on_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU, which says so by this variable: the `spaces` package is in every Space."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def run(args: argparse.Namespace) -> None:
    """Load the model, build the page and serve it until interrupted; on the way out the temporary files go.

    Raises InvalidInput, CheckpointError or MissingSlider, each with a sentence, when the model cannot be loaded, and
    InvalidInput when the port is taken or flags do not go together. SIGTERM and SIGHUP end it with SystemExit of 128
    and the signal's number.
    """
    auth = args.auth or auth_of_environment()
    args.model, args.slider = chosen_model(args.model, args.slider)
    _check_mcp(args)
    if on_zero_gpu():
        import spaces  # noqa: F401  before torch touches CUDA

    with ends_by_signal(), own_folder() as folder:
        hush_libraries(bars=True)
        from .edits import OpenEdits
        from .layout import create_app

        edits = OpenEdits(folder)
        engine: Any = load_engine(args)
        if on_zero_gpu():
            from .zero_gpu import ZeroGpuEngine

            engine = ZeroGpuEngine(engine)
        app = create_app(engine, args.model, args.slider, args.speed, edits, has_endpoints=not args.no_api)
        try:
            _serve(app, args, auth)
            while True:
                time.sleep(FOREVER)
        except KeyboardInterrupt:  # Ctrl-C is how an operator ends it
            return
        finally:
            edits.close_all()  # ends renders under way
            app.close(verbose=False)


def _check_mcp(args: argparse.Namespace) -> None:
    """Raises InvalidInput where --mcp cannot be obeyed."""
    if args.mcp and args.no_api:
        raise InvalidInput("--mcp serves the endpoints that --no-api switches off: leave out one of them.")
    if args.mcp and importlib.util.find_spec("mcp") is None:
        raise InvalidInput("--mcp needs the package mcp: pip install 'kontext-slider[mcp]'.")


def _serve(app: Any, args: argparse.Namespace, auth: tuple[str, str] | None) -> None:
    """Launch the page and say where it is. What gradio prints of a public link that failed goes to stderr."""
    host = args.host or os.environ.get("GRADIO_SERVER_NAME")  # of Docker images and Spaces
    check_place(host or "127.0.0.1", args.port)
    options = launch_options(auth, args.mcp, host, args.share) | {"share": args.share, "inbrowser": args.open}
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            _, here, public = app.launch(
                server_name=host, server_port=args.port, quiet=True, prevent_thread_lock=True, **options
            )
    except OSError as error:
        where = "any port from 7860 on" if args.port is None else f"port {args.port}"  # taken since it was checked
        raise InvalidInput(f"The page cannot be served at {where} ({error}). Choose another with --port.") from error
    if args.mcp and app.mcp_error:
        raise InvalidInput(f"The tools for MCP clients cannot be served: {app.mcp_error}. Leave out --mcp.")
    if args.share and public is None:
        print(printed.getvalue().strip(), file=sys.stderr)
    if auth:
        let_mcp_in(app, auth)
    everywhere = f"{here} and, for everybody, at {public}" if public else str(here)
    print(f"Kontext Slider is at {everywhere}", flush=True)
    if args.mcp:
        print(f"MCP clients find its tools at {public or here}".rstrip("/") + "/gradio_api/mcp/", flush=True)
    if public and not auth:
        print(OPEN_TO_ALL, flush=True)


def let_mcp_in(app: Any, auth: tuple[str, str]) -> None:
    """Give the password to the client by which gradio carries calls of MCP tools to the endpoints of a launched `app`.

    Gradio itself makes one without a password.
    """
    if app.mcp_server_obj is not None:
        from gradio_client import Client

        app.mcp_server_obj._client_instance = Client(
            app.local_url,
            headers={"x-gradio-user": "mcp"},
            httpx_kwargs={"auth": auth},
            download_files=False,
            verbose=False,
            analytics_enabled=False,
            ssl_verify=False,
            _skip_components=False,
        )


@contextmanager
def ends_by_signal() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit, so that `finally` clauses run; Python's own way is to die at once."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_place(host: str, port: int | None) -> None:
    """Raise InvalidInput, which says what is wrong, where nothing can listen at `host` and `port` (None: any)."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
    except (socket.gaierror, UnicodeError) as error:
        raise InvalidInput(
            f"There is no address {host!r}: give a name or an address of this computer (--host)."
        ) from error
    except OSError as error:
        reasons = {
            errno.EADDRNOTAVAIL: f"{host} is no address of this computer: choose one that is with --host",
            errno.EADDRINUSE: f"port {port} is taken: choose another with --port",
            errno.EACCES: f"port {port} is only for programs with more rights: choose one from 1024 on with --port",
        }
        reason = reasons.get(error.errno or 0, f"{error.strerror}: choose another place with --host and --port")
        raise InvalidInput(f"The page cannot be served: {reason}.") from error


def launch_options(
    auth: tuple[str, str] | None = None, mcp: bool = False, host: str | None = None, share: bool = False
) -> dict[str, Any]:
    """How the page is served everywhere: our look, no outside fonts, no history, no monitoring, bounded uploads.

    auth: user and password that are asked for. mcp: whether the endpoints are tools for MCP clients, too. host, share:
    where the page is served, whose names it answers to; a Space checks its own.
    """
    from starlette.middleware import Middleware

    from .components import asset
    from .theme import theme

    gates = [] if "SPACE_ID" in os.environ else [Middleware(OriginGate, names_of(host, share))]
    gates += [Middleware(PasswordGate, *auth)] if auth else []
    return {
        "app_kwargs": {"middleware": gates},
        "mcp_server": mcp,
        "theme": theme(),
        "css": "".join(map(asset, ("page.css", "brush.css", "chain.css", "history.css", "batch.css"))),
        "max_file_size": MAX_UPLOAD,
        "max_threads": MAX_THREADS,
        "state_session_capacity": MOST_PAGES,
        "show_error": True,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "footer_links": ["gradio", "settings"],
    }
