"""The report: a page of Markdown from a table of results."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.training import generalization, ranking
from benchmarks.training.run import Result
from benchmarks.training.summary import OURS, Comparison, Entry, compare, geometric_mean, median
from benchmarks.training.tasks import TASKS

__all__ = ["report", "shown_curves", "shown_steps"]


def report(results: Sequence[Result], table: str, wanted: int | None = None, ours: str = OURS) -> str:
    """Return the page; rows that were lost come first.

    Args:
        results: What was found.
        table: The name of their file; empty where they have none.
        wanted: How many were asked for, where that is known.
        ours: The scheme that the others are compared with.
    """
    every = compare(results, ours)
    rows, free = [row for row in every if row.has_target], [row for row in every if not row.has_target]
    decided = [row for row in rows if row.decided]
    lost = [row for row in decided if row.lost]
    rest = [row for row in rows if row not in lost]
    parts = [
        "# Training from each initialization",
        f"Written by `python -m benchmarks training --report FILE` from {len(results)} runs"
        f"{f' in `{table}`' if table else ''}{_lacking(len(results), wanted)}.",
        _conditions(results),
        *_edges(every),
        *(_with_target(rows, decided, lost, rest, ours) if rows or not free else []),
        *_without_target(free, ours),
        *_sections(every),
        "## How to read it",
        _legend(dict.fromkeys(row.row.task for row in every)),
    ]
    return "\n\n".join(parts) + "\n"


def _edges(rows: Sequence[Comparison]) -> list[str]:
    """Where the best learning rate of ours or of a row's best peer is the last one tried."""
    compared = [
        (row, entry) for row in rows for entry in (row.entries.get(row.ours), row.best_peer) if entry is not None
    ]
    found = [f"{row.row}, {entry.scheme}: {entry.rates} ({entry.edge})" for row, entry in compared if entry.edge]
    if not found:
        return []
    head = f"Best learning rates at the edge of what was tried, of the {len(compared)} that the comparison rests on"
    return [f"{head}: {len(found)}. A better one may lie beyond.", "\n".join(f"- {line}" for line in found)]


def _with_target(
    rows: Sequence[Comparison],
    decided: Sequence[Comparison],
    lost: Sequence[Comparison],
    rest: Sequence[Comparison],
    ours: str,
) -> list[str]:
    return [
        "## Summary",
        _summary(rows, decided, lost, ours),
        "## Rows lost",
        "\n\n".join(map(_table, lost)) if lost else _none_lost(rows, ours),
        "## All other rows",
        "\n\n".join(map(_table, rest)) if rest else "None.",
    ]


def _without_target(rows: Sequence[Comparison], ours: str) -> list[str]:
    """The tasks that have no fixed target: every scheme is counted to what the best peer reaches at last."""
    if not rows:
        return []
    decided = [row for row in rows if ours in row.entries and row.best_peer is not None]
    spread = [row for row in decided if len(row.entries[ours].results) > 1]
    worse = [row for row in spread if row.gain < -row.spread]
    ratios = [row.ratio for row in decided if row.decided]
    lines = [
        "| row | ours, final | best peer, final | ours better by | half the seeds' range | steps to it, ours | peer "
        "| ratio | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    named = Counter(str(row.row) for row in decided)
    for row in sorted(decided, key=lambda row: row.gain):
        own, peer = row.entries[ours], row.best_peer
        assert peer is not None
        name = f"{row.row}, {row.budget} steps" if named[str(row.row)] > 1 else str(row.row)
        ratio = f"{row.bound}{row.ratio:.2f}" if row.decided else ""
        lines.append(
            f"| {name} | {_final(own)} | {peer.scheme} {_final(peer)} | {row.gain:+.3f} | {row.spread:.3f} "
            f"| {shown_steps(own, row.budget)} | {shown_steps(peer, row.budget)} | {ratio} "
            f"| {len(own.results)}, {len(peer.results)} |"
        )
    return [
        "## Tasks without a target",
        "Each scheme at the rates of its best final metric, which is the median of the last five evaluations. Steps "
        f"are counted to the best peer's median final metric. Ours is `{ours}`; {_peers(ours)}.",
        f"- {len(rows)} rows; in {len(decided)} of them `{ours}` and a peer were run.\n"
        f"- Rows of several seeds whose final metric is below the best peer's by more than half the seeds' range: "
        f"{len(worse)} of {len(spread)}.\n"
        f"- Geometric mean of (best peer's steps / ours) over {len(ratios)} rows: {geometric_mean(ratios):.2f}.",
        "\n".join(lines),
        "\n\n".join(map(_table, rows)),
    ]


def _peers(ours: str) -> str:
    also = "" if ours == OURS else f", `{OURS}` included"
    return f"the best peer is the best of all other schemes{also}, but for other architectures and starts set by hand"


def _none_lost(rows: Sequence[Comparison], ours: str) -> str:
    if any(ours in row.entries for row in rows):
        return f"None: no peer needed fewer median steps than `{ours}`."
    return f"None: `{ours}` was not run."


def _lacking(found: int, wanted: int | None) -> str:
    if wanted is None or found == wanted:
        return ""
    return f"; {wanted - found} of {wanted} that were asked for are not in it"


def _sections(rows: Sequence[Comparison]) -> list[str]:
    """What else the table tells, each where it tells anything."""
    parts: list[str] = []
    if agreement := ranking.table(rows):
        parts += [
            "## Does theory rank the schemes as training does?",
            "Rank correlation, over the schemes of a row, of training with the numbers of `critinit compare`: "
            "early-input response, padding retention, and how near the response gain is to 1. "
            "Near 1: theory and training order the schemes alike. Near 0: the number says nothing. "
            "nan: the number is alike for all schemes.",
            agreement,
        ]
    if equal := generalization.table(rows):
        parts += [
            "## Held-out results at equal training loss",
            "Medians over seeds at the first evaluation with that training loss or less, for the schemes that reached "
            "the target; the loss is the lowest that all their runs came down to.",
            equal,
        ]
    return parts


def _conditions(results: Sequence[Result]) -> str:
    if not results:
        return "No run that was asked for is in it."

    def values(name: str) -> str:
        found = dict.fromkeys(getattr(result.run, name) for result in results)
        return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in sorted(found))

    return (
        f"Hidden units {values('hidden')}, layers {values('layers')}, batch {values('batch')}, optimizer "
        f"{values('optimizer')}, gradient norm clipped at {values('clip')}, learning rates {values('learning_rate')} "
        f"({values('schedule')}), the readout's {values('readout_ratio')} times that, "
        f"at most {values('steps')} steps, judged on held-out data every {values('every')}. For a seed every scheme "
        "has the same batches and the same readout; only the recurrent layer differs."
    )


def _summary(rows: Sequence[Comparison], decided: Sequence[Comparison], lost: Sequence[Comparison], ours: str) -> str:
    fresh = [row for row in decided if not row.used_to_fix]
    beyond = [row for row in lost if not row.overlaps]
    lines = [
        f"- {len(rows)} rows (cell, task, T); in {len(decided)} of them `{ours}` and a peer were run and one of them "
        "reached the target, and those count.",
        f"- Rows lost to a peer: {len(lost)} of {len(decided)}, {len(beyond)} of them beyond the seeds' range.",
        f"- Geometric mean of (best peer's steps / ours): {_mean(decided)}; on tasks and lengths never used to fix a "
        f"constant ({len(fresh)} rows): {_mean(fresh)}. "
        "Best peer: whichever other scheme had the fewest median steps on that row; schemes of this project and other "
        "architectures are none.",
        "- A scheme that did not reach the target counts with the row's budget of steps: where that is the peer, the "
        "ratio is a lower bound; where it is ours, the row is lost, and its ratio an upper bound.",
    ]
    if decided:
        lines += ["", *_overview(decided, max(len(row.peers) for row in rows), ours), "", *_alone(rows, ours)]
    return "\n".join(lines)


def _alone(rows: Sequence[Comparison], ours: str) -> list[str]:
    """A line a scheme: where it reached the target, and its ratio to ours on the rows that one of the two learns."""
    lines = [
        "Each scheme alone, over the rows that it was run on:",
        "",
        f"| scheme | reached the target | geometric mean of (its steps / {ours}'s) "
        f"| rows with fewer steps than {ours} |",
        "|---|---|---|---|",
    ]
    for scheme in dict.fromkeys(scheme for row in rows for scheme in row.entries):
        own = [(row, row.entries[scheme]) for row in rows if scheme in row.entries]
        reached = sum(math.isfinite(median(entry.steps)) for _, entry in own)
        shared = [
            (row, entry)
            for row, entry in own
            if scheme != ours
            and ours in row.entries
            and math.isfinite(min(median(row.entries[ours].steps), median(entry.steps)))
        ]
        ratio, fewer = "", ""
        if shared:
            theirs = any(math.isinf(median(entry.steps)) for _, entry in shared)
            own_ones = any(math.isinf(median(row.entries[ours].steps)) for row, _ in shared)
            bound = {(True, False): "≥ ", (False, True): "≤ ", (True, True): "about "}.get((theirs, own_ones), "")
            ratio = f"{bound}{geometric_mean([row.against(entry) for row, entry in shared]):.2f}"
            fewer = str(sum(median(entry.steps) < median(row.entries[ours].steps) for row, entry in shared))
        lines.append(f"| {scheme} | {reached} of {len(own)} | {ratio} | {fewer} |")
    return lines


def _mean(rows: Sequence[Comparison]) -> str:
    if not rows:
        return "no rows"
    lower, upper = (sum(row.bound == sign for row in rows) for sign in ("≥ ", "≤ "))
    bounds = f"{lower} of {len(rows)} ratios are lower bounds{f', {upper} upper bounds' if upper else ''}"
    return f"{geometric_mean([row.ratio for row in rows]):.2f} ({bounds})"


def _overview(rows: Iterable[Comparison], peers: int, ours: str) -> list[str]:
    """A line a row, the least ratio first; ``peers``: how many the grid has."""
    lines = [f"| row | {ours} | best peer | ratio | seeds | |", "|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: row.ratio):
        peer = row.best_peer
        assert peer is not None
        own = row.entries[ours]
        notes = [
            *(["lost, within the seeds' range" if row.overlaps else "lost"] if row.lost else []),
            *(["used to fix constants"] if row.used_to_fix else []),
            *([] if row.paired else ["the two ran from different seeds"]),
            *([f"only {ran} of {peers} peers run"] if (ran := len(row.peers)) < peers else []),
        ]
        lines.append(
            f"| {row.row} | {shown_steps(own, row.budget)} | {peer.scheme} {shown_steps(peer, row.budget)} "
            f"| {row.bound}{row.ratio:.2f} | {len(own.results)}, {len(peer.results)} | {'; '.join(notes)} |"
        )
    return lines


def _table(row: Comparison) -> str:
    task = TASKS[row.row.task]
    sign = "≥" if task.metric.rises else "≤"
    used = " (used to fix constants)" if row.used_to_fix else ""
    goal = next(iter(row.entries.values())).goal
    aim = "" if math.isnan(goal) else f" {sign} {goal:.4g}"
    head = f"### {row.row}: {task.metric.name}{aim}{used}, {row.budget} steps"
    lines = [
        head,
        "",
        f"| scheme | best learning rate | tried | seeds | steps to it | last {task.metric.name} |",
        "|---|---|---|---|---|---|",
    ]
    for entry in sorted(row.entries.values(), key=lambda e: (median(e.steps), e.scheme != row.ours, e.scheme)):
        name = f"**{entry.scheme}**" if entry.scheme == row.ours else entry.scheme
        rate = f"{entry.rates} ({entry.edge})" if entry.edge else str(entry.rates)
        final = _final(entry)
        reached = shown_steps(entry, row.budget)
        lines.append(f"| {name} | {rate} | {len(entry.tried)} | {len(entry.results)} | {reached} | {final} |")
    return "\n".join(lines)


def shown_steps(entry: Entry, budget: int) -> str:
    """Return median steps and, of several seeds, their range; ``>budget`` where the target was not reached."""

    def shown(value: float) -> str:
        return f"{value:.0f}" if value <= budget else f">{budget}"

    low, high = entry.steps[0], entry.steps[-1]
    middle = shown(median(entry.steps))
    return middle if low == high else f"{middle} ({shown(low)}–{shown(high)})"


def shown_curves(row: Comparison) -> str:
    """Return the held-out metric by steps, a column a scheme: median of its seeds; blank after the first one ends."""
    task = TASKS[row.row.task]
    entries = sorted(row.entries.values(), key=lambda e: (e.scheme != row.ours, e.scheme))
    curves = [_curve(e.results) for e in entries]
    lines = [
        f"### {row.row}: held-out {task.metric.name}",
        "",
        f"| steps | {' | '.join(f'{e.scheme}, {e.rates}' for e in entries)} |",
        "|---" * (len(entries) + 1) + "|",
    ]
    for step in sorted(set().union(*curves)):
        lines.append(f"| {step} | {' | '.join(f'{c[step]:.3f}' if step in c else '' for c in curves)} |")
    return "\n".join(lines)


def _curve(results: Sequence[Result]) -> dict[int, float]:
    """Step -> median metric, until the first of the runs ends; those that broke off are left out, unless all did."""
    whole = [r for r in results if math.isfinite(r.metric[-1])] or results
    steps = min((r.steps for r in whole), key=len)
    return {step: median(r.metric[k] for r in whole) for k, step in enumerate(steps)}


def _final(entry: Entry) -> str:
    values, broken = entry.final, len(entry.results) - len(entry.final)
    ended = f"{broken} of {len(entry.results)} broke off"
    if not values:
        return ended
    spread = f" ({values[0]:.3f}–{values[-1]:.3f})" if len(values) > 1 else ""
    return f"{median(values):.3f}{spread}{f'; {ended}' if broken else ''}"


def _legend(named: Iterable[str]) -> str:
    tasks = "\n".join(f"- `{task.name}`: {task.summary}." for task in map(TASKS.__getitem__, named))
    return f"""\
- Steps: optimizer steps at the first evaluation that reaches the metric in the heading, median over seeds and range.
- Best learning rate: the one with the fewest median steps, ties by the last metric, among those with the most seeds;
  without a target the one of the best final metric. "readout r times": the readout's rate over it.
- Tried: pairs of the two.
- The last metric is the one at the target where runs end there (`--stop-at-target`), else after all steps.
- `used to fix constants`: this task and length were used to choose or try a constant of `critical`.

Tasks:

{tasks}"""
