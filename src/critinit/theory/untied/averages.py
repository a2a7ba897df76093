"""Averages of the parts of a cell over its pre-activations, at given second moment of the message.

A *copy* is a trajectory; two copies see inputs of correlation c and their pre-activations have covariance
cov ≤ var.  A function of one gate averaged over a pair is E_z[F̄(z)²], F̄(z) = E_w F(μ + √cov·z + √(var−cov)·w);
with cov = var the inner rule has one node and the pair is a single copy.

Shapes: (*batch, K, E) as in ``critinit.theory.parameters``, and trailing quadrature axes inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array, Dual, tangent, value
from critinit.errors import ArgumentError
from critinit.theory.parameters import LayerParameters
from critinit.theory.quadrature import LOGISTIC_STRIP, TANH_STRIP, broken_rule, rule_for

__all__ = [
    "Candidate",
    "Memory",
    "OneGate",
    "PairCandidate",
    "Scaling",
    "gate_moments",
    "over_environments",
    "scaling",
    "shared_moments",
    "strip_of",
]

_FACTOR_NODES = 14
"""Chebyshev points in the range of a gate's factor: smooth functions of it to 1e-9."""
_FACTOR_RANGE = 1e-12
"""A factor that varies by less is one number."""
_MOST_POINTS = 30_000_000
"""Points of one average: arrays of a quarter of a gigabyte."""
_INNER = 1e-13
"""Private variances below this share of the whole are rounding."""
_LEAST_DEVIATION = 1e-140
"""A deviation whose square is far below all others, and not 0."""
_LESS = 0.9
"""Share of the usual strip below which a cell's own, an estimate, counts instead."""
_PAIR_ORDER = 0.7
"""Order of the rule over two copies' gates and arguments, at most: 1e-10 at half the points a dimension."""


def gate_moments(params: LayerParameters, gate: str, message: Array, correlated: Array) -> tuple[Array, Array]:
    """Return the variance of U x + b + W m of a gate and its covariance between the copies.

    Args:
        params: The layer.
        gate: The gate's name.
        message: E m².
        correlated: E m m' over the copies.
    """
    g = params.gates[gate]
    external = g.input * params.input_variance
    variance = g.recurrent * message + external + g.bias_variance
    covariance = g.recurrent * correlated + external * params.correlation + g.bias_variance
    return variance, np.minimum(covariance, variance)


def over_environments(params: LayerParameters, x: Array) -> Array:
    """Return the average over the environments: (…, K, E) -> (…, K)."""
    return x[..., 0] if x.shape[-1] == 1 else np.asarray(x @ params.environment_weights)


def _split(variance: Array, covariance: Array) -> tuple[Array, Array]:
    private = variance - covariance
    private = np.where(private > _INNER * variance, private, 0.0)
    return variance - private, private


def _weighted(x: Array, weights: Array) -> Array:
    """The sum over the last axis, with weights (n,) that all points share or (…, n) of their own."""
    return np.asarray(x @ weights if weights.ndim == 1 else np.sum(x * weights, axis=-1))


def _apart(deviation: Array, breaks: tuple[float, ...]) -> Array:
    """The deviation, not exactly 0 where there are breaks: at rest a perturbation is on either side of one."""
    return np.maximum(deviation, _LEAST_DEVIATION) if breaks else deviation


def _rule(mean: Array, deviation: Array, breaks: tuple[float, ...], strip: float, order: float) -> tuple[Array, Array]:
    """Nodes and weights for a function with these breaks: shared by all points, (n,), where it has none."""
    if breaks:
        return broken_rule(mean, deviation, breaks)
    return rule_for(float(np.max(deviation, initial=0.0)), strip, order)


def strip_of(cell: Cell, gate: str, usual: float) -> float:
    """Return half the width of the strip in which a gate's functions are analytic: the usual one unless it is less."""
    own = math.inf if cell.breaks else cell.strips[gate]
    return own if own < _LESS * usual else usual


class OneGate:
    """Functions of one gate on the shared nodes z, averaged over the private ones."""

    def __init__(
        self,
        params: LayerParameters,
        gate: str,
        variance: Array,
        covariance: Array,
        order: float,
        *,
        broken: bool = True,
    ) -> None:
        cell, mean = params.cell, params.gates[gate].mean
        breaks = cell.breaks if broken else ()
        strip = strip_of(cell, gate, TANH_STRIP if gate == cell.candidate_gate else LOGISTIC_STRIP)
        shared, private = (np.sqrt(part) for part in _split(variance, covariance))
        shared = _apart(shared, breaks)
        z, self.weights = _rule(mean, shared, breaks, strip, order)
        middle = mean[..., None] + shared[..., None] * z
        w, self.inner_weights = _rule(middle, private[..., None], breaks if np.any(private) else (), strip, order)
        # (…, shared nodes, private nodes)
        self.u = middle[..., None] + private[..., None, None] * w

    def conditional(self, function: Any) -> tuple[Array, Array]:
        """Return value and derivative of ``function`` averaged over the private nodes, (…, shared nodes)."""
        y = function(Dual(self.u, 1.0))
        return self._reduce(value(y)), self._reduce(tangent(y))

    def _reduce(self, y: Array) -> Array:
        y = np.broadcast_to(y, self.u.shape)
        return y[..., 0] if self.inner_weights.size == 1 else _weighted(y, self.inner_weights)


@dataclass(frozen=True)
class Scaling:
    """Pair averages of the factor by which a gate scales another's recurrent signal, and of its derivative (slope).

    Attributes:
        square: E factor².
        slope_square: E slope².
        fourth: E factor⁴.
        slope_fourth: E slope⁴.
        mixed: E factor²·slope².
    """

    square: Array
    slope_square: Array
    fourth: Array
    slope_fourth: Array
    mixed: Array


def scaling(
    params: LayerParameters, gate: str, factor: Any, message: Array, correlated: Array, order: float
) -> Scaling:
    """Return averages of ``factor(u[gate])``; the fourth moments hold for a single copy (correlated = message)."""
    variance, covariance = gate_moments(params, gate, message, correlated)
    nodes = OneGate(params, gate, variance, covariance, order)
    f, df = nodes.conditional(factor)
    return Scaling(*(_weighted(x, nodes.weights) for x in (f**2, df**2, f**4, df**4, f**2 * df**2)))


def shared_moments(params: LayerParameters, message: Array, order: float) -> Callable[..., Array]:
    """Return (a, b, c, d, e, f) -> E keepᵃ·keep'ᵇ·writeᶜ·write'ᵈ·ρᵉ·ρ'ᶠ, for a single copy.

    It is for a cell in which one gate keeps, writes and scales the candidate's message by ρ.
    """
    cell = params.cell
    gate = cell.keep_gate or ""
    variance, _ = gate_moments(params, gate, message, message)
    nodes = OneGate(params, gate, variance, variance, order)
    functions = (
        lambda u: cell.keep({gate: u}),
        lambda u: cell.write({gate: u}),
        cell.before[cell.candidate_gate or ""].factor,
    )
    values = [x for function in functions for x in nodes.conditional(function)]

    def moment(*powers: int) -> Array:
        return _weighted(_product(*zip(values, powers, strict=True)), nodes.weights)

    return moment


Term = tuple[float, int, int, int, int]
"""(factor, power of keep', power of write', power of s, power of n)."""
_BY_KEEP: Term = (1.0, 2, 0, 2, 0)
_BY_BOTH: Term = (2.0, 1, 1, 1, 1)
_BY_WRITE: Term = (1.0, 0, 2, 0, 2)


class Memory:
    """keep and write: moments over the copies' pre-activations.

    Attributes:
        couplings: For each gate the square of ∂s'/∂u = keep'·s + write'·n, as terms.
    """

    def __init__(self, params: LayerParameters, message: Array, correlated: Array, order: float) -> None:
        cell = params.cell
        self._same = cell.keep_gate is not None and cell.keep_gate == cell.write_gate
        self._parts: list[tuple[Array, Array, Array]] = []
        self._moments: dict[tuple[int, int, int, int], Array] = {}
        self.couplings: list[tuple[str, list[Term]]] = []
        for gate, function in ((cell.keep_gate, cell.keep), (cell.write_gate, cell.write)):
            if gate is None:
                constant = np.full((1, 1, 1), float(function({})))
                self._parts.append((constant, np.zeros((1, 1, 1)), np.ones(1)))
                continue
            variance, covariance = gate_moments(params, gate, message, correlated)
            nodes = OneGate(params, gate, variance, covariance, order)
            self._parts.append((*nodes.conditional(lambda u, f=function, g=gate: f({g: u})), nodes.weights))
            if self._same:
                self.couplings = [(gate, [_BY_KEEP, _BY_BOTH, _BY_WRITE])]
            else:
                self.couplings.append((gate, [_BY_KEEP if gate == cell.keep_gate else _BY_WRITE]))

    def kept(self, power: float) -> Array:
        """Return E |keep|ᵖ, of any power."""
        keep, _, weights = self._parts[0]
        return _weighted(np.abs(keep) ** power, weights)

    def moment(self, a: int, b: int, c: int, d: int) -> Array:
        """Return E keepᵃ·keep'ᵇ·writeᶜ·write'ᵈ, primes: derivatives by the own gate.

        Over a pair it is meaningful for a + b + c + d = 2, one factor a copy, and for 1.
        """
        powers = (a, b, c, d)
        if powers not in self._moments:
            (keep, keep_slope, w), (write, write_slope, v) = self._parts
            if self._same:
                found = _weighted(_product((keep, a), (keep_slope, b), (write, c), (write_slope, d)), w)
            else:
                kept, written = _product((keep, a), (keep_slope, b)), _product((write, c), (write_slope, d))
                found = _weighted(kept, w) * _weighted(written, v)
            self._moments[powers] = found
        return self._moments[powers]


def _product(*factors: tuple[Array, int]) -> Array:
    """The product of xᵖ over the (x, p); powers of 0 cost nothing."""
    present = [_power(x, p) for x, p in factors if p]
    return math.prod(present[1:], start=present[0]) if present else np.ones_like(factors[0][0])


def _power(x: Array, p: int) -> Array:
    """xᵖ by squaring: NumPy's own power is an order of magnitude slower."""
    if p < 2:
        return x if p else np.ones_like(x)
    half = _power(x, p // 2)
    return half * half * x if p % 2 else half * half


class Candidate:
    """The candidate n and its couplings, for a single copy.

    ``n(p)`` = E nᵖ; ``coupling[gate]`` the square k of ∂n/∂(W m) of each gate that the candidate depends on;
    ``with_k(a, b)`` = E nᵃ Kᵇ with K = Σ σ² k.  Where a gate scales the recurrent product (gru), the
    candidate is a ridge function n(e + g(u)·y): the rule runs over u and over the whole argument, and y given the
    argument is Gaussian, so its moments enter in closed form.
    """

    def __init__(self, params: LayerParameters, message: Array, scaled_message: Array, order: float) -> None:
        cell, self._params = params.cell, params
        self._n: dict[int, Array] = {}
        self.gate = cell.candidate_gate
        if self.gate is None:  # the embedded input, N(0, R)
            self._embedded = params.input_variance
            return
        g = params.gates[self.gate]
        external = g.input * params.input_variance + g.bias_variance
        recurrent = g.recurrent * scaled_message
        after = cell.after.get(self.gate)
        self.after_gate = after.gate if after else None
        if after is None:
            gain: Array = np.ones((1, 1, 1))
            slope: Array = np.zeros((1, 1, 1))
            w = np.ones(1)
        else:
            variance, _ = gate_moments(params, after.gate, message, message)
            reset = OneGate(params, after.gate, variance, variance, order)
            gain, slope = reset.conditional(after.factor)
            w = reset.weights
        variance = external[..., None] + gain**2 * recurrent[..., None]
        deviation, mean = _apart(np.sqrt(variance), cell.breaks), g.mean[..., None, None]
        z, v = _rule(mean[..., 0], deviation, cell.breaks, strip_of(cell, self.gate, TANH_STRIP), order)
        u = deviation[..., None] * z
        u = np.add(u, mean, out=u) if np.broadcast_shapes(u.shape, mean.shape) == u.shape else u + mean
        self._gate_weights, self._argument_weights = w, v
        self._u, self._z, self._gain, self._slope = u, z, gain, slope
        self._variance, self._recurrent = variance, recurrent
        self._by_node: dict[tuple[int, int], Array] = {}

    @cached_property
    def _plain(self) -> Array:
        """n at the nodes (…, scaling gate's, argument's)."""
        assert self.gate is not None
        return np.asarray(self._params.cell.candidate({self.gate: self._u}))

    @cached_property
    def _values(self) -> tuple[Array, Array]:
        """n and its slope at the nodes."""
        assert self.gate is not None
        y = self._params.cell.candidate({self.gate: Dual(self._u, np.ones_like(self._u))})
        return y.value, y.tangent

    def n(self, p: int) -> Array:
        """Return E nᵖ."""
        if p not in self._n:
            if self.gate is None:  # moments of N(0, R)
                self._n[p] = (1.0, 0.0, 1.0, 0.0, 3.0)[p] * self._embedded ** (p / 2)
            else:
                by_node = _weighted(_power(self._plain, p), self._argument_weights)
                self._n[p] = _weighted(by_node, self._gate_weights) if p else np.ones((1, 1))
        return self._n[p]

    def returned(self, scaled_message: Array) -> Array:
        """Return the variance that the recurrent kernel adds to the pre-activation, at another E m²."""
        if self.gate is None:
            return np.zeros((1, 1))
        return _weighted(self._gain**2, self._gate_weights) * self._params.gates[self.gate].recurrent * scaled_message

    @cached_property
    def _squares(self) -> dict[str, tuple[Array, Array]]:
        """Gate -> conditional means of k/slope² and k²/slope⁴ at the scaling gate's nodes.

        Each is a polynomial in the argument's node z, its coefficients of 1, z², z⁴ on the last axis.
        """
        if self.gate is None:
            return {}
        own = self._gain**2
        nothing = np.zeros_like(own)
        squares = {self.gate: (np.stack([own, nothing, nothing], -1), np.stack([own**2, nothing, nothing], -1))}
        if self.after_gate is not None:
            # y given the argument: mean gain·recurrent/variance·(u − μ), variance recurrent·external/variance
            share = _ratio(self._gain * self._recurrent[..., None], np.sqrt(self._variance)) ** 2
            left = np.maximum(self._recurrent[..., None] - share, 0.0)
            reset = np.broadcast_to(self._slope**2, share.shape)
            second = np.stack([left, share, np.zeros_like(left)], -1)
            fourth = np.stack([3.0 * left**2, 6.0 * share * left, share**2], -1)
            squares[self.after_gate] = (reset[..., None] * second, reset[..., None] ** 2 * fourth)
        return squares

    @property
    def gates(self) -> tuple[str, ...]:
        """Gates whose recurrent signal reaches the candidate."""
        return tuple(self._squares)

    def _average(self, coefficients: Array, a: int, p: int) -> Array:
        """E nᵃ slopeᵖ q(z), q the polynomial of those coefficients."""
        if (a, p) not in self._by_node:
            n, slope = self._values
            x = _product((n, a), (slope, p))
            weights = (self._argument_weights * _power(self._z, q) for q in (0, 2, 4))
            self._by_node[a, p] = np.stack([_weighted(x, w) for w in weights], axis=-1)
        return _weighted(np.sum(coefficients * self._by_node[a, p], axis=-1), self._gate_weights)

    def coupling(self, gate: str) -> Array:
        """Return E k of one gate."""
        return self._average(self._squares[gate][0], 0, 2)

    def with_k(self, a: int, b: int) -> Array:
        """Return E nᵃ Kᵇ, b = 1 or 2, K = Σ_gates σ²·k."""
        if self.gate is None:
            return np.zeros((1, 1))
        sigma = {gate: self._params.gates[gate].recurrent for gate in self._squares}
        if b == 1:
            return np.asarray(sum(sigma[gate] * self._average(k, a, 2) for gate, (k, _) in self._squares.items()))
        total = sum(sigma[gate] ** 2 * self._average(k2, a, 4) for gate, (_, k2) in self._squares.items())
        if self.after_gate is not None:
            own, reset = self._squares[self.gate][0][..., :1], self._squares[self.after_gate][0]
            total = total + 2.0 * sigma[self.gate] * sigma[self.after_gate] * self._average(own * reset, a, 4)
        return np.asarray(total)


class PairCandidate:
    """E n n' over two copies and the couplings E[∂n ∂n'], gate by gate (``coupling``).

    ``message``, ``correlated``: E m² and E m m' of the message that the candidate reads; ``scaling_gate``: the same
    of the message that its scaling gate reads.  With a scaled product (gru) the rule runs over both copies'
    gates and arguments; the products y y' given the arguments are Gaussian and enter in closed form.
    """

    def __init__(
        self,
        params: LayerParameters,
        message: Array,
        correlated: Array,
        scaling_gate: tuple[Array, Array],
        order: float,
    ) -> None:
        cell = params.cell
        self._couplings: dict[str, Array] = {}
        if cell.candidate_gate is None:
            self.product = params.input_variance * params.correlation
            return
        after = cell.after.get(cell.candidate_gate)
        if after is None:
            variance, covariance = gate_moments(params, cell.candidate_gate, message, correlated)
            nodes = OneGate(params, cell.candidate_gate, variance, covariance, order)
            n, slope = nodes.conditional(lambda u: cell.candidate({cell.candidate_gate or "": u}))
            self.product = _weighted(n**2, nodes.weights)
            self._couplings[cell.candidate_gate] = _weighted(slope**2, nodes.weights)
            return
        self._scaled_product(params, message, correlated, scaling_gate, min(order, _PAIR_ORDER))

    def coupling(self, gate: str) -> Array:
        """Return E ∂n/∂(W m) ∂n'/∂(W m') of one gate."""
        return self._couplings[gate]

    @property
    def gates(self) -> tuple[str, ...]:
        """Gates whose recurrent signal reaches the candidate."""
        return tuple(self._couplings)

    def _scaled_product(
        self,
        params: LayerParameters,
        message: Array,
        correlated: Array,
        scaling_gate: tuple[Array, Array],
        order: float,
    ) -> None:
        cell = params.cell
        name = cell.candidate_gate or ""
        g, after = params.gates[name], cell.after[name]
        variance, covariance = gate_moments(params, after.gate, *scaling_gate)
        reset = OneGate(params, after.gate, variance, covariance, order, broken=False)
        r, plain, sloped = _on_nodes(reset, after.factor)
        # axes from here: factor of copy 1, of copy 2, argument of 1, of 2
        r1, r2 = r[:, None, None, None], r[None, :, None, None]
        tail = (..., None, None, None, None)
        external = (g.input * params.input_variance + g.bias_variance)[tail]
        external_pair = (g.input * params.input_variance * params.correlation + g.bias_variance)[tail]
        y, y_pair = (g.recurrent * message)[tail], (g.recurrent * correlated)[tail]
        deviation1 = np.sqrt(external + r1**2 * y)
        slant = _ratio(external_pair + r1 * r2 * y_pair, deviation1)
        deviation2 = np.sqrt(np.maximum(external + r2**2 * y - slant**2, 0.0))
        widest = float(max(deviation1.max(), deviation2.max(), slant.max()))
        z, v = rule_for(widest, strip_of(cell, name, TANH_STRIP), order)
        mean = g.mean[tail]
        points = math.prod(np.broadcast_shapes(mean.shape, deviation1.shape, deviation2.shape)) * len(z) ** 2
        if points > _MOST_POINTS:
            raise ArgumentError(
                f"gates.{name}",
                found=f"variances and spreads that take {points:.0e} points of quadrature",
                allowed=f"at most {_MOST_POINTS:.0e}",
                hint="lower the variances, or take an input correlation of 1",
            )
        z1, z2 = z[:, None], z[None, :]
        n1, n2 = (
            cell.candidate({name: Dual(u, np.ones_like(u))})
            for u in (mean + deviation1 * z1, mean + slant * z1 + deviation2 * z2)
        )
        # y = β·z + rest in each copy
        b11 = _ratio(r1 * y, deviation1)
        b21 = _ratio(r1 * y_pair, deviation1)
        b12 = _ratio(r2 * y_pair - slant * b11, deviation2)
        b22 = _ratio(r2 * y - slant * b21, deviation2)
        yy = (b11 * z1 + b12 * z2) * (b21 * z1 + b22 * z2) + y_pair - b11 * b21 - b12 * b22

        def average(x: Array, factors: Array) -> Array:
            return np.asarray(np.einsum("...abde,...ab,d,e->...", x, factors, v, v))

        slopes = n1.tangent * n2.tangent
        self.product = average(n1.value * n2.value, plain)
        self._couplings = {name: average(slopes * r1 * r2, plain), after.gate: average(slopes * yy, sloped)}


def _on_nodes(gate: OneGate, factor: Any) -> tuple[Array, Array, Array]:
    """A pair of a gate's factors r, r' as a signed rule on few nodes: nodes (m,), weights (…, m, m), and the same
    weighted by the product of the slopes.

    Smooth functions of (r, r') are interpolated at Chebyshev points of the range of r, so the cost does not grow with
    how large the gate's variance is.
    """
    r = factor(Dual(gate.u, np.ones_like(gate.u)))
    low, high = float(r.value.min()), float(r.value.max())
    if high - low < _FACTOR_RANGE:
        nodes, at_nodes = np.array([low]), np.ones((*r.value.shape, 1))
    else:
        points = np.cos((np.arange(_FACTOR_NODES) + 0.5) * np.pi / _FACTOR_NODES)
        nodes = low + (high - low) * 0.5 * (points + 1.0)
        degrees = np.arange(_FACTOR_NODES)
        to_coefficients = np.cos(np.outer(degrees, np.arccos(points))) * (2.0 / _FACTOR_NODES)
        to_coefficients[0] *= 0.5
        angle = np.arccos(np.clip(2.0 * (r.value - low) / (high - low) - 1.0, -1.0, 1.0))
        at_nodes = np.cos(angle[..., None] * degrees) @ to_coefficients

    def weights(values: Array) -> Array:
        inner = np.einsum("...zwm,w->...zm", values, gate.inner_weights)
        return np.asarray(np.einsum("...zm,...zn,z->...mn", inner, inner, gate.weights))

    return nodes, weights(at_nodes), weights(at_nodes * r.tangent[..., None])


def _ratio(a: Array, b: Array) -> Array:
    shape = np.broadcast_shapes(a.shape, b.shape)
    return np.divide(a, b, out=np.zeros(shape), where=np.broadcast_to(b > 0, shape))
