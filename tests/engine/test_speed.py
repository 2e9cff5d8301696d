"""Speeds: what is off by a stated bound, and what is not."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider.commands import options
from kontext_slider.engine import SliderEngine, speed
from kontext_slider.engine.batch_size import BatchSize
from kontext_slider.engine.between import interpolate, mixtures, neighbours, worst_psnr
from kontext_slider.engine.layers import EIGHT_BITS, Dense, EightBits
from kontext_slider.engine.order import coarse_first, grid, streaming_order
from kontext_slider.engine.session import MAX_HELD
from kontext_slider.errors import InvalidInput
from kontext_slider.projector import ModulationOffsets, lagrange_weights
from tests.engine.helpers import alike, bent_offsets, reference, same, smooth_offsets
from tests.tiny import INSTRUCTION, tiny_image


def flat(level: float) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), round(255 * level), dtype=np.uint8))


def polynomial_weights(nodes: list[float], strength: float) -> np.ndarray:
    """(K,), of what is at K nodes."""
    return lagrange_weights(torch.tensor(nodes), torch.tensor([strength]))[0].numpy()


def test_an_unknown_speed_is_an_error(pipe):
    """A typing error that means "exact"."""
    with pytest.raises(InvalidInput, match="exact, fast, fastest"):
        SliderEngine(pipe, speed="faster")


def test_the_command_line_knows_all_speeds():
    """A speed that no flag reaches."""
    assert options.SPEEDS == speed.NAMES


def test_a_processor_without_bfloat16_keeps_the_models_precision(monkeypatch):
    """Emulated, half precision is slower than none."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert speed.find_speed("fastest", torch.device("cpu")).dtype is None
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    found = [speed.find_speed(name, torch.device("cpu")).dtype for name in speed.NAMES]
    assert found == [None, None, torch.bfloat16]


def test_a_large_model_on_a_gpu_is_compiled_for_fastests_eight_bits(monkeypatch):
    """Eight bits that a GPU emulates or that make a fast strip rough, or a first frame that waits half a minute for a
    compiler which pays for it after two."""
    gpu, large = torch.device("cuda"), 12_000_000_000
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    found = [speed.find_speed(name, gpu, large) for name in speed.NAMES]
    assert [one.dtype for one in found] == [None, None, EIGHT_BITS]
    assert [one.compiled for one in found] == [False, False, True]
    small = speed.find_speed("fastest", gpu, 6_000_000)
    assert small.dtype is None and not small.compiled
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert speed.find_speed("fastest", gpu, large) == replace(found[2], dtype=None)


def test_a_speed_is_compiled_unless_somebody_says_no_or_there_is_no_compiler(pipe, monkeypatch):
    """An error at the first frame for something that nobody asked for."""
    compiled = replace(speed.SPEEDS["cpu"]["exact"], compiled=True)
    monkeypatch.setitem(speed.SPEEDS["cpu"], "exact", compiled)
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert SliderEngine(pipe).speed.compiled and not SliderEngine(pipe, compiled=False).speed.compiled
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not SliderEngine(pipe).speed.compiled
    monkeypatch.setattr("shutil.which", lambda name: name)
    pipe.transformer.is_quantized = True  # what that gains is not known
    assert not SliderEngine(pipe).speed.compiled and SliderEngine(pipe, compiled=True).speed.compiled


def test_eight_bits_are_left_where_nothing_compiles(pipe, monkeypatch):
    """Every token is measured before every product, in kernels of their own: slower than the model's own products."""
    monkeypatch.setitem(speed.SPEEDS["cpu"], "fastest", speed.SPEEDS["gpu, large model"]["fastest"])
    monkeypatch.setattr(speed, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr("shutil.which", lambda name: name)
    engines = [SliderEngine(pipe, speed="fastest", compiled=how) for how in (None, False)]
    kinds = [type(weights.single[0].qkv) for engine in engines if (weights := engine._weights())]
    assert kinds == [EightBits, Dense]


def test_frames_of_two_speeds_are_kept_apart(pipe):
    """A fast frame is served as an exact one, from memory or from disk."""
    fast, exact = (SliderEngine(pipe, speed=name).open(tiny_image(), INSTRUCTION) for name in ("fast", "exact"))
    assert fast._key(0.5) != exact._key(0.5)


def test_a_frame_of_another_versions_fast_is_not_served(pipe, tmp_path):
    """A folder outlives the version that wrote it, and a speed's name means other bounds in the next."""
    engine = SliderEngine(pipe, frame_folder=tmp_path, speed="fast")
    engine.open(tiny_image(), INSTRUCTION).render(0.5)
    again, later = (SliderEngine(pipe, frame_folder=tmp_path, speed="fast") for _ in range(2))
    later.speed = replace(engine.speed, guess_error=0.1)
    assert again.open(tiny_image(), INSTRUCTION).has(0.5)
    assert not later.open(tiny_image(), INSTRUCTION).has(0.5)


def test_a_mixture_has_the_offsets_and_goes_round_a_bend():
    """Polynomials of the strength overshoot where the slider's MLP has a kink."""
    nodes = [0.45, 0.7, 0.25, 0.9, 0.0, 1.0]
    (best, other), wanted = mixtures(bent_offsets, nodes, 0.55), bent_offsets([0.55]).scale[0]
    assert best.sum() == pytest.approx(1) and other.sum() == pytest.approx(1) and other[-1] == 0
    mixed = best.double() @ bent_offsets(nodes).scale
    assert mixed.numpy() == pytest.approx(wanted.numpy(), abs=2e-3)
    polynomial = polynomial_weights(nodes, 0.55) @ [max(node - 0.5, 0) for node in nodes]
    assert abs(polynomial - 0.05) > 0.01


def test_of_a_slider_that_does_nothing_the_strength_alone_is_mixed():
    """Offsets that are equal everywhere tell nothing, and a division by their length nothing good."""
    weights, _ = mixtures(
        lambda s: ModulationOffsets(torch.ones(len(s), 3), torch.ones(len(s), 3)), [0.2, 0.6, 1.0], 0.4
    )
    assert float(weights @ torch.tensor([0.2, 0.6, 1.0])) == pytest.approx(0.4, abs=1e-3)


def test_neighbours_are_near_apart_and_on_both_sides():
    """Beyond the ends a mixture runs away, across a wide gap it knows nothing, and twins add their noise."""
    assert neighbours([0.0, 0.2, 0.4, 0.6, 0.8], 0.45, 0.25, 3) == [0.4, 0.6, 0.2, 0.8, 0.0]
    assert neighbours([0.0, 0.2, 0.5, 0.7, 1.0], 0.1, 0.25, 5) == [0.0, 0.2, 0.5, 0.7, 1.0]  # one side has more
    assert neighbours([0.4, 0.41, 0.42, 0.6, 0.8], 0.45, 0.25, 3) == [0.42, 0.6, 0.8]  # twins
    assert neighbours([0.4, 0.6], 0.5, 0.25, 3) == []  # nothing to estimate the error by
    assert neighbours([0.2, 0.4, 0.6, 0.8], 0.5, 0.25, 5) == []  # fewer than are wanted
    assert neighbours([0.0, 0.5, 1.0], 0.4, 0.25, 3) == []  # too far apart
    assert neighbours([0.7, 0.8, 0.9, 1.1, 1.2], 0.95, 0.25, 3) == []  # the other side is beyond the full edit
    assert neighbours([0.9, 1.0, 1.1, 1.3, 1.5], 1.2, 0.25, 3) == [1.1, 1.3, 1.0, 1.5]
    assert neighbours([0.5, 0.6, 0.7], 0.4, 0.25, 3) == [] and neighbours([0.1, 0.2, 0.3], 0.4, 0.25, 3) == []


def test_a_smooth_way_is_interpolated_and_a_jump_is_not():
    """Half of an object that is there at once and not before: a ghost."""
    smooth = {s: flat(0.2 + 0.4 * s**2) for s in (0.4, 0.6, 0.2, 0.8)}
    frame = interpolate(smooth, 0.5, 44.0, smooth_offsets)
    assert frame is not None and abs(np.asarray(frame).mean() / 255 - 0.3) < 0.004
    jump = {s: flat(0.2 if s < 0.5 else 0.5) for s in (0.4, 0.6, 0.2, 0.8)}
    assert interpolate(jump, 0.5, 44.0, smooth_offsets) is None


def test_a_small_object_is_looked_at_for_itself():
    """A lamp of another colour in a large picture: wrong, and nothing in the mean of all pixels."""
    still = torch.full((200, 330, 3), 0.5)
    other = still.clone()
    other[195:, 325:] += 0.1  # in the last tile, which is smaller
    assert -10 * torch.log10((still - other).square().mean()) > 50
    assert worst_psnr(still, other) == pytest.approx(-10 * np.log10(0.01 * 25 / 80), abs=0.1)
    assert worst_psnr(still, still) == 99


def test_a_fast_sweep_renders_less_and_stays_near(pipe, monkeypatch):
    """Interpolating what was interpolated, or more than may be."""
    exact = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    engine = SliderEngine(pipe, speed="fast")
    session, rendered = engine.open(tiny_image(), INSTRUCTION), []
    render = session._renderer.render
    monkeypatch.setattr(
        session._renderer, "render", lambda strengths, *rest: (rendered.extend(strengths), render(strengths, *rest))[1]
    )
    frames = dict(session.sweep(41))
    assert list(frames) == [k / 40 for k in range(41)]
    assert 5 <= len(rendered) < 41 and set(rendered) == session._rendered
    for strength, frame in frames.items():
        difference = np.asarray(frame, dtype=float) - np.asarray(exact.render(strength), dtype=float)
        assert np.sqrt(np.mean(difference**2)) < 255 * 10 ** (-36 / 20), strength


@pytest.mark.parametrize(("degree", "rendered"), [(3, 5), (None, 6)])
def test_only_a_hand_on_a_slider_without_kinks_is_answered_across_wide_gaps(pipe, degree, rendered):
    """What is between a kink's sides cannot be told, nor how wrong it would be; a strip has time to be near."""
    pipe.slider_projector.register_to_config(degree=degree)
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION)
    list(session.sweep(5))
    frame = session.render(0.37)
    assert len(session._rendered) == rendered
    exact = SliderEngine(pipe).open(tiny_image(), INSTRUCTION).render(0.37)
    assert np.abs(np.asarray(frame, dtype=float) - np.asarray(exact, dtype=float)).mean() < 2
    list(session.frames([0.63]))
    assert len(session._rendered) == rendered + 1


def test_the_source_is_a_finished_frame_where_a_model_anchors(pipe):
    """An app never renders 0 there: the lowest strengths would have nothing below them, and a hand would wait."""
    pipe.slider_projector.register_to_config(degree=3)
    pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "anchor_source": True})
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION)
    list(session.frames([1.0, 0.5, 0.2, 0.7]))
    session.render(0.1)
    session.render(0.37)
    assert session._rendered == {1.0, 0.5, 0.2, 0.7}
    pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "anchor_source": False})
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION)
    list(session.frames([1.0, 0.5, 0.2, 0.7]))
    session.render(0.1)
    assert 0.1 in session._rendered


def test_a_wide_batch_leaves_what_can_be_told(pipe):
    """Eight frames at once are no gain where three tell the other five."""
    engine = SliderEngine(pipe, speed="fastest")
    engine.batch = BatchSize(8)
    session, steps = engine.open(tiny_image(), INSTRUCTION), []
    frames = dict(session.sweep(11, lambda step, total: steps.append((step, total))))
    assert list(frames) == [k / 10 for k in range(11)] and session._rendered == {0.0, 0.5, 1.0}
    assert steps == sorted(steps) and steps[-1][0] <= steps[-1][1]


def test_a_slider_without_kinks_mixes_by_the_strengths_polynomial():
    """Five frames tell a quartic way; offsets that are a cubic tell no more than four."""
    nodes, s = [0.25, 0.5, 0.0, 0.75, 1.0], 0.37
    best, other = mixtures(smooth_offsets, nodes, s)
    assert best == pytest.approx(polynomial_weights(nodes, s), abs=2e-3)
    assert other[:4] == pytest.approx(polynomial_weights(nodes[:4], s), abs=2e-2)


def test_a_frame_is_not_interpolated_from_frames_that_are_gone(pipe):
    """A cache that let a neighbour go, and a frame of None."""
    engine = SliderEngine(pipe, 0, 0, 0, speed="fast")
    session = engine.open(tiny_image(), INSTRUCTION)
    for k in range(6):
        session.render(k / 5)
    assert session._between(0.5, True) is None and session.render(0.5).size == session.size


def test_an_exact_engine_interpolates_nothing(pipe):
    """The bound of "exact" is a rounding."""
    session = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    list(session.sweep(21))
    assert alike(session.render(0.975), reference(pipe, session, 0.975)) and len(session._rendered) == 22


def test_strengths_are_halved_whatever_they_are():
    """An order for evenly spaced strengths only would lose or repeat some of a list."""
    assert coarse_first([0.9, 0.1, 0.3]) == [0.1, 0.9, 0.3]
    assert coarse_first([]) == [] and coarse_first([0.7]) == [0.7] and coarse_first([0.7, 0.2]) == [0.2, 0.7]
    assert sorted(coarse_first([k / 30 for k in range(31)])) == [k / 30 for k in range(31)]


@pytest.mark.parametrize("n", [2, 3, 11, 21, 1001])
@pytest.mark.parametrize("descending", [False, True])
def test_few_frames_are_made_before_it_is_their_turn(n, descending):
    """Half of a long sweep, held in memory until the frames before it were there."""
    wanted = sorted(grid(n), reverse=descending)
    order = streaming_order(wanted, leading=2)
    assert sorted(order) == grid(n) and order[:2] == wanted[:2]
    waiting, due, most = set(), iter(wanted), 0
    strength = next(due)
    for made in order:
        waiting.add(made)
        most = max(most, len(waiting))
        while strength in waiting:
            waiting.remove(strength)
            strength = next(due, None)
    assert most <= np.log2(n) + 2


def test_any_list_of_strengths_is_ordered():
    """An order for sweeps only, which loses or repeats some of a list."""
    assert streaming_order([]) == [] and streaming_order([0.7]) == [0.7]
    assert streaming_order([0.5, 0.9, 0.1, 0.3]) == [0.5, 0.9, 0.1, 0.3]
    assert streaming_order([0.5, 0.3, 0.9, 0.1], leading=2) == [0.5, 0.3, 0.9, 0.1]


@pytest.mark.parametrize(("speed_name", "most"), [("exact", 2), ("fast", 2), ("fastest", 3)])
def test_the_second_frame_of_a_sweep_comes_early(pipe, monkeypatch, speed_name, most):
    """A fast sweep of 21 gave its second frame when three quarters of its work were done."""
    session, rendered = SliderEngine(pipe, speed=speed_name).open(tiny_image(), INSTRUCTION), []
    render = session._renderer.render
    monkeypatch.setattr(
        session._renderer, "render", lambda strengths, *rest: (rendered.extend(strengths), render(strengths, *rest))[1]
    )
    sweep = session.sweep(21)
    next(sweep), next(sweep)
    assert len(rendered) <= most


@pytest.mark.parametrize("strengths", [grid(1001), np.random.default_rng(0).permutation(grid(301)).tolist()])
def test_a_sweep_holds_few_frames(pipe, monkeypatch, strengths):
    """A strip of a thousand frames of a large picture, held in memory until its second frame was there."""
    engine = SliderEngine(pipe, frame_cache_bytes=20 * 3 * 32 * 32, speed="fastest")
    session, made, most = engine.open(tiny_image(), INSTRUCTION, size=32, steps=1), [], 0
    make = session._make

    def noted(*args):
        frames = make(*args)
        made.extend(weakref.ref(frame) for frame in frames.values())
        return frames

    monkeypatch.setattr(session, "_make", noted)
    num_frames = 0
    for _ in session.frames(strengths):
        num_frames += 1
        made[:] = [frame for frame in made if frame() is not None]
        most = max(most, len(made))
    assert num_frames == len(strengths) and most <= MAX_HELD + 2


def test_the_same_frame_twice_in_a_list_of_strengths(pipe):
    """A frame handed out once and then missing."""
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION)
    frames = [frame for _, frame in session.frames([0.5, 0.0, 0.5])]
    assert same(frames[0], frames[2]) and not same(frames[0], frames[1])
