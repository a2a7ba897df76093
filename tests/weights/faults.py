"""Helpers: freshly initialized models as flat arrays, and specs to hold them against."""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.spec import InitSpec, parse
from critinit.weights.checking import Checked, check
from critinit.weights.materializing import materialize

H, INPUT = 128, 10
CONSTANT = {"distribution": "constant", "mean": 0.0, "variance": 0.0}
SPREAD = {"distribution": "log_uniform_time", "min_time": 1.5, "max_time": 300.0}
BIASES: dict[str, dict[str, Any]] = {
    "rnn": {"hidden": {"distribution": "normal", "mean": 0.1, "variance": 0.3}},
    "gru": {"update": SPREAD, "reset": {**CONSTANT, "mean": 2.0}, "candidate": CONSTANT},
    "lstm": {
        "input": {"distribution": "coupled", "to": "forget", "sign": -1},
        "forget": SPREAD,
        "cell": CONSTANT,
        "output": {"distribution": "normal", "mean": 0.5, "variance": 0.2},
    },
}
BIASES["gru_reset_before"] = BIASES["gru"]


def orthogonal_spec(cell: str, layers: int = 1, **biases: Any) -> InitSpec:
    """Orthogonal recurrent kernels of gain 1, input kernels of variance 1, and biases that differ by gate."""
    gates = {
        gate: {
            "recurrent": {"distribution": "orthogonal", "variance": 1.0},
            "input": {"distribution": "normal", "variance": 1.0},
            "bias": biases.get(gate, bias),
        }
        for gate, bias in BIASES[cell].items()
    }
    return parse(
        {
            "schema_version": 1,
            "cell": cell,
            "scheme": "custom",
            "T": 50,
            "layers": [{"input": {"variance": 1.0}, "gates": gates}] * layers,
        }
    )


def arrays(tensors: Any) -> dict[str, np.ndarray]:
    """Plain arrays of a framework's tensors."""
    return {name: t.detach().numpy().copy() if hasattr(t, "detach") else np.array(t) for name, t in tensors.items()}


def differing(checked: Checked) -> set[tuple[int, int, str, str]]:
    """(layer, direction, gate, part) of the rows that do not match."""
    return {(row.layer, row.direction, row.gate, row.part) for row in checked.rows if not row.matches}


def found_wrong(spec: InitSpec, tensors: Any, **options: Any) -> tuple[set[tuple[str, str]], str]:
    """What differs, as (gate, part), and all hints in one text; nothing differs where the weights match."""
    checked = check(spec, arrays(tensors), **options)
    return {(gate, part) for _, _, gate, part in differing(checked)}, " | ".join(checked.hints)


def fresh(framework: str, spec: InitSpec, **changes: Any) -> dict[str, np.ndarray]:
    """Weights that follow the spec, as the framework stores them."""
    return materialize(spec, framework, **{"input_size": INPUT, "hidden_size": H, "seed": 3, **changes})
