"""The hyperparameters that theory is held to: drawn from fixed seeds, half of them near criticality.

Near criticality a keep gate leaks 1 − f of a few thousandths a step, and gains of the loop from below to above 1 put
the growth on either side of chaos.  The loop's gain is that of the candidate's kernel
times what else is in it (an open reset or output gate); of the minimal RNN, which has no candidate, that of the gate.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from critinit.cells import CELLS, find_cell
from critinit.spec import InitSpec
from critinit.spec.reading import validate_object
from tests.theory import oracle

__all__ = ["ABOVE", "ANYWHERE", "KINDS", "NEAR", "NEWER", "Point", "newer", "points"]

NEAR = 54
"""Points near criticality: the first ones, six of every cell."""
WIDE = 46
"""Points anywhere."""
KINDS = (
    "below, Gaussian", "below, orthogonal", "just below, orthogonal", "just above, orthogonal",
    "spread biases", "spread biases, coupled loop",
)  # fmt: skip
"""Where a cell's six points near criticality lie."""
ABOVE, ANYWHERE = KINDS[3], "anywhere"
"""Where small differences grow; and what the points are called that are drawn from wide ranges."""
GAINS = {0: (0.2, 0.5), 1: (0.3, 0.6), 2: (0.6, 0.8), 3: (1.8, 2.2), 4: (0.0, 0.0), 5: (0.2, 0.6)}
"""Gain of the loop by kind."""
LEAKS = {0: (0.0022, 0.0045), 1: (0.0022, 0.0045), 2: (0.003, 0.006), 3: (0.04, 0.1), 4: (0.0022, 0.0045)}
"""Leak of the keep gate a step, by kind: faster beyond criticality, where growth takes many leaks to show."""
EMBEDDING_GAINS = {0: (0.02, 0.05), 1: (0.05, 0.1), 2: (0.1, 0.2), 3: (0.2, 0.3), 4: (0.0, 0.0), 5: (0.02, 0.05)}
"""σ²·leak·R of a cell whose only recurrent kernel is the gate's."""
NEWER = ("relu_rnn", "ugrnn", "layernorm_gru", "layernorm_lstm", "layernorm_lstm_kept")
"""Cells that came after the hundred points were drawn; they have points of their own."""
_SMALL = 0.05
"""What takes the place of a small state's second moment, which a normalized cell's kernels do not read."""
SPREAD = 4
"""The first kind with biases that are spread."""


class Point(NamedTuple):
    """One point.

    Attributes:
        index: Its number.
        kind: One of ``KINDS``, or ``ANYWHERE``.
        spec: The hyperparameters, and T.
        burn_in: Steps from rest until the state is stationary, with weights that stay and with fresh ones.
    """

    index: int
    kind: str
    spec: InitSpec
    burn_in: tuple[int, int]


def points() -> list[Point]:
    """Return all points; the same at every call."""
    cells = [name for name in CELLS.built_in if name in oracle.CELLS and name not in NEWER]
    near = [_near(i, cells[i % len(cells)], i // len(cells)) for i in range(NEAR)]
    return near + [_anywhere(NEAR + i, cells[i % len(cells)]) for i in range(WIDE)]


def newer() -> list[Point]:
    """Return the points of the cells in ``NEWER``, three each: two with a slow keep gate where theory has numbers."""
    first, made = NEAR + WIDE, []
    for name in NEWER:
        for kind in (1, SPREAD, None):
            index = first + len(made)
            if find_cell(name).keep_gate is None:
                made.append(_without_bound(index, name))
            elif kind is None or find_cell(name).keeps_normalized:  # untied, a slow memory of this kind has no numbers
                made.append(_anywhere(index, name))
            else:
                made.append(_near(index, name, kind))
    return made


def _without_bound(index: int, name: str) -> Point:
    """A ReLU network: χ = σ²/2, below 1 by more than networks of 1,000 units scatter."""
    rng = np.random.default_rng([32, index])
    variance = 2.0 * math.exp(-rng.uniform(0.1, 0.6))
    kernel = ("normal", "orthogonal", "uniform")[index % 3]
    gates = {"hidden": _gate(kernel, variance, rng.uniform(0.3, 1.0), _constant(0.0))}
    return Point(index, ANYWHERE, _spec(name, 10, gates, 1.0, None), (150, 150))


def _normalized(gates: dict[str, Any], power: float) -> dict[str, Any]:
    """The gates of a normalized cell, with the gains that the kernels' variances are."""
    return {
        name: {
            "recurrent": {**gate["recurrent"], "variance": 1.0 if gate["recurrent"]["variance"] else 0.0},
            "input": {**gate["input"], "variance": 1.0},
            "bias": gate["bias"],
            "recurrent_gain": float(f"{math.sqrt(gate['recurrent']['variance']):.6g}"),
            "input_gain": float(f"{math.sqrt(gate['input']['variance'] * power):.6g}"),
        }
        for name, gate in gates.items()
    }


def _gate(distribution: str, recurrent: float, feed: float, bias: dict[str, Any]) -> dict[str, Any]:
    kind = distribution if recurrent else "zero"
    return {
        "recurrent": {"distribution": kind, "variance": float(f"{recurrent:.6g}")},
        "input": {"distribution": "normal", "variance": float(f"{feed:.6g}")},
        "bias": bias,
    }


def _constant(mean: float) -> dict[str, Any]:
    return {"distribution": "constant", "mean": float(f"{mean:.6g}"), "variance": 0.0}


def _spec(name: str, T: int, gates: dict[str, Any], power: float, projection: dict[str, Any] | None) -> InitSpec:
    cell = find_cell(name)
    gates = _normalized(gates, power) if cell.normalized else gates
    layer = {"input": {"variance": float(f"{power:.6g}"), "correlation": 1.0}, "gates": gates}
    if cell.normalized and cell.has_readout:
        layer["memory_gain"] = 1.0
    if projection is not None:
        layer["projection"] = projection
    return validate_object({"schema_version": 1, "cell": name, "scheme": "custom", "T": T, "layers": [layer]})


def _near(index: int, name: str, kind: int) -> Point:
    rng = np.random.default_rng([30, index])
    cell = find_cell(name)
    if cell.keep_gate is None:
        return _near_without_memory(index, name, kind, rng)
    spread = kind >= SPREAD
    T = int(rng.integers(150, 220) if spread else rng.integers(90, 180))
    leak = rng.uniform(*(LEAKS[min(kind, 4)] if not cell.embeds_input else LEAKS[0]))
    gain = rng.uniform(*(EMBEDDING_GAINS if cell.embeds_input else GAINS)[kind])
    kernel = "normal" if kind in (0, 4, 5) or cell.projects else "orthogonal"
    power, open_gate = rng.uniform(0.5, 1.5), rng.uniform(0.5, 2.0)
    gates: dict[str, Any] = {}
    for gate in cell.gates:
        aside, feed = rng.uniform(0.02, 0.3), rng.uniform(0.02, 0.05 if cell.embeds_input else 0.3) / power
        bias = _constant(0.0 if gate == cell.candidate_gate else open_gate)
        if gate == cell.keep_gate:
            bias = _constant(math.log(1.0 / leak - 1.0))
            if spread:
                shortest, longest = (float(f"{T * x:.6g}") for x in (0.7, rng.uniform(2.0, 3.0)))
                bias = {"distribution": "log_uniform_time", "min_time": shortest, "max_time": longest}
        elif gate == cell.write_gate:
            bias = {"distribution": "coupled", "to": cell.keep_gate, "sign": -1}
        if gate == cell.candidate_gate:
            slope = 1.0 / math.sqrt(1.0 + 2.0 * feed * power)  # about E tanh' at an input variance of feed·power
            recurrent = (gain / (slope * _others(name, open_gate, leak))) ** 2 * (_SMALL if cell.normalized else 1.0)
        elif gate == cell.keep_gate and cell.embeds_input:
            recurrent = gain / (leak * power)
        else:
            recurrent = 0.0 if kind == SPREAD else 0.1 * aside if gate == cell.keep_gate else aside
        gates[gate] = _gate(kernel, recurrent, feed, bias)
    projection = None
    if cell.projects:
        projection = {"kernel": {"distribution": "orthogonal", "variance": 1.0}, "width": float(rng.uniform(0.3, 0.8))}
    alone = 6 * T if spread else int(3.0 / leak)  # three of the longest time constants
    alone = max(alone, 300)
    slowed = 0.0 if spread or cell.embeds_input or gain >= 1.0 else gain
    burn_in = int(alone / (1.0 - slowed)), alone
    return Point(index, KINDS[kind], _spec(name, T, gates, power, projection), burn_in)


def _near_without_memory(index: int, name: str, kind: int, rng: np.random.Generator) -> Point:
    """h' = tanh(u) at pre-activations of variance q: ln χ = ln σ² E sech⁴ u is what is drawn, and ν²R = q − σ² E h²."""
    z, weight = np.polynomial.hermite_e.hermegauss(61)
    weight = weight / weight.sum()
    gaussian = kind == 0
    q = rng.uniform(0.6, 1.2) if gaussian else rng.uniform(0.1, 0.5)
    h = np.tanh(math.sqrt(q) * z)
    side = -1.0 if kind in (0, 1, 4) else 1.0
    rate = rng.uniform(*((0.01, 0.02) if kind == SPREAD else (0.007, 0.009) if gaussian else (0.002, 0.009)))
    variance = math.exp(side * rate) / float(weight @ (1.0 - h * h) ** 2)
    outside = q - variance * float(weight @ (h * h))
    bias = _constant(0.0)
    if kind >= SPREAD:
        bias = {"distribution": "normal", "mean": 0.0, "variance": float(f"{0.2 * outside:.6g}")}
        outside *= 0.8
    gates = {"hidden": _gate("normal" if gaussian else "orthogonal", variance, outside, bias)}
    return Point(
        index, KINDS[kind], _spec(name, 30 if gaussian else int(rng.integers(40, 100)), gates, 1.0, None), (150, 150)
    )


def _others(name: str, open_gate: float, leak: float) -> float:
    """What else is in the loop of the candidate's kernel: an open gate, or the leak of a gate that also scales it."""
    sigmoid = 1.0 / (1.0 + math.exp(-open_gate))
    return {"gru": sigmoid, "gru_reset_before": sigmoid, "mgu": leak, "lstm": sigmoid, "coupled_lstm": sigmoid,
            "projection_lstm": sigmoid}.get(name, 1.0)  # fmt: skip


def _anywhere(index: int, name: str) -> Point:
    rng = np.random.default_rng([31, index])
    cell = find_cell(name)
    kernel = str(rng.choice(["normal", "normal", "normal" if cell.projects else "orthogonal", "uniform"]))
    spread = bool(rng.random() < 0.25)
    gates: dict[str, Any] = {}
    for gate in cell.gates:
        mean = float(rng.uniform(-1.0, 2.5)) if gate != cell.candidate_gate else 0.0
        bias = _constant(mean)
        if spread and gate == cell.keep_gate:
            longest = float(f"{rng.uniform(10, 60):.6g}")
            bias = {"distribution": "log_uniform_time", "min_time": 1.05, "max_time": longest}
        elif rng.random() < 0.3:
            variance = float(f"{rng.uniform(0.05, 0.5):.6g}")
            bias = {"distribution": "normal", "mean": bias["mean"], "variance": variance}
        top = 2.0 if gate == cell.candidate_gate else 1.5
        recurrent = float(np.exp(rng.uniform(math.log(0.02), math.log(top))))
        gates[gate] = _gate(kernel, recurrent, float(rng.uniform(0.05, 1.5)), bias)
    projection = None
    if cell.projects:
        own = {"distribution": str(rng.choice(["orthogonal", "normal"])), "variance": float(rng.uniform(0.5, 1.5))}
        projection = {"kernel": own, "width": float(rng.uniform(0.2, 0.8))}
    T = int(rng.choice([10, 20, 50]))
    return Point(index, ANYWHERE, _spec(name, T, gates, float(rng.uniform(0.3, 1.5)), projection), (150, 150))
