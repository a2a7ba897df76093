"""Which runs: the product of what the user lists, or a named grid that goes by stages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

from benchmarks.training.run import DEFAULT, Result, Row, Run, row_of
from benchmarks.training.runner import Stage
from benchmarks.training.summary import OURS, best_rates, compare, merit

__all__ = ["PAPER", "SCHEMES", "every", "paper"]

SCHEMES = ("critical", "chrono", "uniform_gate", "orthogonal", "isometry", DEFAULT)
"""The schemes of the published comparison, which its table holds; a scheme does not join by being registered."""
PAPER = (
    "2 cells × 6 tasks × 2 lengths × 6 schemes; 4 learning rates on one seed, then 5 seeds at each scheme's best, and "
    "at the two best of ours and of the best peer"
)

_RATES = (1e-2, 3e-2)
"""Learning rates that are tried first."""
_LAST_RATES = (3e-3, 1e-3)
"""Learning rates that are rarely the best, and take longest."""
_SEEDS = range(5)
_TASKS = ("digits", "digits-noise", "adding", "copy", "pixels", "characters")
_LENGTHS = {"pixels": (128, 320)}
"""Sequence lengths in steps, a short and a long one; an image has 64 pixels, so multiples of 64."""
_OTHERWISE = (100, 300)
"""Sequence lengths of the other tasks, in steps."""


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
    """Return the stages of the published comparison; what a stage runs depends on the results of those before.

    Every run ends at its target or after ``steps`` optimizer steps.  Two schemes at a time go through all tasks, so
    that what is known early covers every row: short sequences first, but the first two schemes at both lengths before
    those that seldom learn at all.  Small learning rates come last.
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

    def finals(known: Sequence[Result]) -> list[Run]:
        """Which of two learning rates is better one seed says badly: ours and the best peer's get all seeds at both."""
        wanted = {run.key for run in first} | {run.key for run in seeds(known)}
        found = [r for r in known if r.run in wanted]
        return [
            replace(entry.results[0].run, learning_rate=rate, seed=seed)
            for row in compare(found)
            for entry in (row.entries.get(OURS), row.best_peer)
            if entry is not None
            for rate in _ranked([r for r in found if r.run.seed == _SEEDS[0]], row.row, entry.scheme)[:2]
            for seed in _SEEDS
        ]

    return (lambda _: first, seeds, finals)


def _ranked(results: Iterable[Result], row: Row, scheme: str) -> list[float]:
    """The learning rates of a row's scheme, the best first; a result each."""
    own = [r for r in results if r.run.scheme == scheme and row_of(r.run, r.data) == row]
    return [r.run.learning_rate for r in sorted(own, key=lambda r: (merit([r]), r.run.learning_rate))]
