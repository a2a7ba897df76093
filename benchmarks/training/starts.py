"""What a run starts from: what is known of its task's data, and the spec of its scheme for them.  Neither needs torch.

Together they decide which results of a table still hold: a run whose data or whose spec has changed is another run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import critinit
from benchmarks.training.groups import grouped
from benchmarks.training.run import CHRONO_BIASES, DEFAULT, DIAGONAL, NORMALIZED, Result, Run
from benchmarks.training.tasks import TASKS, Data
from critinit.errors import ArgumentError
from critinit.spec import Padding

__all__ = ["Identity", "Inputs", "fingerprint", "found_of", "identity", "inputs_of", "spec_of", "start_of"]

_DIGITS = 9
"""Digits of a spec's numbers that decide whether two starts are the same: float32 weights hold seven."""

Identity = tuple[Run, str, str]
"""A run as the table names it, its data's fingerprint, and its start's."""


class Inputs(NamedTuple):
    """What of a task's data decides a spec, named as in ``Data``, and the data's fingerprint."""

    inputs: int
    input_variance: float
    autocorrelation: float
    spectrum: tuple[float, ...] | None
    padding: Padding | None
    fingerprint: str


@lru_cache(maxsize=256)
def inputs_of(task: str, T: int, files: tuple[str, ...]) -> Inputs:
    """Return what decides a spec for a task at one length; the data themselves are not kept."""
    data: Data = TASKS[task].make(T, files)
    return Inputs(data.inputs, data.input_variance, data.autocorrelation, data.spectrum, data.padding, data.fingerprint)


def spec_of(run: Run, inputs: Inputs | Data) -> critinit.InitSpec | None:
    """Return the spec of the run's scheme, or in the file that it names; None where the module's own weights stay.

    Of a start that is set by hand it is the spec of the units that no group takes.

    Raises:
        ArgumentError: There is none for the run's cell and layers.
    """
    if run.scheme in (DEFAULT, DIAGONAL):
        return None
    if by_hand := grouped(run.scheme):
        return spec_of(replace(run, scheme=by_hand.rest), inputs)
    if run.scheme == CHRONO_BIASES:
        return _rebiased(*(spec_of(replace(run, scheme=name), inputs) for name in ("torch", "chrono")))
    if run.scheme == NORMALIZED:
        return _generated(
            "layernorm_lstm", run.T, scheme="orthogonal", hidden_size=run.hidden, input_size=inputs.inputs
        )
    if not run.scheme.endswith(".json"):
        return _generated(
            run.cell,
            run.T,
            scheme=run.scheme,
            layers=run.layers,
            input_variance=inputs.input_variance,
            input_autocorrelation=inputs.autocorrelation,
            input_spectrum=inputs.spectrum,
            padding=inputs.padding,
            hidden_size=run.hidden,
            input_size=inputs.inputs,
        )
    spec = critinit.load(run.scheme)
    if (spec.cell, len(spec.layers)) != (run.cell, run.layers):
        found = f"{spec.cell} of {len(spec.layers)} layer(s)"
        raise ArgumentError(found=found, allowed=f"{run.cell} of {run.layers}, as the run has it", source=run.scheme)
    return spec


@lru_cache(maxsize=1024)
def _generated(cell: str, T: int, **arguments: Any) -> critinit.InitSpec:
    """``generate``, kept: a prediction takes a second, and every seed and learning rate has the same."""
    return critinit.generate(cell, T, **arguments)


def fingerprint(spec: critinit.InitSpec | None) -> str:
    """Return eight hexadecimal digits of a hash over the gates of all layers; nothing for PyTorch's own weights.

    Numbers count to ``_DIGITS`` digits, so machines that round differently agree.
    """
    if spec is None:
        return ""
    kept = ("gates", "groups")
    drawn = [{k: _rounded(layer[k]) for k in kept if k in layer} for layer in spec.to_dict()["layers"]]
    return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()[:8]


def start_of(run: Run, spec: critinit.InitSpec | None) -> str:
    """Return the fingerprint of a run's start, whose spec is given: that of the spec, and of what is set by hand."""
    found, by_hand = fingerprint(spec), grouped(run.scheme)
    return f"{found}-{by_hand.fingerprint}" if by_hand else found


def _rebiased(kernels: critinit.InitSpec | None, biases: critinit.InitSpec | None) -> critinit.InitSpec:
    """The kernels of one spec with the biases of another."""
    assert kernels is not None
    assert biases is not None
    document = kernels.to_dict()
    for layer, other in zip(document["layers"], biases.to_dict()["layers"], strict=True):
        layer.pop("predicted", None)
        for name, gate in layer["gates"].items():
            gate["bias"] = other["gates"][name]["bias"]
    document.pop("target", None)
    return critinit.parse(document)


def _rounded(node: Any) -> Any:
    """A JSON value with its numbers rounded; next to nothing is nothing."""
    if isinstance(node, dict):
        return {key: _rounded(value) for key, value in node.items()}
    if isinstance(node, float):
        return float(f"{node:.{_DIGITS}g}") if abs(node) > 10.0**-_DIGITS else 0.0
    return node


def identity(run: Run) -> Identity:
    """Return the identity that a result must have to be this run's."""
    inputs = inputs_of(run.task, run.T, run.files)
    return run.key, inputs.fingerprint, start_of(run, spec_of(run, inputs))


def found_of(result: Result) -> Identity:
    """Return the identity of a result."""
    return result.run.key, result.data, result.start
