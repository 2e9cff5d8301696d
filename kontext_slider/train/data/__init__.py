"""Data for a slider: instruct -> edit -> morph -> score -> filter -> pack, the same on pocket and on FLUX."""
