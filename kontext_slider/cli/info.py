"""`kontext-slider info`: how an exported file was made."""

from __future__ import annotations

import argparse
import json

from ..errors import InvalidInput
from ..metadata import read_metadata, summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `info`."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="a file that edit, sweep or the app wrote")


def run(args: argparse.Namespace) -> None:
    """Print one JSON line for each file that tells how it was made; then InvalidInput names the others."""
    problems = []
    for file in args.files:
        try:
            print(json.dumps({"file": file} | summary(read_metadata(file))))
        except InvalidInput as error:
            problems.append(str(error))
    if problems:
        raise InvalidInput("\n".join(problems))
