"""How far the first optimizer steps move a network's states, from each initialization."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product

from benchmarks._options import count

__all__ = ["main", "response"]

TASKS = ("digits", "adding")
LENGTHS = (100, 300)
RATES = (1e-3, 1e-2, 3e-2)
"""Learning rates."""
STEPS = 10
"""Optimizer steps: the first ones, which are as long as the learning rate."""


def response(cell: str, task: str, T: int, scheme: str, rates: Sequence[float] = RATES) -> list[float]:
    """Return |h_T after − h_T before| / |h_T before| for each learning rate.

    It is a root mean square over held-out sequences and units.  Only the recurrent layer learns, in ``STEPS`` steps of
    Adam, which moves every entry by about the rate a step whatever its gradient; the readout stays as it was made.
    """
    import numpy as np
    import torch

    from benchmarks.training.models import Model
    from benchmarks.training.run import Run
    from benchmarks.training.tasks import TASKS as MADE
    from benchmarks.training.train import loss_of

    data = MADE[task].make(T, ())
    held = torch.from_numpy(data.held_out.x)
    found = []
    for rate in rates:
        run = Run(cell, task, T, scheme, rate)
        model = Model(run, data)
        with torch.no_grad():
            before = model.layer(held)[0][-1]
        optimizer = torch.optim.Adam(model.layer.parameters(), rate)
        for step in range(STEPS):
            batch = data.sample(np.random.default_rng([0, step]), run.batch)
            optimizer.zero_grad()
            out = model.readout(model.layer(torch.from_numpy(batch.x))[0][-len(batch.y) :])
            loss_of(out, torch.from_numpy(batch.y)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), run.clip)
            optimizer.step()
        with torch.no_grad():
            moved = model.layer(held)[0][-1] - before
        found.append(float(moved.square().mean().sqrt() / before.square().mean().sqrt()))
    return found


def main(arguments: Sequence[str] = ()) -> int:
    """Print a table with a line for each cell, task, length and scheme."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks response", description=__doc__)
    parser.add_argument("--T", type=count, action="append", help=f"sequence lengths [{', '.join(map(str, LENGTHS))}]")
    options = parser.parse_args(list(arguments))
    from benchmarks.training.grids import SCHEMES

    print(f"change of the last state by {STEPS} steps of Adam, relative to its size, at learning rates")
    print(f"{'cell':6}{'task':8}{'T':>5}  {'scheme':15}" + "".join(f"{rate:>9g}" for rate in RATES))
    for cell, task, T, scheme in product(("gru", "lstm"), TASKS, options.T or LENGTHS, SCHEMES):
        numbers = "".join(f"{x:9.3g}" for x in response(cell, task, T, scheme))
        print(f"{cell:6}{task:8}{T:>5}  {scheme:15}{numbers}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
