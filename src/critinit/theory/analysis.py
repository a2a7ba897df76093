"""What theory says of a spec, in the numbers that specs and commands show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from critinit.cells import Cell
from critinit.errors import ArgumentError, Problem
from critinit.showing import Shown, Table
from critinit.distributions.numbers import StrictModel
from critinit.spec.model import InitSpec, Jacobian, Layer, NotComputed, Numbers, Predicted, TimeConstants
from critinit.spec.tables import numbers_table
from critinit.theory.parameters import has_identity, layer_parameters
from critinit.theory.untied.solution import Untied, time_constants, solve

__all__ = [
    "Analysis",
    "LayerAnalysis",
    "Weights",
    "analyze",
    "deviations",
    "fast_numbers",
    "predict",
    "reached",
    "untied_numbers",
]

Weights = Literal["untied", "tied", "both"]

_DIGITS = 6
_LARGEST = 1e100
_LONGEST = 1e15
_TOLERANCE = 1e-3


class LayerAnalysis(StrictModel):
    """One layer; None where it was not asked for or, untied, has no reading (identity kernels)."""

    untied: Numbers | None = None
    tied: Numbers | None = None


class Analysis(Shown, StrictModel):
    """The numbers of every layer."""

    layers: tuple[LayerAnalysis, ...]

    def _tables(self) -> Iterator[Table]:
        for index, layer in enumerate(self.layers):
            readings = {name: numbers for name, numbers in layer if numbers is not None}
            yield numbers_table(f"layer {index}", readings)


def analyze(
    spec: InitSpec,
    *,
    weights: Weights = "both",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """What theory says of every layer of ``spec``.

    ``weights``: "untied" (drawn anew at every step: the published theory, exact quadrature), "tied" (one set of
    weights, as real networks have: the causal dynamic mean field, sampled with ``seed`` and given with standard
    errors) or "both"; ``progress(done, total)`` is called while sampling.  Raises ``ArgumentError`` for another value of ``weights``.
    """
    if weights not in ("untied", "tied", "both"):
        raise ArgumentError(f"weights: found {weights!r}; allowed: untied, tied, both")
    sampled: tuple[Numbers | None, ...] = (None,) * len(spec.layers)
    if weights != "untied":
        from critinit.theory.tied.solution import tied

        sampled = tied(spec, seed=seed, progress=progress)
    layers = []
    for index, layer in enumerate(spec.layers):
        untied = untied_numbers(spec, layer) if weights != "tied" else None
        layers.append(LayerAnalysis(untied=untied, tied=sampled[index]))
    return Analysis(layers=tuple(layers))


def untied_numbers(spec: InitSpec, layer: Layer) -> Numbers | None:
    """The untied theory of one layer; None where an identity kernel leaves it without a reading."""
    if has_identity(layer.gates):
        return None
    solution = _solution(spec.find_cell(), _bare(layer))
    values = (solution.second_moment, solution.memory_moment, solution.chi, solution.jacobian_variance)
    if not all(np.isfinite(float(v)) for v in values) or solution.jacobian_variance > _LARGEST:
        raise ArgumentError("these variances and biases are beyond the range of the theory: its moments overflow")
    return _numbers(spec, solution)


@lru_cache(maxsize=8)
def _solution(cell: Cell, layer: Layer) -> Untied:
    """The solved layer, kept: a spec and its target, and layers that are alike, ask for the same one."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return solve(layer_parameters(cell, layer))


def _bare(layer: Layer) -> Layer:
    """The layer without its prediction: layers that are alike are equal."""
    return layer.model_copy(update={"predicted": Predicted()})


def _rounded(x: Any, limit: float = _LARGEST) -> float:
    """Six digits: what is left of differences between machines stays below."""
    x = min(float(x), limit)
    return float(f"{x:.{_DIGITS}g}")


def _numbers(spec: InitSpec, solution: Untied) -> Numbers:
    chi = float(solution.chi)
    with np.errstate(over="ignore", invalid="ignore"):
        retention = max(float(solution.retention(spec.T)), 0.0)  # of next to nothing, rounding is left
    notes = []
    if not bool(solution.converged):
        notes.append("the fixed point was not reached; the numbers are those of the last iterate")
    if bool(solution.several):
        notes.append("several fixed points: these are the numbers of the one reached from rest")
    if not retention <= _LARGEST:
        notes.append("retention is beyond 1e100")
    shortest, median, longest = (float(t) for t in solution.time_constants)
    return _stated(
        Numbers(
            second_moment=float(solution.second_moment),
            cell_second_moment=float(solution.memory_moment) if spec.find_cell().has_readout else None,
            chi=min(chi, _LARGEST),
            time_scale=None if chi >= 1.0 else (-1.0 / math.log(chi) if chi > 0 else 0.0),
            retention=retention if retention <= _LARGEST else _LARGEST,
            unit_time_constants=TimeConstants(min=shortest, median=median, max=longest),
            jacobian=Jacobian(
                mean_squared_singular_value=min(float(solution.jacobian_mean), _LARGEST),
                variance=float(solution.jacobian_variance),
            ),
            notes=tuple(notes),
        )
    )


def _stated(numbers: Numbers) -> Numbers:
    """The numbers as specs state them: six digits, nothing beyond the largest."""
    memory, scale, jacobian = numbers.cell_second_moment, numbers.time_scale, numbers.jacobian
    times = numbers.unit_time_constants.model_dump()
    return numbers.model_copy(
        update={
            "second_moment": _rounded(numbers.second_moment),
            "cell_second_moment": None if memory is None else _rounded(memory),
            "chi": _rounded_near_one(numbers.chi),
            "time_scale": None if scale is None else _rounded(scale),
            "retention": _rounded(numbers.retention),
            "unit_time_constants": TimeConstants(**{name: _rounded(x, _LONGEST) for name, x in times.items()}),
            "jacobian": Jacobian(
                mean_squared_singular_value=_rounded_near_one(jacobian.mean_squared_singular_value),
                variance=_rounded(round(jacobian.variance, 12)),
            ),
        }
    )


def _rounded_near_one(x: float) -> float:
    """Six digits of x, and of 1 − x where x is nearly 1: the distance from criticality is what matters."""
    x = min(x, _LARGEST)
    return 1.0 - _rounded(1.0 - x) if 0.9 < x < 1.1 else _rounded(x)


def predict(spec: InitSpec) -> InitSpec:
    """The spec with ``predicted`` computed for every layer, and its target's ``reached`` brought up to date."""
    layers = tuple(
        layer.model_copy(
            update={"predicted": Predicted(untied=untied_numbers(spec, layer), tied=fast_numbers(spec, layer))}
        )
        for layer in spec.layers
    )
    return spec.model_copy(update={"layers": layers})


def fast_numbers(spec: InitSpec, layer: Layer) -> Numbers | NotComputed:
    """The fast estimate of the tied theory for one layer, with inputs of correlation 1 (``theory.tied_fast``).

    ``NotComputed`` where its numbers overflow.
    """
    source = layer.input.model_copy(update={"correlation": 1.0})
    same = layer.model_copy(update={"input": source, "predicted": Predicted()})
    return _fast(spec.find_cell(), same, spec.T, untied_numbers(spec, same))


@lru_cache(maxsize=8)
def _fast(cell: Cell, layer: Layer, T: int, untied: Numbers | None) -> Numbers | NotComputed:
    from critinit.theory.tied.estimate import fast_tied

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = fast_tied(cell, layer, T, untied)
    return NotComputed() if found is None else _stated(found)


def reached(spec: InitSpec, quantity: str) -> float | None:
    """What a spec reaches of a target's quantity (first layer); None where it is unbounded."""
    layer = spec.layers[0]
    if quantity == "time_scale":
        untied = untied_numbers(spec, layer)
        return None if untied is None else untied.time_scale
    if layer.input.padding_power == layer.input.variance:
        times = _solution(spec.find_cell(), _bare(layer)).time_constants
    else:
        times = time_constants(layer_parameters(spec.find_cell(), layer, input_variance=layer.input.padding_power))
    return _rounded(min(float(np.max(times)), _LONGEST))


def deviations(spec: InitSpec) -> list[Problem]:
    """Where ``predicted`` no longer holds or the target is missed; empty where all holds.

    Numbers count as holding to 1e-3 of their value (of 1e-6 in absolute terms).
    """
    found = []
    for index, layer in enumerate(spec.layers):
        fresh = Predicted(untied=untied_numbers(spec, layer), tied=fast_numbers(spec, layer))
        for kind in ("untied", "tied"):
            written, now = getattr(layer.predicted, kind), getattr(fresh, kind)
            path = f"layers.{index}.predicted.{kind}"
            if isinstance(written, NotComputed) or isinstance(now, NotComputed):
                continue
            if written is None or now is None:
                if (written is None) != (now is None):
                    found.append(Problem(path, "numbers" if now is None else "null", "theory has the other"))
                continue
            found += [
                Problem(f"{path}.{name}", _shown(a), f"theory says {_shown(b)}")
                for name, a, b in _pairs(written, now)
                if not _close(a, b)
            ]
    if spec.target is not None:
        found += _missed(spec)
    return found


def _missed(spec: InitSpec) -> list[Problem]:
    assert spec.target is not None
    target = spec.target
    now = reached(spec, target.quantity)
    if not _close(target.reached, now):
        return [Problem("target.reached", _shown(target.reached), f"theory says {_shown(now)}")]
    if now is not None and now < target.wanted * (1.0 - _TOLERANCE):
        why = f" ({target.limit})" if target.limit else ""
        return [Problem("target", _shown(now), f"the scheme aims at {target.quantity} {_shown(target.wanted)}{why}")]
    return []


def _pairs(a: Numbers, b: Numbers) -> list[tuple[str, float | None, float | None]]:
    scalars = ("second_moment", "cell_second_moment", "chi", "time_scale", "retention")
    pairs = [(name, getattr(a, name), getattr(b, name)) for name in scalars]
    for group in ("unit_time_constants", "jacobian"):
        one, other = getattr(a, group), getattr(b, group)
        pairs += [(f"{group}.{name}", getattr(one, name), getattr(other, name)) for name in type(one).model_fields]
    return pairs


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= _TOLERANCE * max(abs(a), abs(b)) + 1e-6


def _shown(x: float | None) -> str:
    return "null" if x is None else f"{x:.6g}"
