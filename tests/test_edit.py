"""The settings of an edit and the sentences of their checks."""

import subprocess
import sys
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
import torch

from kontext_slider.edit import MAX_SEED, EditDefaults, EditSpec, check_instruction, check_num_frames, check_strengths
from kontext_slider.errors import CheckpointError, InvalidInput

SETTINGS = {"instruction": "make it snow", "seed": 1, "steps": 4, "guidance": 2.5, "size": 64}
BAD_SETTINGS = [
    *[({"instruction": text}, "Say what to change") for text in ("", " \n", None, ["snow"])],
    *[({"seed": seed}, "seed must be a whole number") for seed in (-1, 1.5, "0", None, True, 2**64)],
    *[({"steps": steps}, "number of steps") for steps in (0, -3, 2.0, "4", True, 10**6)],
    *[({"guidance": value}, "guidance must be") for value in (-1, float("nan"), float("inf"), "3", True)],
    *[({"size": size}, "size must be") for size in (0, -32, 10**6, 32.0, "32", False)],
    *[({"guidance": value}, "guidance must be") for value in (10**400, Fraction(10**5000), np.bool_(True), 1j)],
    *[({"seed": value}, "seed must be") for value in (10**5000, np.bool_(False), np.float64(3))],
    ({"instruction": "snow \ud800"}, "half a letter"),
    ({"max_sequence_length": 10**12}, "max_sequence_length must be"),
]


@pytest.mark.parametrize(("settings", "words"), BAD_SETTINGS)
def test_bad_settings_are_refused_with_a_sentence(settings, words):
    """A silly value dies as a traceback deep in torch, after minutes of loading, or runs for hours."""
    with pytest.raises(InvalidInput, match=words):
        EditSpec(**SETTINGS | settings)


def test_settings_are_plain_values_that_a_file_can_embed():
    """A seed from numpy, as a loop over seeds has it, cannot be written as JSON."""
    spec = EditSpec(**SETTINGS | {"seed": np.int64(MAX_SEED), "guidance": np.float32(2.5)})
    assert spec.facts() == {"instruction": "make it snow", "seed": MAX_SEED, "steps": 4, "guidance": 2.5}
    assert all(type(value) in (str, int, float) for value in spec.facts().values())
    assert hash(spec) == hash(EditSpec(**asdict(spec)))


def test_what_is_not_given_is_the_models_own():
    """0 is a value: a guidance of 0 must not become the default."""
    defaults = EditDefaults(size=256, steps=12, guidance=3.5, max_sequence_length=64)
    assert EditSpec.from_defaults(defaults, "snow") == EditSpec("snow", 0, 12, 3.5, 256, 64)
    assert EditSpec.from_defaults(defaults, "snow", 5, 8, 0, 128) == EditSpec("snow", 5, 8, 0.0, 128, 64)


def test_defaults_with_a_misspelt_name_are_refused():
    """A model folder whose "step" is ignored renders with other settings than its author meant."""
    assert EditDefaults.from_config({"steps": 9}).steps == 9
    with pytest.raises(CheckpointError, match="step"):
        EditDefaults.from_config({"step": 9})


@pytest.mark.parametrize(
    "values",
    [
        {"max_sequence_length": 10**12},
        {"size": "big"},
        {"steps": -1},
        ["steps"],
        {"noise_scale": 2},
        {"noise_scale": None},
        {"base_steps": 0},
    ],
)
def test_defaults_that_no_model_can_use_are_refused(values):
    """A text padded to 10**12 tokens ended the process without a word."""
    with pytest.raises(CheckpointError, match="edit_defaults"):
        EditDefaults.from_config(values)


@pytest.mark.parametrize("strength", [10**400, -(10**400), Fraction(10**5000), np.bool_(True), np.float16("nan")])
def test_numbers_that_no_float_holds_are_no_strengths(strength):
    """An OverflowError, or a ValueError about digits from the sentence itself, reached the person."""
    with pytest.raises(InvalidInput, match="A strength is a number"):
        check_strengths(strength)


def test_a_caller_may_have_narrower_limits():
    """The page is open to anybody: a thousand frames of one visitor would block it."""
    assert check_num_frames(41, most=41) == 41 and check_instruction("snow", 4) == "snow"
    with pytest.raises(InvalidInput, match="from 2 to 41"):
        check_num_frames(42, most=41)
    with pytest.raises(InvalidInput, match="at most 3 letters; this one has 4"):
        check_instruction("snow", 3)


@pytest.mark.parametrize(
    ("value", "strengths"),
    [
        (0, [0.0]),
        (0.5, [0.5]),
        (np.float32(0.25), [0.25]),
        ((0, 1), [0.0, 1.0]),
        (np.linspace(0, 1, 3), [0.0, 0.5, 1.0]),
        (torch.tensor([0.0, 1.0]), [0.0, 1.0]),
        (torch.tensor(0.5), [0.5]),
    ],
)
def test_strengths_of_many_kinds(value, strengths):
    """Arrays and tensors are how people make sweeps."""
    assert check_strengths(value) == strengths


@pytest.mark.parametrize(
    "value",
    [[], (), -0.01, 1.01, float("nan"), float("inf"), True, [0.5, False], "0.5", ["a"], None, [None], [[0.5]], 1j],
)
def test_silly_strengths_get_a_sentence(value):
    """True is 1 and NaN passes `x < 0 or x > 1`: both would render something nobody asked for."""
    with pytest.raises(ValueError, match="strength"):
        check_strengths(value)


def test_strengths_beyond_the_full_edit():
    """Extrapolation is asked for, and has an end."""
    assert check_strengths([1.5], highest=1.5) == [1.5]
    with pytest.raises(InvalidInput, match="up to 1.5"):
        check_strengths(1.6, highest=1.5)


def test_checks_load_no_library():
    """`kontext-slider --help` would take seconds if the limits of its flags came with torch."""
    code = "import sys, kontext_slider.edit; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
