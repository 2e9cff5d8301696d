"""Put the app into a Hugging Face Space: `python -m kontext_slider.space USER/NAME`, in a clone of the repository.

The Space gets what the app needs and nothing else: the package, the pocket model, the page's pictures, its own list of
packages, and a card that configures it. Another model is fetched by the Space itself when it starts.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, SpaceCardData, SpaceHardware
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from .errors import InvalidInput
from .hub import UNREACHABLE
from .presets import PRESETS, find_preset
from .ui.launch import MODEL, SLIDER

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # of a repository on the hub
SENT = ("app.py", "LICENSE", "kontext_slider", "assets/examples", "assets/opening", "assets/photos", "weights/pocket")
LEFT_OUT = (".*", "__pycache__", "*.py[cio]", "measured", "training")
PACKAGES = ("requirements-space.txt", "requirements.txt")  # their list here, and there
CARD = "README.md"
OURS = "kontext_slider/__init__.py"  # is in every Space of this app
EMPTY = {".gitattributes", CARD}  # what a Space has when it is new
PYTHON = "3.12.12"  # of those that ZeroGPU has, the one that diffusers runs on
ZERO_GPU = SpaceHardware.ZERO_A10G.value
CARD_TEXT = """
# Kontext Slider

Edit a photograph with an instruction, then drag one slider from untouched to fully edited.

Unofficial implementation of [*Kontinuous Kontext: Continuous Strength Control for Instruction-based Image
Editing*](https://arxiv.org/abs/2510.08532).

Model: {model}. Its licence: {licence}.
"""


def space_card(model: str, slider: str | None, packages: str) -> str:
    """The card that configures the Space. packages: the text of its list of packages."""
    preset = find_preset(model)
    is_pocket = preset is PRESETS["pocket"]
    [version] = re.findall(r"^gradio==(\S+)$", packages, re.MULTILINE)
    named = [preset.model if preset else model, slider or (preset.slider if preset else None)]
    data = SpaceCardData(
        title="Kontext Slider",
        emoji="🎚️",
        colorFrom="indigo",
        colorTo="yellow",
        sdk="gradio",
        sdk_version=version,
        python_version=PYTHON,
        app_file="app.py",
        suggested_hardware="cpu-basic" if is_pocket else ZERO_GPU,
        short_description="Type an edit, drag its strength, export the sweep",
        license="mit" if is_pocket else "other",
        models=[] if is_pocket else list(filter(None, named)),
        tags=["image-editing", "flux", "slider"],
    )
    licence = preset.licence if preset else "see its page"
    text = CARD_TEXT.format(model=model if is_pocket else named[0], licence=licence)
    return f"---\n{data.to_yaml()}\n---\n{text}"


def stage(folder: Path, model: str, slider: str | None, root: Path = ROOT) -> list[tuple[str, int]]:
    """Copy what the Space gets into an empty folder: (path there, bytes) of every file, by path.

    Raises InvalidInput where `root` is no clone of the repository."""
    if absent := [name for name in (*SENT, PACKAGES[0]) if not (root / name).exists()]:
        raise InvalidInput(f"{root} has no {absent[0]}: run this in a clone of the repository.")
    for name in SENT:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (root / name).is_dir():
            shutil.copytree(root / name, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copyfile(root / name, target)
    packages = (root / PACKAGES[0]).read_text(encoding="utf-8")
    (folder / PACKAGES[1]).write_text(packages, encoding="utf-8")
    (folder / CARD).write_text(space_card(model, slider, packages), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def upload(api: Any, name: str, folder: Path, variables: dict[str, str], hardware: str | None, private: bool) -> str:
    """Make the Space `name` where there is none, configure it, and put a staged folder into it in one commit. Files of
    an earlier upload that are not in the folder go.

    The hub's library stores files above 10 MB and binary ones apart from the commit (Xet), as the hub demands.
    api: an `HfApi`. variables: of the Space's environment. hardware: to run on; None leaves it as it is.

    Returns the Space's address. Raises InvalidInput where the Space holds something else."""
    with suppress(RepositoryNotFoundError):
        found = set(api.list_repo_files(name, repo_type="space"))
        if OURS not in found and found - EMPTY:
            raise InvalidInput(f"The Space {name} holds something else, which would be lost. Choose another name.")
    address = api.create_repo(name, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
    for key, value in variables.items():  # before the files, with which the Space starts
        api.add_space_variable(name, key, value)
    message = "Update Kontext Slider"
    api.upload_folder(repo_id=name, repo_type="space", folder_path=folder, commit_message=message, delete_patterns="*")
    if hardware:
        api.request_space_hardware(name, hardware)
    return str(address)


def check_model(model: str, slider: str | None) -> None:
    """Raises InvalidInput for a model or slider that a Space cannot fetch. pocket comes with the upload."""
    for kind, name in (("models", model), ("slider weights", slider)):
        on_hub = name is None or (NAME.fullmatch(name) and not Path(name).exists())
        if not on_hub and name not in PRESETS:
            raise InvalidInput(
                f"A Space fetches its {kind} from the hub, so {name!r} must be the name there (owner/name)."
            )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kontext_slider.space", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("name", metavar="USER/NAME", help="of the Space")
    parser.add_argument("--model", default="pocket", help="what the Space runs: pocket, kontext-dev or a hub id")
    parser.add_argument("--slider", help="slider weights, a hub id (default: the model's own)")
    hardware = [each.value for each in SpaceHardware]
    parser.add_argument("--hardware", choices=hardware, metavar="NAME", help=f"{ZERO_GPU} is ZeroGPU, which needs PRO")
    parser.add_argument("--private", action="store_true", help="a new Space is for its owner only")
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent, and send nothing")
    return parser


def run(args: argparse.Namespace, make_api: Callable[[], Any]) -> None:
    """Stage the Space's files, and list or send them. Raises InvalidInput."""
    if not NAME.fullmatch(args.name):
        raise InvalidInput(f"{args.name!r} is no name of a Space: give USER/NAME.")
    check_model(args.model, args.slider)
    variables = {MODEL: args.model} | ({SLIDER: args.slider} if args.slider else {})
    with tempfile.TemporaryDirectory(prefix="kontext-slider-space-") as folder:
        files = stage(Path(folder), args.model, args.slider)
        if args.dry_run:
            print("\n".join(f"{size:>12,}  {path}" for path, size in files))
        print(f"{len(files)} files, {sum(size for _, size in files) / 1e6:.1f} MB")
        if not args.dry_run:
            print(upload(make_api(), args.name, Path(folder), variables, args.hardware, args.private))


def main(argv: Sequence[str] | None = None, make_api: Callable[[], Any] = HfApi) -> int:
    """Run the command line. 0: done; 1: the Space could not be written; 2: wrong use."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        run(args, make_api)
    except InvalidInput as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except UNREACHABLE as error:
        advice = "Log in by 'hf auth login' with a token that may write." if isinstance(error, HfHubHTTPError) else ""
        print(f"{parser.prog}: The Space {args.name} could not be written: {error} {advice}".rstrip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
