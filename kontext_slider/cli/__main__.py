"""`python -m kontext_slider.cli` is the command `kontext-slider`."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
