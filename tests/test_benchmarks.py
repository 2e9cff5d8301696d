"""The benchmarks run, and say what they promise to say: a figure nobody can make again is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import INSTRUCTION

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    """The folder's scripts import each other by name."""
    monkeypatch.syspath_prepend(FOLDER)


def test_the_slider_benchmark_tells_all_its_ratios(scripts, pipe, monkeypatch, capsys):
    """`make bench` ends in one line of JSON that other tools read."""
    import bench_slider

    monkeypatch.setattr(bench_slider, "load_pipeline", lambda name: pipe)
    monkeypatch.setattr(sys, "argv", ["bench_slider.py", "--rounds", "1"])
    bench_slider.main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name in ("exact", "fast", "fastest", "sweep", "exact_sweep", "demo", "floor"):
        assert line[f"{name}_ratio"] > 0, name


def test_the_floor_is_all_products_of_a_frame_and_nothing_else(scripts):
    """A floor that forgets products would promise too much."""
    from floor import _Products, products_of

    a, b = torch.randn(3, 4), torch.randn(4, 5)
    call = products_of(lambda: torch.nn.functional.linear(a, b.T, torch.zeros(5)).relu() + (a[None] @ b[None])[0])
    with _Products() as seen:
        call(0)
    assert len(seen.made) == 2 and all(len(operands) >= 2 for _, operands, _ in seen.made)
    heads = torch.randn(1, 2, 6, 8)
    call = products_of(lambda: torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, scale=0.5))
    with _Products() as seen:
        call(0)
    [(_, operands, options)] = seen.made  # fused attention is two products, and no aten.bmm
    assert torch.equal(operands[0], heads) and options["scale"] == 0.5


def test_one_wild_edit_does_not_hide_in_the_mean(scripts, capsys):
    """delta_smooth is unbounded: a change of its mean needs an interval and the median edit's change beside it."""
    from argparse import Namespace

    from bench_fidelity import report

    def rows(deltas: list[float]) -> list[dict]:
        kinds = ["scene", "photo"] * 5
        return [
            {"kind": kind, "psnr": 50.0, "worst": 45.0, "delta_smooth": delta, "rendered": 5}
            | {"hand_psnr": 49.0, "hand_worst": 44.0}
            for kind, delta in zip(kinds, deltas, strict=True)
        ]

    made = {"exact": rows([0.1] * 10), "fast": rows([*[0.1] * 9, 1.1]), "fastest": rows([0.11] * 10)}
    report(made, Namespace(steps=None, out=None))
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["fast_delta_smooth_change"] == 1.0 and line["fast_median_change"] == 0.0
    low, high = line["fast_delta_smooth_interval"]
    assert low == 0.0 and high > 2.0
    assert line["fastest_median_change"] == 0.1 and line["fast_hand_worst_frame"] == 44.0


def test_the_gpu_benchmark_knows_the_parts_of_a_step(scripts):
    """It runs on rented machines, where a typing error is dear."""
    from bench_gpu import memory_of_a_session, parts_of_a_step
    from flux_size import random_pipeline

    cpu = torch.device("cpu")
    pipe = random_pipeline([INSTRUCTION], cpu, torch.float32, tiny=True, steps=2)
    photo = Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8))
    parts = parts_of_a_step(pipe, photo, 64)
    assert parts.pop("attention_tflop") >= 0  # among the products, where a CPU multiplies it out
    assert all(value > 0 for value in parts.values()), parts
    assert memory_of_a_session(pipe, photo, 64, cpu) is None
