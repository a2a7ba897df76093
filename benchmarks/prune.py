"""What pruning before training costs: held-out accuracy at several sparsities, by how entries are scored.

``python -m benchmarks prune --table FILE`` trains what the table lacks: an LSTM of 64 units from ``critical`` on the
digits at T = 100, 400 steps of Adam at .01 after ``critinit.prune`` on 64 training sequences; or, with ``--task``, one
from PyTorch's own weights on the series JapaneseVowels.  It prints the best held-out accuracy of each run; runs differ
by a few hundredths from seed to seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks._options import count
from benchmarks._tables import keep, records

__all__ = ["METHODS", "SPARSITIES", "main", "measured"]

METHODS = ("jacobian", "snip", "magnitude", "random")
SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)
"""Shares of the entries of both kernels that are 0."""
CELL, RATE, STEPS = "lstm", 1e-2, 400
"""The network and its training."""
TASKS = {"digits": (100, "critical"), "japanese-vowels": (29, "torch default")}
"""A task's name -> its T, and the start."""
SEQUENCES = 64
"""What is scored on, as in the paper."""


def measured(task: str, method: str, sparsity: float, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Return one run's record; sparsity 0 is the dense network."""
    import numpy as np

    import critinit
    from benchmarks.training.run import Run
    from benchmarks.training.train import loss_of, prepare, train

    prepare(1)
    told: dict[str, Any] = {"sparsity": 0.0, "fewest kept": None}

    def change(model: Any, data: Any) -> None:
        import torch

        if sparsity == 0.0:
            return
        batch = data.sample(np.random.default_rng([seed, 2**31]), SEQUENCES)
        x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
        how: dict[str, Any] = {}
        if method == "snip":
            how["loss"] = lambda m, b: loss_of(m.readout(m.layer(b)[0][-len(y) :]), y)
        pruned = critinit.prune(
            model, x, sparsity, method, seed=seed, call=lambda m, b: m.readout(m.layer(b)[0][-len(y) :]), **how
        )
        told["sparsity"] = pruned.sparsity
        told["fewest kept"] = min(row.kept / row.entries for row in pruned.rows)

    T, start = TASKS[task]
    run = Run(CELL, task, T, start, RATE, seed=seed, steps=steps)
    (result,) = train([run], "cpu", change)
    asked = {"task": task, "method": method, "asked": sparsity, "seed": seed, "steps": steps}
    return {**asked, "best": max(result.metric), **told}


def report(found: Iterable[dict[str, Any]]) -> str:
    """Return a Markdown table: a line for each sparsity, the best accuracy of each seed by method."""
    cells: dict[tuple[float, str], list[float]] = {}
    for record in sorted(found, key=lambda r: r["seed"]):
        cells.setdefault((record["asked"], record["method"]), []).append(record["best"])
    lines = [f"| sparsity | {' | '.join(METHODS)} |", "|" + "---|" * (1 + len(METHODS))]
    dense = ", ".join(f"{best:.2f}" for best in cells.get((0.0, METHODS[0]), ()))
    lines += [f"| 0 | {dense} |" + " |" * (len(METHODS) - 1)]
    for sparsity in SPARSITIES:
        said = (", ".join(f"{best:.2f}" for best in cells.get((sparsity, method), ())) for method in METHODS)
        if any(asked == sparsity for asked, _ in cells):
            lines.append(f"| {sparsity:g} | {' | '.join(said)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] = ()) -> int:
    """Run what the table lacks, then print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks prune", description=__doc__)
    parser.add_argument("--table", type=Path, help="JSON lines, a line a run; without it none is kept")
    parser.add_argument("--task", choices=TASKS, default="digits", help="[digits]")
    parser.add_argument("--seeds", type=count, default=1, help="seeds from 0 [1]")
    parser.add_argument("--steps", type=count, default=STEPS, help=f"optimizer steps [{STEPS}]")
    parser.add_argument("--report", action="store_true", help="run nothing, print what the table holds")
    options = parser.parse_args(list(arguments))
    found = [record for record in records(options.table) if record["task"] == options.task]
    known = {(record["method"], record["asked"], record["seed"]) for record in found}
    wanted = [
        (method, sparsity, seed)
        for seed, (sparsity, method) in product(
            range(options.seeds), [(0.0, METHODS[0]), *product(SPARSITIES, METHODS)]
        )
    ]
    for method, sparsity, seed in () if options.report else wanted:
        if (method, sparsity, seed) in known:
            continue
        record = measured(options.task, method, sparsity, seed, options.steps)
        found.append(record)
        print(keep(options.table, [record]), end="", flush=True)
    print(report(found))
    return 0
