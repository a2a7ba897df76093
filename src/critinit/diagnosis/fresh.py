"""Whether weights that look untrained are those that a spec asks for, part by part and roughly.

Training moves every part.  So where most parts are as the spec says and a few are far off, those few were changed by a
mistake.  ``critinit.check`` tests every part exactly; here moments are compared, which costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from critinit.diagnosis.findings import Finding
from critinit.spec import InitSpec
from critinit.tensors.recurrence import LayerWeights
from critinit.tensors.sampling import Draw, Part, draws_of

__all__ = ["parts_that_differ"]

_CHANCE = 6.0
"""Standard errors within which a moment is as asked."""
_ROUNDING = 1e-4
"""How far a number that is fixed may be off, relative to 1 or to itself: rounding in half precision is four times as
much, but Adam's first step at the smallest usual rate is as much."""
_FAR_SIZE = 1.5
"""A part is far off where its root mean square is by this factor another ..."""
_FAR_MEAN = 1.0
"""... or its mean by so much, in pre-activations."""
_MOST = 0.4
"""Share of the parts that may be off in weights that count as untrained."""


def parts_that_differ(spec: InitSpec, layer: int, direction: int, weights: LayerWeights) -> Iterator[Finding]:
    """Yield a finding where weights that look untrained are far from what a spec asks for.

    Args:
        spec: The spec.
        layer: The spec's layer.
        direction: 0 forward, 1 backward.
        weights: The weights.
    """
    draws = draws_of(
        spec,
        layer,
        seed=0,
        input_size=weights.inputs,
        hidden_size=weights.units,
        projection_size=None if weights.projection is None else weights.outputs,
        direction=direction,
    )
    compared = [(draw, found) for draw in draws.values() if (found := _part(weights, draw.gate, draw.part)) is not None]
    off = [(draw, found) for draw, found in compared if not _is_as_asked(draw, found)]
    far = [(draw, found) for draw, found in off if _is_far(draw, found)]
    if far and len(off) == len(far) and len(off) <= _MOST * len(compared):
        words = ", ".join(_words(draw, found) for draw, found in far)
        yield Finding("differs", f"differs from the spec, though it looks untrained: {words} (critinit check says more)")


def _part(weights: LayerWeights, gate: str, part: Part) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]] | None:
    """The numbers of a part."""
    if part == "projection":
        return weights.projection
    if part == "memory_gain":
        return weights.memory_gain
    found: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.floating]]] = dict(getattr(weights, part))
    return found.get(gate)


def _is_as_asked(draw: Draw, x: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> bool:
    wanted, variance = _wanted(draw)
    size = max(math.sqrt(variance), abs(wanted))
    if variance == 0.0:
        return bool(np.abs(x - wanted).max() <= _ROUNDING * max(1.0, abs(wanted)))
    degrees = x.size if x.ndim == 2 else len(x)
    # fourth moments of the distributions that there are: at most 3, of spread biases at most so
    mean_error, square_error = math.sqrt(variance / degrees), variance * math.sqrt(2.0 / degrees)
    rounding = _ROUNDING * size
    return bool(
        abs(float(x.mean()) - wanted) <= _CHANCE * mean_error + rounding
        and abs(float(x.var()) - variance) <= _CHANCE * square_error + rounding * size
    )


def _is_far(draw: Draw, x: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> bool:
    wanted, variance = _wanted(draw)
    if x.ndim == 1:
        return abs(float(x.mean()) - wanted) >= _FAR_MEAN
    asked, found = math.sqrt(variance + wanted**2), math.sqrt(float(np.mean(x.astype(np.float64) ** 2)))
    return not asked / _FAR_SIZE < found < asked * _FAR_SIZE


def _wanted(draw: Draw) -> tuple[float, float]:
    """Mean and variance of an entry."""
    return draw.mean, draw.variance / draw.fan_in


def _words(draw: Draw, x: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> str:
    name = f"{draw.gate} {draw.part.replace('_', ' ')}".strip()
    if x.ndim == 1:
        return f"{name} of mean {float(x.mean()):.3g} instead of {draw.mean:.3g}"
    return f"{name} kernel of variance {float(np.mean(x.astype(np.float64) ** 2)) * x.shape[1]:.3g} " + (
        f"instead of {draw.variance:.3g}"
    )
