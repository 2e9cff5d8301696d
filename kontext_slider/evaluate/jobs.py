"""One seed's comparison, in this process or shared out among several, each with its own model and share of the threads.

A small model's matrices are too small for many threads: two processes of one thread do more than one of two.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread

import torch

from kontext_slider.evaluate.compare import Result, compare
from kontext_slider.evaluate.kit import Kit, make_kit
from kontext_slider.world.cases import HELD_OUT_SEED, draw_cases

Found = dict[str, list[Result]]  # by method, in the order of the cases


def compare_seed(kit: Kit, args: argparse.Namespace, seed: int, keep: frozenset[int]) -> Found:
    """All methods on all held-out edits of a seed, by `args.jobs` processes. `keep`: cases whose frames are kept."""
    if args.jobs == 1:
        return compare_share(kit, args, seed, keep, 0)
    threads = max(1, torch.get_num_threads() // args.jobs)
    work = partial(_compare_alone, args, seed, keep, threads)
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), end_with_parent) as pool:
        shares = list(pool.map(work, range(args.jobs)))
    return {name: [shares[n % args.jobs][name][n // args.jobs] for n in range(args.edits)] for name in shares[0]}


def end_with_parent() -> None:
    """Make this process end when the one that started it does, be it killed; alone it would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _compare_alone(args: argparse.Namespace, seed: int, keep: frozenset[int], threads: int, share: int) -> Found:
    """In a process of its own."""
    torch.set_num_threads(threads)
    return compare_share(make_kit(args), args, seed, keep, share)


def compare_share(kit: Kit, args: argparse.Namespace, seed: int, keep: frozenset[int], share: int) -> Found:
    """Every `args.jobs`-th edit from number `share` on."""
    numbers = range(args.edits)[share :: args.jobs]
    cases = draw_cases(args.edits, kit.pipe.defaults.size, HELD_OUT_SEED + seed)
    kept = frozenset(place for place, number in enumerate(numbers) if number in keep)
    return compare(kit.pipe, [cases[number] for number in numbers], kit.methods, kit.distances, seed, kept)
