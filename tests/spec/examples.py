"""Plain specs to start from: one gate part alike in all, an LSTM with a spread and a coupled bias, groups of units."""

from __future__ import annotations

import copy
from typing import Any

from critinit.cells import find_cell
from critinit.spec import InitSpec
from critinit.spec.reading import validate_object

__all__ = ["gate", "grouped_object", "plain", "plain_object", "spread_lstm", "spread_object"]


def gate(bias: dict[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    return {
        "recurrent": {"distribution": "normal", "variance": 1e-5},
        "input": {"distribution": "normal", "variance": 1.0},
        "bias": bias or {"distribution": "constant", "mean": 0.5},
    } | parts


def plain_object(cell: str = "gru", layers: int = 1) -> dict[str, Any]:
    found = find_cell(cell)
    gains = {"recurrent_gain": 0.1, "input_gain": 1.0} if found.normalized else {}
    layer: dict[str, Any] = {"input": {"variance": 2.0}, "gates": {name: gate(**gains) for name in found.gates}}
    if found.keeps_normalized:
        layer["memory_gain"] = 0.3
    if found.projects:
        layer["projection"] = {"kernel": {"distribution": "orthogonal", "variance": 1.0}, "width": 0.5}
    return {
        "schema_version": 1,
        "cell": cell,
        "scheme": "critical",
        "T": 100,
        "layers": [copy.deepcopy(layer) for _ in range(layers)],
    }


def plain(cell: str = "gru", layers: int = 1) -> InitSpec:
    return validate_object(plain_object(cell, layers))


def spread_object() -> dict[str, Any]:
    value = plain_object("lstm")
    gates = value["layers"][0]["gates"]
    gates["forget"] = gate({"distribution": "log_uniform_time", "min_time": 1.05, "max_time": 784.0})
    gates["input"] = gate({"distribution": "coupled", "to": "forget", "sign": -1})
    value["target"] = {"quantity": "time_scale", "wanted": 784.0, "reached": 784.0}
    return value


def spread_lstm() -> InitSpec:
    return validate_object(spread_object())


def grouped_object(*shares: float, cell: str = "gru") -> dict[str, Any]:
    """A spec whose one layer has a group of units for each share."""
    value = plain_object(cell)
    gates = value["layers"][0].pop("gates")
    value["layers"][0]["groups"] = [
        {"name": f"group {n}", "share": share, "gates": copy.deepcopy(gates)} for n, share in enumerate(shares)
    ]
    return value
