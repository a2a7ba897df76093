"""The untied theory: weights drawn anew at every step (arXiv:1901.08987).

Given E m² of the message, every pre-activation is Gaussian and independent of the state, so the moments of the
memory s' = keep·s + write·n close exactly:

    M_p (1 − E keepᵖ) = Σ_{j<p} C(p, j) E[keepʲ writeᵖ⁻ʲ] E[nᵖ⁻ʲ] M_j

and E m² itself is the one unknown, found by an accelerated fixed-point iteration, for a whole grid at once.
The LSTM's message o·tanh(c) needs the distribution of c: ``critinit.theory.untied.memory``.

χ and the retention follow from the linear recursion of squared distances by class of units,

    D_β' = E keep²·D_β + Σ_k σ_k² E a_k²·Δ_k,     Δ_k = E over units of the squared distance of the messages,

the Jacobian's first two moments from free probability (``_jacobian``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array
from critinit.roots import crossing
from critinit.spec.model import Layer
from critinit.theory.normalization import ScaledMemory
from critinit.theory.parameters import GateParameters, LayerParameters, layer_parameters, split_parameters
from critinit.theory.quadrature import normal_rule
from critinit.theory.untied.averages import (
    Candidate,
    Memory,
    PairCandidate,
    Scaling,
    over_environments,
    scaling,
    shared_moments,
)
from critinit.theory.untied.memory import DistanceOperator, MemoryDistribution
from critinit.theory.untied.powers import log_power_mean

__all__ = [
    "UNBOUNDED",
    "UnitMoments",
    "Untied",
    "layer_unit_moments",
    "padding_parameters",
    "scaled_memory",
    "solve",
    "solve_driven",
    "solve_layer",
    "unit_moments",
    "unit_time_constants",
]

_MAX_CYCLES = 300
"""Most cycles of the accelerated iteration; a few suffice away from a bifurcation."""
UNBOUNDED = 1e12
"""The largest second moment of an unbounded cell, from which the iteration from above starts; one that reaches it has
no fixed point."""
_COARSE = 0.4
"""Order of the rules at which it is decided which fixed point is meant: 1e-6."""
_COARSE_TOLERANCE = 1e-5
"""Relative change at which that decision's iteration ends."""
_LEAP = 1e-5
"""Relative length of a leap that lands on the fixed point: the leap's error is its square."""
_SAME = 1e-4
"""Relative distance within which two iterations are on the way to the same fixed point."""
_NOTHING = 1e-30
"""Second moments below this are 0."""
_REACHED = 1e-9
"""Relative step that remains at a fixed point which was reached in the last cycle."""
_REST = 1e-12
"""A second moment below this is that of a network at rest."""
_KICK = 1e-8
"""The second moment of a small kick to a network at rest, which shows whether rest is stable."""
_KICKED = 1e-9
"""A second moment above this is not that of a network at rest."""
_APART = 1e-3
"""Relative difference beyond which two fixed points are two."""
_LOOKS = 24
"""Points between two fixed points at which the iteration is looked at."""
_BIAS_NODES = 401
"""Nodes of a normal bias that stays with its unit: powers of what a unit keeps switch on within a bias of 1 or so."""
_SHUT = 1e-16
"""A gate that leaks less is shut to double precision."""
_LOG_GAPS = (-30.0, 60.0)
"""ln of how far above the slowest class's E keep² the square of a kept memory's deviation is sought, relative."""
_DRIFT = 1e-9
"""A drift of the memory per step below which it is rounding."""
_KEPT_STATES = 32
"""Layers whose stationary states are kept: compare asks for those of all schemes in turn."""
_FRACTIONS = (0.5, 0.25, 0.125, 1 / 16, 1 / 32)
"""Powers β of what is left of a unit, of which one is near the best for any T."""
_CHUNK = 192
"""Points at once: enough to make the calls cheap, few enough for the quadrature arrays to stay in cache."""


@dataclass(frozen=True)
class Untied:
    """The untied theory of a grid of layers; every array has the grid's shape.

    Attributes:
        second_moment: E h², or E r² of a projection.
        memory_moment: E s² of the memory.
        mean: E s.
        product_moment: E h h' over the two copies.
        chi: χ, the growth per step of their squared distance.
        jacobian_mean: Mean of the squared singular values of the one-step Jacobian.
        jacobian_variance: Their variance.
        unit_time_constants: 1/(1 − E keep) of the shortest, median and longest units, in steps, (*grid, 3).
        converged: Whether the fixed point was reached.
        multistable: A function that says whether the iterations from below and from above end apart, so that the state
            depends on where it starts; the numbers are those reached from rest.  It looks closer when it is called.
        log_retention: A function of T: ln of what T steps leave of a perturbation of the memory, in squared length.
        log_unseen: A function of T and of a number of units: by how much less ln of it is in most networks of so many
            units, which have none of the rare ones whose gates chance keeps open; an estimate.
    """

    second_moment: Array
    memory_moment: Array
    mean: Array
    product_moment: Array
    chi: Array
    jacobian_mean: Array
    jacobian_variance: Array
    unit_time_constants: Array
    converged: Array
    multistable: Callable[[], Array]
    log_retention: Callable[[int], Array]
    log_unseen: Callable[[int, int], Array]

    def retention(self, steps: int) -> Array:
        """Return what ``steps`` steps leave of a perturbation of the memory, relative squared length."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(self.log_retention(steps))

    @property
    def time_scale(self) -> Array:
        """The time scale ξ = −1/ln χ in steps; infinite where χ ≥ 1."""
        chi = np.minimum(self.chi, 1.0)
        with np.errstate(divide="ignore"):
            return np.where(chi < 1.0, -1.0 / np.log(chi), np.inf)


def solve(params: LayerParameters, *, order: float = 1.0) -> Untied:
    """Return fixed point, χ, retention and Jacobian of every point of a grid; deterministic.

    Gaussian averages are accurate to about 1e-10, averages over the LSTM's cell as ``critinit.theory.untied.memory``
    says.  The cost is about 100 µs a point for the GRU.

    Args:
        params: The layer, or the grid of layers.
        order: Order of the rules; above 1, to measure the error.

    Example:
        >>> from critinit.theory.parameters import grid_parameters
        >>> hidden = {"recurrent": np.array([0.25, 0.81]), "input": 0.0, "mean": 0.0}
        >>> solve(grid_parameters("rnn", {"hidden": hidden})).chi.round(9).tolist()
        [0.25, 0.81]
    """
    most = _CHUNK if params.memory_gain is None else 1  # a memory's own scale is that of one point
    if math.prod(params.batch) > most:
        return _join([solve(part, order=order) for part in split_parameters(params, most)], params.batch)
    return _solved(params, *_fixed_state(params, order))


def solve_driven(params: LayerParameters) -> tuple[Untied, Array]:
    """Return what ``solve`` says where only the candidate is driven, by inputs that stand for its recurrent signal too.

    ``params`` states the whole variance v of the candidate's pre-activation as that of its inputs.  Nothing else of the
    layer depends on E m², so no fixed point is sought.  These are the numbers of a layer whose inputs make v less what
    is returned.

    Args:
        params: The layer, or the grid of layers.

    Returns:
        The numbers, and the variance that the recurrent kernel adds to the candidate's pre-activation.

    Example:
        >>> from critinit.theory.parameters import grid_parameters
        >>> made = lambda power: grid_parameters("rnn", {"hidden": {"recurrent": 0.9, "input": power, "mean": 0.0}})
        >>> numbers, back = solve_driven(made(0.2))
        >>> bool(np.isclose(numbers.chi, solve(made(0.2 - back)).chi))
        True
    """
    q = np.zeros((2 if params.cell.before else 1, *params.batch, 1, 1))
    state = _State(params, q, 1.0)
    found = _solved(params, state, np.ones(q.shape, dtype=bool), lambda: np.zeros(q.shape[1:], dtype=bool))
    return found, _full(params, state.candidate.returned(state.messages()[-1])[..., 0, 0])


def solve_layer(cell: Cell, layer: Layer) -> Untied:
    """Return what ``solve`` says of a layer; its stationary state is kept for ``layer_unit_moments``.

    Args:
        cell: The cell.
        layer: The layer, without its prediction.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=100, scheme="isometry")
        >>> round(float(solve_layer(spec.find_cell(), spec.layers[0]).time_scale))
        100
    """
    return _stationary(cell, layer).numbers


def _stationary(cell: Cell, layer: Layer) -> _Stationary:
    params = layer_parameters(cell, layer)
    return _kept(_Asked(_written(params), params))


@dataclass(frozen=True)
class _Asked:
    """Hyperparameters, told apart by their numbers: padding and limits on learning rates change none."""

    numbers: tuple[Any, ...]
    params: LayerParameters = field(compare=False)


@lru_cache(maxsize=_KEPT_STATES)
def _kept(asked: _Asked) -> _Stationary:
    return _Stationary(asked.params)


class _Stationary:
    """A layer in its stationary state."""

    def __init__(self, params: LayerParameters) -> None:
        self._params = params
        self.state, self._met, self._multistable = _fixed_state(params, 1.0)

    @cached_property
    def numbers(self) -> Untied:
        """What ``solve`` says of it."""
        return _solved(self._params, self.state, self._met, self._multistable)


def _written(x: Any) -> Any:
    """Hyperparameters as a tuple that can be compared."""
    if isinstance(x, np.ndarray):
        return x.shape, x.tobytes()
    if isinstance(x, Mapping):
        return tuple((name, _written(part)) for name, part in x.items())
    if isinstance(x, (LayerParameters, GateParameters)):
        return tuple(_written(getattr(x, part.name)) for part in fields(x))
    return x


def _solved(params: LayerParameters, state: _State, met: Array, multistable: Callable[[], Array]) -> Untied:
    """All numbers of a stationary state."""
    c = state.q
    if np.any(params.correlation < 1.0):
        c, met_pair = _fixed_point(
            lambda c: state.pair(c).messages(), state.q * params.correlation, state.q, _tolerance(params)
        )
        met = np.logical_and(met, met_pair)
    return _numbers(state, c, np.asarray(np.all(met, axis=0)), multistable)


def unit_time_constants(params: LayerParameters) -> Array:
    """Return 1/(1 − E keep) of the shortest, median and longest units, in steps, without all the other numbers.

    Args:
        params: The layer, or the grid of layers.

    Returns:
        An array (*batch, 3).

    Example:
        >>> from critinit.theory.parameters import grid_parameters
        >>> update = {"recurrent": 0.0, "input": 0.0, "mean": np.log(99.0)}
        >>> float(unit_time_constants(grid_parameters("minimal_rnn", {"update": update}))[1].round(6))
        100.0
    """
    return _unit_time_constants(_fixed_state(params, 1.0)[0])


class UnitMoments(NamedTuple):
    """Averages of a stationary layer by bias, class and environment of units, (B, K, E) or what broadcasts to it.

    Attributes:
        keep: E keep.
        keep_square: E keep².
        write: E write.
        written_variance: Var(write·candidate).
        bias_weights: Weights of the nodes of the keep gate's bias where it is normal and stays with its unit, (B,); one
            node where it is not.
    """

    keep: Array
    keep_square: Array
    write: Array
    written_variance: Array
    bias_weights: Array


def unit_moments(params: LayerParameters) -> UnitMoments:
    """Return how the units of a layer keep and write in its stationary state.

    The state is that of the untied theory; in it a normal bias of the keep gate stays with its unit, over whose biases
    powers of what it keeps are to be averaged.

    Args:
        params: The layer, of batch shape ().

    Example:
        >>> from critinit import generate
        >>> from critinit.theory.parameters import layer_parameters
        >>> spec = generate("gru", T=100, scheme="isometry")
        >>> moments = unit_moments(layer_parameters(spec.find_cell(), spec.layers[0]))
        >>> bool(np.allclose(moments.keep + moments.write, 1.0))
        True
    """
    return _unit_moments(_fixed_state(params, 1.0)[0])


def layer_unit_moments(cell: Cell, layer: Layer) -> UnitMoments:
    """Return what ``unit_moments`` says of a layer, whose stationary state is kept for ``solve_layer``.

    Args:
        cell: The cell.
        layer: The layer, without its prediction.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=100, scheme="isometry")
        >>> moments = layer_unit_moments(spec.find_cell(), spec.layers[0])
        >>> bool(np.allclose(moments.keep + moments.write, 1.0))
        True
    """
    return _unit_moments(_stationary(cell, layer).state)


def _unit_moments(state: _State) -> UnitMoments:
    params = state.params
    memory, n, weights = state.memory, state.candidate.n, np.ones(1)
    keep = params.cell.keep_gate or ""
    gate = params.gates[keep]
    if np.any(gate.bias_variance > 0.0):
        z, weights = normal_rule("trapezoidal", _BIAS_NODES)
        means = gate.mean + np.sqrt(gate.bias_variance) * z[:, None, None]
        own = replace(gate, mean=means, bias_variance=np.zeros((1, 1)))
        params = replace(params, gates={**params.gates, keep: own}, batch=(z.size,))
        memory = Memory(params, state.q[0], state.q[0], 1.0)
    moment = memory.moment
    written = moment(0, 0, 2, 0) * n(2) - (moment(0, 0, 1, 0) * n(1)) ** 2
    return UnitMoments(moment(1, 0, 0, 0), moment(2, 0, 0, 0), moment(0, 0, 1, 0), np.maximum(written, 0.0), weights)


def _fixed_state(params: LayerParameters, order: float) -> tuple[_State, Array, Callable[[], Array]]:
    """The stationary state of one copy, where it was reached, and a function that says where another one exists."""
    if params.cell.normalized:
        state, reached = _normalized_state(params, order)
        return state, np.full(state.q.shape, reached), lambda: np.zeros((*params.batch, 1, 1), dtype=bool)
    components = 2 if params.cell.before else 1
    shape = (components, *params.batch, 1, 1)
    ceiling = np.broadcast_to(_ceiling(params), shape)

    def fine(q: Array) -> Array:
        return _messages(params, q, order)

    def coarse(q: Array) -> Array:
        return _messages(params, q, _COARSE)

    # which fixed point is decided at low order; the one taken is then polished at full order.  With a read-out all
    # orders cost the same
    at_once = params.cell.has_readout
    look, tolerance = (fine, _tolerance(params)) if at_once else (coarse, _COARSE_TOLERANCE)
    low, met = _fixed_point(look, np.zeros(shape), ceiling, tolerance)
    high, met_high = _fixed_point(look, ceiling, ceiling, _COARSE_TOLERANCE, near=low)
    # rest is a fixed point without inputs and biases; where it is unstable the state is the upper one
    unstable_rest = (low[0] < _REST) & (high[0] > _KICKED)
    if np.any(unstable_rest):
        unstable_rest &= fine(np.full(shape, _KICK))[0] > _KICK
    apart = np.abs(high[0] - low[0]) > _APART * np.maximum(high[0], _REST)
    several = apart & ~unstable_rest & met[0] & met_high[0]

    def multistable() -> Array:
        if not np.any(several):
            return np.asarray(several)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # as in the solution
            return np.asarray(several & _is_repelled(lambda q: look(q)[0], low, high))

    q = np.where(unstable_rest, high, low)
    if not at_once or np.any(unstable_rest):
        q, met = _fixed_point(fine, q, ceiling, _tolerance(params))
    if not (params.cell.bounded or params.cell.embeds_input):
        met = np.logical_and(met, q < UNBOUNDED)
    return _State(params, q, order), met, multistable


def _is_repelled(g: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Whether somewhere between two fixed points the iteration goes upwards, as between two that attract.

    Where it goes down everywhere there is one fixed point only, and from above it is approached so slowly that the
    iteration seems to stand: at the edge of chaos as 1/steps.
    """
    shares = np.linspace(0.0, 1.0, _LOOKS + 2)[1:-1]
    rises = np.zeros(low[0].shape, dtype=bool)
    for share in shares:
        q = np.where(
            low > 0.0, np.maximum(low, _REST) ** (1.0 - share) * np.maximum(high, _REST) ** share, share * high
        )
        rises |= g(q) > q[0]
    return rises


def _normalized_state(params: LayerParameters, order: float) -> tuple[_State, bool]:
    """The state of a normalized cell, with kernels of variance γ²/Q that read messages as they are, and whether it is
    stationary.

    What kernels read has the second moment 1 whatever it is, so nothing is to be iterated.
    """
    params, met = _with_scaled_memory(params, order)
    q = _State(params, np.ones((1, *params.batch, 1, 1)), order).messages()
    inverse = np.divide(1.0, q[0], out=np.zeros(q[0].shape), where=q[0] > 0.0)
    gates = {name: replace(gate, recurrent=gate.recurrent * inverse) for name, gate in params.gates.items()}
    return _State(replace(params, gates=gates), q, order), met


def scaled_memory(params: LayerParameters) -> LayerParameters:
    """Return the parameters with the memory's normalization as the number that it is under these inputs.

    Args:
        params: The layer, of batch shape (); returned as it is where no memory is normalized.

    Example:
        >>> from critinit import generate
        >>> from critinit.theory.parameters import layer_parameters
        >>> spec = generate("layernorm_lstm", T=100, settings=["layers.0.memory_gain=1.0"])
        >>> params = scaled_memory(layer_parameters(spec.find_cell(), spec.layers[0]))
        >>> round(params.memory_scale, 2)
        2.99
    """
    return _with_scaled_memory(params, 1.0)[0]


def padding_parameters(cell: Cell, layer: Layer) -> LayerParameters:
    """Return the hyperparameters of a layer while its inputs carry no information.

    A normalized memory has the scale that it has under steady inputs: what padding does to that takes many steps.

    Args:
        cell: The cell.
        layer: The layer.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=100, padding={"variance": 0.25})
        >>> padding_parameters(spec.find_cell(), spec.layers[0]).input_variance.item()
        0.25
    """
    padded = layer_parameters(cell, layer, input_variance=layer.input.padding_power)
    if padded.memory_gain is None:
        return padded
    steady = scaled_memory(layer_parameters(cell, layer))
    return replace(padded, cell=steady.cell, memory_gain=None, memory_scale=steady.memory_scale)


def _with_scaled_memory(params: LayerParameters, order: float) -> tuple[LayerParameters, bool]:
    """The same, and whether the memory has a stationary distribution."""
    gain, met = params.memory_gain, True
    if gain is None:
        return params, met
    state = _State(params, np.ones((1, *params.batch, 1, 1)), order)
    if params.cell.keeps_normalized:
        scale, met = _kept_scale(state, gain)
        return replace(params, cell=ScaledMemory(params.cell, scale, kept=scale), memory_gain=None), met
    _, mean, second = (_units(params, moment).item() for moment in state.moments(2))
    deviation = math.sqrt(max(second - mean**2, 0.0))
    scale = gain / deviation if deviation > 0.0 else 0.0
    cell = ScaledMemory(params.cell, scale, scale * mean)
    return replace(params, cell=cell, memory_gain=None, memory_scale=scale), met


def _kept_scale(state: _State, gain: float) -> tuple[float, bool]:
    """The a = γ_c/D at which Σ_β w_β E c_β² = γ_c², with E c_β² = a² E(write n)²/(1 − a² E keep²) of class β.

    And whether there is one at which every class has a stationary memory; if not, a is the largest.  A memory that
    drifts, E write·E n ≠ 0, has no such form, as the normalization takes the drift off it again.
    """
    params = state.params
    drift = float(np.max(np.abs(state.memory.moment(0, 0, 1, 0) * state.candidate.n(1))))
    kept = over_environments(params, state.memory.moment(2, 0, 0, 0))
    written = over_environments(params, state.memory.moment(0, 0, 2, 0) * state.candidate.n(2))
    kept, written = (np.broadcast_to(x.ravel(), params.class_weights.shape) for x in (kept, written))
    weights, slowest = params.class_weights, float(np.max(kept))

    def missing(log_gap: float) -> float:
        """γ_c² less what 1/a² = (slowest E keep²)·(1 + e^x) gives."""
        return gain**2 - float(weights @ (written / (slowest - kept + slowest * math.exp(log_gap))))

    low, high = _LOG_GAPS
    if slowest == 0.0 or gain == 0.0 or not np.any(weights * written):
        total = float(weights @ written)
        return (gain / math.sqrt(total) if total > 0.0 else 0.0), drift < _DRIFT
    if missing(low) > 0.0 or missing(high) < 0.0:
        return 1.0 / math.sqrt(slowest * (1.0 + math.exp(low if missing(low) > 0.0 else high))), False
    found = crossing(missing, low, high, 1e-13)
    return 1.0 / math.sqrt(slowest * (1.0 + math.exp(found))), drift < _DRIFT


def _tolerance(params: LayerParameters) -> float:
    """Of the fixed point: what averages over the LSTM's cell resolve is less than the rest."""
    return 1e-9 if params.cell.has_readout else 1e-13


def _join(parts: list[Untied], batch: tuple[int, ...]) -> Untied:
    """The grid whose points were solved in parts."""

    def joined(arrays: list[Array]) -> Array:
        return np.concatenate(arrays).reshape(batch + arrays[0].shape[1:])

    names = [part.name for part in fields(Untied) if part.name not in ("multistable", "log_retention", "log_unseen")]
    return Untied(
        **{name: joined([getattr(part, name) for part in parts]) for name in names},
        multistable=lambda: joined([part.multistable() for part in parts]),
        log_retention=lambda steps: joined([np.atleast_1d(part.log_retention(steps)) for part in parts]),
        log_unseen=lambda steps, units: joined([np.atleast_1d(part.log_unseen(steps, units)) for part in parts]),
    )


def _ceiling(params: LayerParameters) -> Array:
    """An upper bound of E m²: 1 where the cell bounds its message so, R for the embedded input, else a large start."""
    if params.cell.embeds_input:
        return params.input_variance
    return np.full((1, 1), 1.0 if params.cell.bounded else UNBOUNDED)


def _fixed_point(
    g: Callable[[Array], Array], start: Array, ceiling: Array, tolerance: float, near: Array | None = None
) -> tuple[Array, Array]:
    """q = g(q) elementwise by Aitken's acceleration, with plain steps where it leaves [0, ceiling]; whether it is met.

    ``near``: iterates that come within 1e-4 of it count as having reached it.
    """

    def step(x: Array) -> Any:
        """What has no number, as a moment that overflowed has none, is beyond the ceiling."""
        return np.minimum(np.nan_to_num(g(x), nan=math.inf, posinf=math.inf), ceiling)

    def is_near(x: Array) -> Any:
        return near is not None and np.abs(x - near) <= _SAME * np.maximum(near, _REST)

    q = np.array(start, dtype=float)
    for _ in range(_MAX_CYCLES):
        q1 = step(q)
        if np.all(is_near(q1)):
            return q1, np.ones(q1.shape, dtype=bool)
        q2 = step(q1)
        first, second = q1 - q, q2 - q1
        met = np.abs(second) <= tolerance * np.maximum(q2, _NOTHING)
        met = met | is_near(q2)
        if np.all(met):
            return q2, met
        with np.errstate(divide="ignore", invalid="ignore"):
            leap = q - first**2 / (second - first)
        good = np.isfinite(leap) & (leap >= 0) & (leap <= ceiling) & (np.abs(second) < np.abs(first))
        q = np.where(good & ~met, leap, q2)
        # the leap squares the relative error, which is its own length: from here it is below the tolerance
        near_enough = np.abs(leap - q2) <= max(math.sqrt(tolerance), _LEAP) * np.maximum(q2, _NOTHING)
        if np.all(met | (good & near_enough)):
            return q, np.ones_like(met)
    return q, np.abs(g(q) - q) <= _REACHED * np.maximum(q, _NOTHING)


def _messages(params: LayerParameters, q: Array, order: float) -> Array:
    """E m² that the state has when the pre-activations are those of E m² = q; see ``_State``."""
    return _State(params, q, order).messages()


class _State:
    """One copy at given message moments ``q`` (components, *batch, 1, 1): E h², and E (ρh)² where a gate scales h."""

    def __init__(self, params: LayerParameters, q: Array, order: float) -> None:
        self.paired_params = params
        params = replace(params, correlation=np.ones((1, 1)))
        self.params, self.q, self.order = params, q, order
        self.memory = Memory(params, q[0], q[0], order)
        self.candidate = Candidate(params, q[0], q[-1], order)
        self._moments: list[Array] = [np.ones((1,))]

    @cached_property
    def scaling(self) -> Scaling | None:
        """The gate that scales the message of the candidate, if one does."""
        before = self.params.cell.before.get(self.params.cell.candidate_gate or "")
        return scaling(self.params, before.gate, before.factor, self.q[0], self.q[0], self.order) if before else None

    def moments(self, highest: int) -> list[Array]:
        """E s⁰ … E sᵖ of the memory by class, each (*batch, K)."""
        params, memory, n, moments = self.params, self.memory, self.candidate.n, self._moments
        for p in range(len(moments), highest + 1):
            total: Array = np.zeros((1,))
            for j in range(p):
                factor = over_environments(params, memory.moment(j, 0, p - j, 0) * n(p - j))
                total = total + math.comb(p, j) * factor * moments[j]
            kept = over_environments(params, memory.moment(p, 0, 0, 0))
            moments.append(total / np.maximum(1.0 - kept, _SHUT))
        return moments[: highest + 1]

    @cached_property
    def memory_distribution(self) -> MemoryDistribution:
        """The distribution of the memory, for a cell with a read-out."""
        return MemoryDistribution(self.params, self.q[0], self.moments(4), self.order)

    @cached_property
    def second(self) -> Array:
        """E m² by class, before any scaling: of h, or of s where that is the message."""
        return self.memory_distribution.average(2, None) if self.params.cell.has_readout else self.moments(2)[2]

    def messages(self) -> Array:
        """The message moments that this state has."""
        parts = [self.second]
        if self.scaling is not None:
            parts.append(self.second * over_environments(self.params, self.scaling.square))
        return np.stack([_full(self.params, _units(self.params, part)) for part in parts])[..., None, None]

    def pair(self, c: Array) -> _Pair:
        """Two copies whose messages have product moments ``c``."""
        return _Pair(self, c)


class _Pair:
    """Two copies of a state at product moments ``c`` of their messages."""

    def __init__(self, state: _State, c: Array) -> None:
        params, q, order = (state.params if c is state.q else state.paired_params), state.q, state.order
        self.state, self.c = state, c
        self.same = c is q
        self.memory = Memory(params, q[0], c[0], order)
        self.candidate: PairCandidate | Candidate
        if self.same:
            self.candidate = state.candidate
            self.scaling = state.scaling
            self.n_product = state.candidate.n(2)
            return
        self.candidate = PairCandidate(params, q[-1], c[-1], (q[0], c[0]), order)
        self.n_product = self.candidate.product
        before = params.cell.before.get(params.cell.candidate_gate or "")
        self.scaling = scaling(params, before.gate, before.factor, q[0], c[0], order) if before else None

    @cached_property
    def product(self) -> Array:
        """E s s' of the memories by class."""
        params, memory, n, mean = self.state.params, self.memory, self.state.candidate.n, self.state.moments(1)[1]
        crossed = 2.0 * over_environments(params, memory.moment(1, 0, 1, 0) * n(1)) * mean
        written = over_environments(params, memory.moment(0, 0, 2, 0) * self.n_product)
        kept = over_environments(params, memory.moment(2, 0, 0, 0))
        return (crossed + written) / np.maximum(1.0 - kept, _SHUT)

    @cached_property
    def correlation(self) -> Array:
        """Of the memories, about their mean, by class."""
        _, mean, second = self.state.moments(2)
        spread = second - mean**2
        return np.where(spread > 0, (self.product - mean**2) / np.where(spread > 0, spread, 1.0), 1.0)

    def read(self, by: str | None) -> Array:
        """E over the copies of the product of h or of its slopes (read-out cells), by class."""
        if self.same:
            return self.state.memory_distribution.average(2, by)
        return self.state.memory_distribution.paired(self.state.q[0], self.c[0], self.correlation, by)

    def messages(self) -> Array:
        """The product moments that these copies have."""
        params = self.state.params
        parts = [self.read(None) if params.cell.has_readout else self.product]
        if self.scaling is not None:
            parts.append(parts[0] * over_environments(params, self.scaling.square))
        return np.stack([_full(params, _units(params, part)) for part in parts])[..., None, None]

    def couplings(self) -> dict[str, Array]:
        """E a_k a_k' of every gate that acts on the memory, by class, without σ²."""
        params, memory = self.state.params, self.memory
        mean, n = self.state.moments(1)[1], self.state.candidate.n(1)
        powers = {(2, 0): self.product[..., None], (1, 1): mean[..., None] * n, (0, 2): self.n_product}
        found = {
            gate: sum(
                (over_environments(params, t[0] * memory.moment(0, t[1], 0, t[2]) * powers[t[3], t[4]]) for t in terms),
                start=np.zeros(1),
            )
            for gate, terms in memory.couplings
        }
        for gate in self.candidate.gates:
            found[gate] = over_environments(params, memory.moment(0, 0, 2, 0) * self.candidate.coupling(gate))
        return found


def _units(params: LayerParameters, x: Array) -> Array:
    """Average over the classes: (…, K) -> (…)."""
    return np.asarray(x[..., 0] if x.shape[-1] == 1 else x @ params.class_weights)


def _full(params: LayerParameters, x: Array) -> Array:
    return np.broadcast_to(x, params.batch)


def _sigma(params: LayerParameters, gate: str) -> Array:
    """σ² of a gate, (*batch, K or 1)."""
    return params.gates[gate].recurrent[..., 0]


def _numbers(state: _State, c: Array, converged: Array, multistable: Callable[[], Array]) -> Untied:
    params = state.params
    pair = state.pair(c)
    kept = over_environments(params, pair.memory.moment(2, 0, 0, 0))
    couplings = pair.couplings()
    if params.cell.has_readout:
        source = sum((_sigma(params, gate) * a for gate, a in couplings.items()), start=np.zeros(1))
        if pair.same:
            operator = state.memory_distribution.distance_operator(kept, source)
        else:
            by_output = (
                _sigma(params, params.cell.read_gate) * pair.read("gate") if params.cell.read_gate else np.zeros(1)
            )
            read = pair.read("memory")[..., None]
            operator = DistanceOperator(
                np.ones(1), kept, kept[..., None, None], source[..., None], read, by_output, params
            )
        chi = operator.growth()
        log_retention: Callable[[int], Array] = operator.log_retention
    else:
        chi, log_retention = _memory_distance(params, kept, couplings, pair)
    moments = state.moments(4)
    jacobian_mean, jacobian_variance = _jacobian(state)
    flat = (..., 0, 0)
    unit = params.memory_scale or 1.0
    return Untied(
        second_moment=_full(params, params.gain * state.q[0][flat]),
        memory_moment=_full(params, _units(params, moments[2]) / unit**2),
        mean=_full(params, _units(params, moments[1]) / unit),
        product_moment=_full(params, params.gain * pair.c[0][flat]),
        chi=_full(params, chi),
        jacobian_mean=_full(params, jacobian_mean),
        jacobian_variance=_full(params, jacobian_variance),
        unit_time_constants=_unit_time_constants(state),
        converged=_full(params, converged[flat]),
        multistable=lambda: _full(params, multistable()[flat]),
        log_retention=log_retention,
        log_unseen=lambda steps, units: _full(params, _log_unseen(state, log_retention(steps), steps, units)),
    )


def _log_unseen(state: _State, log_retention: Array, steps: int, units: int) -> Array:
    """By how much ln of the retention is less in most networks of N units.

    What a unit keeps of itself is x = Π keep² over the steps, whose mean is E x.  The mean x̄ of N units is below
    (N^{1−β} E xᵝ)^{1/β} in most networks, for every β < 1, as E x̄ᵝ is at most N^{1−β} E xᵝ.  ln E x less the least of
    these counts as far as x is what is left of a perturbation: what returns through the kernels reaches all units.
    """
    params, memory = state.params, state.memory

    def log_mean(power: float) -> Array:
        kept = over_environments(params, memory.kept(2.0 * power))
        with np.errstate(divide="ignore"):
            logs = steps * np.log(kept) + np.log(params.class_weights)
        return np.asarray(np.logaddexp.reduce(logs, axis=-1) / power)

    own = log_mean(1.0)
    shown = [log_mean(power) + (1.0 / power - 1.0) * math.log(units) for power in _FRACTIONS]
    with np.errstate(invalid="ignore"):
        share = np.exp(np.minimum(own - log_retention, 0.0))
        missing = share * np.maximum(own - np.min(shown, axis=0), 0.0)
    return np.asarray(np.nan_to_num(missing, nan=0.0))  # nothing is left at all


def _unit_time_constants(state: _State) -> Array:
    params = state.params
    times = 1.0 / np.maximum(1.0 - over_environments(params, state.memory.moment(1, 0, 0, 0)), np.finfo(float).tiny)
    times = np.broadcast_to(times, (*params.batch, params.class_weights.size))
    return np.stack([times.min(axis=-1), times[..., params.median_class], times.max(axis=-1)], axis=-1)


def _memory_distance(
    params: LayerParameters, kept: Array, couplings: dict[str, Array], pair: _Pair
) -> tuple[Array, Callable[[int], Array]]:
    """χ and retention of cells whose state is the memory: the matrix diag(E keep²) + Σ_k σ_k² E a_k² ⊗ row_k."""
    k = params.class_weights.size
    shape = (*params.batch, k)
    matrix = np.zeros((*shape, k))
    matrix[..., np.arange(k), np.arange(k)] = np.broadcast_to(kept, shape)
    for gate, a in couplings.items():
        row: Array = params.class_weights
        if pair.scaling is not None and gate == params.cell.candidate_gate:
            # δ(ρh) = ρ δh + ρ' h δu_r: the scaling gate's own kernel passes distances too
            before = params.cell.before[gate]
            through = over_environments(params, pair.scaling.slope_square) * pair.product
            passed = _sigma(params, before.gate)[..., 0] * _units(params, through)
            row = params.class_weights * (over_environments(params, pair.scaling.square) + passed[..., None])
        column = np.broadcast_to(_sigma(params, gate) * a, shape)
        matrix += column[..., :, None] * np.broadcast_to(row, shape)[..., None, :]
    chi = matrix[..., 0, 0] if k == 1 else np.max(np.linalg.eigvals(matrix).real, axis=-1)

    def log_retention(steps: int) -> Array:
        """ln E|δ_T|²/E|δ_0|² after ``steps`` steps."""
        return log_power_mean(matrix, steps, np.ones(shape), params.class_weights)

    return chi, log_retention


def _jacobian(state: _State) -> tuple[Array, Array]:
    """Mean and variance of the squared singular values of J = D_a + Σ_k D_{a_k} W_k M_k D_e.

    v = Σ_k σ_k² β_k a_k², β_k = E of the squared singular values of M_k (1, or of D_ρ + D_{ρ'h}W_r), e = ∂h/∂c:

        m₁ = E a² + E v·E e²
        m₂ = E a⁴ + 2E[a²v]E e² + 2E[a²e²]E v + E v²(E e²)² + (E v)²E e⁴ + σ_n⁴(E a_n²)²(β₂ − β²)
             − Σ_{orthogonal k} σ_k⁴ β_k² (E a_k²)²(E e²)²

    with κ (E v·E e²)² more where the kernels read a projection, and what ``_through_one_kernel`` adds where the gate
    that scales the message is the one that keeps.
    """
    params, memory, candidate = state.params, state.memory, state.candidate
    s = state.moments(4)
    n = candidate.n

    def env(x: Array) -> Array:
        return over_environments(params, np.asarray(x))

    beta, beta2 = np.ones(()), np.ones(())
    if state.scaling is not None:
        beta, beta2 = _scaled_message(state, s)
    beta_k = beta[..., None, None]
    e2: Array = np.ones(1)
    e4: Array = np.ones(1)
    if params.cell.has_readout:
        e2, e4 = state.memory_distribution.average(2, "memory"), state.memory_distribution.average(4, "memory")

    sigma = {gate: params.gates[gate].recurrent for gate in params.gates}
    kk1 = {a: candidate.with_k(a, 1) * beta_k for a in (0, 1, 2)}
    a2, a4 = env(memory.moment(2, 0, 0, 0)), env(memory.moment(4, 0, 0, 0))
    by_gate = state.pair(state.q).couplings()
    v_gate = {
        gate: _sigma(params, gate) * a * (beta_k[..., 0] if gate == params.cell.candidate_gate else 1.0)
        for gate, a in by_gate.items()
    }
    v = sum(v_gate.values(), start=np.zeros(1))

    a2v = env(memory.moment(2, 0, 2, 0) * kk1[0])
    v2 = env(memory.moment(0, 0, 4, 0) * candidate.with_k(0, 2) * beta_k**2)
    for gate, terms in memory.couplings:
        for t, b, d, i, j in terms:
            a2v = a2v + env(sigma[gate] * t * memory.moment(2, b, 0, d) * s[i][..., None] * n(j))
            v2 = v2 + 2.0 * env(sigma[gate] * t * memory.moment(0, b, 2, d) * s[i][..., None] * kk1[j])
            for other, others in memory.couplings:
                for t2, b2, d2, i2, j2 in others:
                    both = memory.moment(0, b + b2, 0, d + d2) * s[i + i2][..., None] * n(j + j2)
                    v2 = v2 + env(sigma[gate] * sigma[other] * t * t2 * both)

    def units(x: Array) -> Array:
        return _units(params, x)

    mean_v, mean_e2 = units(v), units(e2)
    m1 = units(a2) + mean_v * mean_e2
    m2 = units(a4) + 2.0 * units(a2v) * mean_e2 + 2.0 * units(a2 * e2) * mean_v
    m2 = m2 + units(v2) * mean_e2**2 + mean_v**2 * units(e4) + params.excess * (mean_v * mean_e2) ** 2
    if state.scaling is not None:
        own = units(v_gate[params.cell.candidate_gate or ""]) / np.maximum(beta, np.finfo(float).tiny)
        m2 = m2 + own**2 * (beta2 - beta**2) + 2.0 * own * _through_one_kernel(state, s)
    for gate, a in v_gate.items():
        m2 = m2 - np.where(params.gates[gate].orthogonal[..., 0, 0], units(a) ** 2 * mean_e2**2, 0.0)
    return m1, np.maximum(m2 - m1**2, 0.0)


def _through_one_kernel(state: _State, s: list[Array]) -> Array:
    """What m₂ has, over 2σ_n²E a_n², where W_f of the gate f that keeps also scales the candidate's message (MGU).

    With g = ρ'h and f its coupling a_f, both W_f stand in J = D_a + D_f W_f + D_n W_n (D_ρ + D_g W_f), so that

        E a²ρ² − E a²·E ρ² + 2σ_f² E[a f ρ g] + σ_f⁴ (E f²g², less E f²·E g² where W_f is orthogonal)

    are added; 0 where the scaling gate is another one.
    """
    params, memory = state.params, state.memory
    gate = params.cell.before[params.cell.candidate_gate or ""].gate
    if gate != params.cell.keep_gate:
        return np.zeros(())
    moment = shared_moments(params, state.q[0], state.order)
    n = state.candidate.n
    sigma = _sigma(params, gate)[..., 0]

    def units(*terms: tuple[Array, int, int]) -> Array:
        """E over units of Σ x·E sⁱ·E nʲ."""
        return _units(params, sum((over_environments(params, x * n(j)) * s[i] for x, i, j in terms), start=np.zeros(1)))

    def apart(x: Array, y: Array) -> Array:
        return _units(params, over_environments(params, x)) * _units(params, over_environments(params, y))

    kept = units((moment(2, 0, 0, 0, 2, 0), 0, 0)) - apart(moment(2, 0, 0, 0, 0, 0), moment(0, 0, 0, 0, 2, 0))
    crossed = units((moment(1, 1, 0, 0, 1, 1), 2, 0), (moment(1, 0, 0, 1, 1, 1), 1, 1))
    squares = units(
        (moment(0, 2, 0, 0, 0, 2), 4, 0), (2.0 * moment(0, 1, 0, 1, 0, 2), 3, 1), (moment(0, 0, 0, 2, 0, 2), 2, 2)
    )
    f2 = units(
        (memory.moment(0, 2, 0, 0), 2, 0), (2.0 * memory.moment(0, 1, 0, 1), 1, 1), (memory.moment(0, 0, 0, 2), 0, 2)
    )
    g2 = units((moment(0, 0, 0, 0, 0, 2), 2, 0))
    squares = squares - np.where(params.gates[gate].orthogonal[..., 0, 0], f2 * g2, 0.0)
    return kept + 2.0 * sigma * crossed + sigma**2 * squares


def _scaled_message(state: _State, s: list[Array]) -> tuple[Array, Array]:
    """First two moments of the squared singular values of B = D_ρ + D_{ρ'h} W_r."""
    params, scaled = state.params, state.scaling
    assert scaled is not None
    gate = params.cell.before[params.cell.candidate_gate or ""].gate
    sigma = _sigma(params, gate)

    def units(x: Array, h: Array) -> Array:
        return _units(params, over_environments(params, x) * h)

    r2, w = units(scaled.square, s[0]), sigma[..., 0] * units(scaled.slope_square, s[2])
    w2 = sigma[..., 0] ** 2 * units(scaled.slope_fourth, s[4])
    r2w = sigma[..., 0] * units(scaled.mixed, s[2])
    second = units(scaled.fourth, s[0]) + 2.0 * r2w + 2.0 * r2 * w + w2 + w**2
    return r2 + w, second - np.where(params.gates[gate].orthogonal[..., 0, 0], w**2, 0.0)
