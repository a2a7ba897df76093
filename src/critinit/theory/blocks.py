"""Averages of the parts of a cell over its pre-activations, at given second moment of the message.

A *copy* is a trajectory; two copies see inputs of correlation c and their pre-activations have covariance
cov ≤ var.  A function of one gate averaged over a pair is E_z[F̄(z)²], F̄(z) = E_w F(μ + √cov·z + √(var−cov)·w);
with cov = var the inner rule has one node and the pair is a single copy.

Shapes: (*batch, K, E) as in ``critinit.theory.laws``, and trailing quadrature axes inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from critinit.dual import Array, Dual, tangent, value
from critinit.theory.laws import LayerLaw
from critinit.theory.quadrature import LOGISTIC_STRIP, TANH_STRIP, rule_for

__all__ = [
    "Candidate",
    "Memory",
    "OneGate",
    "PairCandidate",
    "Scaling",
    "gate_moments",
    "over_environments",
    "scaling",
]

_INNER = 1e-13
"""Private variances below this share of the whole are rounding."""


def gate_moments(law: LayerLaw, gate: str, message: Array, correlated: Array) -> tuple[Array, Array]:
    """Variance of U x + b + W m of a gate and its covariance between the copies.

    ``message``, ``correlated``: E m² and E m m' over the copies.
    """
    g = law.gates[gate]
    external = g.input * law.input_variance
    variance = g.recurrent * message + external + g.bias_variance
    covariance = g.recurrent * correlated + external * law.correlation + g.bias_variance
    return variance, np.minimum(covariance, variance)


def over_environments(law: LayerLaw, x: Array) -> Array:
    """Average over the environments: (…, K, E) -> (…, K)."""
    return x[..., 0] if x.shape[-1] == 1 else np.asarray(x @ law.environment_weights)


def _largest(variance: Array) -> float:
    return float(np.sqrt(np.max(variance, initial=0.0)))


def _split(variance: Array, covariance: Array) -> tuple[Array, Array]:
    private = variance - covariance
    private = np.where(private > _INNER * variance, private, 0.0)
    return variance - private, private


class OneGate:
    """A function of one gate on the shared nodes z, averaged over the private ones."""

    def __init__(self, mean: Array, variance: Array, covariance: Array, strip: float, order: float) -> None:
        shared, private = _split(variance, covariance)
        z, self.weights = rule_for(_largest(shared), strip, order)
        w, self._inner = rule_for(_largest(private), strip, order)
        # (…, shared nodes, private nodes)
        self.u = (mean[..., None] + np.sqrt(shared)[..., None] * z)[..., None] + np.sqrt(private)[..., None, None] * w

    def conditional(self, function: Any) -> tuple[Array, Array]:
        """Value and derivative of ``function`` averaged over the private nodes, shape (…, shared nodes)."""
        y = function(Dual(self.u, np.ones_like(self.u)))
        return self._reduce(value(y)), self._reduce(tangent(y))

    def _reduce(self, y: Array) -> Array:
        y = np.broadcast_to(y, self.u.shape)
        return y[..., 0] if self._inner.size == 1 else y @ self._inner


@dataclass(frozen=True)
class Scaling:
    """A gate's factor on another's recurrent signal: pair averages of the factor and of its derivative."""

    square: Array
    slope_square: Array
    fourth: Array
    slope_fourth: Array
    mixed: Array  # E factor²·slope²


def scaling(law: LayerLaw, gate: str, factor: Any, message: Array, correlated: Array, order: float) -> Scaling:
    """Averages of ``factor(u[gate])``; the fourth moments hold for a single copy (correlated = message)."""
    variance, covariance = gate_moments(law, gate, message, correlated)
    nodes = OneGate(law.gates[gate].mean, variance, covariance, LOGISTIC_STRIP, order)
    f, df = nodes.conditional(factor)
    w = nodes.weights
    return Scaling((f**2) @ w, (df**2) @ w, (f**4) @ w, (df**4) @ w, (f**2 * df**2) @ w)


Term = tuple[float, int, int, int, int]
_BY_KEEP: Term = (1.0, 2, 0, 2, 0)
_BY_BOTH: Term = (2.0, 1, 1, 1, 1)
_BY_WRITE: Term = (1.0, 0, 2, 0, 2)


class Memory:
    """keep and write: moments over the copies' pre-activations.

    ``moment(a, b, c, d)`` is E keepᵃ·keep'ᵇ·writeᶜ·write'ᵈ (primes: derivatives by the own gate); over a pair it is
    meaningful for a+b+c+d = 2, one factor a copy, and for 1.  ``couplings`` names for each gate the square of
    ∂s'/∂u = keep'·s + write'·n as terms (factor, b, d, power of s, power of n).
    """

    def __init__(self, law: LayerLaw, message: Array, correlated: Array, order: float) -> None:
        cell = law.cell
        self._same = cell.keep_gate is not None and cell.keep_gate == cell.write_gate
        self._parts: list[tuple[Array, Array, Array]] = []
        self.couplings: list[tuple[str, list[Term]]] = []
        for gate, function in ((cell.keep_gate, cell.keep), (cell.write_gate, cell.write)):
            if gate is None:
                constant = np.full((1, 1, 1), float(function({})))
                self._parts.append((constant, np.zeros((1, 1, 1)), np.ones(1)))
                continue
            variance, covariance = gate_moments(law, gate, message, correlated)
            nodes = OneGate(law.gates[gate].mean, variance, covariance, LOGISTIC_STRIP, order)
            self._parts.append((*nodes.conditional(lambda u, f=function, g=gate: f({g: u})), nodes.weights))
            if self._same:
                self.couplings = [(gate, [_BY_KEEP, _BY_BOTH, _BY_WRITE])]
            else:
                self.couplings.append((gate, [_BY_KEEP if gate == cell.keep_gate else _BY_WRITE]))

    def moment(self, a: int, b: int, c: int, d: int) -> Array:
        (keep, keep_slope, w), (write, write_slope, v) = self._parts
        if self._same:
            return np.asarray(_power(keep, a) * _power(keep_slope, b) * _power(write, c) * _power(write_slope, d) @ w)
        kept = _power(keep, a) * _power(keep_slope, b) @ w
        return np.asarray(kept * (_power(write, c) * _power(write_slope, d) @ v))


def _power(x: Array, p: int) -> Array:
    """xᵖ by squaring: NumPy's own power is an order of magnitude slower."""
    if p < 2:
        return x if p else np.ones_like(x)
    half = _power(x, p // 2)
    return half * half * x if p % 2 else half * half


class Candidate:
    """The candidate n and its couplings, for a single copy.

    ``n(p)`` = E nᵖ; ``coupling[gate]`` the square k of ∂n/∂(W m) of each gate that the candidate depends on;
    ``with_k(a, b)`` = E nᵃ Kᵇ with K = Σ σ² k.  Where a gate scales the recurrent product (reset after), the
    candidate is a ridge function n(e + g(u)·y): the rule runs over u and over the whole argument, and y given the
    argument is Gaussian, so its moments enter in closed form.
    """

    def __init__(self, law: LayerLaw, message: Array, scaled_message: Array, order: float) -> None:
        cell, self._law = law.cell, law
        self._n: dict[int, Array] = {}
        self.gate = cell.candidate_gate
        if self.gate is None:  # the embedded input, N(0, R)
            self._embedded = law.input_variance
            return
        g = law.gates[self.gate]
        external = g.input * law.input_variance + g.bias_variance
        recurrent = g.recurrent * scaled_message
        after = cell.after.get(self.gate)
        self.after_gate = after.gate if after else None
        if after is None:
            gain: Array = np.ones((1, 1, 1))
            slope: Array = np.zeros((1, 1, 1))
            w = np.ones(1)
        else:
            variance, _ = gate_moments(law, after.gate, message, message)
            reset = OneGate(law.gates[after.gate].mean, variance, variance, LOGISTIC_STRIP, order)
            gain, slope = reset.conditional(after.factor)
            w = reset.weights
        variance = external[..., None] + gain**2 * recurrent[..., None]
        z, v = rule_for(_largest(variance), TANH_STRIP, order)
        u = g.mean[..., None, None] + np.sqrt(variance)[..., None] * z
        self._shape = u.shape
        self._weights = (w[:, None] * v).ravel()
        self._u, self._z, self._gain, self._slope = u, z, gain, slope
        self._variance, self._recurrent = variance, recurrent

    @cached_property
    def _plain(self) -> Array:
        assert self.gate is not None
        return self._flat(np.asarray(self._law.cell.candidate({self.gate: self._u})))

    @cached_property
    def _values(self) -> tuple[Array, Array]:
        assert self.gate is not None
        y = self._law.cell.candidate({self.gate: Dual(self._u, np.ones_like(self._u))})
        return self._flat(y.value), self._flat(y.tangent)

    def _flat(self, x: Array) -> Array:
        x = np.broadcast_to(x, np.broadcast_shapes(x.shape, self._shape))
        return x.reshape(*x.shape[:-2], -1)

    def n(self, p: int) -> Array:
        """E nᵖ."""
        if p not in self._n:
            if self.gate is None:  # moments of N(0, R)
                self._n[p] = (1.0, 0.0, 1.0, 0.0, 3.0)[p] * self._embedded ** (p / 2)
            else:
                self._n[p] = np.asarray(_power(self._plain, p) @ self._weights) if p else np.ones((1, 1))
        return self._n[p]

    @cached_property
    def _squares(self) -> dict[str, tuple[Array, Array]]:
        """Gate -> conditional means of k and k² at the nodes."""
        if self.gate is None:
            return {}
        _, slope = self._values
        gain = self._flat(np.broadcast_to(self._gain[..., None], self._shape))
        own = (slope * gain) ** 2
        squares = {self.gate: (own, own**2)}
        if self.after_gate is not None:
            # y given the argument: mean gain·recurrent/variance·(u − μ), variance recurrent·external/variance
            share = np.divide(
                self._gain * self._recurrent[..., None],
                np.sqrt(self._variance),
                out=np.zeros(np.broadcast_shapes(self._gain.shape, self._variance.shape)),
                where=self._variance > 0,
            )
            mean = self._flat(share[..., None] * self._z)
            left = self._flat(np.maximum(self._recurrent[..., None] - share**2, 0.0)[..., None] + 0.0 * self._u)
            y2 = mean**2 + left
            y4 = mean**4 + 6.0 * mean**2 * left + 3.0 * left**2
            factor = (slope * self._flat(np.broadcast_to(self._slope[..., None], self._shape))) ** 2
            squares[self.after_gate] = (factor * y2, factor**2 * y4)
            self._y2 = y2
        return squares

    @property
    def gates(self) -> tuple[str, ...]:
        """Gates whose recurrent signal reaches the candidate."""
        return tuple(self._squares)

    def coupling(self, gate: str) -> Array:
        """E k of one gate."""
        return np.asarray(self._squares[gate][0] @ self._weights)

    def with_k(self, a: int, b: int) -> Array:
        """E nᵃ Kᵇ, b = 1 or 2, K = Σ_gates σ²·k."""
        if self.gate is None:
            return np.zeros((1, 1))
        sigma = {gate: self._law.gates[gate].recurrent for gate in self._squares}
        n = _power(self._values[0], a)
        if b == 1:
            return np.asarray(sum(sigma[gate] * ((n * k) @ self._weights) for gate, (k, _) in self._squares.items()))
        total = sum(sigma[gate] ** 2 * ((n * k2) @ self._weights) for gate, (_, k2) in self._squares.items())
        if self.after_gate is not None:
            own, reset = self._squares[self.gate][0], self._squares[self.after_gate][0]
            total = total + 2.0 * sigma[self.gate] * sigma[self.after_gate] * ((n * own * reset) @ self._weights)
        return np.asarray(total)


class PairCandidate:
    """E n n' over two copies and the couplings E[∂n ∂n'], gate by gate (``coupling``).

    ``message``, ``correlated``: E m² and E m m' of the message that the candidate reads; ``scaling_gate``: the same
    of the message that its scaling gate reads.  With a scaled product (reset after) the rule runs over both copies'
    gates and arguments; the products y y' given the arguments are Gaussian and enter in closed form.
    """

    def __init__(
        self,
        law: LayerLaw,
        message: Array,
        correlated: Array,
        scaling_gate: tuple[Array, Array],
        order: float,
    ) -> None:
        cell = law.cell
        self._couplings: dict[str, Array] = {}
        if cell.candidate_gate is None:
            self.product = law.input_variance * law.correlation
            return
        g = law.gates[cell.candidate_gate]
        after = cell.after.get(cell.candidate_gate)
        if after is None:
            variance, covariance = gate_moments(law, cell.candidate_gate, message, correlated)
            nodes = OneGate(g.mean, variance, covariance, TANH_STRIP, order)
            n, slope = nodes.conditional(lambda u: cell.candidate({cell.candidate_gate or "": u}))
            self.product = np.asarray(n**2 @ nodes.weights)
            self._couplings[cell.candidate_gate] = np.asarray(slope**2 @ nodes.weights)
            return
        self._scaled_product(law, message, correlated, scaling_gate, min(order, 0.7))

    def coupling(self, gate: str) -> Array:
        """E ∂n/∂(W m) ∂n'/∂(W m') of one gate."""
        return self._couplings[gate]

    @property
    def gates(self) -> tuple[str, ...]:
        """Gates whose recurrent signal reaches the candidate."""
        return tuple(self._couplings)

    def _scaled_product(
        self,
        law: LayerLaw,
        message: Array,
        correlated: Array,
        scaling_gate: tuple[Array, Array],
        order: float,
    ) -> None:
        cell = law.cell
        name = cell.candidate_gate or ""
        g, after = law.gates[name], cell.after[name]
        variance, covariance = gate_moments(law, after.gate, *scaling_gate)
        reset = OneGate(law.gates[after.gate].mean, variance, covariance, LOGISTIC_STRIP, order)
        r = after.factor(Dual(reset.u, np.ones_like(reset.u)))
        # axes from here: shared z of the gate, private of copy 1, private of copy 2, argument of 1, of 2
        r1, d1 = (x[..., :, :, None, None, None] for x in (r.value, r.tangent))
        r2, d2 = (x[..., :, None, :, None, None] for x in (r.value, r.tangent))
        tail = (..., None, None, None, None, None)
        external = (g.input * law.input_variance + g.bias_variance)[tail]
        external_pair = (g.input * law.input_variance * law.correlation + g.bias_variance)[tail]
        y, y_pair = (g.recurrent * message)[tail], (g.recurrent * correlated)[tail]
        deviation1 = np.sqrt(external + r1**2 * y)
        slant = _ratio(external_pair + r1 * r2 * y_pair, deviation1)
        deviation2 = np.sqrt(np.maximum(external + r2**2 * y - slant**2, 0.0))
        z, v = rule_for(float(max(deviation1.max(), deviation2.max(), slant.max())), TANH_STRIP, order)
        z1, z2 = z[:, None], z[None, :]
        mean = g.mean[tail]
        n1 = cell.candidate({name: Dual(mean + deviation1 * z1, 1.0)})
        n2 = cell.candidate({name: Dual(mean + slant * z1 + deviation2 * z2, 1.0)})
        # y = β·z + rest in each copy
        b11 = _ratio(r1 * y, deviation1)
        b21 = _ratio(r1 * y_pair, deviation1)
        b12 = _ratio(r2 * y_pair - slant * b11, deviation2)
        b22 = _ratio(r2 * y - slant * b21, deviation2)
        yy = (b11 * z1 + b12 * z2) * (b21 * z1 + b22 * z2) + y_pair - b11 * b21 - b12 * b22
        inner = np.ones(1) if reset._inner.size == 1 else reset._inner
        weights = np.einsum("a,b,c,d,e->abcde", reset.weights, inner, inner, v, v)

        def average(x: Array) -> Array:
            return np.asarray(np.einsum("...abcde,abcde->...", x, weights))

        slopes = n1.tangent * n2.tangent
        self.product = average(n1.value * n2.value)
        self._couplings = {name: average(slopes * r1 * r2), after.gate: average(slopes * d1 * d2 * yy)}


def _ratio(a: Array, b: Array) -> Array:
    shape = np.broadcast_shapes(a.shape, b.shape)
    return np.divide(a, b, out=np.zeros(shape), where=np.broadcast_to(b > 0, shape))
