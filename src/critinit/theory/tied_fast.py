"""A fast estimate of the tied theory: milliseconds to a tenth of a second, no particles.

Every unit's fluctuations are taken as linear in the recurrent fields, with all that is left as white noise
(``tied_spectrum``), where the linear part is exact in the mean: by Stein's lemma E[∂s'/∂y] is the weight of a Gaussian
field y in s'.  Units differ by what stays with them: their biases and the static part of their fields, whose
variance σ_k² E m̄² is that of the units' mean messages.  Averages are taken with fixed low-discrepancy points, over
classes of units first and over drives and memory within each, through the cell's own definition and forward mode.

Validity: infinite width and Gaussian memory; the variances must not make the drives' fluctuations slower than the
units' own memory (then a coupling's fluctuations persist too, and χ comes out low).  docs/validation-tied.md shows
how far off it is over random points; where χ > .9 or the recurrent variances exceed 1, ask the full theory (``tied``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from critinit.cells import Cell
from critinit.dual import Array, Dual, value
from critinit.spec import Jacobian, Layer, Numbers, TimeConstants
from critinit.theory.tied_inputs import draw_biases
from critinit.theory.tied_jacobian import Couplings
from critinit.theory.tied_spectrum import Fluctuations, Response, growth, residue, spectrum

__all__ = ["fast_tied"]

_STATE = "state"
_INNER = 1024
_CLASSES, _WITHIN = 48, 128
_CYCLES = 60
_MET = 1e-4
_LARGEST = 1e100
_LONGEST = 1e15


@lru_cache(maxsize=16)
def _ranks(count: int, dimensions: int) -> NDArray[np.int64]:
    """Permutations of 0 … count − 1, (dimensions, count), evenly spread together.

    The ranks of the Kronecker sequence of the generalised golden ratio: every coordinate visits each stratum once.
    """
    ratio = 1.0
    for _ in range(64):
        ratio = (1.0 + ratio) ** (1.0 / (dimensions + 1.0))
    steps = ratio ** -np.arange(1.0, dimensions + 1.0)
    points = (0.5 + np.outer(steps, np.arange(1, count + 1))) % 1.0
    return np.asarray(np.argsort(np.argsort(points, axis=1), axis=1))


@lru_cache(maxsize=16)
def _normal_points(count: int, dimensions: int) -> Array:
    """Standard normal points, (dimensions, count): means of equal strata, of variance 1, uncorrelated coordinates."""
    edges = ndtri(np.arange(1, count) / count)
    density = np.concatenate([[0.0], np.exp(-0.5 * edges**2) / math.sqrt(2.0 * math.pi), [0.0]])
    z = (count * -np.diff(density))[_ranks(count, dimensions)]
    if count == 1:
        return np.zeros((dimensions, 1))
    z = np.linalg.solve(np.linalg.cholesky(z @ z.T / count), z)
    z.setflags(write=False)
    return np.asarray(z)


@dataclass(frozen=True)
class _State:
    """What averages are taken at: moving and static variance of each message, mean and variance of the memory (O,)."""

    moving: dict[str, float]
    static: dict[str, float]
    mean: Array
    variance: Array


@dataclass(frozen=True)
class _Sample:
    """The cell at all points: h, keep, s', and by direction (1 + fields, O, P) the derivatives of s' and of messages."""

    h: Array
    keep: Array
    after: Dual
    messages: dict[str, Dual]
    read_slope: Array | None


class _Units:
    """Classes of units and the points at which their drives are taken; arrays are (O, P)."""

    def __init__(self, cell: Cell, layer: Layer) -> None:
        gates = layer.gates
        self.cell, self.layer = cell, layer
        self.fields = {
            name: name if name in cell.before else _STATE
            for name, gate in gates.items()
            if gate.recurrent.variance > 0 and gate.recurrent.distribution != "identity"
        }
        self.groups = list(dict.fromkeys(self.fields.values()))
        self.strength = {name: gate.recurrent.variance for name, gate in gates.items()}
        differ = any(gate.bias.variance or (name == cell.candidate_gate and gate.bias.mean) for name, gate in gates.items())
        self.count, points = (_CLASSES, _WITHIN) if differ else (1, _INNER)
        rows = iter(_normal_points(self.count, 2 * len(cell.gates)))
        self.fixed = {name: next(rows) for name in gates.names()}
        self.biases = draw_biases(gates, self.count, lambda: next(rows), lambda: ndtr(next(rows)))
        z = iter(_normal_points(points, len(cell.gates) + len(cell.after) + 3))
        self.z = {name: next(z) for name in (*gates.names(), "memory", "input", "read", *(f"{n} input" for n in cell.after))}

    def start(self) -> _State:
        """A first guess."""
        half = dict.fromkeys(self.groups, 0.1)
        return _State(half, dict.fromkeys(self.groups, 0.0), np.zeros(self.count), np.full(self.count, 0.1))

    def sample(self, state: _State) -> _Sample:
        """The cell at Gaussian drives and memory of these variances."""
        gates, cell, r = self.layer.gates, self.cell, self.layer.input.variance
        names = list(self.fields)
        unit = np.eye(1 + len(names))[:, :, None, None]
        spread: dict[str, float] = {}
        external: dict[str, Array] = {}
        fixed: dict[str, Array] = {}
        for name, gate in gates.items():
            group = self.fields.get(name)
            fixed[name] = np.zeros((self.count, 1))
            moving = 0.0
            if group is not None:
                fixed[name] = math.sqrt(self.strength[name] * state.static[group]) * self.fixed[name][:, None]
                moving = self.strength[name] * state.moving[group]
            external[name] = self.biases[name][:, None]
            feed = gate.input.variance * r
            if name in cell.after:
                external[name] = external[name] + math.sqrt(feed) * self.z[f"{name} input"]
                feed = 0.0
            spread[name] = math.sqrt(moving + feed)
        if cell.embeds_input:
            external["input"] = math.sqrt(r) * self.z["input"]
        s = Dual(state.mean[:, None] + np.sqrt(state.variance)[:, None] * self.z["memory"], unit[0])
        read, slope = {}, None
        if cell.read_gate is not None:
            gate = cell.read_gate
            u = external[gate] + fixed[gate] + spread[gate] * self.z["read"]
            read[gate] = u
            slope = cell.read(s.value, {gate: Dual(u, 1.0)}).tangent
        messages: dict[str, Dual] = {}

        def recurrent(name: str, message: Any) -> Any:
            y = fixed[name] + spread[name] * self.z[name]
            if name not in self.fields:
                return y + math.sqrt(self.strength[name]) * message if self.strength[name] else y
            messages[self.fields[name]] = message
            return Dual(y, unit[1 + names.index(name)])

        h = cell.read(s, read)
        u = cell.drives(h, recurrent, external)
        keep = np.broadcast_to(value(cell.keep(u)), (self.count, self.z["memory"].size))
        return _Sample(value(h), keep, cell.update(s, u), messages, slope)


def _mean(x: Array) -> Array:
    """Over the points of each class."""
    return np.asarray(x.mean(axis=-1))


class _Step:
    """The linear response and the noise that a sample shows, and the state that they would make."""

    def __init__(self, units: _Units, state: _State) -> None:
        self.units, self.state = units, state
        self.sample = sample = units.sample(state)
        shape = (1 + len(units.fields), *sample.h.shape)
        self.slopes = np.broadcast_to(sample.after.tangent, shape)
        o, groups = units.count, units.groups
        self.keep = np.clip(_mean(self.slopes[0]), 0.0, 1.0 - 1e-12)
        self.couplings = {name: self.slopes[1 + i] for i, name in enumerate(units.fields)}
        self.passed = {g: np.broadcast_to(m.tangent, shape) for g, m in sample.messages.items()}
        coupling = np.zeros((o, len(groups)))
        for name, a in self.couplings.items():
            coupling[:, groups.index(units.fields[name])] += units.strength[name] * _mean(a) ** 2
        message = np.stack([_mean(self.passed[g][0]) ** 2 for g in groups], axis=1) if groups else np.zeros((o, 0))
        self.response = Response(np.full(o, 1.0 / o), self.keep, coupling, message)

    def next(self) -> _State:
        """The state whose fluctuations the response and noise make; larger moving parts where it has none."""
        units, state, response = self.units, self.state, self.response
        moving = np.array([state.moving[g] for g in units.groups])
        if response.radius(1.0) >= 1.0:
            return replace(state, moving={g: 1.3 * q for g, q in state.moving.items()})
        after = np.broadcast_to(self.sample.after.value, self.sample.h.shape)
        explained = self.keep**2 * state.variance + response.coupling @ moving
        noise = np.maximum(after.var(axis=-1) - explained, 0.0)
        values = [np.broadcast_to(self.sample.messages[g].value, self.sample.h.shape) for g in units.groups]
        rest = [
            float(np.mean(np.maximum(m.var(axis=-1) - response.message[:, i] * state.variance, 0.0)))
            for i, m in enumerate(values)
        ]
        variance, q = spectrum(response, noise, np.array(rest))
        mean = (_mean(after) - self.keep * state.mean) / (1.0 - self.keep)
        static = {g: float(np.mean(_mean(m) ** 2)) for g, m in zip(units.groups, values, strict=True)}
        return _State(dict(zip(units.groups, map(float, q), strict=True)), static, mean, variance)

    def fluctuations(self) -> Fluctuations:
        """How the response varies in time."""
        units, groups = self.units, self.units.groups
        coupling, mixing = np.zeros((units.count, len(groups))), np.zeros((len(groups), len(groups)))
        for name, a in self.couplings.items():
            coupling[:, groups.index(units.fields[name])] += units.strength[name] * a.var(axis=-1)
        message = np.zeros((units.count, len(groups)))
        for i, g in enumerate(groups):
            message[:, i] = self.passed[g][0].var(axis=-1)
            for j, name in enumerate(units.fields):
                mixing[i, groups.index(units.fields[name])] += units.strength[name] * float(
                    np.mean(self.passed[g][1 + j] ** 2)
                )
        read = units.cell.read_gate
        if self.sample.read_slope is not None and read in units.fields:
            i = groups.index(units.fields[read])
            mixing[i, i] += units.strength[read] * float(np.mean(self.sample.read_slope**2))
        return Fluctuations(self.slopes[0].var(axis=-1), coupling, message, mixing)


def _settle(units: _Units) -> tuple[_Step, bool]:
    """The self-consistent state, and whether it was reached."""
    state = units.start()
    for _ in range(_CYCLES):
        step = _Step(units, state)
        new = step.next()
        met = all(abs(new.moving[g] - q) <= _MET * q for g, q in state.moving.items()) and np.allclose(
            new.variance, state.variance, rtol=_MET, atol=1e-12
        )
        if met:
            return step, True
        state = _between(state, new)
    return step, False


def _between(old: _State, new: _State) -> _State:
    """Halfway, on a logarithmic scale where variances are."""

    def half(a: Any, b: Any) -> Any:
        return np.sqrt(np.maximum(a, 1e-30) * np.minimum(np.maximum(b, 1e-30), _LARGEST))

    return _State(
        {g: float(half(old.moving[g], new.moving[g])) for g in old.moving},
        {g: 0.5 * (old.static[g] + new.static[g]) for g in old.static},
        0.5 * (old.mean + new.mean),
        np.asarray(half(old.variance, new.variance)),
    )


def fast_tied(cell: Cell, layer: Layer, T: int) -> Numbers:
    """The tied numbers of a layer, estimated; deterministic, no standard errors.

    The survival is that of units by themselves plus, at large T, that of the collective mode, r·χᵀ.
    """
    units = _Units(cell, layer)
    step, met = _settle(units)
    sample, response, fluctuations = step.sample, step.response, step.fluctuations()
    chi = growth(response, fluctuations)
    own = step.keep**2 + fluctuations.keep
    log_collective = T * math.log(chi) + math.log(max(residue(response, fluctuations, chi), 1e-300)) if chi > 0 else -1e3
    survival = float(np.mean(own ** float(T))) + math.exp(min(log_collective, math.log(_LARGEST)))
    kernels = {name: gate.recurrent for name, gate in layer.gates.items()}
    names = list(units.fields)
    flat = {name: step.passed[g].reshape(1 + len(names), -1) for name, g in units.fields.items()}
    factor = Couplings(names, step.slopes.reshape(1 + len(names), -1), flat).factor(kernels)
    m1 = factor.first_moment()
    times = np.minimum(1.0 / np.maximum(1.0 - _mean(sample.keep), 1.0 / _LONGEST), _LONGEST)
    notes = ["fast estimate; the full tied theory is sampled by analyze"]
    if not met:
        notes.append("the self-consistent state was not reached; the numbers are those of the last iterate")
    return Numbers(
        second_moment=float(np.mean(sample.h**2)),
        cell_second_moment=float(np.mean(step.state.mean**2 + step.state.variance)) if cell.has_readout else None,
        chi=chi,
        time_scale=None if chi >= 1.0 else (-1.0 / math.log(chi) if chi > 0 else 0.0),
        survival=min(survival, _LARGEST),
        unit_time_constants=TimeConstants(min=times.min(), median=float(np.median(times)), max=times.max()),
        jacobian=Jacobian(mean_squared_singular_value=m1, variance=factor.second_moment() - m1**2),
        notes=tuple(notes),
    )
