"""Pictures from a table: steps to target on every row, and the learning curves of one row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training.run import DEFAULT
from benchmarks.training.summary import Comparison, Entry, median
from benchmarks.training.tasks import TASKS
from critinit.errors import ArgumentError, MissingExtraError
from critinit.files import refusal

__all__ = ["draw_curves", "draw_steps"]

# marker, line and place tell the schemes apart without colour
_LOOKS: dict[str, tuple[Any, str, str]] = {
    "critical": ("-", "o", "#0b5d8a"),
    "memory": ("-", "*", "#c0392b"),
    "chrono": ("-.", "^", "#2f7d32"),
    "uniform_gate": ((0, (3, 1, 1, 1)), "v", "#b4540a"),
    "isometry": ("--", "s", "#d97706"),
    "orthogonal": (":", "D", "#8e44ad"),
    DEFAULT: ((0, (5, 1, 1, 1, 1, 1)), "x", "#333333"),
}
_OTHER = ("-", ".", "#777777")


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, file: Path) -> list[Path]:
    """PNG and SVG of the same name, the SVG the same bytes for the same data."""
    import matplotlib as mpl

    files = [file.with_name(f"{file.name}{ending}") for ending in (".png", ".svg")]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context({"svg.hashsalt": file.stem}):
            figure.savefig(files[0], dpi=160)
            figure.savefig(files[1], metadata={"Date": None})
    except OSError as error:
        raise refusal(str(file), error, "a place that can be written") from None
    return files


def _place(scheme: str) -> int:
    """Where a scheme stands, from the top."""
    return [*_LOOKS, scheme].index(scheme)


def _ordered(row: Comparison) -> list[Entry]:
    return sorted(row.entries.values(), key=lambda entry: _place(entry.scheme))


def draw_steps(rows: Sequence[Comparison], file: Path) -> list[Path]:
    """Steps to target of every scheme on every row, median and the seeds' range; what was not reached at the edge."""
    if not rows:
        raise ArgumentError("picture", found="no runs", allowed="a table with runs")
    figure = _figure(7.6, 1.3 + 0.36 * len(rows))
    axes = figure.add_subplot()
    budget = max(row.budget for row in rows)
    edge = budget * 1.35
    names = dict.fromkeys(scheme for row in rows for scheme in row.entries)
    places = {scheme: k / max(1, len(names) - 1) for k, scheme in enumerate(sorted(names, key=_place))}
    named: dict[str, Any] = {}
    for height, row in enumerate(reversed(rows)):
        axes.axhline(height, color="#e5e5e5", linewidth=0.8, zorder=0)
        for entry in _ordered(row):
            _, marker, colour = _LOOKS.get(entry.scheme, _OTHER)
            y = height + 0.3 - 0.6 * places[entry.scheme]
            at = [min(max(s, 1), edge) for s in (entry.steps[0], median(entry.steps), entry.steps[-1])]
            axes.plot([at[0], at[2]], [y, y], color=colour, linewidth=1, alpha=0.6)
            big = 7 if entry.scheme == "critical" else 5
            named[entry.scheme] = axes.plot(at[1], y, marker, color=colour, markersize=big)[0]
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [str(row.row) for row in reversed(rows)], fontsize=8)
    axes.set_xlabel("optimizer steps to target, at each scheme's best learning rate")
    axes.axvline(budget * 1.15, color="#999999", linewidth=0.8, linestyle=":")
    left = axes.get_xlim()[0]
    ticks = [t for t in (1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000) if left <= t <= budget]
    axes.set_xticks([*ticks, edge], [*map(str, ticks), "not\nreached"])
    axes.minorticks_off()
    axes.set_ylim(-0.6, len(rows) - 0.4)
    figure.legend([named[s] for s in places], places, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return _save(figure, file)


def draw_curves(row: Comparison, file: Path) -> list[Path]:
    """The held-out metric of one row over steps: median of the seeds, lowest to highest as a band.

    A run that ended at its target is drawn up to there, and its median only over the steps all seeds have.
    """
    task, setting = TASKS[row.row.task], dict(row.row.rest)
    figure = _figure(7.2, 4.2)
    axes = figure.add_subplot()
    for entry in _ordered(row):
        line, marker, colour = _LOOKS.get(entry.scheme, _OTHER)
        steps = min((result.steps for result in entry.results), key=len)
        values = np.array([result.metric[: len(steps)] for result in entry.results])
        label = f"{entry.scheme}, {entry.rates}"
        spacing = math.ceil(len(steps) / 20)
        looks = {"linestyle": line, "marker": marker, "color": colour, "markersize": 5, "markevery": spacing}
        axes.plot(steps, np.median(values, axis=0), label=label, **looks)
        if len(values) > 1:
            axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    if task.target is not None:
        axes.axhline(task.target, color="#999999", linewidth=0.8)
    axes.set(xlabel="optimizer steps", ylabel=f"held-out {task.metric.name}", xlim=(0, row.budget))
    if task.metric.name == "accuracy":
        axes.set_ylim(0, 1)
    seeds = sorted({len(entry.results) for entry in row.entries.values()})
    axes.set_title(
        f"{row.row.cell.upper()} of {setting['hidden']} units, {task.summary}, T = {row.row.T}\n"
        f"median of {' to '.join(dict.fromkeys(map(str, (seeds[0], seeds[-1]))))} seed(s); band: lowest to highest",
        fontsize=10,
    )
    figure.legend(loc="outside right center", frameon=False, handlelength=3.5, title="scheme, learning rate")
    return _save(figure, file)
