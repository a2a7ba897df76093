"""The networks of these experiments: GRUs with one bias for all units, as in the paper, and tied weights."""

from __future__ import annotations

from typing import Any

from critinit.spec import InitSpec
from critinit.spec.reading import validate_object

__all__ = ["on_the_line", "with_bias"]


def _gate(recurrent: float, feed: float, mean: float) -> dict[str, Any]:
    def kernel(variance: float) -> dict[str, Any]:
        return {"distribution": "normal" if variance else "zero", "variance": variance}

    return {
        "recurrent": kernel(recurrent),
        "input": kernel(feed),
        "bias": {"distribution": "constant", "mean": mean, "variance": 0.0},
    }


def _gru(cell: str, update: dict[str, Any], reset: dict[str, Any], candidate: dict[str, Any], *, T: int) -> InitSpec:
    """A GRU from its three gates; ``cell`` is ``gru`` or ``gru_reset_before``."""
    gates = {"update": update, "reset": reset, "candidate": candidate}
    layer = {"input": {"variance": 1.0}, "gates": gates}
    return validate_object({"schema_version": 1, "cell": cell, "scheme": "custom", "T": T, "layers": [layer]})


def with_bias(mean: float, T: int) -> InitSpec:
    """Return a spec with recurrent variances of common size; ``mean`` is the bias of the gate that keeps the state."""
    gates = _gate(0.5, 0.5, mean), _gate(0.7, 0.3, 1.0), _gate(1.5, 0.8, 0.0)
    return _gru("gru_reset_before", *gates, T=T)


def on_the_line(alpha: float, T: int) -> InitSpec:
    """Return a spec with update bias 3, reset bias 2 and the candidate's recurrent variance 2α.

    By the untied theory it forgets in 10 steps for every α.  By the tied theory α = 1 is nearly critical, and chaos
    begins beyond.
    """
    gates = _gate(0.0, 0.0, 3.0), _gate(0.0, 0.0, 2.0), _gate(2.0 * alpha, 0.1, 0.0)
    return _gru("gru", *gates, T=T)
