"""Which runs: the product of what the user lists, or a named grid that goes by stages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from benchmarks.training.run import CHRONO_BIASES, DEFAULT, DIAGONAL, NORMALIZED, Rates, Result, Row, Run, row_of
from benchmarks.training.runner import Stage
from benchmarks.training.summary import OURS, Entry, best_rates, compare, median, merit

__all__ = ["GRIDS", "PEERS", "SCHEMES", "every", "free", "paper", "real"]

SCHEMES = ("critical", "chrono", "uniform_gate", "orthogonal", "isometry", DEFAULT)
"""The schemes of the published comparison, which its table holds; a scheme does not join by being registered."""
PEERS = ("critical", "chrono", CHRONO_BIASES, "orthogonal", DEFAULT)
"""The schemes that are compared on real data, with ``NORMALIZED`` beside the LSTM and ``DIAGONAL`` beside the GRU."""
GRIDS = {
    "paper": "2 cells × 6 tasks × 2 lengths × 6 schemes; 4 learning rates on one seed, then 5 seeds at each scheme's "
    "best, and at the two best of ours and of the best peer",
    "free": "the rows of paper; each scheme that comes near the best one gets readout rates of its own, and rates "
    "beyond those that are best at an edge",
    "real": "2 cells × 10 sets of real data, with the --hidden, --steps and --every given; 3 learning rates, one seed, "
    "rates beyond the edge, readout rates of their own, then 3 seeds at each scheme's two best; --scheme adds to them",
}
"""Name -> what it runs."""

_RATES = (1e-2, 3e-2)
"""Learning rates that are tried first."""
_LAST_RATES = (3e-3, 1e-3)
"""Learning rates that are rarely the best, and take longest."""
_LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Learning rates in steps of about 3; a rate that is best at an edge has its neighbour tried too."""
_RATIOS = (3.0, 10.0)
"""The readout's learning rate over the recurrent layer's, beside 1."""
_NEAR = 2.5
"""A scheme that needs more than so many times the steps of the row's best is searched no further."""
_SEEDS = range(5)
_TASKS = ("digits", "digits-noise", "adding", "copy", "pixels", "characters")
_LENGTHS = {"pixels": (128, 320)}
"""Sequence lengths in steps, a short and a long one; an image has 64 pixels, so multiples of 64."""
_OTHERWISE = (100, 300)
"""Sequence lengths of the other tasks, in steps."""
_REAL = (
    ("japanese-vowels", 29),
    ("basic-motions", 100),
    ("digit-pixels", 64),
    ("mnist", 196),
    ("mnist-permuted", 196),
    ("osuleaf", 427),
    ("text", 100),
    ("acsf1", 1460),
    ("mnist", 784),
    ("mnist-permuted", 784),
)
"""Real data: task and length, the cheap ones first."""
_REAL_RATES = (3e-2, 1e-2, 3e-3)
_REAL_SEEDS = range(3)


def every(
    cells: Iterable[str],
    tasks: Iterable[str],
    lengths: Iterable[int],
    schemes: Iterable[str],
    rates: Iterable[float],
    seeds: Iterable[int],
    like: Run,
    ratios: Iterable[float] = (1.0,),
) -> list[Run]:
    """The product; everything else as in ``like``."""
    each = product(cells, tasks, lengths, schemes, rates, ratios, seeds)
    return [
        replace(like, cell=cell, task=task, T=T, scheme=scheme, learning_rate=rate, readout_ratio=ratio, seed=seed)
        for cell, task, T, scheme, rate, ratio, seed in each
    ]


def paper(steps: int = 600) -> tuple[Stage, ...]:
    """Return the stages of the published comparison; what a stage runs depends on the results of those before.

    Every run ends at its target or after ``steps`` optimizer steps.  Two schemes at a time go through all tasks, so
    that what is known early covers every row: short sequences first, but the first two schemes at both lengths before
    those that seldom learn at all.  Small learning rates come last.
    """
    first = _published(steps)

    def seeds(known: Sequence[Result]) -> list[Run]:
        return _seeded(_of(first, known), _SEEDS)

    def finals(known: Sequence[Result]) -> list[Run]:
        """Which of two learning rates is better one seed says badly: ours and the best peer's get all seeds at both."""
        found = _of([*first, *seeds(known)], known)
        return [
            replace(entry.results[0].run, learning_rate=rates.recurrent, readout_ratio=rates.ratio, seed=seed)
            for row in compare(found)
            for entry in (row.entries.get(OURS), row.best_peer)
            if entry is not None
            for rates in _ranked([r for r in found if r.run.seed == _SEEDS[0]], row.row, entry.scheme)[:2]
            for seed in _SEEDS
        ]

    return (lambda _: first, seeds, finals)


def _published(steps: int) -> list[Run]:
    """The first stage of ``paper``."""
    like = Run("gru", "digits", 100, DEFAULT, _RATES[0], steps=steps, stop_at_target=True)
    passes = [
        *((length, SCHEMES[k : k + 2], _RATES) for length, k in ((0, 0), (0, 2), (1, 0), (0, 4), (1, 2), (1, 4))),
        *product((0, 1), [SCHEMES], [(rate,) for rate in _LAST_RATES]),
    ]
    return [
        run
        for length, schemes, rates in passes
        for cell, task in product(("gru", "lstm"), _TASKS)
        for run in every([cell], [task], [_LENGTHS.get(task, _OTHERWISE)[length]], schemes, rates, [0], like)
    ]


def free(steps: int = 600) -> tuple[Stage, ...]:
    """Return the stages that give each scheme of the published comparison the freedom of a readout rate of its own."""
    return _search(_published(steps), _SEEDS)


def real(like: Run, schemes: Iterable[str] = ()) -> tuple[Stage, ...]:
    """Return the stages of the comparison on real data; no run ends early.

    Args:
        like: A run whose units, steps and evaluations are those of all.
        schemes: More schemes than ``PEERS``.
    """
    more = dict.fromkeys((*PEERS, *schemes))
    others = {"gru": (*more, DIAGONAL), "lstm": (*more, NORMALIZED)}
    first = [
        run
        for task, T in _REAL
        for cell in others
        for run in every([cell], [task], [T], others[cell], _REAL_RATES, [0], like)
    ]
    return _search(first, _REAL_SEEDS)


def _search(first: Sequence[Run], seeds: Iterable[int]) -> tuple[Stage, ...]:
    """The stages that find each scheme's best rates on one seed, then run all seeds at the two best."""
    wanted = {run.key: run for run in first}

    def then(more: Stage) -> Stage:
        """A stage from what is known of the runs of those before."""

        def stage(known: Sequence[Result]) -> list[Run]:
            runs = list(more(_of(wanted.values(), known)))
            wanted.update((run.key, run) for run in runs)
            return runs

        return stage

    edges = [then(_beyond)] * 3
    return (lambda _: first, *edges, then(_ratios), *edges, then(lambda known: _twice_seeded(known, seeds)))


def _of(runs: Iterable[Run], known: Iterable[Result]) -> list[Result]:
    """What is known of these runs."""
    asked = {run.key for run in runs}
    return [result for result in known if result.run.key in asked]


def _seeded(known: Sequence[Result], seeds: Iterable[int]) -> list[Run]:
    """Every scheme at its best rates with all seeds."""
    best = best_rates(known)
    chosen = [r.run for r in known if best[row_of(r.run, r.data), r.run.scheme] == r.run.rates]
    return [replace(run, seed=seed) for run in chosen for seed in seeds]


def _twice_seeded(known: Sequence[Result], seeds: Iterable[int]) -> Iterator[Run]:
    """Every scheme at its two best rates with all seeds: which of them is better one seed says badly."""
    first = [result for result in known if result.run.seed == next(iter(seeds))]
    for row in compare(first):
        for entry in row.entries.values():
            for rates, seed in product(_ranked(first, row.row, entry.scheme)[:2], seeds):
                run = entry.results[0].run
                yield replace(run, learning_rate=rates.recurrent, readout_ratio=rates.ratio, seed=seed)


def _beyond(known: Sequence[Result]) -> Iterator[Run]:
    """Of every scheme that comes near the best and whose best learning rate is the last one tried: the next one."""
    for entry in _near(known):
        own = sorted(rates.recurrent for rates in entry.tried if rates.ratio == entry.rates.ratio)
        best = entry.rates.recurrent
        more = [rate for rate in _LADDER if rate > best][:1] if best == own[-1] else []
        less = [rate for rate in _LADDER if rate < best][-1:] if best == own[0] else []
        for rate in (*less, *more):
            yield replace(entry.results[0].run, learning_rate=rate)


def _ratios(known: Sequence[Result]) -> Iterator[Run]:
    """Of every scheme that comes near the best: readout rates of its own, at its best learning rate and the next less.

    A scheme with limits has such rates by itself, and gets them too.
    """
    for entry in _near(known):
        lower = [rate for rate in _LADDER if rate < entry.rates.recurrent][-1:]
        for rate, ratio in product((entry.rates.recurrent, *lower), _RATIOS):
            yield replace(entry.results[0].run, learning_rate=rate, readout_ratio=ratio)


def _near(known: Sequence[Result]) -> Iterator[Entry]:
    """The schemes that need at most ``_NEAR`` times the steps of their row's best; without a target all are near."""
    for row in compare(known):
        best = min(median(entry.steps) for entry in row.entries.values())
        for entry in row.entries.values():
            if not row.has_target or (math.isfinite(best) and median(entry.steps) <= _NEAR * best):
                yield entry


def _ranked(results: Iterable[Result], row: Row, scheme: str) -> list[Rates]:
    """The rates of a row's scheme, the best first; a result each."""
    own = [r for r in results if r.run.scheme == scheme and row_of(r.run, r.data) == row]
    return [r.run.rates for r in sorted(own, key=lambda r: (merit([r]), r.run.rates))]
