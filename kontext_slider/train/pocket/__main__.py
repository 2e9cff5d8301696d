"""`python -m kontext_slider.train.pocket`: the recipe as a command."""

import argparse

from kontext_slider.train.pocket import recipe

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m kontext_slider.train.pocket", description=recipe.__doc__)
    recipe.add_arguments(parser)
    recipe.run(parser.parse_args())
