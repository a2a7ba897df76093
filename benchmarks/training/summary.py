"""From a table of results to what the report says: each scheme at its best learning rate, and who was first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.training.groups import grouped
from benchmarks.training.run import DIAGONAL, Rates, Result, Row, row_of
from benchmarks.training.tasks import TASKS

__all__ = ["OURS", "Comparison", "Entry", "best_rates", "compare", "geometric_mean", "median", "merit"]

OURS = "critical"
_NO_PEERS = (OURS, DIAGONAL)
"""Beside starts that are set by hand: of this project, and another architecture.  They are shown, and are no peers.

Of tasks without a target ``OURS`` is one: there a user has to choose between ours and it.
"""


@dataclass(frozen=True)
class Entry:
    """A scheme on a row at its best rates; infinite steps are those of runs that did not reach the goal.

    ``goal``: the metric that ``steps`` are counted to.  ``tried``: the rates compared, sorted.
    """

    scheme: str
    goal: float
    rates: Rates
    tried: tuple[Rates, ...]
    results: tuple[Result, ...]

    @property
    def edge(self) -> str:
        """Where the best learning rate is the last one tried at its ratio, so that a better one may lie beyond."""
        own = [rates.recurrent for rates in self.tried if rates.ratio == self.rates.ratio]
        if len(own) == 1:
            return "the only one"
        if self.rates.recurrent in (own[0], own[-1]):
            return "the least tried" if self.rates.recurrent == own[0] else "the largest tried"
        return ""

    @property
    def steps(self) -> tuple[float, ...]:
        """Steps to the goal by seed, sorted."""
        return tuple(sorted(result.steps_to(self.goal) for result in self.results))

    @property
    def final(self) -> tuple[float, ...]:
        """The final held-out metric by seed, sorted, of the runs that did not break off."""
        return tuple(sorted(final for result in self.results if not math.isnan(final := result.final)))


@dataclass(frozen=True)
class Comparison:
    """A row: its entries, and what of it is ours against the best of the peers.

    The best peer has the fewest median steps to the task's target, or, where it has none, the best final metric, which
    is then every scheme's goal.  ``ours``: the name of our scheme.
    """

    row: Row
    budget: int
    entries: Mapping[str, Entry]
    ours: str = OURS

    @property
    def used_to_fix(self) -> bool:
        """Whether this task and length were used to choose a constant of the scheme."""
        return self.row.T in TASKS[self.row.task].used_to_fix and not self.row.files

    @property
    def has_target(self) -> bool:
        """Whether its task has a target of its own."""
        return TASKS[self.row.task].target is not None

    @property
    def peers(self) -> list[Entry]:
        """The entries that ours is compared with."""
        none = (*(_NO_PEERS if self.has_target else (DIAGONAL,)), self.ours)
        others = (e for scheme, e in self.entries.items() if scheme not in none)
        return [entry for entry in others if not grouped(entry.scheme)]

    @property
    def best_peer(self) -> Entry | None:
        """The peer of the best ``merit``; None where there is none."""
        return min(self.peers, key=lambda entry: merit(entry.results), default=None)

    @property
    def decided(self) -> bool:
        """Whether ours and a peer ran and at least one of the two reached the goal (median)."""
        return self.ours in self.entries and self.best_peer is not None and math.isfinite(min(self._medians()))

    def _medians(self) -> tuple[float, float]:
        peer = self.best_peer
        assert peer is not None
        return median(self.entries[self.ours].steps), median(peer.steps)

    @property
    def ratio(self) -> float:
        """``against`` the best peer."""
        peer = self.best_peer
        assert peer is not None
        return self.against(peer)

    def against(self, peer: Entry) -> float:
        """A peer's median steps over ours; a side that did not reach the goal counts with the budget."""
        ours, theirs = (min(median(entry.steps), self.budget) for entry in (self.entries[self.ours], peer))
        return max(theirs, 1) / max(ours, 1)

    @property
    def lost(self) -> bool:
        """Whether a peer needed fewer median steps."""
        ours, peer = self._medians()
        return peer < ours

    @property
    def paired(self) -> bool:
        """Whether ours and the best peer ran from the same seeds."""
        peer = self.best_peer
        assert peer is not None
        seeds = [{result.run.seed for result in entry.results} for entry in (self.entries[self.ours], peer)]
        return seeds[0] == seeds[1]

    @property
    def bound(self) -> str:
        """Of ``ratio``, where one of the two did not reach the goal: ≥ where it was the peer, else ≤."""
        ours, peer = self._medians()
        return "≥ " if math.isinf(peer) else "≤ " if math.isinf(ours) else ""

    @property
    def overlaps(self) -> bool:
        """Whether the seeds' ranges of the two overlap."""
        peer = self.best_peer
        assert peer is not None
        ours, theirs = self.entries[self.ours].steps, peer.steps
        return ours[0] <= theirs[-1] and theirs[0] <= ours[-1]

    @property
    def gain(self) -> float:
        """Our median final metric less the best peer's; more is better whatever the metric."""
        peer = self.best_peer
        assert peer is not None
        sign = 1 if TASKS[self.row.task].metric.rises else -1
        return sign * (median(self.entries[self.ours].final) - median(peer.final))

    @property
    def spread(self) -> float:
        """Half the range of the final metric over seeds, the larger one of ours and the best peer."""
        peer = self.best_peer
        assert peer is not None
        ranges = [entry.final[-1] - entry.final[0] for entry in (self.entries[self.ours], peer) if entry.final]
        return max(ranges, default=math.nan) / 2


def median(values: Iterable[float]) -> float:
    """Return the median, infinite where a middle value is; NaN (of runs that broke off) is left out; NaN of nothing."""
    return statistics.median([v for v in values if not math.isnan(v)] or [math.nan])


def merit(results: Sequence[Result]) -> tuple[float, float]:
    """What is less is better: median steps to target, then the final metric (a broken run's is the worst).

    Of a task without a target: the final metric, then its mean over the run, which is better the sooner it was learned.
    """
    task = TASKS[results[0].run.task]
    sign = -1 if task.metric.rises else 1
    final = median([math.inf if math.isnan(r.final) else sign * r.final for r in results])
    if task.target is None:
        return final, median([math.inf if math.isnan(r.final) else sign * statistics.fmean(r.metric) for r in results])
    return median([r.steps_to_target for r in results]), final


def _by_rates(results: Iterable[Result]) -> dict[Rates, list[Result]]:
    rates: dict[Rates, list[Result]] = {}
    for result in results:
        rates.setdefault(result.run.rates, []).append(result)
    return rates


def _best_rates(results: Sequence[Result]) -> Rates:
    """By ``merit``, of the rates that were run with the most seeds."""
    rates = _by_rates(results)
    most = max(map(len, rates.values()))
    compared = {own: group for own, group in rates.items() if len(group) == most}
    return min(sorted(compared), key=lambda own: merit(compared[own]))


def _grouped(results: Iterable[Result]) -> dict[Row, dict[str, list[Result]]]:
    rows: dict[Row, dict[str, list[Result]]] = {}
    for result in results:
        rows.setdefault(row_of(result.run, result.data), {}).setdefault(result.run.scheme, []).append(result)
    return rows


def best_rates(results: Iterable[Result]) -> dict[tuple[Row, str], Rates]:
    """(row, scheme) -> its best rates."""
    return {
        (row, scheme): _best_rates(group)
        for row, schemes in _grouped(results).items()
        for scheme, group in schemes.items()
    }


def compare(results: Iterable[Result], ours: str = OURS) -> list[Comparison]:
    """Every row of the results, in the order of their first; ``ours``: the name of our scheme."""
    return [_compared(row, schemes, ours) for row, schemes in _grouped(results).items()]


def _compared(row: Row, schemes: Mapping[str, Sequence[Result]], ours: str) -> Comparison:
    target = TASKS[row.task].target
    goal = math.nan if target is None else target
    entries = {scheme: _entry(scheme, goal, group) for scheme, group in schemes.items()}
    found = Comparison(row, dict(row.rest)["steps"], entries, ours)
    if target is None and found.best_peer is not None:
        goal = median(found.best_peer.final)
        return replace(found, entries={scheme: replace(entry, goal=goal) for scheme, entry in entries.items()})
    return found


def _entry(scheme: str, goal: float, results: Sequence[Result]) -> Entry:
    best = _best_rates(results)
    rates = _by_rates(results)
    return Entry(scheme, goal, best, tuple(sorted(rates)), tuple(sorted(rates[best], key=lambda r: r.run.seed)))


def geometric_mean(ratios: Sequence[float]) -> float:
    """exp of the mean logarithm; NaN of nothing."""
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan
