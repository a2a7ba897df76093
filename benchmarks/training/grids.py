"""Which runs: the product of what the user lists, or a named grid that goes by stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

from benchmarks.training.run import DEFAULT, Result, Run, row_of
from benchmarks.training.runner import Stage
from benchmarks.training.summary import best_rates

__all__ = ["PAPER", "SCHEMES", "every", "paper"]

SCHEMES = ("critical", "chrono", "uniform_gate", "orthogonal", "isometry", DEFAULT)
PAPER = "2 cells × 6 tasks × 2 lengths × 6 schemes; 4 learning rates on one seed, then 5 seeds at each scheme's best"

_RATES = (1e-2, 3e-2)
_LAST_RATES = (3e-3, 1e-3)  # rarely the best, and the longest to train
_SEEDS = range(5)
_TASKS = ("digits", "digits-noise", "adding", "copy", "pixels", "characters")
_LENGTHS = {"pixels": (128, 320)}  # multiples of 64
_OTHERWISE = (100, 300)


def every(
    cells: Iterable[str],
    tasks: Iterable[str],
    lengths: Iterable[int],
    schemes: Iterable[str],
    rates: Iterable[float],
    seeds: Iterable[int],
    like: Run,
) -> list[Run]:
    """The product; everything else as in ``like``."""
    return [
        replace(like, cell=cell, task=task, T=T, scheme=scheme, learning_rate=rate, seed=seed)
        for cell, task, T, scheme, rate, seed in product(cells, tasks, lengths, schemes, rates, seeds)
    ]


def paper(steps: int = 600) -> tuple[Stage, ...]:
    """The grid the project's claim rests on: every run up to its target or ``steps``; stage two is chosen by stage one.

    Two schemes at a time go through all tasks, so that what is known early covers every row: short sequences first, but
    the first two schemes at both lengths before those that seldom learn at all; small learning rates come last.
    """
    like = Run("gru", "digits", 100, DEFAULT, _RATES[0], steps=steps, stop_at_target=True)
    passes = [
        *((length, SCHEMES[k : k + 2], _RATES) for length, k in ((0, 0), (0, 2), (1, 0), (0, 4), (1, 2), (1, 4))),
        *product((0, 1), [SCHEMES], [(rate,) for rate in _LAST_RATES]),
    ]
    first = [
        run
        for length, schemes, rates in passes
        for cell, task in product(("gru", "lstm"), _TASKS)
        for run in every([cell], [task], [_LENGTHS.get(task, _OTHERWISE)[length]], schemes, rates, [0], like)
    ]

    def seeds(known: Sequence[Result]) -> list[Run]:
        asked = {run.key for run in first}
        found = [r for r in known if r.run in asked]
        best = best_rates(found)
        chosen = [r.run for r in found if best[row_of(r.run, r.data), r.run.scheme] == r.run.learning_rate]
        return [replace(run, seed=seed) for run in chosen for seed in _SEEDS]

    return (lambda _: first, seeds)
