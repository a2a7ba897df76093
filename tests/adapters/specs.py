"""Specs for the adapters' tests: every gate has numbers of its own, so that no two can be mistaken."""

from __future__ import annotations

from typing import Any

from critinit.spec import InitSpec, parse

GATES = {
    "rnn": ("hidden",),
    "relu_rnn": ("hidden",),
    "minimal_rnn": ("update",),
    "gru": ("update", "reset", "candidate"),
    "gru_reset_before": ("update", "reset", "candidate"),
    "ugrnn": ("update", "candidate"),
    "lstm": ("input", "forget", "cell", "output"),
    "peephole_lstm": ("input", "forget", "cell"),
    "mgu": ("update", "candidate"),
}
SPREAD = {"distribution": "log_uniform_time", "min_time": 1.2, "max_time": 60.0}


def make_spec(
    cell: str,
    /,
    layers: int = 1,
    *,
    recurrent: str = "normal",
    bias: dict[str, Any] | None = None,
    **changes: dict[str, Any],
) -> InitSpec:
    """A spec of ``layers`` layers.

    ``recurrent``: the recurrent kernels' distribution.  ``bias``: that of all gates; by default a spread, a
    coupled, a normal and a constant one.  ``changes``: gate name -> parts that replace the default's.
    """
    biases: list[dict[str, Any]] = [
        {"distribution": "constant", "mean": 0.3, "variance": 0.0},
        SPREAD,
        {"distribution": "normal", "mean": -0.4, "variance": 0.2},
        {"distribution": "constant", "mean": 1.1, "variance": 0.0},
    ]
    if cell in ("lstm", "peephole_lstm"):
        biases[0] = {"distribution": "coupled", "to": "forget", "sign": -1}

    def gate(layer: int, n: int) -> dict[str, Any]:
        return {
            "recurrent": {"distribution": recurrent, "variance": 0.3 + 0.2 * n + 0.05 * layer},
            "input": {"distribution": ("normal", "uniform")[n % 2], "variance": 0.9 - 0.2 * n},
            "bias": biases[n] if bias is None else bias,
        }

    return parse(
        {
            "schema_version": 1,
            "cell": cell,
            "scheme": "custom",
            "T": 50,
            "layers": [
                {
                    "input": {"variance": 1.0},
                    "gates": {name: {**gate(layer, n), **changes.get(name, {})} for n, name in enumerate(GATES[cell])},
                }
                for layer in range(layers)
            ],
        }
    )


def make_grouped_spec(cell: str, /, layers: int = 1, *, bias: dict[str, Any] | None = None) -> InitSpec:
    """A spec whose layers have two groups of units, a third and the rest, the first with orthogonal kernels."""
    first, second = (make_spec(cell, layers, recurrent=kind, bias=bias).to_dict() for kind in ("orthogonal", "normal"))
    for one, other in zip(first["layers"], second["layers"], strict=True):
        gates = one.pop("gates")
        one["groups"] = [
            {"name": "first", "share": 0.25, "gates": gates},
            {"name": "second", "share": 0.75, "gates": other["gates"]},
        ]
    return parse(first)
