"""From a table of results to what the report says: each scheme at its best learning rate, and who was first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.training.run import Result, Row, row_of
from benchmarks.training.tasks import TASKS

__all__ = ["OURS", "Comparison", "Entry", "best_rates", "compare", "geometric_mean", "median", "merit"]

OURS = "critical"


@dataclass(frozen=True)
class Entry:
    """A scheme on a row at its best learning rate; infinite steps are those of runs that did not reach the target.

    ``tried``: the learning rates compared, sorted.
    """

    scheme: str
    learning_rate: float
    tried: tuple[float, ...]
    results: tuple[Result, ...]

    @property
    def edge(self) -> str:
        """Where the best learning rate is the last one tried, so that a better one may lie beyond."""
        if len(self.tried) == 1:
            return "the only one"
        if self.learning_rate in (self.tried[0], self.tried[-1]):
            return "the least tried" if self.learning_rate == self.tried[0] else "the largest tried"
        return ""

    @property
    def steps(self) -> tuple[float, ...]:
        """Steps to target by seed, sorted."""
        return tuple(sorted(result.steps_to_target for result in self.results))

    @property
    def final(self) -> tuple[float, ...]:
        """The last held-out metric by seed, sorted, of the runs that did not break off."""
        return tuple(sorted(m for result in self.results if not math.isnan(m := result.metric[-1])))


@dataclass(frozen=True)
class Comparison:
    """A row: its entries, and what of it is ``critical``'s against the best of the others by median steps."""

    row: Row
    budget: int
    entries: Mapping[str, Entry]

    @property
    def used_to_fix(self) -> bool:
        """Whether this task and length were used to choose a constant of the scheme."""
        return self.row.T in TASKS[self.row.task].used_to_fix and not self.row.files

    @property
    def best_peer(self) -> Entry | None:
        """The peer with the fewest median steps; ties go to the better final metric; None where there is none."""
        peers = [entry for scheme, entry in self.entries.items() if scheme != OURS]
        return min(peers, key=lambda entry: merit(entry.results), default=None)

    @property
    def decided(self) -> bool:
        """Whether ``critical`` and a peer ran and at least one of the two reached the target (median)."""
        return OURS in self.entries and self.best_peer is not None and math.isfinite(min(self._medians()))

    def _medians(self) -> tuple[float, float]:
        peer = self.best_peer
        assert peer is not None
        return median(self.entries[OURS].steps), median(peer.steps)

    @property
    def ratio(self) -> float:
        """``against`` the best peer."""
        peer = self.best_peer
        assert peer is not None
        return self.against(peer)

    def against(self, peer: Entry) -> float:
        """A peer's median steps over ours; a side that did not reach the target counts with the budget."""
        ours, theirs = (min(median(entry.steps), self.budget) for entry in (self.entries[OURS], peer))
        return max(theirs, 1) / max(ours, 1)

    @property
    def lost(self) -> bool:
        """Whether a peer needed fewer median steps."""
        ours, peer = self._medians()
        return peer < ours

    @property
    def paired(self) -> bool:
        """Whether ``critical`` and the best peer ran from the same seeds."""
        peer = self.best_peer
        assert peer is not None
        seeds = [{result.run.seed for result in entry.results} for entry in (self.entries[OURS], peer)]
        return seeds[0] == seeds[1]

    @property
    def bound(self) -> str:
        """Of ``ratio``, where one of the two did not reach the target: ≥ where it was the peer, else ≤."""
        ours, peer = self._medians()
        return "≥ " if math.isinf(peer) else "≤ " if math.isinf(ours) else ""

    @property
    def overlaps(self) -> bool:
        """Whether the seeds' ranges of the two overlap."""
        peer = self.best_peer
        assert peer is not None
        ours, theirs = self.entries[OURS].steps, peer.steps
        return ours[0] <= theirs[-1] and theirs[0] <= ours[-1]


def median(values: Iterable[float]) -> float:
    """Return the median, infinite where a middle value is; NaN (of runs that broke off) is left out; NaN of nothing."""
    return statistics.median([v for v in values if not math.isnan(v)] or [math.nan])


def merit(results: Sequence[Result]) -> tuple[float, float]:
    """What is less is better: median steps to target, then the final metric (a broken run's is the worst)."""
    metric = TASKS[results[0].run.task].metric
    finals = [(-1 if metric.rises else 1) * r.metric[-1] for r in results]
    return median([r.steps_to_target for r in results]), median([math.inf if math.isnan(f) else f for f in finals])


def _by_rate(results: Iterable[Result]) -> dict[float, list[Result]]:
    rates: dict[float, list[Result]] = {}
    for result in results:
        rates.setdefault(result.run.learning_rate, []).append(result)
    return rates


def _best_rate(results: Sequence[Result]) -> float:
    """By median steps to target, ties by the final metric, of the learning rates that were run with the most seeds."""
    rates = _by_rate(results)
    most = max(map(len, rates.values()))
    compared = {rate: group for rate, group in rates.items() if len(group) == most}
    return min(sorted(compared), key=lambda rate: merit(compared[rate]))


def _grouped(results: Iterable[Result]) -> dict[Row, dict[str, list[Result]]]:
    rows: dict[Row, dict[str, list[Result]]] = {}
    for result in results:
        rows.setdefault(row_of(result.run, result.data), {}).setdefault(result.run.scheme, []).append(result)
    return rows


def best_rates(results: Iterable[Result]) -> dict[tuple[Row, str], float]:
    """(row, scheme) -> its best learning rate."""
    return {
        (row, scheme): _best_rate(group)
        for row, schemes in _grouped(results).items()
        for scheme, group in schemes.items()
    }


def compare(results: Iterable[Result]) -> list[Comparison]:
    """Every row of the results, in the order of their first."""
    return [
        Comparison(row, dict(row.rest)["steps"], {scheme: _entry(scheme, group) for scheme, group in schemes.items()})
        for row, schemes in _grouped(results).items()
    ]


def _entry(scheme: str, results: Sequence[Result]) -> Entry:
    best = _best_rate(results)
    rates = _by_rate(results)
    return Entry(scheme, best, tuple(sorted(rates)), tuple(sorted(rates[best], key=lambda r: r.run.seed)))


def geometric_mean(ratios: Sequence[float]) -> float:
    """exp of the mean logarithm; NaN of nothing."""
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan
