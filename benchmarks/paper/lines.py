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


def _gru(update: dict[str, Any], reset: dict[str, Any], candidate: dict[str, Any], *, T: int, how: str) -> InitSpec:
    """A GRU from its three gates; ``how``: where the reset gate acts."""
    gates = {"update": update, "reset": reset, "candidate": candidate}
    layer = {"input": {"variance": 1.0}, "gates": gates}
    return validate_object(
        {"schema_version": 1, "cell": "gru", "reset": how, "scheme": "custom", "T": T, "layers": [layer]}
    )


def with_bias(mean: float, T: int) -> InitSpec:
    """Recurrent variances of common size; ``mean``: the update gate's bias, which keeps the state."""
    return _gru(_gate(0.5, 0.5, mean), _gate(0.7, 0.3, 1.0), _gate(1.5, 0.8, 0.0), T=T, how="before")


def on_the_line(alpha: float, T: int) -> InitSpec:
    """Update bias 3, reset bias 2, candidate's recurrent variance 2α: untied it forgets in 10 steps all along.

    Tied, α = 1 is nearly critical, and chaos begins beyond.
    """
    return _gru(_gate(0.0, 0.0, 3.0), _gate(0.0, 0.0, 2.0), _gate(2.0 * alpha, 0.1, 0.0), T=T, how="after")
