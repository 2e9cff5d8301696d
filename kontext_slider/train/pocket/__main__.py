"""`python -m kontext_slider.train.pocket`: the same as `kontext-slider train`."""

import sys

from kontext_slider.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
