"""The report: a page of Markdown from a table of results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from benchmarks.training import generalization, ranking
from benchmarks.training.run import Result
from benchmarks.training.summary import OURS, Comparison, Entry, compare, geometric_mean, median
from benchmarks.training.tasks import TASKS

__all__ = ["report", "shown_curves", "shown_steps"]


def report(results: Sequence[Result], table: str, wanted: int | None = None) -> str:
    """Return the page; rows that were lost come first.

    Args:
        results: What was found.
        table: The name of their file; empty where they have none.
        wanted: How many were asked for, where that is known.
    """
    rows = compare(results)
    decided = [row for row in rows if row.decided]
    lost = [row for row in decided if row.lost]
    rest = [row for row in rows if row not in lost]
    parts = [
        "# Training from each initialization",
        f"Written by `python -m benchmarks training --report FILE` from {len(results)} runs"
        f"{f' in `{table}`' if table else ''}{_lacking(len(results), wanted)}.",
        _conditions(results),
        "## Summary",
        _summary(rows, decided, lost),
        "## Rows lost",
        "\n\n".join(map(_table, lost)) if lost else _none_lost(rows),
        "## All other rows",
        "\n\n".join(map(_table, rest)) if rest else "None.",
        *_sections(rows),
        "## How to read it",
        _legend(),
    ]
    return "\n\n".join(parts) + "\n"


def _none_lost(rows: Sequence[Comparison]) -> str:
    if any(OURS in row.entries for row in rows):
        return f"None: no peer needed fewer median steps than `{OURS}`."
    return f"None: `{OURS}` was not run."


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
        f"{values('optimizer')}, gradient norm clipped at {values('clip')}, learning rates {values('learning_rate')}, "
        f"at most {values('steps')} steps, judged on held-out data every {values('every')}. For a seed every scheme "
        "has the same batches and the same readout; only the recurrent layer's weights differ."
    )


def _summary(rows: Sequence[Comparison], decided: Sequence[Comparison], lost: Sequence[Comparison]) -> str:
    fresh = [row for row in decided if not row.used_to_fix]
    beyond = [row for row in lost if not row.overlaps]
    lines = [
        f"- {len(rows)} rows (cell, task, T); in {len(decided)} of them `{OURS}` and a peer were run and one of them "
        "reached the target, and those count.",
        f"- Rows lost to a peer: {len(lost)} of {len(decided)}, {len(beyond)} of them beyond the seeds' range.",
        f"- Geometric mean of (best peer's steps / ours): {_mean(decided)}; on tasks and lengths never used to fix a "
        f"constant ({len(fresh)} rows): {_mean(fresh)}. "
        "Best peer: whichever scheme had the fewest median steps on that row.",
        "- A scheme that did not reach the target counts with the row's budget of steps: where that is the peer, the "
        "ratio is a lower bound; where it is ours, the row is lost, and its ratio an upper bound.",
    ]
    if decided:
        lines += ["", *_overview(decided, max(len(row.entries) for row in rows) - 1), "", *_alone(rows)]
    return "\n".join(lines)


def _alone(rows: Sequence[Comparison]) -> list[str]:
    """A line a scheme: where it reached the target, and its ratio to ours on the rows that one of the two learns."""
    lines = [
        "Each scheme alone, over the rows that it was run on:",
        "",
        f"| scheme | reached the target | geometric mean of (its steps / {OURS}'s) "
        f"| rows with fewer steps than {OURS} |",
        "|---|---|---|---|",
    ]
    for scheme in dict.fromkeys(scheme for row in rows for scheme in row.entries):
        own = [(row, row.entries[scheme]) for row in rows if scheme in row.entries]
        reached = sum(math.isfinite(median(entry.steps)) for _, entry in own)
        shared = [
            (row, entry)
            for row, entry in own
            if scheme != OURS
            and OURS in row.entries
            and math.isfinite(min(median(row.entries[OURS].steps), median(entry.steps)))
        ]
        ratio, fewer = "", ""
        if shared:
            theirs = any(math.isinf(median(entry.steps)) for _, entry in shared)
            ours = any(math.isinf(median(row.entries[OURS].steps)) for row, _ in shared)
            bound = {(True, False): "≥ ", (False, True): "≤ ", (True, True): "about "}.get((theirs, ours), "")
            ratio = f"{bound}{geometric_mean([row.against(entry) for row, entry in shared]):.2f}"
            fewer = str(sum(median(entry.steps) < median(row.entries[OURS].steps) for row, entry in shared))
        lines.append(f"| {scheme} | {reached} of {len(own)} | {ratio} | {fewer} |")
    return lines


def _mean(rows: Sequence[Comparison]) -> str:
    if not rows:
        return "no rows"
    lower, upper = (sum(row.bound == sign for row in rows) for sign in ("≥ ", "≤ "))
    bounds = f"{lower} of {len(rows)} ratios are lower bounds{f', {upper} upper bounds' if upper else ''}"
    return f"{geometric_mean([row.ratio for row in rows]):.2f} ({bounds})"


def _overview(rows: Iterable[Comparison], peers: int) -> list[str]:
    """A line a row, the least ratio first; ``peers``: how many the grid has."""
    lines = [f"| row | {OURS} | best peer | ratio | seeds | |", "|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: row.ratio):
        peer = row.best_peer
        assert peer is not None
        ours = row.entries[OURS]
        notes = [
            *(["lost, within the seeds' range" if row.overlaps else "lost"] if row.lost else []),
            *(["used to fix constants"] if row.used_to_fix else []),
            *([] if row.paired else ["the two ran from different seeds"]),
            *([f"only {ran} of {peers} peers run"] if (ran := len(row.entries) - 1) < peers else []),
        ]
        lines.append(
            f"| {row.row} | {shown_steps(ours, row.budget)} | {peer.scheme} {shown_steps(peer, row.budget)} "
            f"| {row.bound}{row.ratio:.2f} | {len(ours.results)}, {len(peer.results)} | {'; '.join(notes)} |"
        )
    return lines


def _table(row: Comparison) -> str:
    task = TASKS[row.row.task]
    sign = "≥" if task.metric.rises else "≤"
    used = " (used to fix constants)" if row.used_to_fix else ""
    head = f"### {row.row}: {task.metric.name} {sign} {task.target:g}{used}"
    lines = [
        head,
        "",
        f"| scheme | best learning rate | tried | seeds | steps to target | last {task.metric.name} |",
        "|---|---|---|---|---|---|",
    ]
    for entry in sorted(row.entries.values(), key=lambda e: (median(e.steps), e.scheme != OURS, e.scheme)):
        name = f"**{entry.scheme}**" if entry.scheme == OURS else entry.scheme
        rate = f"{entry.learning_rate:g} ({entry.edge})" if entry.edge else f"{entry.learning_rate:g}"
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
    entries = sorted(row.entries.values(), key=lambda e: (e.scheme != OURS, e.scheme))
    curves = [_curve(e.results) for e in entries]
    lines = [
        f"### {row.row}: held-out {task.metric.name}",
        "",
        f"| steps | {' | '.join(f'{e.scheme}, {e.learning_rate:g}' for e in entries)} |",
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


def _legend() -> str:
    tasks = "\n".join(f"- `{task.name}`: {task.summary}." for task in TASKS.values())
    return f"""\
- Steps to target: optimizer steps at the first evaluation that reaches the target, median over seeds and their range.
- Best learning rate: the one with the fewest median steps, ties by the last metric, among those with the most seeds.
- Tried: learning rates, of those named above.
- The last metric is the one at the target where runs end there (`--stop-at-target`), else after all steps.
- `used to fix constants`: this task and length were used to choose or try a constant of `{OURS}`.

Tasks:

{tasks}"""
