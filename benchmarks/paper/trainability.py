"""What trains, over sequence length and a line of hyperparameters, and which theory says so.

GRUs of 64 units along ``lines.on_the_line`` read scikit-learn's digits and then noise to step T; after a fixed
number of optimizer steps the held-out accuracy is the colour.  Over it 3 and 6 time scales, untied and tied: a
perturbation of the state has then shrunk to e^-3, e^-6 of its squared length.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.paper.lines import on_the_line
from critinit.dual import Array
from critinit.errors import FileError
from critinit.files import write
from critinit.plotting.style import Theme, new_figure, render, style_axes
from critinit.theory.analysis import untied_numbers
from critinit.theory.tied.solution import tied

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Boundary", "boundary", "draw", "run", "table"]

ALPHAS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.2, 1.5)
"""Half the candidate's recurrent variance."""
LENGTHS = (80, 120, 180, 270, 400)
"""Sequence lengths, in steps."""
SEEDS = (0, 1)
TASK, STEPS, RATE = "digits-noise", 300, 3e-3
"""The task, optimizer steps, learning rate."""
SILENT = 64
"""Steps of a digit: what its last pixels have to survive is T − 64."""
_MULTIPLES = (3.0, 6.0)
"""Time scales whose curves are drawn: after so many a squared distance has fallen to e⁻³, e⁻⁶."""
_LONGEST = 1e5
"""A time scale beyond this, and that of a chaotic network, is drawn off the picture."""


@dataclass(frozen=True)
class Boundary:
    """Time scales along the line in steps, infinite where the network is chaotic; (alphas,) each.

    Attributes:
        alphas: α.
        untied: By the untied theory.
        tied: By the tied theory.
        error: Standard error of the tied theory's χ.
    """

    alphas: Array
    untied: Array
    tied: Array
    error: Array


def boundary(alphas: Sequence[float] = tuple(np.linspace(0.0, 1.5, 16))) -> Boundary:
    """Return both theories along the line; the tied one is sampled, a second or two a point."""
    untied, kept, errors = [], [], []
    for alpha in alphas:
        spec = on_the_line(float(alpha), 400)
        fresh, numbers = untied_numbers(spec, spec.layers[0]), tied(spec)[0]
        assert fresh is not None
        untied.append(math.inf if fresh.time_scale is None else fresh.time_scale)
        kept.append(math.inf if numbers.time_scale is None else numbers.time_scale)
        errors.append((numbers.standard_error or {}).get("chi") or 0.0)
        print(f"theory at alpha = {alpha:.2f}", file=sys.stderr, flush=True)
    return Boundary(np.array(alphas), np.array(untied), np.array(kept), np.array(errors))


def train_line(T: int, seed: int) -> list[float]:
    """Return the held-out accuracy after training, for every α."""
    from benchmarks.training.run import Run
    from benchmarks.training.train import prepare, train

    prepare(1)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for alpha in ALPHAS:
            files.append(Path(folder) / f"{alpha}.json")
            files[-1].write_bytes(on_the_line(alpha, T).to_bytes())
        runs = [Run("gru", TASK, T, str(file), RATE, seed=seed, steps=STEPS, every=STEPS) for file in files]
        return [result.metric[-1] for result in train(runs)]


def measured(file: Path) -> Array:
    """Return the accuracy, (seeds, lengths, alphas).

    What ``file`` lacks is trained and added to it, a line for each T and seed.

    Raises:
        FileError: A line of the file is none of these.
    """
    rows, accuracy = _rows(file), []
    for seed, T in itertools.product(SEEDS, LENGTHS):
        settings = {"task": TASK, "T": T, "seed": seed, "steps": STEPS, "learning_rate": RATE, "alphas": list(ALPHAS)}
        line = next((row for row in rows if row.items() >= settings.items()), None)
        if line is None:
            line = {**settings, "accuracy": train_line(T, seed)}
            rows.append(line)
            write(file, "".join(json.dumps(row) + "\n" for row in rows).encode())
            print(f"trained: T = {T}, seed {seed}", file=sys.stderr, flush=True)
        accuracy.append(line["accuracy"])
    return np.reshape(accuracy, (len(SEEDS), len(LENGTHS), len(ALPHAS)))


def _rows(file: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(file.read_text().splitlines() if file.exists() else (), 1):
        try:
            row = json.loads(line)
            if np.shape(row["accuracy"]) != np.shape(row["alphas"]):
                raise ValueError("accuracy and alphas of different lengths")
        except (ValueError, KeyError, TypeError) as error:
            found = f"{type(error).__name__}: {error}"
            allowed = "a line as this benchmark writes it"
            raise FileError(f"line {number}", found=found, allowed=allowed, source=str(file)) from None
        rows.append(row)
    return rows


def table(accuracy: Array, edge: Boundary) -> str:
    """Return a Markdown table: for every α both time scales, and the accuracy at every T, mean over the seeds.

    A tied time scale whose rate is known to less than one standard error is not decided.
    """
    lines = [
        "| α | untied time scale | tied | " + " | ".join(f"T = {T}" for T in LENGTHS) + " |",
        "|---|---|---|" + "---|" * len(LENGTHS),
    ]
    for k, alpha in enumerate(ALPHAS):
        at = int(np.argmin(np.abs(edge.alphas - alpha)))
        kept = "chaotic" if math.isinf(edge.tied[at]) else f"{edge.tied[at]:.3g}"
        if 1.0 / edge.tied[at] < edge.error[at]:
            kept = "not decided"
        found = " | ".join(f"{a:.2f}" for a in accuracy.mean(0)[:, k])
        lines.append(f"| {alpha:g} | {edge.untied[at]:.3g} | {kept} | {found} |")
    return "\n".join(lines)


def draw(accuracy: Array, edge: Boundary, figure: Figure, theme: Theme) -> None:
    """Draw the accuracy as shade and number, and the curves of 3 and 6 time scales after the digit."""
    axes = figure.add_subplot()
    style_axes(axes, theme)
    axes.grid(False)
    mean = accuracy.mean(0)
    places, heights = np.arange(len(ALPHAS)), np.arange(len(LENGTHS))
    axes.imshow(mean, origin="lower", aspect="auto", cmap="Blues", vmin=0.0, vmax=1.3)
    for row in heights:
        for column in places:
            axes.text(column, row, f"{mean[row, column]:.2f}"[1:] if mean[row, column] < 1 else "1", ha="center",
                      va="center", fontsize=8, color="#1c1c1a")  # fmt: skip
    x = np.interp(edge.alphas, ALPHAS, places)
    for name, scales, colour in (("untied", edge.untied, "#1c1c1a"), ("tied", edge.tied, "#b3500b")):
        for multiple, style in zip(_MULTIPLES, ("--", "-"), strict=True):
            steps = SILENT + multiple * np.minimum(scales, _LONGEST)
            y = np.interp(np.log(steps), np.log(LENGTHS), heights, left=-0.5, right=len(LENGTHS) - 0.5)
            above = steps > LENGTHS[-1]
            y = np.where(above, len(LENGTHS) - 0.5 + np.log(np.maximum(steps / LENGTHS[-1], 1.0)), y)
            axes.plot(x, y, style, color=colour, linewidth=2, label=f"{multiple:g} time scales, {name}", zorder=3)
    axes.set_ylim(-0.5, len(LENGTHS) - 0.5)
    axes.set_xticks(places, [f"{a:g}" for a in ALPHAS])
    axes.set_yticks(heights, [str(T) for T in LENGTHS])
    axes.set(xlabel="α (half the candidate's recurrent variance)", ylabel="T")
    axes.set_title(f"accuracy after {STEPS} steps")
    figure.legend(loc="outside lower center", ncols=2)


def run(folder: Path) -> None:
    """Train what is missing, print the table, write the picture."""
    accuracy, edge = measured(folder / "trainability.jsonl"), boundary()
    print(table(accuracy, edge))
    figure = new_figure(lambda f, theme: draw(accuracy, edge, f, theme), height=4.6)
    for kind in ("png", "svg"):
        write(folder / "images" / f"trainability.{kind}", render(figure, kind))
