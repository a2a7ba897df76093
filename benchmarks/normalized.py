"""How fast layer-normalized cells learn from the usual start (gains 1, forget bias 1) and from ``critical``.

The cells are written out here in PyTorch.  A digit of 8 by 8 pixels is read row by row, then silence until step T,
where the class is asked.  ``orthogonal`` is the usual start: gains 1, orthogonal recurrent kernels, keep-gate bias 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from benchmarks._options import count
from critinit import generate
from critinit.tensors.sampling import draw

__all__ = ["main", "trained"]

CELLS = ("layernorm_lstm", "layernorm_lstm_kept", "layernorm_gru")
SCHEMES = ("orthogonal", "critical")
HIDDEN, BATCH, EVERY, RATE, TARGET = 64, 32, 20, 1e-2, 0.9
"""Units, sequences of a step, steps between evaluations, Adam's learning rate, held-out accuracy to reach."""
_SIDE = 8
"""Rows of a digit, and pixels of a row."""


def rows(x: np.ndarray, T: int) -> np.ndarray:
    """Return digits (T, n, 1), read by pixels and padded with silence, as the same read by rows, (T, n, 8)."""
    pixels = x[: _SIDE**2, :, 0].T.reshape(-1, _SIDE, _SIDE).transpose(1, 0, 2)
    return np.concatenate([pixels, np.zeros((T - _SIDE, *pixels.shape[1:]), np.float32)]).astype(np.float32)


def last_state(cell: str, parts: dict[tuple[str, str], Any], x: Any) -> Any:
    """Return the state after the last step, (n, units).

    Args:
        cell: The cell.
        parts: The tensors by gate and part, as the portable sampler names them.
        x: Inputs, (T, n, 8).
    """
    import torch
    from torch.nn.functional import layer_norm

    gates = list(dict.fromkeys(gate for gate, _ in parts if gate))
    hidden = parts[gates[0], "bias"].shape

    def norm(y: Any) -> Any:
        return layer_norm(y, hidden)

    c = h = x.new_zeros(x.shape[1], *hidden)
    fed = {g: norm(x @ parts[g, "input"].T) * parts[g, "input_gain"] + parts[g, "bias"] for g in gates}
    for t in range(len(x)):
        back = {g: norm(h @ parts[g, "recurrent"].T) * parts[g, "recurrent_gain"] for g in gates}
        if "update" in gates:
            f, r = (torch.sigmoid(fed[g][t] + back[g]) for g in ("update", "reset"))
            h = f * h + (1 - f) * torch.tanh(fed["candidate"][t] + r * back["candidate"])
            continue
        i, f, o = (torch.sigmoid(fed[g][t] + back[g]) for g in ("input", "forget", "output"))
        c = f * c + i * torch.tanh(fed["cell"][t] + back["cell"])
        normed = norm(c) * parts["", "memory_gain"]
        if cell.endswith("kept"):
            c = normed
        h = o * torch.tanh(normed)
    return h


def trained(cell: str, scheme: str, T: int, seed: int, steps: int) -> tuple[int | None, float]:
    """Return the steps to the target, None where it is not reached in ``steps``, and the last accuracy."""
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.training.tasks import TASKS

    data = TASKS["digits"].make(T, ())
    spec = generate(cell, T, scheme=scheme, padding={"variance": 0.0}, hidden_size=HIDDEN, input_size=_SIDE)
    drawn = draw(spec, _SIDE, HIDDEN, seed=seed).layers[0][0]
    arrays = {(g, p): getattr(drawn.gates[g], p) for g in drawn.gates for p in ("recurrent", "input", "bias")}
    arrays |= {(g, p): getattr(drawn.gates[g], p) for g in drawn.gates for p in ("recurrent_gain", "input_gain")}
    if drawn.memory_gain is not None:
        arrays["", "memory_gain"] = drawn.memory_gain
    torch.manual_seed(seed)
    parts = {key: torch.tensor(array, dtype=torch.float32, requires_grad=True) for key, array in arrays.items()}
    readout = torch.nn.Linear(HIDDEN, data.outputs)
    learned = [*parts.values(), *readout.parameters()]
    optimizer = torch.optim.Adam(learned, RATE)
    held, wanted = torch.from_numpy(rows(data.held_out.x, T)), torch.from_numpy(data.held_out.y[0])
    accuracy = 0.0
    for step in range(1, steps + 1):
        batch = data.sample(np.random.default_rng([seed, step]), BATCH)
        out = readout(last_state(cell, parts, torch.from_numpy(rows(batch.x, T))))
        optimizer.zero_grad()
        cross_entropy(out, torch.from_numpy(batch.y[0])).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        if step % EVERY == 0 or step == steps:
            with torch.no_grad():
                found = readout(last_state(cell, parts, held)).argmax(-1)
            accuracy = float((found == wanted).float().mean())
            if accuracy >= TARGET:
                return step, accuracy
    return None, accuracy


def main(arguments: Sequence[str] = ()) -> int:
    """Print a line for each cell and scheme: steps to the target, or the last accuracy, by seed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks normalized", description=__doc__)
    parser.add_argument("--T", type=count, default=100, help="sequence length, at least 64 [100]")
    parser.add_argument("--seeds", type=count, default=2, help="seeds [2]")
    parser.add_argument("--steps", type=count, default=300, help="optimizer steps at most [300]")
    options = parser.parse_args(list(arguments))
    print(f"digits by rows, then silence until T = {options.T}: steps to {TARGET:g}, or the accuracy after all steps")
    for cell, scheme in product(CELLS, SCHEMES):
        found = (trained(cell, scheme, options.T, seed, options.steps) for seed in range(options.seeds))
        said = (f"{step}" if step else f">{options.steps} ({accuracy:.2f})" for step, accuracy in found)
        print(f"{cell:20} {scheme:11} {', '.join(said)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
