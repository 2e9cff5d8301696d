"""Puts the pocket model and the example pictures into the wheel. Everything else is said in pyproject.toml.

In the repository they lie at the top, where people find them; `kontext_slider/files.py` finds them in both places.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("weights/pocket", "assets/examples", "assets/opening", "assets/photos")
LEFT_OUT = ("measured", "training")  # of the model: what it scored, and the logs of its training


class BuildWithFolders(build_py):
    """The package, and the folders inside it. An editable install reads them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for folder in filter(Path.is_dir, map(Path, FOLDERS)):
            target = Path(self.build_lib, "kontext_slider", folder)
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*LEFT_OUT))


setup(cmdclass={"build_py": BuildWithFolders})
