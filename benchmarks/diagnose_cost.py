"""What ``critinit.diagnose`` costs beside a training step of the same batch.

``python -m benchmarks diagnose_cost`` takes PyTorch on one thread, 32 sequences of 100 steps and 8 inputs, Adam and a
readout of the last state.  Times are processor time, the least of several runs, because a busy machine only adds.
With ``--keras`` it is Keras on the backend that ``KERAS_BACKEND`` names, whose first, compiling step does not count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import critinit

__all__ = ["main"]

_SEQUENCES, _STEPS, _INPUTS = 32, 100, 8
_RUNS = 5
_UNITS = (64, 128, 256, 512)


def _least(function: Callable[[], object]) -> float:
    """The least processor time of a few runs, in seconds."""
    function()
    times = []
    for _ in range(_RUNS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def _torch(cell: str, units: int, x: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    """A training step and a diagnosis in PyTorch."""
    import torch

    torch.set_num_threads(1)
    rnn = getattr(torch.nn, cell.upper())(_INPUTS, units, batch_first=True)
    head = torch.nn.Linear(units, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()])
    batch = torch.from_numpy(x)
    spec = critinit.generate(cell, T=_STEPS)
    critinit.apply(spec, rnn, seed=0)

    def step() -> None:
        optimizer.zero_grad()
        (head(rnn(batch)[0][:, -1]) ** 2).mean().backward()
        optimizer.step()

    return step, lambda: critinit.diagnose(rnn, batch, spec)


def _keras(cell: str, units: int, x: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    """A training step and a diagnosis in Keras."""
    import keras

    rnn = getattr(keras.layers, cell.upper())(units)
    model = keras.Sequential([keras.Input((_STEPS, _INPUTS)), rnn, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    y = np.zeros((_SEQUENCES, 1), "float32")
    return lambda: model.train_on_batch(x, y), lambda: critinit.diagnose(model, x)


def main(arguments: Sequence[str]) -> int:
    """Print a row for each cell and number of units.

    Args:
        arguments: Those of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks diagnose_cost", description=__doc__)
    parser.add_argument("--keras", action="store_true", help="Keras instead of PyTorch")
    parser.add_argument("--units", type=int, nargs="+", default=_UNITS)
    options = parser.parse_args(arguments)
    x = np.random.default_rng(0).standard_normal((_SEQUENCES, _STEPS, _INPUTS)).astype("float32")
    print("cell  units  training step  diagnose  steps")
    for cell in ("gru", "lstm"):
        for units in options.units:
            step, diagnosis = (_keras if options.keras else _torch)(cell, units, x)
            one, whole = _least(step), _least(diagnosis)
            print(f"{cell:4}  {units:5}  {1e3 * one:10.1f} ms  {1e3 * whole:5.1f} ms  {whole / one:5.2f}", flush=True)
    return 0
