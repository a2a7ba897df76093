"""Perturbations that are carried forward along a course, and gradients that are carried back.

Forward, K perturbations of the memory begin after the first step of each sequence, orthonormal, and are made
orthonormal again every few steps (QR): Δ_t = P_tᵀ Q_t with rows Q_t and all scales in logarithms.  The growth of the
columns of R is what Lyapunov exponents are the mean of (Benettin et al. 1980; Engelken et al. 2020,
arXiv:2006.02427).  Backward, gradients begin at the last step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from critinit.diagnosis.course import Course
from critinit.dual import Array

__all__ = ["Backward", "Forward", "backward", "forward", "jacobians"]

_QR_EVERY = 16
"""Steps between two orthonormalizations: perturbations of gated cells turn little in so many."""
_SCALED_EVERY = 8
"""Steps after which gradients get the length 1 again: single precision holds e⁸⁸."""
_SPREAD = 8.0
"""Where one perturbation shrank by e⁻⁸ against another between two of them, they follow twice as often: single
precision has sixteen such factors of e."""
_DEAD = 32.0
"""A perturbation that shrank by e⁻³² against the largest between two of them is gone: what is left is rounding."""
_LEAST = 600.0
"""... and so is one of e⁻⁶⁰⁰ of its size."""
_QR_PARTS = 8
"""Short sequences are orthonormalized at least so many times."""


@dataclass(frozen=True)
class Forward:
    """Perturbations carried forward.

    Attributes:
        log_square: ln of the mean over perturbations of |δ|²/|δ₀|², at every state, (steps + 1, sequences); NaN before
            a perturbation begins, −∞ where nothing is left.
        log_stretch: The logarithms of the diagonal of each R, (times, sequences, K).
        until: The states at which these were taken, (times,).
        since: The states since which they count, (times, sequences).
        leading: The direction of the memory in which the K perturbations end largest, (sequences, units), of length 1.
    """

    log_square: Array
    log_stretch: Array
    until: NDArray[np.int64]
    since: NDArray[np.int64]
    leading: Array


@dataclass(frozen=True)
class Backward:
    """Gradients carried back.

    Attributes:
        log_square: ln of the mean over gradients of |∂L/∂s|² at every state, (steps + 1, sequences), for L a random
            direction of the last h, of length 1; NaN before the state after a sequence's first step.
        log_leading: The same for the leading direction of the memory, at the state after each sequence's first step.
    """

    log_square: Array
    log_leading: Array


def forward(course: Course, count: int, rng: np.random.Generator) -> Forward:
    """Carry perturbations of the memory forward.

    Args:
        course: The course.
        count: K, at most the number of units.
        rng: Draws the directions.
    """
    steps, sequences, units = course.steps, *course.s.shape[1:]
    every = max(1, min(_QR_EVERY, steps // _QR_PARTS))
    q = np.linalg.qr(rng.standard_normal((sequences, units, count)))[0]
    kind = course.weights.stacked.dtype
    ds = np.ascontiguousarray(np.swapaxes(q, 1, 2)).astype(kind)
    dh = np.zeros((sequences, count, course.h.shape[2]), kind)
    p = np.broadcast_to(np.eye(count), (sequences, count, count)).copy()
    log_scale = np.zeros(sequences)
    squares, scales = np.zeros((steps + 1, sequences)), np.zeros((steps + 1, sequences))
    recent, made = np.zeros((every, sequences, count, units), kind), 0
    last = course.starts + 1
    stretches, until, since = [], [], []
    dead = np.zeros((sequences, count), dtype=np.bool_)
    begun, t = 0, 1
    while t < steps:
        n = course.running[t - 1]
        if n > begun:  # their first step is made
            linear, at = course.at(t - 1)
            new = slice(begun, n)
            dh[new] = linear.visible(ds[new], (at, new))
            begun = n
        linear, at = course.at(t)
        stop = min(t + every - made, t + linear.steps - at, steps, *(course.starts[n : n + 1] + 1))
        dh[:n], now = linear.forward(dh[:n], ds[:n], slice(at, at + stop - t), slice(0, n))
        ds[:n] = now[-1]
        recent[made : made + len(now), :n] = now
        made, t = made + len(now), stop
        if made == every or t == steps:
            ages = slice(t + 1 - made, t + 1)
            squares[ages] = np.sum(_squares(p.swapaxes(1, 2).astype(kind) @ recent[:made, :]), axis=2)
            scales[ages] = log_scale
            made = 0
            stretch = np.full((sequences, count), np.nan)
            logs = _orthonormalize(dh[:n], ds[:n], p[:n], log_scale[:n], course.weights.shares_state)
            gone = dead[:n]
            gone |= logs <= np.maximum(logs.max(axis=1, keepdims=True), -_LEAST) - _DEAD
            stretch[:n] = np.where(gone, -np.inf, logs)
            alive = logs[~gone]
            if len(alive) and alive.max() - alive.min() > _SPREAD:
                every = max(1, every // 2)
            stretches.append(stretch)
            until.append(t)
            since.append(last.copy())
            last[:n] = t
    age = np.arange(steps + 1)[:, None] - (course.starts + 1)
    with np.errstate(divide="ignore"):
        log_square = np.log(np.where(age > 0, squares / count, 1.0)) + 2.0 * scales
    log_square[age < 0] = np.nan
    return Forward(
        log_square,
        np.array(stretches).reshape(-1, sequences, count),
        np.array(until, dtype=np.int64),
        np.array(since, dtype=np.int64).reshape(-1, sequences),
        _leading(ds, p),
    )


def _orthonormalize(dh: Array, ds: Array, p: Array, log_scale: Array, shared: bool) -> Array:
    """Make the rows of (s, h) orthonormal, in place; return ln of the diagonal of R, (sequences, K)."""
    units = ds.shape[2]
    rows = ds if shared and dh.shape == ds.shape else np.concatenate([ds, dh], axis=2)
    q, r = np.linalg.qr(np.swapaxes(rows, 1, 2).astype(np.float64))
    new = np.swapaxes(q, 1, 2)
    ds[:] = new[..., :units]
    dh[:] = new[..., units:] if rows is not ds else ds
    p[:] = r @ p
    norm = np.sqrt(np.sum(p * p, axis=(1, 2)))
    with np.errstate(divide="ignore"):
        p /= np.where(norm > 0.0, norm, 1.0)[:, None, None]
        log_scale += np.log(norm)
        return np.asarray(np.log(np.abs(np.diagonal(r, axis1=1, axis2=2))))


def _leading(ds: Array, p: Array) -> Array:
    """The direction in which the perturbations Pᵀ·rows are largest, (sequences, units)."""
    mixed = np.swapaxes(p, 1, 2) @ ds.astype(np.float64)
    return np.asarray(np.linalg.svd(mixed, full_matrices=False)[2][:, 0])


def backward(course: Course, leading: Array, count: int, rng: np.random.Generator) -> Backward:
    """Carry gradients back from the last step.

    Args:
        course: The course.
        leading: A direction of the memory for each sequence, (sequences, units).
        count: The number of random directions of h.
        rng: Draws them.
    """
    steps, sequences, units = course.steps, *course.s.shape[1:]
    kind = course.weights.stacked.dtype
    loss = rng.standard_normal((sequences, count, course.h.shape[2]))
    loss /= np.linalg.norm(loss, axis=2, keepdims=True)
    gh = np.concatenate([np.zeros((sequences, 1, loss.shape[2])), loss], axis=1).astype(kind)
    gs = np.concatenate([leading[:, None], np.zeros((sequences, count, units))], axis=1).astype(kind)
    log_scale = np.zeros((sequences, count + 1))
    squares, scales = np.full((steps + 1, sequences, count + 1), np.nan), np.zeros((steps + 1, sequences, count + 1))
    t = steps
    while t > 0:
        n = course.running[t - 1]  # those for which state t comes after a step
        linear, at = course.at(t - 1)
        first = max((t - 1) // _SCALED_EVERY * _SCALED_EVERY, t - 1 - at, int(course.starts[n - 1]))
        gh, gs, found = linear.backward(gh[:n], gs[:n], slice(at + first - t + 1, at + 1), slice(0, n))
        states = slice(t, first, -1)
        squares[states, :n], scales[states, :n] = _squares(found), log_scale[:n]
        t = first
        if t % _SCALED_EVERY == 0:
            size = np.sqrt(_squares(gs) + _squares(gh))
            size = np.where(size > 0.0, size, 1.0).astype(kind)
            gh, gs = gh / size[..., None], gs / size[..., None]
            log_scale[:n] += np.log(size)
    for i, start in enumerate(course.starts):
        squares[: start + 1, i] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):  # of nothing, and of sequences that have not begun
        logs = np.log(squares) + 2.0 * scales
        mean = np.logaddexp.reduce(logs[..., 1:], axis=2) - np.log(count)
    return Backward(mean, 0.5 * logs[course.starts + 1, np.arange(sequences), 0])


def _squares(x: Array) -> Array:
    """The squared lengths of vectors, the last axis."""
    wide = x.astype(np.float64, copy=False)
    return np.asarray(np.vecdot(wide, wide))


def jacobians(course: Course, places: NDArray[np.int64]) -> Array:
    """Return the one-step Jacobians ∂s'/∂s at places, h moving with s at fixed pre-activations, (places, units, units).

    Args:
        course: The course.
        places: Rows of a step, from 1 on and after the sequence's first one, and a sequence.
    """
    unit = np.eye(course.weights.units)[None]
    found = []
    for t, i in places.tolist():
        own = slice(i, i + 1)
        linear, at = course.at(t - 1)
        moved = linear.visible(unit, (at, own))  # h after the step before, with s
        linear, at = course.at(t)
        found.append(linear.forward(moved, unit, slice(at, at + 1), own)[1][0, 0].T)
    return np.stack(found)
