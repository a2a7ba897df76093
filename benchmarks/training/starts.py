"""What a run starts from: what is known of its task's data, and the spec of its scheme for them.  Neither needs torch.

Together they say which results of a table still hold: a run whose data or whose spec has changed is another run.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import NamedTuple

import critinit
from benchmarks.training.run import DEFAULT, Result, Run
from benchmarks.training.tasks import TASKS, Data
from critinit.errors import ArgumentError

__all__ = ["Identity", "Inputs", "fingerprint", "found_of", "identity", "inputs_of", "spec_of"]

Identity = tuple[Run, str, str]
"""A run as the table names it, its data's fingerprint, and its start's."""


class Inputs(NamedTuple):
    """What of a task's data decides a spec, in the words of ``Data``, and the data's fingerprint."""

    inputs: int
    input_variance: float
    null_variance: float | None
    null_constant: bool
    fingerprint: str


@lru_cache(maxsize=256)
def inputs_of(task: str, T: int, files: tuple[str, ...]) -> Inputs:
    """Of a task at one length; the data themselves are not kept."""
    data: Data = TASKS[task].make(T, files)
    return Inputs(data.inputs, data.input_variance, data.null_variance, data.null_constant, data.fingerprint)


def spec_of(run: Run, inputs: Inputs | Data) -> critinit.InitSpec | None:
    """The spec of the run's scheme, or in the file it names; None where PyTorch's own weights stay.

    Raises ``ArgumentError`` where there is none for the run's cell and layers.
    """
    if run.scheme == DEFAULT:
        return None
    if not run.scheme.endswith(".json"):
        moments = (inputs.input_variance, inputs.null_variance, inputs.null_constant)
        return _generated(run.cell, run.T, run.scheme, run.layers, moments, (run.hidden, inputs.inputs))
    spec = critinit.load(run.scheme)
    if (spec.cell, len(spec.layers)) != (run.cell, run.layers):
        found = f"{spec.cell} of {len(spec.layers)} layer(s)"
        raise ArgumentError(f"{run.scheme}: found {found}; allowed: {run.cell} of {run.layers}, as the run has it")
    if spec.reset not in (None, "after"):
        raise ArgumentError(f"{run.scheme}: found reset {spec.reset}; allowed: after, which torch.nn.GRU does")
    return spec


@lru_cache(maxsize=1024)
def _generated(
    cell: str, T: int, scheme: str, layers: int, moments: tuple[float, float | None, bool], sizes: tuple[int, int]
) -> critinit.InitSpec:
    """A prediction takes a second, and every seed and learning rate has the same."""
    return critinit.generate(
        cell,
        T=T,
        scheme=scheme,
        layers=layers,
        input_variance=moments[0],
        null_variance=moments[1],
        null_constant=moments[2],
        hidden_size=sizes[0],
        input_size=sizes[1],
    )


def fingerprint(spec: critinit.InitSpec | None) -> str:
    """Eight hexadecimal digits of a hash over what is drawn, all layers' gates; empty for PyTorch's own."""
    if spec is None:
        return ""
    drawn = [layer.model_dump(mode="json", include={"gates"}) for layer in spec.layers]
    return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()[:8]


def identity(run: Run) -> Identity:
    """What a result has to be of, to be this run's."""
    inputs = inputs_of(run.task, run.T, run.files)
    return run.key, inputs.fingerprint, fingerprint(spec_of(run, inputs))


def found_of(result: Result) -> Identity:
    """What a result is of."""
    return result.run.key, result.data, result.start
