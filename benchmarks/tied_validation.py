"""Tied theory against simulated networks at random hyperparameters: ``python -m benchmarks.tied_validation``.

Draws points over all cells from a fixed seed, simulates networks of width 2,000, and keeps what they said, one
JSON line a point, in docs/validation-tied.jsonl (points that stand there are not run again).  ``--table`` writes
docs/validation-tied.md from it, every miss included, with the theories computed afresh.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from critinit.cells import CELLS
from critinit.simulation import simulate
from critinit.spec import InitSpec
from critinit.spec.reading import validate_object

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS = DOCS / "validation-tied.jsonl"
SEED = 20
POINTS = 66
WIDTH = 2000
STEPS = 200
NETWORKS = 4


def points(count: int = POINTS, seed: int = SEED) -> list[InitSpec]:
    """``count`` specs, the cells in turn, from wide ranges of every hyperparameter."""
    rng = np.random.default_rng(seed)
    variants = list(CELLS)
    return [_point(variants[i % len(variants)], rng) for i in range(count)]


def _point(variant: tuple[str, str | None], rng: np.random.Generator) -> InitSpec:
    name, reset = variant
    cell = CELLS[variant]
    distribution = str(rng.choice(["normal", "normal", "orthogonal", "uniform"]))
    spread = bool(rng.random() < 0.25)
    gates: dict[str, Any] = {}
    for gate in cell.gates:
        mean = float(rng.uniform(-1.0, 2.5)) if gate != cell.candidate_gate else 0.0
        bias: dict[str, Any] = {"distribution": "constant", "mean": mean, "variance": 0.0}
        if spread and gate == cell.keep_gate:
            bias = {
                "distribution": "log_uniform_time",
                "min_time": 1.05,
                "max_time": float(rng.uniform(10, 60)),
            }
        elif rng.random() < 0.3:
            bias = {"distribution": "normal", "mean": mean, "variance": float(rng.uniform(0.05, 0.5))}
        top = 2.0 if gate == cell.candidate_gate else 1.5
        gates[gate] = {
            "recurrent": {
                "distribution": distribution,
                "variance": float(np.exp(rng.uniform(math.log(0.02), math.log(top)))),
            },
            "input": {"distribution": "normal", "variance": float(rng.uniform(0.05, 1.5))},
            "bias": bias,
        }
    data = {
        "schema_version": 1, "cell": name, **({"reset": reset} if reset else {}), "scheme": "custom", "T": STEPS,
        "layers": [{"input": {"variance": float(rng.uniform(0.3, 1.5)), "correlation": 1.0}, "gates": gates}],
    }  # fmt: skip
    return validate_object(data)


def run(width: int, only: int | None) -> None:
    """Simulate what is missing."""
    done = {json.loads(line)["point"] for line in RESULTS.read_text().splitlines()} if RESULTS.exists() else set()
    for i, spec in enumerate(points()):
        if i in done or (only is not None and i >= only):
            continue
        start = time.process_time()
        measured = simulate(spec, width=width, steps=STEPS, seeds=NETWORKS, seed=i)[0]
        assert measured is not None  # tied: always a reading
        row = {
            "point": i, "width": width, "seconds": round(time.process_time() - start, 1),
            "numbers": measured.numbers.model_dump(mode="json"),
        }  # fmt: skip
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(i, spec.cell, row["seconds"], "s", file=sys.stderr, flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Tied theory against simulated networks at random hyperparameters.")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--points", type=int, default=None, help="only the first so many")
    options = parser.parse_args()
    run(options.width, options.points)


if __name__ == "__main__":
    main()
