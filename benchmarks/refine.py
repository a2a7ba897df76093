"""What refining a start gains in training: PyTorch's default and ``critical``, each plain, flossed and with MetaInit.

``python -m benchmarks refine --table FILE`` trains what the table lacks and prints what it holds.  A run ends at its
task's target, if it has one, or after the steps that are allowed.  Refining is done on one batch of the task's training
sequences (32 for flossing, 8 for MetaInit) with the default settings, but for MetaInit's steps and for chaotic starts,
which Adam flosses.  Its seconds are listed beside those of training, those of one thread on the processor.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks._options import count
from benchmarks._tables import keep, records

__all__ = ["METHODS", "main", "measured"]

METHODS = ("plain", "flossing", "metainit")
STARTS = ("torch default", "critical")
CHAOTIC, GAIN = "chaotic", 2.0
"""For the vanilla RNN alone: recurrent entries of standard deviation GAIN/√H, where tanh networks are chaotic."""
TASKS = (
    ("digits", 100),
    ("adding", 100),
    ("copy", 100),
    ("digits-noise", 100),
    ("pixels", 128),
    ("characters", 100),
    ("digit-pixels", 64),
    ("japanese-vowels", 29),
    ("copy", 30),
    ("digits", 300),
)
"""Those of the training benchmark near T = 100, two real sets, and a short and a long task."""
CELLS = ("gru", "lstm", "rnn")
RATES, STEPS = (1e-2, 3e-3, 1e-3), 400
"""Adam's learning rates, of which each start has its best, and its steps at most."""
METAINIT_STEPS = 100
"""Where the paper's code has 500: a step costs as much as five to ten of training."""
LONG = 200
"""From this T on flossing measures over all T steps instead of 55."""
FLOSSED, TUNED = 32, 8
"""Sequences of the batch that is refined on."""


def measured(
    cell: str,
    task: str,
    T: int,
    start: str,
    method: str,
    seed: int,
    steps: int = STEPS,
    rates: Sequence[float] = RATES,
) -> Iterator[dict[str, Any]]:
    """Yield a record for each learning rate: settings, seconds of refining and of training, steps, last metric.

    The start is refined once and trained at every rate.
    """
    import numpy as np

    import critinit
    from benchmarks.training.run import DEFAULT, Run
    from benchmarks.training.tasks import TASKS as KNOWN
    from benchmarks.training.train import loss_of, prepare, train

    prepare(1)
    told: dict[str, Any] = {"refine_seconds": 0.0, "changed": False}
    kept: dict[str, Any] = {}

    def change(model: Any, data: Any) -> None:
        import torch

        if kept:
            model.load_state_dict(kept)
            return
        batch = data.sample(np.random.default_rng([seed, 2**31]), FLOSSED if method == "flossing" else TUNED)
        x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
        if start == CHAOTIC:
            setting = f'layers.0.gates.hidden.recurrent={{"distribution": "normal", "variance": {GAIN**2}}}'
            critinit.apply(critinit.generate("rnn", T, settings=[setting]), model.layer, seed=seed)
        began = time.process_time()
        if method == "flossing":
            settings = critinit.Flossing(steps=T) if T >= LONG else critinit.Flossing()
            if start == CHAOTIC:  # by Adam, and the largest exponent alone first
                settings = critinit.Flossing(epochs=500, learning_rate=1e-3)
                critinit.refine(model.layer, x, replace(settings, exponents=1), seed=seed)
            done = critinit.refine(model.layer, x, settings, seed=seed)
            told["largest exponent"] = [done.exponents[0].before[0], done.exponents[0].after[0]]
        elif method == "metainit":
            done = critinit.refine(
                model,
                (x, y),
                critinit.MetaInit(steps=METAINIT_STEPS),
                loss=lambda m, b: loss_of(m.readout(m.layer(b[0])[0][-len(b[1]) :]), b[1]),
            )
            told["quotient"] = [done.history[0], min(done.history)]
        if method != "plain":
            told.update(refine_seconds=round(time.process_time() - began, 1), changed=done.changed)
        kept.update({name: value.clone() for name, value in model.state_dict().items()})

    for rate in rates:
        scheme = DEFAULT if start == CHAOTIC else start
        ends = KNOWN[task].target is not None
        run = Run(cell, task, T, scheme, rate, seed=seed, steps=steps, stop_at_target=ends)
        began = time.process_time()
        was_kept = bool(kept)
        (result,) = train([run], "cpu", change)
        reached = result.steps_to_target
        metric = result.final
        yield {
            **{name: asdict(run)[name] for name in ("cell", "task", "T", "seed", "learning_rate", "steps")},
            "start": start,
            "method": method,
            "steps_to_target": int(reached) if math.isfinite(reached) else None,
            "metric": metric if math.isfinite(metric) else None,
            **told,
            "train_seconds": round(time.process_time() - began - (0.0 if was_kept else told["refine_seconds"]), 1),
        }


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in ("cell", "task", "T", "start", "method", "seed"))


def report(found: Iterable[dict[str, Any]]) -> str:
    """Return a Markdown table: a line for each cell, task and start, the best rate's steps to the target by method."""
    rows: dict[tuple[Any, ...], dict[str, dict[int, list[dict[str, Any]]]]] = {}
    for record in sorted(found, key=lambda r: (r["task"], r["T"], r["cell"], r["start"] == "critical", r["seed"])):
        place = record["cell"], record["task"], record["T"], record["start"]
        seeds = rows.setdefault(place, {}).setdefault(record["method"], {})
        seeds.setdefault(record["seed"], []).append(record)
    lines = [f"| cell | task | T | start | {' | '.join(METHODS)} |", "|" + "---|" * (4 + len(METHODS))]
    for place, by_method in rows.items():
        cells = ("; ".join(_said(_best(one)) for one in by_method.get(m, {}).values()) for m in METHODS)
        lines.append(f"| {' | '.join(map(str, place))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _best(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The record of the best learning rate: the fewest steps, or else the best metric."""
    from benchmarks.training.tasks import TASKS as KNOWN

    sign = -1.0 if KNOWN[records[0]["task"]].metric.rises else 1.0

    def merit(record: dict[str, Any]) -> tuple[float, float]:
        steps, metric = record["steps_to_target"], record["metric"]
        return math.inf if steps is None else steps, math.inf if metric is None else sign * metric

    return min(records, key=merit)


def _said(record: dict[str, Any]) -> str:
    steps = record["steps_to_target"]
    end = "no number" if record["metric"] is None else f"{record['metric']:.3g}"
    done = f"{steps}" if steps is not None else f">{record['steps']}, {end}"
    cost = f"{record['refine_seconds']:.0f} s + " if record["refine_seconds"] else ""
    return f"{cost}{done} ({record['train_seconds']:.2g} s)"


def main(arguments: Sequence[str] = ()) -> int:
    """Run what the table lacks, then print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks refine", description=__doc__)
    parser.add_argument("--table", type=Path, help="JSON lines, a line a run; without it none is kept")
    parser.add_argument("--seeds", type=count, default=1, help="seeds from 0 [1]")
    parser.add_argument("--steps", type=count, default=STEPS, help=f"optimizer steps at most [{STEPS}]")
    parser.add_argument("--task", action="append", choices=sorted({task for task, _ in TASKS}), help="[all]")
    parser.add_argument("--cell", action="append", choices=CELLS, help="[all]")
    parser.add_argument("--start", action="append", choices=(*STARTS, CHAOTIC), help="[all]")
    parser.add_argument("--T", action="append", type=count, help="[all]")
    parser.add_argument("--method", action="append", choices=METHODS, help="[all]")
    parser.add_argument("--rate", action="append", type=float, help=f"Adam's rates [{RATES}]")
    parser.add_argument("--report", action="store_true", help="run nothing, print what the table holds")
    options = parser.parse_args(list(arguments))
    found = records(options.table)
    known = {_key(record) for record in found}
    wanted = [
        (cell, task, T, start, method, seed)
        for seed, (task, T), cell, start, method in product(
            range(options.seeds), TASKS, options.cell or CELLS, (*STARTS, CHAOTIC), options.method or METHODS
        )
        if all(
            not asked or one in asked for one, asked in ((task, options.task), (T, options.T), (start, options.start))
        )
        and (start != CHAOTIC or cell == "rnn")
    ]
    for place in () if options.report else wanted:
        if place in known:
            continue
        made = list(measured(*place, steps=options.steps, rates=options.rate or RATES))
        found += made
        print(keep(options.table, made), end="", flush=True)
    print(report(found))
    return 0
