"""How long the theory takes for a whole grid of hyperparameters in one call.

``python -m benchmarks grid`` solves 100 by 100 points of each GRU (target: 2 s on one idle core)
and 10 by 10 points of the LSTM, and prints seconds, points a second and how many points converged.  The grid runs
over the keep gate's bias (−2 to 6) and the candidate's recurrent variance (0.01 to 3): from forgetting at once to
growing, so that every kind of point is in it.
"""

from __future__ import annotations

import os
import platform
import time

import numpy as np

from critinit.theory.parameters import LayerParameters, grid_parameters
from critinit.theory.untied.solution import Untied, solve

__all__ = ["LIMIT", "gru_grid", "lstm_grid", "main", "timed"]

LIMIT = 2.0
"""Seconds for the GRU's 10,000 points."""


def _axes(side: int) -> tuple[np.ndarray, np.ndarray]:
    return np.linspace(-2.0, 6.0, side)[:, None], np.linspace(0.01, 3.0, side)[None, :]


def gru_grid(side: int, cell: str = "gru") -> LayerParameters:
    """Return ``side`` by ``side`` points of ``gru`` or ``gru_reset_before``."""
    keep, recurrent = _axes(side)
    gates = {
        "update": {"recurrent": 0.5, "input": 0.5, "mean": keep},
        "reset": {"recurrent": 0.7, "input": 0.3, "mean": 1.0},
        "candidate": {"recurrent": recurrent, "input": 0.8, "mean": 0.0},
    }
    return grid_parameters(cell, gates)


def lstm_grid(side: int) -> LayerParameters:
    """Return ``side`` by ``side`` points of the LSTM."""
    keep, recurrent = _axes(side)
    gates = {
        "input": {"recurrent": 0.6, "input": 0.4, "mean": -1.0},
        "forget": {"recurrent": 0.5, "input": 0.3, "mean": keep},
        "cell": {"recurrent": recurrent, "input": 1.0, "mean": 0.0},
        "output": {"recurrent": 0.8, "input": 0.2, "mean": 0.5},
    }
    return grid_parameters("lstm", gates)


def timed(parameters: LayerParameters) -> tuple[Untied, float, float]:
    """Return the solution, and the seconds of wall clock and of processor that it took."""
    wall, processor = time.perf_counter(), time.process_time()
    found = solve(parameters)
    return found, time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print a line for each grid."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    print(
        f"untied theory of a grid in one call; NumPy {np.__version__}, {platform.machine()}, OMP_NUM_THREADS {threads}"
    )
    print(f"{'grid':28}{'wall s':>9}{'CPU s':>9}{'points/s':>10}{'converged':>11}   target")
    for name, parameters, target in (
        ("gru, 100x100", gru_grid(100), f"{LIMIT:g} s"),
        ("gru_reset_before, 100x100", gru_grid(100, "gru_reset_before"), f"{LIMIT:g} s"),
        ("lstm, 10x10", lstm_grid(10), ""),
    ):
        found, wall, processor = timed(parameters)
        rate, met = found.chi.size / processor, int(np.sum(found.converged))
        print(f"{name:28}{wall:9.2f}{processor:9.2f}{rate:10.0f}{met:6d}/{found.chi.size:<6d} {target}".rstrip())


if __name__ == "__main__":
    main()
