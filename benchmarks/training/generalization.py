"""Held-out results at equal training loss: whether what was learned sooner also carries over.

The level of a row is the lowest training loss that every compared run came down to (the mean over the steps between two
evaluations); a run is read at the first evaluation at or below it.  Only schemes that reached the target are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from benchmarks.training.run import Result
from benchmarks.training.summary import Comparison, Entry, median
from benchmarks.training.tasks import TASKS

__all__ = ["at_level", "level_of", "table"]


def level_of(entries: Iterable[Entry]) -> float:
    """The lowest training loss that all their runs have reached, but for those that broke off at once."""
    reached = ([loss for loss in r.training_loss if math.isfinite(loss)] for e in entries for r in e.results)
    return max((min(losses) for losses in reached if losses), default=math.nan)


def at_level(result: Result, level: float) -> float:
    """The held-out metric at the first evaluation whose training loss is at or below the level; NaN where none is."""
    pairs = zip(result.metric, result.training_loss, strict=True)
    return next((metric for metric, loss in pairs if loss <= level), math.nan)


def table(rows: Sequence[Comparison]) -> str:
    """A line a row that ours and another scheme learned, ours first."""
    ours = rows[0].ours if rows else ""
    lines = [f"| row | training loss | {ours} | others |", "|---|---|---|---|"]
    for row in rows:
        learned = {s: e for s, e in row.entries.items() if math.isfinite(median(e.steps))}
        if ours not in learned or len(learned) < 2:
            continue
        if math.isnan(level := level_of(learned.values())):  # nothing was trained: they ended at step 0
            continue
        found = {s: median(at_level(r, level) for r in e.results) for s, e in learned.items()}
        peers = "; ".join(f"{s} {m:.3f}" for s, m in sorted(found.items()) if s != ours)
        name = TASKS[row.row.task].metric.name
        lines.append(f"| {row.row} ({name}) | {level:.3g} | {found[ours]:.3f} | {peers} |")
    return "\n".join(lines) if len(lines) > 2 else ""
