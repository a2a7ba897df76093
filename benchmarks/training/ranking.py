"""Whether the numbers of ``critinit compare`` rank the schemes as training does.

For a row every scheme has its training rank, by median steps to target and then by the last metric, and the numbers of
``critinit.theory.requirements`` at the task's own input moments.  Their rank correlation (Spearman) is 1 where a number
orders the schemes as training did, 0 where it says nothing of it.  A response gain is good where it is 1: its number is
−|ln gain|, to a hundredth.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from benchmarks.training.groups import grouped
from benchmarks.training.run import DEFAULT, DIAGONAL, NORMALIZED, Run
from benchmarks.training.starts import inputs_of, spec_of
from benchmarks.training.summary import Comparison, median, merit
from critinit.errors import ArgumentError

__all__ = ["NUMBERS", "correlations", "numbers_of", "table"]

NUMBERS = ("early-input response", "padding retention", "response gain")
"""The numbers that are correlated, as ``critinit compare`` calls them."""
_UNTOLD = (DIAGONAL, NORMALIZED)
"""Starts that no spec of the row's cell says, beside those that are set by hand."""
_FEWEST = 4
"""Schemes of a row; fewer have no order to speak of."""


@lru_cache(maxsize=1024)
def numbers_of(run: Run) -> tuple[float, ...]:
    """Return what theory says of a run's scheme on its task, in the order of ``NUMBERS``; more is better.

    Raises:
        ArgumentError: No gate of the cell keeps the state.
    """
    from critinit.theory.requirements import requirements

    spec = spec_of(
        replace(run, scheme="torch") if run.scheme == DEFAULT else run, inputs_of(run.task, run.T, run.files)
    )
    assert spec is not None
    found = requirements(spec)
    gain = found.response_gain
    nearness = -abs(round(math.log(gain), 2)) if gain > 0.0 else -math.inf
    return found.early_input_response, found.padding_retention, nearness


def correlations(row: Comparison) -> Mapping[str, float]:
    """Return the rank correlation of each number with training, over the schemes of the row, by the number's name.

    It is empty where the schemes are too few, none of them learned, or they have no such numbers.
    """
    from scipy.stats import spearmanr

    schemes = [scheme for scheme in row.entries if scheme not in _UNTOLD and not grouped(scheme)]
    if len(schemes) < _FEWEST or all(math.isinf(median(e.steps)) for e in row.entries.values()):
        return {}
    merits = [merit(row.entries[s].results) for s in schemes]
    order = sorted(set(merits), reverse=True)
    trained = [order.index(m) for m in merits]  # those alike share a rank
    try:
        known = [numbers_of(row.entries[scheme].results[0].run) for scheme in schemes]
    except ArgumentError:  # of a cell without gates
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a number that is the same for all has no order: NaN
        return {n: float(spearmanr([k[i] for k in known], trained)[0]) for i, n in enumerate(NUMBERS)}


def table(rows: Sequence[Comparison]) -> str:
    """A line a row, and the medians; for each number which scheme it puts first against who was."""
    lines = [f"| row | schemes | {' | '.join(NUMBERS)} | first in training |", "|---|---|---|---|---|---|"]
    found: list[Mapping[str, float]] = []
    for row in rows:
        if not (each := correlations(row)):
            continue
        found.append(each)
        merits = {s: merit(e.results) for s, e in row.entries.items()}
        first = ", ".join(s for s, m in merits.items() if m == min(merits.values()))
        shown = " | ".join(f"{each[n]:.2f}" for n in NUMBERS)
        lines.append(f"| {row.row} | {len(row.entries)} | {shown} | {first} |")
    if not found:
        return ""
    middle = [statistics.median([x for e in found if math.isfinite(x := e[n])] or [math.nan]) for n in NUMBERS]
    lines.append(f"| **median** | | {' | '.join(f'{m:.2f}' for m in middle)} | |")
    return "\n".join(lines)
