"""A fast estimate of the tied theory: milliseconds to a tenth of a second, no particles.

Every unit's fluctuations are taken as linear in the recurrent fields, with all that is left as white noise
(``response``), where the linear part is exact in the mean: by Stein's lemma E[∂s'/∂y] is the weight of a Gaussian
field y in s'.  Units differ by what stays with them: their biases and the static part of their fields, whose
variance σ_k² E m̄² is that of the units' mean messages.  Averages are taken with fixed low-discrepancy points, over
classes of units first and over inputs and memory within each, through the cell's own definition and forward mode.

Validity: infinite width and Gaussian memory; the variances must not make the pre-activations' fluctuations slower than
the units' own memory (then a coupling's fluctuations persist too, and χ comes out low).  Measured errors, where the
estimate is not ``ROUGH``: of the schemes' specs of all cells (T = 100) the second moment is within 5 %, ln χ over T
within 13 % (half of them within 2 %; peephole_lstm with chrono 22 %); over the random points of
docs/validation.md the second moment is within 18 %, of half within 2 %.
The longest time constant is that of a unit's mean over all time; the full theory reads it over finite time, as networks
do, where it is 10 to 20 % longer.

It fails where tying the weights raises the second moments of units that are alike to more than 1.5 times through
couplings that fluctuate themselves (``_FED``).  Where these are steady, as of small leaky units, it holds.  Over LSTMs
of orthogonal kernels, forget biases 2 to 5 and inputs of power .01 to 1 the second moment is then off by −15 to +36 %,
and most of the chaotic ones come out with χ below 1.  ``ROUGH`` says so; specs have sampled numbers there (``COARSE``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.cells import Cell
from critinit.distributions import Bias, CoupledBias
from critinit.distributions.numbers import LONGEST_TIME
from critinit.dual import Array, Dual, value
from critinit.spec import Jacobian, Layer, Numbers, TimeConstants
from critinit.theory.comparing import OVER_T_LIMIT
from critinit.theory.decay import over_T
from critinit.theory.normalization import normalized_memory
from critinit.theory.protocol import keep_variance
from critinit.theory.tied.biases import draw_biases
from critinit.theory.tied.jacobian import Couplings
from critinit.theory.tied.response import Fluctuations, Response, growth, log_retention, spectrum

__all__ = ["COARSE", "NOTE", "ROUGH", "fast_tied", "is_estimate"]

NOTE = "fast estimate; the full tied theory is sampled by analyze"
"""The note that every estimate carries."""
ROUGH = (
    "rough: tying the weights changes these fluctuations by more than the estimate can follow; second moments may be "
    "off by a third, and chaos be missed"
)
"""The note of an estimate that can mislead."""
COARSE = "sampled coarsely, as the fast estimate does not hold here; analyze samples more"
"""The note of numbers that stand for an estimate that can mislead."""

_NORMAL = NormalDist()  # importing scipy.special would take longer than the estimate
_STATE = "state"
"""The group of the fields that read the state itself."""
_INNER = 4096
"""Points where all units are alike."""
_CLASSES, _WITHIN = 96, 128
"""Classes of units, and points in each, where units differ: three times as many in all, as two averages are taken."""
_CARRYING = 6.0
"""Classes that carry what T steps leave: from so many on the average over classes is one."""
_RAREST = 0.05
"""The rarest units that count, in units of 1/T: what is left of them is that of the slowest to e⁻·¹."""
_GRID = 4000
"""Points between which the edges of classes are interpolated."""
_REPEATED = 3
"""Steps in which the memory of further classes follows a given state: its fields are there already."""
_CYCLES = 80
"""Most iterations of the self-consistent state: it takes ten or so away from the edge of stability."""
_MET = 3e-4
"""Relative change of the variances at which the state counts as reached: below the points' own error."""
_NOTHING = 1e-30
"""The smallest variance that counts, where logarithms are taken."""
_WILDEST = 3.0
"""A sequence whose steps grow by more than this, in alternate directions, is not taken to its limit."""
_FARTHEST = 7.0
"""How far a limit may be away, in logarithms: a thousandfold."""
_UP = 1.0
"""Step of ln of the fluctuations' size while it is not bracketed."""
_FARTHEST_SIZE = 30.0
"""ln of the largest and of the inverse smallest size that is tried: from 1e-13 to 1e13."""
_AMPLIFIED = 1.5
"""How many times tying the weights may raise the second moment of the message or the memory of units that are alike."""
_FED = 0.75
"""How large the fluctuations of units that are alike may be that fluctuating couplings make, beside those of steady
ones.  Measured: up to .62 the second moment is within 1.5 %, from .95 on it is off by 3 to 36 %."""
_OWN_ERROR = 0.1
"""How much ln of what T steps leave may be off at fresh weights, whose exact numbers are known, as a share of it."""
_KEEP_VARIANCE = 0.1
"""Variance of a keep gate's normal bias from which on the estimate does not hold: no exact number of fresh weights has
the slow units that it makes.  Measured: below, ln χ over T is off by up to a fifth; at 1 chaos is missed, and at 4 and
T = 1500 ln χ is off by half."""
_NEAR_EDGE = 0.5
"""Where units differ, whose static parts are exact, an amplification counts only this near the spectral edge (at 1)."""
_LARGEST_LOG = 600.0
"""ln of a number that double precision still holds; larger retentions are stated as the largest number."""


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
    edges = np.array([_NORMAL.inv_cdf(i / count) for i in range(1, count)])
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

    def vector(self) -> Array:
        """Logarithms of the variances that move, and the rest."""
        logs = np.log(np.maximum(np.concatenate([list(self.moving.values()), self.variance]), _NOTHING))
        return np.concatenate([logs, list(self.static.values()), self.mean])

    @property
    def size(self) -> float:
        """ln of the largest variance that moves."""
        return math.log(max(*self.moving.values(), _NOTHING))

    def scaled(self, size: float) -> _State:
        """With fluctuations of this size."""
        factor = math.exp(size - self.size)
        moving = {g: factor * q for g, q in self.moving.items()}
        return replace(self, moving=moving, variance=factor * self.variance)

    def of(self, vector: Array) -> _State:
        """The state that has this vector."""
        groups, o = list(self.moving), len(self.mean)
        moving, variance, static, mean = np.split(vector, np.cumsum([len(groups), o, len(groups)]))
        return _State(
            dict(zip(groups, map(float, np.exp(moving)), strict=True)),
            dict(zip(groups, map(float, np.maximum(static, 0.0)), strict=True)),
            mean,
            np.exp(variance),
        )


@dataclass(frozen=True)
class _Evaluation:
    """The cell at all points (O, P): h, keep, s − E s, s'; and by direction (1 + fields, O, P) the derivatives of s'
    and of messages."""

    h: Array
    keep: Array
    memory: Array
    after: Dual
    messages: dict[str, Dual]
    read_slope: Array | None


class _Units:
    """Classes of units and the points at which their pre-activations are taken; arrays are (O, P)."""

    def __init__(self, cell: Cell, layer: Layer, *, tied: bool = True, rarest: float | None = None) -> None:
        gates = layer.gates
        self.cell, self.layer, self.tied = cell, layer, tied
        self.fields = {
            name: name if name in cell.before else _STATE
            for name, gate in gates.items()
            if gate.recurrent.variance > 0 and not gate.recurrent.reads_itself
        }
        self.groups = list(dict.fromkeys(self.fields.values()))
        self.reads_itself = any(gate.recurrent.reads_itself for gate in gates.values())
        self.variances = {name: gate.recurrent.variance for name, gate in gates.items()}
        differ = not cell.is_odd or any(
            gate.bias.variance or (name == cell.candidate_gate and gate.bias.mean) for name, gate in gates.items()
        )
        self.count, points = (_CLASSES, _WITHIN) if differ else (1, _INNER)
        rows = iter(_normal_points(self.count, 2 * len(cell.gates)))
        self.fixed = {name: next(rows) for name in gates}
        names = [*gates, "memory", "input", "read", *(f"{n} input" for n in cell.after)]
        names += [f"{name} bias" for name in gates]
        self.z = dict(zip(names, _normal_points(points, len(names)), strict=True))

        self.weights = np.full(self.count, 1.0 / self.count)
        sign, slow = gates.followed(cell.keep_gate) if cell.keep_gate else (1.0, None)

        def uniform(bias: Bias) -> Array:
            if not tied and bias.classes(2) is None:  # the untied theory draws it anew at every step
                return np.full(self.count, 0.5)
            row = next(rows)
            if rarest is None or bias is not slow:
                return np.array([_NORMAL.cdf(x) for x in row])
            share, weights = _towards_the_slowest(self.count, rarest)
            order = np.argsort(np.argsort(-row))
            self.weights = weights[order]
            return 1.0 - share[order] if sign > 0.0 else share[order]

        drawn = draw_biases(gates, self.count, uniform)
        self.biases = {name: b[:, None] + (0.0 if tied else self._redrawn_part(name)) for name, b in drawn.items()}

    def resolves(self, T: int) -> bool:
        """Whether there are classes enough among the units that carry what T steps leave."""
        keep = self.cell.keep_gate
        if self.count == 1 or keep is None or self.layer.gates.followed(keep)[1].classes(2) is None:
            return True
        kept = np.abs(value(self.cell.keep({keep: self.biases[keep]}))).mean(axis=-1)
        logs = 2.0 * T * np.log(np.maximum(kept, _NOTHING))
        carried = np.exp(logs - logs.max())
        return bool(carried.sum() ** 2 >= _CARRYING * np.sum(carried**2))

    def _redrawn_part(self, name: str) -> Any:
        """The part of a gate's bias that changes at every step in the untied theory."""
        own = self.layer.gates[name].bias
        sign, bias = self.layer.gates.followed(name)
        followed = own.to if isinstance(own, CoupledBias) else name
        return sign * math.sqrt(bias.redrawn_variance) * self.z[f"{followed} bias"]

    def start(self) -> _State:
        """A first guess."""
        half = dict.fromkeys(self.groups, 0.1)
        return _State(half, dict.fromkeys(self.groups, 0.0), np.zeros(self.count), np.full(self.count, 0.1))

    def strength(self, state: _State) -> dict[str, float]:
        """σ² of each gate's kernel as it acts on the message; of a normalized cell that is γ² over E m²."""
        if not self.cell.normalized:
            return self.variances
        moment = {g: max(state.moving[g] + state.static[g], _NOTHING) for g in self.groups}
        return {n: v / moment[self.fields[n]] if n in self.fields else v for n, v in self.variances.items()}

    def sample(self, state: _State) -> _Evaluation:
        """The cell at Gaussian pre-activations and memory of these variances."""
        gates, cell, r = self.layer.gates, self.cell, self.layer.input.variance
        names, strength = list(self.fields), self.strength(state)
        unit = np.eye(1 + len(names))[:, :, None, None]
        spread: dict[str, float] = {}
        external: dict[str, Array] = {}
        fixed: dict[str, Array] = {}
        for name, gate in gates.items():
            group = self.fields.get(name)
            fixed[name] = np.zeros((self.count, 1))
            moving = 0.0
            if group is not None:
                fixed[name] = math.sqrt(strength[name] * state.static[group]) * self.fixed[name][:, None]
                moving = strength[name] * state.moving[group]
            external[name] = self.biases[name]
            feed = gate.input.variance * r
            if name in cell.after:
                external[name] = external[name] + math.sqrt(feed) * self.z[f"{name} input"]
                feed = 0.0
            spread[name] = math.sqrt(moving + feed)
        if cell.embeds_input:
            external["input"] = math.sqrt(r) * self.z["input"]
        memory = np.sqrt(state.variance)[:, None] * self.z["memory"]
        s = Dual(state.mean[:, None] + memory, unit[0])
        seen = normalized_memory(s, self.layer.memory_gain)
        read: dict[str, Array] = {}
        slope = None
        if cell.read_gate is not None:
            by = cell.read_gate
            read[by] = external[by] + fixed[by] + spread[by] * self.z["read"]
            slope = cell.read(seen.value, {by: Dual(read[by], 1.0)}).tangent
        messages: dict[str, Dual] = {}

        def recurrent(name: str, message: Any) -> Any:
            y = fixed[name] + spread[name] * self.z[name]
            if name not in self.fields:
                return y + math.sqrt(strength[name]) * message if strength[name] else y
            messages[self.fields[name]] = message
            return Dual(y, unit[1 + names.index(name)])

        h = cell.read(seen, read)
        u = cell.pre_activations(h, recurrent, external)
        keep = np.broadcast_to(value(cell.keep(u)), (self.count, self.z["memory"].size))
        return _Evaluation(value(h), keep, memory, cell.update(s, u), messages, slope)


def _mean(x: Array) -> Array:
    """Over the points of each class."""
    return np.asarray(x.mean(axis=-1))


class _Step:
    """The linear response and the noise that a sample shows, and the state that they would make."""

    def __init__(self, units: _Units, state: _State) -> None:
        self.units, self.state, self.strength = units, state, units.strength(state)
        self.sample = sample = units.sample(state)
        shape = (1 + len(units.fields), *sample.h.shape)
        self.slopes = np.broadcast_to(sample.after.tangent, shape)
        self.after = np.broadcast_to(sample.after.value, sample.h.shape)
        o, groups = units.count, units.groups
        self.keep = np.clip(_mean(self.slopes[0]), 0.0, 1.0 - 1e-12)
        self.couplings = {name: self.slopes[1 + i] for i, name in enumerate(units.fields)}
        self.passed = {g: np.broadcast_to(m.tangent, shape) for g, m in sample.messages.items()}
        self.values = {g: np.broadcast_to(m.value, sample.h.shape) for g, m in sample.messages.items()}
        coupling = np.zeros((o, len(groups)))
        if units.tied:
            for name, a in self.couplings.items():
                coupling[:, groups.index(units.fields[name])] += self.strength[name] * _mean(a) ** 2
        message = np.stack([_mean(self.passed[g][0]) ** 2 for g in groups], axis=1) if groups else np.zeros((o, 0))
        self.response = Response(units.weights, self.keep, coupling, message)

    @property
    def stationary(self) -> bool:
        """Whether fluctuations have a stationary size: below the spectral edge."""
        return self.response.radius(1.0) < 1.0

    def next(self) -> _State:
        """The state whose fluctuations the response and noise make."""
        units, response = self.units, self.response
        rest = [
            float(np.mean((self.values[g] - _mean(self.passed[g][0])[:, None] * self.sample.memory).var(axis=-1)))
            for g in units.groups
        ]
        variance, q = spectrum(response, self._noise(), np.array(rest))
        static = {g: float(np.mean(_mean(m) ** 2)) for g, m in self.values.items()}
        moving = dict(zip(units.groups, map(float, q), strict=True))
        if not units.tied:
            moving, static = {g: moving[g] + static[g] for g in moving}, dict.fromkeys(static, 0.0)
        return _State(moving, static, self._memory_mean(), variance)

    def _noise(self) -> Array:
        """Variance of s' less what is linear in the memory and in the fields: these are uncorrelated with the rest."""
        total = (self.after - self.keep[:, None] * self.sample.memory).var(axis=-1)
        moving = np.array([self.state.moving[g] for g in self.units.groups])
        return np.asarray(np.maximum(total - self.response.coupling @ moving, 0.0))

    def _memory_mean(self) -> Array:
        """E s, from s' = f s + b with f and b independent of s; through identity kernels f depends on it."""
        slope = self.keep[:, None] if self.units.reads_itself else self.slopes[0]
        written = _mean(self.after - slope * (self.sample.memory + self.state.mean[:, None]))
        return np.asarray(written / (1.0 - self.keep), dtype=float)

    def fluctuations(self) -> Fluctuations:
        """How the response varies in time."""
        units, groups = self.units, self.units.groups
        coupling, mixing = np.zeros((units.count, len(groups))), np.zeros((len(groups), len(groups)))
        for name, a in self.couplings.items():
            spread = a.var(axis=-1) if units.tied else np.mean(a * a, axis=-1)
            coupling[:, groups.index(units.fields[name])] += self.strength[name] * spread
        message = np.zeros((units.count, len(groups)))
        for i, g in enumerate(groups):
            message[:, i] = self.passed[g][0].var(axis=-1)
            for j, name in enumerate(units.fields):
                square = units.weights @ np.mean(self.passed[g][1 + j] ** 2, axis=-1)
                mixing[i, groups.index(units.fields[name])] += self.strength[name] * float(square)
        read = units.cell.read_gate
        if self.sample.read_slope is not None and read in units.fields:
            i = groups.index(units.fields[read])
            mixing[i, i] += self.strength[read] * float(np.mean(self.sample.read_slope**2))
        return Fluctuations(self.slopes[0].var(axis=-1), coupling, message, mixing)

    def fed(self) -> float:
        """What couplings that fluctuate feed, beside what steady ones feed: the ratio of their squares, times what the
        steady ones make of it, 1/(1 − the spectral radius)."""
        moving = np.array([self.state.moving[g] for g in self.units.groups])
        steady = float(np.mean(self.response.coupling @ moving))
        fluctuating = float(np.mean(self.fluctuations().coupling @ moving))
        gap = 1.0 - min(self.response.radius(1.0), 1.0)
        return 0.0 if fluctuating == 0.0 else fluctuating / max(steady * gap, _NOTHING)


def _settle(units: _Units) -> tuple[_Step, bool]:
    """The self-consistent state, and whether it was reached: two steps, then a leap to where they converge."""
    step = _Step(units, units.start())
    path: list[Array] = []
    for _ in range(_CYCLES):
        if not step.stationary:
            return _settle_at_the_edge(step)
        path.append(step.state.vector())
        x = step.next().vector()
        if np.max(np.abs(np.expm1(x - path[-1]))[: len(units.groups) + units.count]) <= _MET:
            return step, True
        if len(path) == 2:
            x = _leap(path[0], path[1], x)
            path.clear()
        step = _Step(units, step.state.of(x))
    return step, False


def _settle_at_the_edge(step: _Step) -> tuple[_Step, bool]:
    """The same by bisection of the fluctuations' size: too small where none is stationary, or where they grow.

    Near the edge of stability the step's size depends on the state's too steeply to be followed.
    """
    low, high, stable = -math.inf, math.inf, step
    for _ in range(_CYCLES):
        state, size = step.state, step.state.size
        new = step.next() if step.stationary else state
        if not step.stationary or new.size > size:
            low = size
        else:
            high, stable = size, step
        if high - low <= _MET:
            return stable, True
        bracketed = math.isfinite(low) and math.isfinite(high)
        aim = 0.5 * (low + high) if bracketed else size + (_UP if high == math.inf else -_UP)
        if abs(aim) > _FARTHEST_SIZE:
            break
        step = _Step(step.units, new.scaled(aim))
    return stable, False


def _refined(step: _Step, T: int) -> _Step:
    """The response of more classes among the slowest units, in the state of a step."""
    units, state = step.units, step.state
    fine = _Units(units.cell, units.layer, tied=units.tied, rarest=_RAREST / T)
    refined = _Step(
        fine, replace(state, mean=np.zeros(fine.count), variance=np.full(fine.count, state.variance.mean()))
    )
    for _ in range(_REPEATED):
        found = refined.next()
        refined = _Step(fine, replace(state, mean=found.mean, variance=found.variance))
    return refined


def _towards_the_slowest(count: int, rarest: float) -> tuple[Array, Array]:
    """Classes of units, as shares of all, from the slowest on: the middle and the size of each.

    Half of them are as large as each other, half are a fixed part of the share of all slower ones, down to ``rarest``.
    """
    share = np.concatenate([[0.0], np.geomspace(rarest, 1.0, _GRID)])
    place = 0.5 * share + 0.5 * np.concatenate([[0.0], np.linspace(1.0 / count, 1.0, _GRID)])
    edges = np.interp(np.linspace(0.0, 1.0, count + 1), place, share)
    return 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)


def _leap(x: Array, y: Array, z: Array) -> Array:
    """The limit of a geometric sequence, element by element; z where it is far away or there is none."""
    first, second = y - x, z - y
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        limit = x - first**2 / (second - first)
        ratio = second / first
    trusted = (ratio > -_WILDEST) & (ratio < 1.0) & (np.abs(limit - z) <= _FARTHEST)
    return np.where(trusted, limit, z)


@dataclass(frozen=True)
class _Estimate:
    """The numbers by themselves; retention as its logarithm, time constants (O,)."""

    second_moment: float
    memory_moment: float
    chi: float
    log_retention: float
    times: Array
    jacobian_mean: float
    jacobian_variance: float
    settled: bool
    alike: bool
    radius: float
    fed: float


def _estimate(cell: Cell, layer: Layer, T: int, *, tied: bool) -> _Estimate | None:
    """With weights that stay, or that are drawn anew at every step; None where numbers overflow."""
    layer, projection = layer.reduced(), layer.projection
    gain, excess = (1.0, 0.0) if projection is None else (projection.gain, projection.excess)
    units = _Units(cell, layer, tied=tied)
    step, met = _settle(units)
    growing = step if units.resolves(T) else _refined(step, T)
    response, fluctuations = growing.response, growing.fluctuations()
    chi = growth(response, fluctuations)
    if not math.isfinite(chi):
        return None
    gates = layer.gates.items()
    kernels = {name: g.recurrent.model_copy(update={"variance": step.strength[name]}) for name, g in gates}
    names = list(units.fields)
    flat = {name: step.passed[g].reshape(1 + len(names), -1) for name, g in units.fields.items()}
    factor = Couplings(names, step.slopes.reshape(1 + len(names), -1), flat).factor(kernels)
    m1 = factor.first_moment()
    return _Estimate(
        second_moment=gain * float(np.mean(step.sample.h**2)),
        memory_moment=float(np.mean(step.state.mean**2 + step.state.variance)),
        chi=chi,
        log_retention=log_retention(response, fluctuations, chi, T),
        times=1.0 / np.maximum(1.0 - _mean(step.sample.keep), 1.0 / LONGEST_TIME),
        jacobian_mean=m1,
        jacobian_variance=factor.second_moment(excess) - m1**2,
        settled=met,
        alike=units.count == 1,
        radius=step.response.radius(1.0),
        fed=step.fed(),
    )


def is_estimate(numbers: Numbers) -> bool:
    """Return whether numbers are an estimate, or what stands for one in a spec, of one group of units or of all; not
    the full theory."""
    return any(note.startswith((NOTE, COARSE)) for note in numbers.notes)


def _is_rough(tied: _Estimate, fresh: _Estimate | None, *, divides: bool) -> bool:
    """Whether the estimate can mislead: where fluctuations feed themselves through couplings that fluctuate too.

    Where a normalization divides by the state or the memory (``divides``) every amplification counts: a few slow units
    that biases fill take the whole of it, later than the estimate has it.  Where the couplings are steady, as those of
    small states and of linear units, fluctuations stay linear however they feed themselves, and the estimate holds.
    """
    if fresh is None:
        return tied.radius > _NEAR_EDGE
    pairs = ((tied.second_moment, fresh.second_moment), (tied.memory_moment, fresh.memory_moment))
    feeds = tied.fed > _FED if tied.alike else tied.radius > _NEAR_EDGE
    return any(a > _AMPLIFIED * b for a, b in pairs) and (divides or feeds)


def _misses(fresh: _Estimate | None, untied: Numbers | None, T: int) -> bool:
    """Whether the estimate's own growth at fresh weights is not the exact one: then it knows no better with kept ones.

    Where normalizations divide by what a few slow units hold it is off by a fifth up to many times, else by .3 % at
    most (all schemes and cells at T = 100).
    """
    if fresh is None or untied is None or not (untied.chi_over_T > 0.0 and math.isfinite(fresh.log_retention)):
        return False
    exact = T * math.log(untied.chi_over_T)
    return abs(fresh.log_retention - exact) > _OWN_ERROR * max(abs(exact), OVER_T_LIMIT)


def _growth(chi: float | None, tied: float, fresh: float) -> float:
    """χ from the exact untied one and both estimates: their rates' ratio, so that decay stays decay.

    Where perturbations do not decay, rates have no meaning relative to each other: then it is the estimate itself.
    """
    if chi is None or not (0.0 < chi < 1.0 and 0.0 < fresh < 1.0 and 0.0 < tied < 1.0):
        return tied
    return math.exp(math.log(chi) * math.log(tied) / math.log(fresh))


def fast_tied(cell: Cell, layer: Layer, T: int, untied: Numbers | None) -> Numbers | None:
    """Return the tied numbers of a layer, estimated; deterministic, without standard errors.

    The untied numbers are exact.  So each number here is the untied one times what tying the weights changes, tied over
    untied at the same points: the points' own error cancels, and at recurrent variances near 0 the two theories agree
    to all digits.

    Args:
        cell: The cell.
        layer: The layer.
        T: Steps of the retention.
        untied: The numbers of the untied theory; None where it has none (identity kernels).

    Returns:
        The numbers; None where one is beyond the range of the estimate, or where the cell keeps its memory normalized:
        what it keeps then depends on how memories and fields are correlated in time, which the estimate leaves out.
    """
    if cell.keeps_normalized:
        return None
    tied = _estimate(cell, layer, T, tied=True)
    fresh = None if untied is None else _estimate(cell, layer, T, tied=False)
    if tied is None or (untied is not None and fresh is None):
        return None

    def scaled(name: str, value: float | None) -> float:
        mine = float(getattr(tied, name))
        other = 0.0 if fresh is None else float(getattr(fresh, name))
        return mine if value is None or not value > 0.0 or not other > 0.0 else value * (mine / other)

    exact = untied.model_dump() if untied is not None else {}
    chi = _growth(exact.get("chi"), tied.chi, 0.0 if fresh is None else fresh.chi)
    log_retention = tied.log_retention
    if untied is not None and fresh is not None and untied.chi_over_T > 0.0 and math.isfinite(fresh.log_retention):
        log_retention += T * math.log(untied.chi_over_T) - fresh.log_retention
    exact_times = exact.get("unit_time_constants", {})

    def constant(name: str, share: float) -> float:
        scale = np.quantile(tied.times, share) / (np.quantile(fresh.times, share) if fresh else 1.0)
        return float(min(scale * exact_times.get(name, 1.0), LONGEST_TIME))

    jacobian = exact.get("jacobian", {})
    second_moment = scaled("second_moment", exact.get("second_moment"))
    memory = scaled("memory_moment", exact.get("cell_second_moment")) if cell.has_readout else None
    m1 = scaled("jacobian_mean", jacobian.get("mean_squared_singular_value"))
    variance = scaled("jacobian_variance", jacobian.get("variance"))
    if not np.all(np.isfinite([chi, second_moment, memory or 0.0, m1, variance])):
        return None
    rough = (
        _is_rough(tied, fresh, divides=cell.normalized)
        or _misses(fresh, untied, T)
        or keep_variance(cell, layer) > _KEEP_VARIANCE
    )
    notes = [NOTE, ROUGH] if rough else [NOTE]
    if not (tied.settled and (fresh is None or fresh.settled)):
        notes.append("the self-consistent state was not reached; the numbers are those of the last iterate")
    return Numbers(
        second_moment=second_moment,
        cell_second_moment=memory,
        chi=chi,
        time_scale=None if chi >= 1.0 else (-1.0 / math.log(chi) if chi > 0 else 0.0),
        **over_T(log_retention, T),
        unit_time_constants=TimeConstants(
            min=constant("min", 0.0), median=constant("median", 0.5), max=constant("max", 1.0)
        ),
        jacobian=Jacobian(mean_squared_singular_value=m1, variance=variance),
        notes=tuple(notes),
    )
