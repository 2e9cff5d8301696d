"""The sub-commands of `kontext-slider`: each module has `add_arguments(parser)` and `run(args)`."""
