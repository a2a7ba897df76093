"""How long the theory takes for a whole grid of hyperparameters in one call.

``python -m benchmarks grid`` solves 100 by 100 points of the GRU (both reset variants; target: 2 s on one idle core)
and 10 by 10 points of the LSTM, and prints seconds, points a second and how many points converged.  The grid runs
over the keep gate's bias (−2 to 6) and the candidate's recurrent variance (0.01 to 3): from forgetting at once to
growing, so that every kind of point is in it.
"""

from __future__ import annotations

import os
import platform
import time

import numpy as np

from critinit.theory.parameters import LayerLaw, grid_law
from critinit.theory.untied.solution import Untied, solve

__all__ = ["LIMIT", "gru_grid", "lstm_grid", "main", "timed"]

LIMIT = 2.0
"""Seconds for the GRU's 10,000 points."""


def _axes(side: int) -> tuple[np.ndarray, np.ndarray]:
    return np.linspace(-2.0, 6.0, side)[:, None], np.linspace(0.01, 3.0, side)[None, :]


def gru_grid(side: int, reset: str = "after") -> LayerLaw:
    """``side`` by ``side`` points of the GRU."""
    keep, recurrent = _axes(side)
    gates = {
        "update": {"recurrent": 0.5, "input": 0.5, "mean": keep},
        "reset": {"recurrent": 0.7, "input": 0.3, "mean": 1.0},
        "candidate": {"recurrent": recurrent, "input": 0.8, "mean": 0.0},
    }
    return grid_law("gru", gates, reset=reset)


def lstm_grid(side: int) -> LayerLaw:
    """``side`` by ``side`` points of the LSTM."""
    keep, recurrent = _axes(side)
    gates = {
        "input": {"recurrent": 0.6, "input": 0.4, "mean": -1.0},
        "forget": {"recurrent": 0.5, "input": 0.3, "mean": keep},
        "cell": {"recurrent": recurrent, "input": 1.0, "mean": 0.0},
        "output": {"recurrent": 0.8, "input": 0.2, "mean": 0.5},
    }
    return grid_law("lstm", gates)


def timed(law: LayerLaw) -> tuple[Untied, float, float]:
    """The solution, and the seconds of wall clock and of processor that it took."""
    wall, processor = time.perf_counter(), time.process_time()
    found = solve(law)
    return found, time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print a line for each grid."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    print(
        f"untied theory of a grid in one call; NumPy {np.__version__}, {platform.machine()}, OMP_NUM_THREADS {threads}"
    )
    print(f"{'grid':28}{'wall s':>9}{'CPU s':>9}{'points/s':>10}{'converged':>11}   target")
    for name, law, target in (
        ("GRU, reset after, 100x100", gru_grid(100), f"{LIMIT:g} s"),
        ("GRU, reset before, 100x100", gru_grid(100, "before"), f"{LIMIT:g} s"),
        ("LSTM, 10x10", lstm_grid(10), ""),
    ):
        found, wall, processor = timed(law)
        rate, met = found.chi.size / processor, int(np.sum(found.converged))
        print(f"{name:28}{wall:9.2f}{processor:9.2f}{rate:10.0f}{met:6d}/{found.chi.size:<6d} {target}".rstrip())


if __name__ == "__main__":
    main()
