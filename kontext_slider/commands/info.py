"""`kontext-slider info`: how an exported file was made."""

from __future__ import annotations

import argparse
import json

from ..export import read_metadata


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `info`."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="a file that edit, sweep or the app wrote")


def run(args: argparse.Namespace) -> None:
    """Print one JSON line for each file."""
    for file in args.files:
        print(json.dumps({"file": file} | read_metadata(file)))
