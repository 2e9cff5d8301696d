"""`python -m kontext_slider` is the command `kontext-slider`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
