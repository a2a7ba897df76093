"""The numbers of one layer on real sequences: what ``diagnose`` states, without what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.cells import Cell
from critinit.diagnosis.course import Course, Run, run_course
from critinit.diagnosis.sweeps import Backward, Forward, backward, forward, jacobians
from critinit.dual import Array, derivative
from critinit.errors import DataError
from critinit.spec import Jacobian, TimeConstants
from critinit.tensors.recurrence import LayerWeights

__all__ = ["LEAST_STEPS", "LayerNumbers", "layer_numbers"]

LEAST_STEPS = 3
"""Steps of the longest sequence: the first step makes the state that is perturbed, and two show a growth."""
_PLACES = 2**19
"""Multiplications that one-step Jacobians may cost by their size alone, units³ each; at least two are made ..."""
_MOST_PLACES = 4
"""... and at most four: their numbers differ little between steps."""
_FEW = 64
"""Rows of a matrix up to which all of its eigenvalues are found in less time than the largest one by itself."""
_LANCZOS = 24
"""Steps of Lanczos' method: the largest eigenvalue then has an error of about a thousandth."""
_LARGEST = 1e30
"""Size of a state from which on it counts as no longer finite: single precision ends at 1e38."""
_LOG_LARGEST = 690.0
"""ln of the largest square that is stated, 1e300: beyond it double precision overflows."""
_FLAT = 0.1
"""A unit whose mean slope is below a tenth of the largest one hardly reacts: of tanh, pre-activations beyond ±8 as a
rule, or a deviation of 8."""
_SWING = 3.0
"""Deviation in time of a pre-activation from which on a unit that hardly reacts is driven there again and again ..."""
_FAR = 8.0
"""... and mean size from which on it is beyond what a value needs that is held: units that learned to hold one had
deviations of 1 to 2 and sizes of 3 to 6, those of inputs 30 times too large deviations of 5 to 60 (medians)."""
_NO_SLOPE = 1e-6
"""Share of the largest slope below which a unit is dead, however small its pre-activation, as a ReLU below 0."""
_WITHIN, _POINTS = 10.0, 401
"""Pre-activations and points at which the largest slope of a candidate is looked for."""
_LONGEST_TIME = 1e12
"""Steps: a mean of keep is known to 1e-12 at best, so a longer 1/(1 − mean keep) would be rounding."""


@dataclass(frozen=True, slots=True)
class LayerNumbers:
    """What was measured on one layer in one direction.

    Attributes:
        units: Number of units.
        sequences: How many sequences of the batch were followed.
        steps: Steps of the longest of them; of the shortest, ``shortest``.
        shortest: Steps of the shortest.
        second_moment: Mean of h² over units and the later half of each sequence.
        cell_second_moment: The same of the memory, of a cell that has one beside h.
        unit_time_constants: 1/(1 − mean keep) over units, in steps.
        perturbation: What is left of a squared perturbation of the memory after 0, 1, … steps.
        gradient: What is left of a squared gradient that goes back 0, 1, … steps from the end.
        retention: ``perturbation`` after ``retention_steps`` steps.
        chi_over_T: Its growth per step, the ``retention_steps``-th root.
        retention_steps: The spec's T, or the steps of the longest sequence after its first one where these are fewer.
        jacobian: Mean and variance of the squared singular values of the one-step Jacobian.
        largest_singular_value: The largest singular value of one step.
        largest_singular_value_over_T: That of all steps of a sequence after its first one, mean of the logarithms.
        lyapunov: The leading Lyapunov exponents per step, largest first, over the later half of each sequence.
        lyapunov_drift: By how much each would be another if the later quarter alone was taken.
        saturated_units: Share of the units whose candidate, or read-out, hardly reacts.
        overdriven_units: Share of those whose pre-activations, or memories, swing far or lie far out; the others hold a
            value.
        ends_at: The step at which the state is no longer finite; None where it stays so.
        standard_error: Of some of these numbers by name: over sequences, of the Jacobian over places.
    """

    units: int
    sequences: int
    steps: int
    shortest: int
    second_moment: float
    cell_second_moment: float | None
    unit_time_constants: TimeConstants
    perturbation: tuple[float, ...]
    gradient: tuple[float, ...]
    retention: float
    chi_over_T: float
    retention_steps: int
    jacobian: Jacobian
    largest_singular_value: float
    largest_singular_value_over_T: float
    lyapunov: tuple[float, ...]
    lyapunov_drift: tuple[float, ...]
    saturated_units: float
    overdriven_units: float
    ends_at: int | None
    standard_error: Mapping[str, Any]


def layer_numbers(
    weights: LayerWeights,
    sequences: Sequence[NDArray[Any]],
    *,
    T: int | None,
    exponents: int,
    seed: int,
    outputs: Sequence[NDArray[Any]] | None = None,
    run: Run | None = None,
) -> LayerNumbers:
    """Measure a layer on sequences, from the zero state.

    Cost: about (2 + 2·exponents) passes of the sequences through the layer, and units³ a one-step Jacobian.

    Args:
        weights: The layer.
        sequences: Inputs of shape (steps, inputs).
        T: The steps after which the retention is stated; None, or more than there are: all.
        exponents: K, the number of perturbations, gradients and Lyapunov exponents.
        seed: Of the directions.
        outputs: What the layer gave for each of them in the model, where that is known; see ``run_course``.
        run: What runs layers; see there.

    Raises:
        DataError: No sequence has three steps.
    """
    rng = np.random.default_rng(seed)
    order = sorted((i for i, x in enumerate(sequences) if len(x) >= LEAST_STEPS), key=lambda i: -len(sequences[i]))
    if not order:
        found = f"sequences of at most {max(map(len, sequences), default=0)} steps"
        hint = "give longer ones; call= may run a model on whole sequences that is called step by step"
        raise DataError("batch", found=found, allowed=f"one of at least {LEAST_STEPS} steps", hint=hint)
    with np.errstate(over="ignore", invalid="ignore"):
        given = None if outputs is None else [outputs[i] for i in order]
        course = run_course(weights, [sequences[i] for i in order], given, run)
    course, ends_at = _finite(course)
    count = min(exponents, weights.units)
    ahead = forward(course, count, rng)
    back = backward(course, ahead.leading, count, rng)
    perturbation = _by_age(course, ahead)
    steps = min(T or course.steps, len(perturbation) - 1)
    log_retention = max(float(perturbation[steps]), -_LOG_LARGEST * 10)
    exponent, drift, error = _lyapunov(course, ahead)
    one, largest, jacobian_error = _one_step(course, rng)
    state, state_error = _second_moment(course, course.h)
    has_memory = weights.cell.has_readout and not weights.shares_state
    memory, memory_error = _second_moment(course, course.s) if has_memory else (None, None)
    saturated, overdriven = _saturated(course)
    ages = ahead.log_square[-1] / (course.lengths - 1)
    return LayerNumbers(
        units=weights.units,
        sequences=len(order),
        steps=course.steps,
        shortest=int(course.lengths[-1]),
        second_moment=state,
        cell_second_moment=memory,
        unit_time_constants=_time_constants(course),
        perturbation=_squares(perturbation),
        gradient=_squares(_by_lag(course, back)),
        retention=_square(log_retention),
        chi_over_T=_square(log_retention / steps),
        retention_steps=steps,
        jacobian=one,
        largest_singular_value=largest,
        largest_singular_value_over_T=_square(_mean(back.log_leading)),
        lyapunov=exponent,
        lyapunov_drift=drift,
        saturated_units=saturated,
        overdriven_units=overdriven,
        ends_at=ends_at,
        standard_error={
            "second_moment": state_error,
            "cell_second_moment": memory_error,
            # a perturbation of which nothing is left, as where units of a ReLU are off, has no logarithm
            "chi_over_T": _square(_mean(ages)) * _error(ages) if len(ages) > 1 and np.all(np.isfinite(ages)) else None,
            "lyapunov": error,
            **jacobian_error,
        },
    )


def _finite(course: Course) -> tuple[Course, int | None]:
    """The course up to the step from which on its state is no longer finite, and that step."""
    good = np.all(np.abs(course.s) < _LARGEST, axis=(1, 2))  # which NaN is not
    if good.all():
        return course, None
    ends = int(np.argmin(good))  # of the states
    if ends - 1 < LEAST_STEPS + int(course.starts[0]):
        raise DataError("batch", found="inputs from which the state is not finite within three steps")
    keep = course.running[ends - 1 - LEAST_STEPS]
    parts = (x[:ends, :keep] for x in (course.h, course.s))
    h, s = parts
    u = {gate: x[: ends - 1, :keep] for gate, x in course.u.items()}
    return Course(course.weights, course.starts[:keep], h, s, u), ends - 1


def _mean(x: NDArray[Any]) -> float:
    return float(np.add.reduce(x, axis=None) / x.size)  # np.mean takes three times as long for a few numbers


def _error(x: NDArray[Any]) -> float:
    """The standard error of the mean of a vector."""
    away = x - _mean(x)
    return math.sqrt(float(away @ away) / (len(x) - 1) / len(x)) if len(x) > 1 else math.nan


def _square(log: float) -> float:
    return math.exp(min(log, _LOG_LARGEST))


def _squares(logs: Array) -> tuple[float, ...]:
    return tuple(map(_square, logs))


def _second_moment(course: Course, x: Array) -> tuple[float, float | None]:
    """The mean square over units and the later half of every sequence, and its standard error over sequences."""
    late = np.arange(course.steps)[:, None] >= course.starts + course.lengths // 2
    square = np.mean(x[1:] ** 2, axis=2)
    each = np.sum(square * late, axis=0) / np.sum(late, axis=0)
    return _mean(each), None if len(each) < 2 else _error(each)


def _time_constants(course: Course) -> TimeConstants:
    """1/(1 − mean of keep) of the units, over all steps."""
    cell, u = course.weights.cell, course.u
    if cell.keep_gate is None:
        keep = np.full(course.weights.units, float(np.asarray(cell.keep({}))))
    else:
        weight = course.made() / np.sum(course.made())
        keep = np.einsum("ti,tij->j", weight, np.broadcast_to(cell.keep(u), course.s[1:].shape))
    times = 1.0 / np.maximum(1.0 - keep, 1.0 / _LONGEST_TIME)
    return TimeConstants(min=float(times.min()), median=float(np.median(times)), max=float(times.max()))


def _by_age(course: Course, ahead: Forward) -> Array:
    """ln of what is left of a squared perturbation, by its age, mean over the sequences that last so long."""
    return _aligned([ahead.log_square[start + 1 :, i] for i, start in enumerate(course.starts)])


def _by_lag(course: Course, back: Backward) -> Array:
    """ln of what is left of a squared gradient by how far it went back, likewise; 0 at the end."""
    logs = [back.log_square[start + 1 :, i][::-1] for i, start in enumerate(course.starts)]
    return _aligned([one - one[0] if np.isfinite(one[0]) else np.full_like(one, -np.inf) for one in logs])


def _aligned(logs: Sequence[Array]) -> Array:
    """ln of the mean of the exponentials of series of different lengths, at each place over those that reach it."""
    lengths = np.array([len(one) for one in logs])
    whole = np.full((len(logs), lengths.max()), -np.inf)
    for row, one in zip(whole, logs, strict=True):
        row[: len(one)] = one
    reached = np.sum(lengths[:, None] > np.arange(whole.shape[1]), axis=0)
    return np.asarray(np.logaddexp.reduce(whole, axis=0) - np.log(reached))


def _lyapunov(course: Course, ahead: Forward) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float | None, ...]]:
    """The exponents over the later half, what the later quarter changes, and the standard error over sequences."""
    half, quarter = (_exponents(course, ahead, part) for part in (0.5, 0.75))
    with np.errstate(invalid="ignore"):
        whole = np.mean(half, axis=0)
        drift = np.mean(quarter, axis=0) - whole
        errors = np.std(half, axis=0, ddof=min(1, len(half) - 1)) / math.sqrt(len(half))
    order = np.argsort(-whole, kind="stable")
    error = (float(errors[k]) if len(half) > 1 and np.isfinite(whole[k]) else None for k in order)
    drifts = (float(drift[k]) if np.isfinite(drift[k]) else 0.0 for k in order)
    return tuple(float(whole[k]) for k in order), tuple(drifts), tuple(error)


def _exponents(course: Course, ahead: Forward, part: float) -> Array:
    """Mean growth per step of each perturbation after that part of a sequence, (sequences, K)."""
    first = course.starts + part * course.lengths
    used = (ahead.since >= first) & np.isfinite(ahead.since) & (ahead.until[:, None] > ahead.since)
    used[-1] = True  # a short sequence has no whole stretch in its later part
    steps = np.sum((ahead.until[:, None] - ahead.since) * used, axis=0)
    return np.asarray(np.sum(np.where(used[..., None], ahead.log_stretch, 0.0), axis=0) / steps[:, None])


def _one_step(course: Course, rng: np.random.Generator) -> tuple[Jacobian, float, dict[str, float | None]]:
    """The squared singular values of Jacobians at a few places, and the largest singular value."""
    units = course.weights.units
    count = min(max(_PLACES // units**3, 2), _MOST_PLACES)
    starts = np.maximum(course.starts + course.lengths // 2, course.starts + 1)
    sequences = rng.permutation(np.arange(count) % len(starts))
    places = np.stack([rng.integers(starts[sequences], course.steps), sequences], axis=1)
    found = jacobians(course, places)
    gram = found @ np.swapaxes(found, 1, 2)
    means = np.einsum("pii->p", gram) / units
    variances = np.maximum(np.einsum("pij,pij->p", gram, gram) / units - means**2, 0.0)
    largest = _largest(gram, rng)
    errors = {
        f"jacobian.{name}": None if len(x) < 2 else _error(x)
        for name, x in (("mean_squared_singular_value", means), ("variance", variances))
    }
    jacobian = Jacobian(mean_squared_singular_value=max(_mean(means), 0.0), variance=_mean(variances))
    return jacobian, math.sqrt(max(_mean(largest), 0.0)), errors


def _largest(gram: Array, rng: np.random.Generator) -> Array:
    """The largest eigenvalues of positive matrices (places, n, n); of many rows by Lanczos' method."""
    places, n = gram.shape[:2]
    steps = min(_LANCZOS, n)
    if n <= _FEW:
        return np.asarray(np.linalg.eigvalsh(gram)[:, -1])
    v, before = rng.standard_normal((places, n, 1)), np.zeros((places, n, 1))
    v /= np.sqrt(np.sum(v * v, axis=1, keepdims=True))
    small, off = np.zeros((places, steps, steps)), np.zeros((places, 1, 1))
    for k in range(steps):
        w = gram @ v - off * before
        on = np.sum(w * v, axis=1, keepdims=True)
        w -= on * v
        off = np.sqrt(np.sum(w * w, axis=1, keepdims=True))
        small[:, k, k] = on[:, 0, 0]
        if k + 1 < steps:
            small[:, k, k + 1] = small[:, k + 1, k] = off[:, 0, 0]
        before, v = v, w / np.where(off > 0.0, off, 1.0)
    return np.asarray(np.linalg.eigvalsh(small)[:, -1])


def _saturated(course: Course) -> tuple[float, float]:
    """The share of units whose candidate or read-out has, on average, less than a tenth of its largest slope; and of
    those that are driven so far, instead of holding a value."""
    cell = course.weights.cell
    flat = np.zeros((2, course.weights.units), dtype=np.bool_)
    if cell.candidate_gate is not None:
        gate = cell.candidate_gate
        u = course.u[gate]
        slope = derivative(lambda x: cell.candidate({gate: x}), u)
        flat |= _flat(course, u, slope, _largest_slope(cell, gate))
    if not course.weights.shares_state:
        memory = course.s[1:]
        opened = dict.fromkeys(cell.gates, np.zeros(memory.shape[-1]))
        shown = derivative(lambda x: cell.read(x, opened), memory)
        flat |= _flat(course, memory, shown, _largest_slope(cell, None))
    saturated, overdriven = np.mean(flat, axis=1)
    return float(saturated), float(overdriven)


def _flat(course: Course, x: Array, slope: Array, largest: float) -> NDArray[np.bool_]:
    """By unit, whether a function of x hardly reacts, and whether it is so because x is driven too far, (2, units)."""
    slope = np.broadcast_to(np.abs(slope), x.shape)
    made = course.made()
    weight = made / np.sum(made)
    mean = np.einsum("ti,tij->j", weight, slope)
    each = [x[start:, i].var(axis=0) for i, start in enumerate(course.starts)] if course.starts.any() else x.var(axis=0)
    swing = np.mean(each, axis=0)
    size = np.einsum("ti,tij->j", weight, np.abs(x))
    flat = mean < _FLAT * largest
    driven = (swing >= _SWING**2) | (size >= _FAR) | (mean < _NO_SLOPE * largest)
    return np.stack([flat, flat & driven])


@lru_cache
def _largest_slope(cell: Cell, gate: str | None) -> float:
    """The largest slope of the candidate in its gate's pre-activation, or of the read-out in the memory."""
    at = np.linspace(-_WITHIN, _WITHIN, _POINTS)
    opened = {g: np.zeros_like(at) for g in cell.gates}
    found = derivative(lambda x: cell.candidate({gate: x}) if gate else cell.read(x, opened), at)
    return float(np.max(np.abs(found)))
