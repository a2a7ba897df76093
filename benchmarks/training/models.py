"""A model: one of torch's recurrent layers, initialized by a scheme, and a linear readout of its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import critinit
from benchmarks.training.groups import grouped
from benchmarks.training.peers import Diagonal, NormalizedLstm
from benchmarks.training.recurrence import Gru
from benchmarks.training.run import CELLS, DIAGONAL, NORMALIZED, Run
from benchmarks.training.starts import spec_of
from benchmarks.training.tasks import Data

__all__ = ["LAYERS", "Model", "outputs"]

LAYERS: dict[str, Any] = {cell: getattr(torch.nn, cell.upper()) for cell in CELLS}
"""critinit's name of a cell -> the layer."""


class Model(torch.nn.Module):
    """What a run trains; the readout and torch's own weights come from the seed, so all schemes share the readout."""

    def __init__(self, run: Run, data: Data) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            self.layer = LAYERS[run.cell](data.inputs, run.hidden, num_layers=run.layers)
            self.readout = torch.nn.Linear(run.hidden, data.outputs)
        self.spec = spec_of(run, data)
        self.limited: Any = None
        """What ``critinit.limit_steps`` takes; None where no part has a limit."""
        if run.scheme == DIAGONAL:
            self.layer = Diagonal(data.inputs, run.hidden, run.T, run.seed)
        elif self.spec is not None and run.scheme == NORMALIZED:
            self.layer = NormalizedLstm(self.spec, data.inputs, run.hidden, run.seed)
        elif self.spec is not None and (by_hand := grouped(run.scheme)):
            self.limited = by_hand.apply(self.layer, run.cell, run.T, data, self.spec, run.seed)
        elif self.spec is not None:
            applied = critinit.apply(self.spec, self.layer, seed=run.seed)
            self.limited = applied if applied.limits else None


def outputs(models: Sequence[Model], x: Sequence[Tensor], last: int) -> list[Tensor]:
    """Each model's outputs at the ``last`` steps, (last, n, outputs), for its own sequences (T, n, inputs).

    On a processor GRUs run together, which takes half the time; the other layers are as fast alone, and a GPU has
    cuDNN's.
    """
    cpu = [k for k, own in enumerate(x) if own.device.type == "cpu"]
    grus = [k for k in cpu if isinstance(models[k].layer, torch.nn.GRU)]
    together = iter(_together([models[k].layer for k in grus], [x[k] for k in grus]) if grus else ())
    states = [next(together) if k in grus else model.layer(x[k])[0] for k, model in enumerate(models)]
    return [model.readout(h[-last:]) for model, h in zip(models, states, strict=True)]


def _together(layers: Sequence[Any], x: Sequence[Tensor]) -> Sequence[Tensor]:
    """The last layer's states of many ``torch.nn.GRU`` of one shape."""

    def stacked(name: str) -> Tensor:
        tensors = torch.stack([getattr(layer, name) for layer in layers])
        return tensors.transpose(1, 2) if tensors.ndim == 3 else tensors.unsqueeze(1)

    h = torch.stack(list(x), 1)
    for k in range(layers[0].num_layers):
        names = (f"weight_ih_l{k}", f"bias_ih_l{k}", f"weight_hh_l{k}", f"bias_hh_l{k}")
        h = Gru.apply(h, *map(stacked, names))
    states: Sequence[Tensor] = h.unbind(1)
    return states
