"""The benchmarks run, and say what they promise to say: a figure nobody can make again is none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider import SliderEngine
from kontext_slider.engine.speed import FP8, find_speed
from kontext_slider.metrics.distances import rms
from tests.engine.helpers import note_velocities
from tests.tiny import tiny_image

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
    for row in ("open", "first at 1", "second below 1, after 1", "first below 1", "second below 1"):
        assert line["ratios"][f"fast: {row}"] > 0, row
    assert 0 < line["first_block_cache_psnr"] <= 99, "what a step cache loses stands beside what it gains"


def test_the_first_strength_is_that_of_a_new_session(scripts, pipe, monkeypatch):
    """A published first strength that found the frame at 0 and the plan of steps of a round that did not count."""
    import bench_slider

    pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "anchor_source": True})
    engine, denoised = SliderEngine(pipe), note_velocities(monkeypatch)
    photos = bench_slider.new_photographs(tiny_image())
    visits = [bench_slider.visit(engine, photos, rows) for rows in (bench_slider.FROM_ONE, bench_slider.BELOW_ONE)]
    for number in range(2):
        for call in visits:
            denoised.clear()
            assert list(call(number).seconds)[0] == "open"
            assert len(denoised) == 3 * pipe.defaults.steps, "two strengths and the frame at 0"


def test_the_floor_is_all_products_of_a_frame_and_nothing_else(scripts):
    """A floor that forgets products would promise too much."""
    from floor import ATTENTION, LINEAR, _Products, products_of

    a, b = torch.randn(3, 4), torch.randn(4, 5)
    call = products_of(lambda: torch.nn.functional.linear(a, b.T, torch.zeros(5)).relu() + (a[None] @ b[None])[0])
    with _Products(LINEAR) as seen:
        call(0)
    assert len(seen.made) == 2 and all(len(operands) >= 2 for _, operands, _ in seen.made)
    heads = torch.randn(1, 2, 6, 8)
    call = products_of(lambda: torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, scale=0.5))
    with _Products(ATTENTION) as seen:
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
            | {"interactive_psnr": 49.0, "interactive_worst": 44.0}
            for kind, delta in zip(kinds, deltas, strict=True)
        ]

    made = {"exact": rows([0.1] * 10), "fast": rows([*[0.1] * 9, 1.1]), "fastest": rows([0.11] * 10)}
    report(made, Namespace(steps=None, preset="cpu", out=None))
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["fast_delta_smooth_change"] == 1.0 and line["fast_median_change"] == 0.0
    low, high = line["fast_delta_smooth_interval"]
    assert low == 0.0 and high > 2.0
    assert line["fastest_median_change"] == 0.1 and line["fast_interactive_worst_frame"] == 44.0


def test_the_most_steps_stand_beside_their_means(scripts):
    """The table of docs/results.md has both, and half of it could be found in no file."""
    from bench_steps import figures_of

    figures = figures_of({"fast": np.array([[80, 7, 0, 3], [124, 10, 0, 4]])})
    places = ("sweep", "second strength", "after five", "after five, not interpolated")
    assert figures["fast"] == dict(zip(places, (102, 8.5, 0, 3.5), strict=True))
    assert figures["most"]["fast"] == dict(zip(places, (124, 10, 0, 4), strict=True))


@pytest.mark.slow
def test_the_gpu_benchmark_runs_to_its_end(scripts, monkeypatch, capsys, tmp_path):
    """It runs on rented machines, where a typing error is dear, and half a table must not be lost."""
    import bench_gpu

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # compiled blocks have tests of their own
    written = tmp_path / "figures.json"
    arguments = ["--tiny", "--sizes", "64", "96", "--steps", "2", "--rounds", "1", "--out", str(written)]
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", *arguments])
    bench_gpu.main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line == json.loads(written.read_text())
    first, second = line["tables"]
    assert first["step_ms"].keys() - second["step_ms"].keys() == {"exact, 8 frames at once"}
    assert all(value > 0 for table in line["tables"] for value in table["step_ms"].values())
    assert line["tables"][0]["parts"]["products_ms"] > 0 and line["ratios"]["plain"] == 1
    assert [(part["how"], part["size"]) for part in line["session_gb"]] == [
        ("low VRAM", 64), ("low VRAM", 96), ("low VRAM, int8", 64), ("low VRAM, int8", 96)
    ]  # fmt: skip
    assert all(line["seconds"][f"{way}: sweep"] > 0 for way in ("exact", "fp8", "fast", "fastest"))


def test_steps_that_pocket_computes_are_counted_the_same_elsewhere(scripts, pipe):
    """The GPU's fast and fastest skip what pocket's do: the first frame chooses, others have so many steps."""
    from bench_gpu import Way
    from bench_steps import counted

    way = Way(SliderEngine(pipe), seed=1, computed=3)
    with way.open(Image.new("RGB", (64, 64), "teal"), 64, steps=7) as session, counted() as seen:
        frames = session.sweep(4)
        next(frames)
        first = len(seen)
        assert 3 <= first < 7
        way.skip(session)
        list(frames)
    assert len(seen) == first + 3 * 3


def test_sizes_and_speeds_of_other_devices_can_be_asked_for(scripts, pipe):
    """What a GPU's speeds are off by is measured where there is none."""
    from bench_fidelity import engine_of

    engine = engine_of(pipe, "fastest", "gpu, large model")
    assert engine.speed.dtype is FP8 and engine.speed.batch == 1
    assert engine_of(pipe, "fast", "cpu").speed == find_speed("fast", torch.device("cpu"))


def test_even_parameters_undo_an_uneven_progress(scripts):
    """The table turned the wrong way round would make edits twice as uneven."""
    from measure_reparametrisation import LEVELS, even_parameters

    progress = LEVELS**0.5
    even = even_parameters(progress, is_shape=False)
    assert np.abs(np.interp(even, LEVELS, progress) - LEVELS[1:-1]).max() < 0.01
    assert even_parameters(progress, is_shape=True) == pytest.approx((np.array(even) + LEVELS[1:-1]) / 2, abs=1e-3)
    back = even_parameters(np.array([0, 0.2, 0.1, 0.3, 0.5, 0.5, 0.8, 0.9, 1.0]), is_shape=False)
    assert list(back) == sorted(back)


def test_progress_is_measured_on_the_edits_own_parameter(scripts):
    """Measured on edits that are reparametrised already, the table would undo itself."""
    from measure_reparametrisation import measure_progress

    progress = measure_progress("fog", [rms], 1, 64)
    assert progress[0] == 0 and progress[-1] == 1 and progress[4] > 0.6


@pytest.mark.parametrize("anchored", [True, False])
def test_a_blend_of_one_strength_is_the_frame_of_that_strength(scripts, pipe, anchored):
    """Token strengths that are wrong by a step or a residual would lose to the transfer for no reason of theirs."""
    from bench_strength_map import TokenBlend

    pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "anchor_source": anchored})
    with SliderEngine(pipe).open(tiny_image(), "make it snow") as session:
        blend = TokenBlend(pipe, session.source, session.instruction)
        for strength, nodes in ((0.6, (0.0, 0.6)), (0.5, (0.0, 0.5, 1.0))):
            same = np.full(session.source.size[::-1], strength)
            blended, frame = (
                np.array(each, dtype=int) for each in (blend.frame(same, nodes), session.render(strength))
            )
            assert np.abs(blended - frame).max() <= 1
        halves = np.repeat([[0.0, 1.0]], 2, axis=0)
        assert np.abs(np.array(blend.frame(halves, (0.0, 1.0)), dtype=int) - blended).max() > 1


def test_compared_maps_use_their_whole_range(scripts):
    """A map that is nearly constant measures a strength, not a map."""
    from bench_strength_map import SHAPES

    for shape in SHAPES.values():
        for seed in range(5):
            values = shape(np.random.default_rng(seed), 48)
            assert values.shape == (48, 48) and values.min() == 0 and values.max() > 0.98 and values.max() <= 1


@pytest.mark.skipif(shutil.which("node") is None, reason="the page's brush runs in node here")
def test_the_brush_benchmark_measures_the_pages_brush(scripts, monkeypatch, capsys):
    """A copy of the brush would go on being good when the page's own is broken; a constant without effect is a typo."""
    import bench_brush

    errors = []
    for constants in ([], ["MOST_THRESHOLD=9", "LEAST_THRESHOLD=9"]):
        monkeypatch.setattr(sys, "argv", ["bench_brush.py", "--strokes", "2", "--set", *constants])
        bench_brush.main()
        errors.append(json.loads(capsys.readouterr().out.splitlines()[-1])["kinds"]["object"]["error"])
    (plain, edges), (same, without) = errors
    assert plain == same and edges < 0.9 * plain and without == pytest.approx(plain, abs=1e-3)
    monkeypatch.setattr(sys, "argv", ["bench_brush.py", "--strokes", "1", "--set", "NO_SUCH=1"])
    with pytest.raises(subprocess.CalledProcessError):
        bench_brush.main()


@pytest.mark.browser
def test_the_canvas_benchmark_draws_what_it_times(scripts, monkeypatch, capsys):
    """The time of an empty canvas, or of a context that was lost, is short too."""
    import bench_canvas

    if bench_canvas.find_chromium() is None:
        pytest.skip("no Chromium or Chrome on this machine: install one to run this test")
    monkeypatch.setattr(bench_canvas, "CANVASES", ((90, 64),))
    monkeypatch.setattr(bench_canvas, "PHOTOGRAPH_SIDE", 256)
    monkeypatch.setattr(bench_canvas, "FRAMES", 3)
    drawn = []
    upload = bench_canvas.upload
    monkeypatch.setattr(bench_canvas, "upload", lambda page: drawn.append(page.canvas(strength=1.0)) or upload(page))
    monkeypatch.setattr(sys, "argv", ["bench_canvas.py", "--rounds", "1", "--size", "64"])
    bench_canvas.main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    for kind, picture in zip(("colours", "detail"), drawn, strict=True):
        assert set(line[kind]["ms"]["90 x 64"]) == {"strength", "map", "map, new place"}
        assert all(value > 0 for value in line[kind]["ms"]["90 x 64"].values()) and line[kind]["upload_ms"] > 0
        assert picture[32, 45, 3] == 255 and picture[..., :3].std() > 10


def test_a_chain_at_strength_0_is_the_photograph_in_every_way(scripts, pipe):
    """A way that is measured on another picture, or against the truth of another case."""
    import bench_chain

    [case] = bench_chain.chain_cases(1, 64)
    scores = bench_chain.score(SliderEngine(pipe), replace(case, strengths=(0.0, 0.0)))
    assert list(scores) == list(bench_chain.WAYS)
    assert max(scores.values()) - min(scores.values()) < 0.01
    assert bench_chain.means([scores, scores])["chain_minus_composed"] == pytest.approx(0, abs=0.01)


def test_baselines_are_tuned_by_the_best_straight_line(scripts):
    """A line through two peaks alone would be as good at the ends and lose in between; the worst one is a wrong sign
    away."""
    from tune_baselines import STRENGTHS, best_line

    scales, strengths = np.linspace(-1, 2, 31), np.array(STRENGTHS[1:])
    table = 30 - 50 * (scales[:, None] - (1.4 - 0.9 * strengths)) ** 2
    start, end, decibel = best_line(scales, table)
    assert (start, end) == pytest.approx((1.4, 0.5), abs=0.05) and decibel == pytest.approx(30, abs=0.1)


def test_every_baseline_with_a_scale_is_tuned_and_its_settings_exist(scripts, tmp_path):
    """A new baseline would be compared with numbers that somebody guessed; a number that was renamed, after an hour."""
    import tune_baselines

    from kontext_slider.evaluate.baselines import BASELINES, CONCEPT_SLIDER
    from kontext_slider.evaluate.baselines.method import ByScale

    scaled = {name: method for name, method in BASELINES.items() if isinstance(method, ByScale)}
    assert set(tune_baselines.SCALES) == set(scaled) - {CONCEPT_SLIDER}
    for name in tune_baselines.SCALES:
        assert all(replace(scaled[name], **numbers) for numbers, _ in tune_baselines.settings(name))


def test_a_tuning_that_was_stopped_goes_on(scripts, pipe, tmp_path, monkeypatch):
    """Every setting and case is an hour of rendering in all, and is kept as it comes."""
    import tune_baselines

    case = tune_baselines.balanced_case(0, 32, 0)
    tune_baselines.measure(pipe, ["velo-edit"], [case], 0, tmp_path / "lines.jsonl")
    monkeypatch.setattr(tune_baselines, "decibels", lambda *args: pytest.fail("measured again"))
    tune_baselines.measure(pipe, ["velo-edit"], [case], 0, tmp_path / "lines.jsonl")
    found = tune_baselines.choose(tune_baselines.read_json_lines(tmp_path / "lines.jsonl"))
    assert len(found) == len(tune_baselines.settings("velo-edit")) and found[0]["db"] >= found[-1]["db"] > 0


def test_the_sizes_on_paper_add_up(scripts, monkeypatch):
    """A sum that leaves out a stage: somebody rents half of the disk that it takes."""
    import size_on_paper

    monkeypatch.setattr(size_on_paper, "photographs", lambda: [tiny_image(32, 32)])
    monkeypatch.setattr(size_on_paper, "operations", lambda *how, **named: 1e12)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in size_on_paper.table().splitlines()[2:]]
    *stages, total = rows
    assert len(stages) == 8 and total[0] == "all"
    for column in (-1, -2):
        assert sum(float(row[column]) for row in stages) == pytest.approx(float(total[column]), abs=4)
    assert size_on_paper.encoded_kilobytes() == 2 * (8 * 16 * 64 * 64 + 512 * 4096 + 768) / 1e3
