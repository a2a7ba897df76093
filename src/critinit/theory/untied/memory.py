"""The stationary distribution of a memory that is read through a nonlinearity: the LSTM's c, h = o·tanh(c).

The memory follows the random recursion c' = f·c + p, p = i·g, which is not Gaussian.  Two representations of
it, each nodes x and weights w with E φ(c) = Σ w φ(x):

*Transfer operator.*  (Tφ)(x) = E φ(f x + p), collocated in rational Chebyshev functions of y = x/√(x² + L²) (Boyd
2001, ch. 17), which resolve tanh and the distribution at once.  f and p are independent, so T = F·P with
(Fφ)(x) = E φ(f x), (Pφ)(x) = E φ(x + p), and its cost is a sum over gates; wᵀT = wᵀ, Σw = 1.  Where gates share a
normal bias that is so within each environment, and T is the mean of theirs.  Where one gate keeps
and writes (the coupled LSTM) f and p are not independent: T is taken over both at once, its cost is a product.
Accurate to 1e-5, or 1e-3 where gates are steps, unless the memory is slow and hardly fluctuates; it is held to the
exactly known E c² and given up where it misses.

*Gaussian reference.*  E c … E c¹⁰ close exactly; the density is N(E c, Var c)·Σ_k ν_k He_k/k!.  Accurate to 1e-3
where the distribution is near-Gaussian, which slow memories are, and to 1e-5 of E h² where its width is below .15: h is
then nearly linear in c, and averages are taken so.

Squared distances are a pair: of c, resolved over the distribution of c (a row Y of its components), and of h (a number
H):

    Y' = Y·A + H·r,   H' = Y'·E_o(∂h/∂c)² + σ_o² E(∂h/∂u_o)²·H

with A the transfer weighted by f² and r that of v = σ_f² f'²c² + σ_i² i'²g² + σ_g² i²g'², by class of units.  δc² is
not independent of c: it is large where the memory was just written, and there tanh is flat.  A leaves E f² of what
there is, and r adds E v, both exactly known: the collocated ones are held to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from critinit.dual import Array, Dual, value
from critinit.roots import falling_root
from critinit.theory.normalization import ScaledMemory
from critinit.theory.parameters import LayerParameters, in_environments
from critinit.theory.quadrature import LOGISTIC_STRIP, TANH_STRIP, Rule, rule_for
from critinit.theory.untied.averages import OneGate, gate_moments, over_environments, strip_of
from critinit.theory.untied.powers import log_power_mean

__all__ = ["DistanceOperator", "MemoryDistribution"]

_WIDEST = 30.0
"""Width of c (root of E c²) up to which nodes are added; wider, tanh is a step and more nodes show nothing."""
_ORDER = 0.5
"""Order of the rules over the gates: 1e-7, below what the collocation resolves."""
_GAUSS = 20
"""Nodes of a compressed rule: moments up to the 39th, averages of the Chebyshev functions to 1e-7."""
_CACHED = 2**15
"""Numbers of an array, 1/4 MB, of which a few stay in a processor's cache: larger ones are taken in parts."""
_CHECK, _CHECK_SPREAD = 1.5e-3, 0.15
"""Relative error of E c² at which the collocated distribution is given up for the Gaussian reference: where c hardly
fluctuates about its mean, and where it does.  There the error is that of far nodes, of which tanh knows nothing: E h²
is right to 1e-3, and the reference is off by some percent."""
_SPREAD = 0.5
"""Deviation of c over its width from which it does."""
_FAST = 0.8
"""E keep² below which no check is needed: the memory forgets within ten steps."""
_FAR = 1e3
"""A memory so large that tanh and all that saturates does so."""
_NARROW = 0.15
"""Width of c below which the Gaussian reference is the better one: h is nearly linear in c."""
_NARROWEST = 0.05
"""Width of c below which squared distances are taken as independent of c: the collocated operator, whose nodes lie
within a few widths, does not resolve tanh far from them, and its χ is off by 3e-4 a step.  The other form is within
.5 % of ln χ at this width, and its error falls as the square of the width."""
_WEAK = 1e-4
"""Share of a squared distance that returns through the recurrent kernels, below which it does not matter how."""
_KEPT_ACCURACY = 3e-6
"""χ is sought above E f² by this: at E f² itself there is no resolvent."""
_FIRST_STEP = 1e-2
"""Of χ, from the slowest class alone upwards."""
_CHI_ACCURACY = 1e-14
"""Of χ."""
_SQUARED = 300
"""Size of a recursion up to which its matrix is squared; a larger one is followed by class."""
_FOLLOWED = 256
"""Steps that it is followed one by one.  More are an integral of its resolvent around eigenvalues near the real axis:
the others have died out by then."""
_CONTOUR = 32
"""Points of that integral: the parabola of Weideman & Trefethen (2007, Math. Comp. 76, 1341) has errors of 2.85⁻ᴺ."""


@lru_cache(maxsize=8)
def _collocation(nodes: int) -> tuple[Array, Array]:
    """Chebyshev points y (nodes,) and the matrix that turns values there into Chebyshev coefficients."""
    theta = (np.arange(nodes) + 0.5) * np.pi / nodes
    to_coefficients = np.cos(np.outer(np.arange(nodes), theta)) * (2.0 / nodes)
    to_coefficients[0] *= 0.5
    return np.cos(theta), to_coefficients


def _chebyshev_sums(x: Array, weights: Array, sums: Array) -> None:
    """Put the sums of weights·T_k(x) over the last axis into ``sums`` (…, degrees), by the recurrence of T_k."""
    if x.size > _CACHED and x.ndim > 2:
        for parts in zip(x, weights, sums, strict=True):
            _chebyshev_sums(*parts)
        return
    before, now, following, twice = np.ones_like(x), x, np.empty_like(x), 2.0 * x
    for k in range(sums.shape[-1]):
        sums[..., k] = np.vecdot(before, weights)
        np.multiply(twice, now, out=following)
        following -= before
        before, now, following = now, following, before


def _compressed(values: Array, weights: Array) -> Rule:
    """The Gauss rule of at most ``_GAUSS`` nodes of a discrete positive measure (…, points), by Lanczos's process.

    It has the measure's moments up to 2·_GAUSS − 1, so smooth functions keep their averages.
    """
    points = values.shape[-1]
    if points <= _GAUSS:
        return values, weights
    mass = np.sum(weights, axis=-1, keepdims=True)
    vector = np.sqrt(weights / np.where(mass > 0, mass, 1.0))
    basis = np.zeros((*vector.shape[:-1], _GAUSS + 1, points))
    basis[..., 0, :] = vector
    diagonal, off = [], []
    size = np.max(np.abs(values), axis=-1, keepdims=True)
    for step in range(_GAUSS):
        image = values * vector
        diagonal.append(np.sum(image * vector, axis=-1))
        earlier = basis[..., : step + 1, :]
        for _ in range(2):  # full orthogonalisation, and again: the recurrence alone loses it
            image = image - ((earlier @ image[..., None]).swapaxes(-1, -2) @ earlier)[..., 0, :]
        norm = np.sqrt(np.sum(image * image, axis=-1, keepdims=True))
        alive = norm > 1e-12 * size
        vector = np.where(alive, image / np.where(alive, norm, 1.0), 0.0)
        basis[..., step + 1, :] = vector
        if step < _GAUSS - 1:
            off.append(np.where(alive, norm, 0.0)[..., 0])
    matrix = np.zeros((*diagonal[0].shape, _GAUSS, _GAUSS))
    index = np.arange(_GAUSS)
    matrix[..., index, index] = np.stack(diagonal, axis=-1)
    matrix[..., index[1:], index[:-1]] = np.stack(off, axis=-1)
    nodes, vectors = np.linalg.eigh(matrix)
    return nodes, vectors[..., 0, :] ** 2 * mass


class MemoryDistribution:
    """Distribution of the memory of every point and class of a layer; arrays (*batch, K, …).

    Args:
        params: The layer.
        q: E m² of the message.
        moments: E c⁰ … E c⁴ by class.
        order: Scales the number of nodes.
    """

    def __init__(self, params: LayerParameters, q: Array, moments: list[Array], order: float = 1.0) -> None:
        self._params, self._q, self._moments, self._order = params, q, moments, order
        cell = params.cell
        width = np.sqrt(moments[2])
        widest = float(np.nan_to_num(np.max(width), nan=_WIDEST))  # a moment that overflowed has no number
        self._nodes = int(np.clip(48 + 8 * np.ceil(min(widest, _WIDEST)), 56, 200) * max(1.0, order**0.5))
        self._y, self._to_coefficients = _collocation(self._nodes)
        self._rules: dict[str, tuple[Array, Rule]] = {}
        for gate in cell.gates:
            if gate != cell.candidate_gate:
                self._rules[gate] = self._gate_nodes(gate, strip_of(cell, gate, LOGISTIC_STRIP))
        if cell.candidate_gate is not None:
            # tanh(a·tanh u) is analytic for |Im u| < arctan(π/2a); for a ≤ 1 tanh's own strip leaves 1e-5 of E h²,
            # enough unless kernels are as large as those of normalized products, of which no fixed point is sought
            written = cell.write({cell.write_gate: self._rules[cell.write_gate][0]} if cell.write_gate else {})
            largest = float(np.max(np.abs(written)))
            fine = largest > 1.0 or isinstance(cell, ScaledMemory)
            strip = math.atan2(0.5 * math.pi, largest) if fine else TANH_STRIP
            strip = strip_of(cell, cell.candidate_gate, strip)
            self._rules[cell.candidate_gate] = self._gate_nodes(cell.candidate_gate, strip)
        # tanh has the scale 1 and the distribution its width; one narrower than the nodes' spacing is lost between them
        self._scale = np.maximum(np.clip(4.0 * width, 1e-100, 1.0), width)[..., None]
        self._narrow, self._narrowest = width < _NARROW, width < _NARROWEST
        self.x = self._scale * self._y / np.sqrt(1.0 - self._y**2)
        # far nodes carry no weight but, squared, all the rounding: leave them out of the check
        deviation = np.sqrt(np.maximum(moments[2] - moments[1] ** 2, 0.0))[..., None]
        near = np.abs(self.x - moments[1][..., None]) < 12.0 * deviation
        self._square = np.where(near, self.x**2, 0.0)
        error = np.abs(self._transfer_mean(self._square) - moments[2])
        # its errors grow as 1/(1 − E f²): a fast memory needs no check, which a rough distribution would fail
        fast = np.asarray(self._plain(cell.keep, cell.keep_gate) ** 2 @ self._weights(cell.keep_gate)) < _FAST
        spread = deviation[..., 0] > _SPREAD * width
        self.holds = fast | (error < np.where(spread, _CHECK_SPREAD, _CHECK) * moments[2])
        self._mean, self._deviation = moments[1], deviation[..., 0]
        self._gauss_x, self._gauss_weights = _near_gaussian(moments)

    def _gate_nodes(self, gate: str, strip: float) -> tuple[Array, Rule]:
        """Pre-activations of a gate (*batch, K, nodes), environments folded in, and the rule."""
        params = self._params
        g = params.gates[gate]
        variance = g.recurrent * self._q + g.input * params.input_variance + g.bias_variance
        z, w = rule_for(float(np.sqrt(np.max(variance))), strip, _ORDER)
        u = g.mean[..., None] + np.sqrt(variance)[..., None] * z
        return u, (z, w)

    def _plain(self, function: Callable[[dict[str, Array]], Any], *gates: str | None) -> Array:
        """A function of these gates on their joint nodes, (*batch, K, points) or what broadcasts to it."""
        return np.asarray(value(function(self._joint(*gates))), dtype=float) + np.zeros(self._weights(*gates).shape)

    def _weights(self, *gates: str | None) -> Array:
        w = self._params.environment_weights
        for gate in filter(None, gates):
            w = np.multiply.outer(w, self._rules[gate][1][1])
        return w.ravel()

    def _joint(self, *functions: str | None) -> dict[str, Array]:
        """Pre-activations of several gates on the product of environments and their nodes: (*batch, K, points).

        None stands for a function that reads no gate.
        """
        gates = list(filter(None, functions))
        environments = self._params.environment_weights.size
        sizes = [self._rules[gate][0].shape[-1] for gate in gates]
        joint = {}
        for n, gate in enumerate(gates):
            u = self._rules[gate][0]
            u = np.broadcast_to(u, (*u.shape[:-2], environments, u.shape[-1]))
            shape = [environments, *(size if m == n else 1 for m, size in enumerate(sizes))]
            u = np.broadcast_to(u.reshape(*u.shape[:-2], *shape), (*u.shape[:-2], environments, *sizes))
            joint[gate] = u.reshape(*u.shape[: -1 - len(sizes)], -1)
        return joint

    def _operator(self, image: Array, weights: Array) -> Array:
        """The matrix of φ -> Σ_q weights_q φ(image_q) for image (…, nodes, points), weights (…, points) or so."""
        cosine = image * image
        cosine += self._scale[..., None] ** 2
        np.sqrt(cosine, out=cosine)
        np.divide(image, cosine, out=cosine)
        basis = np.empty((*cosine.shape[:-1], self._nodes))
        _chebyshev_sums(cosine, np.broadcast_to(weights, cosine.shape), basis)
        return np.asarray(basis @ self._to_coefficients)

    def _shift(self, write: Rule, candidate: Rule) -> Array:
        """P of these rules of write and candidate.

        E pⁿ = E iⁿ·E gⁿ, so each factor is compressed before their product is: the same rule, far sooner.
        """
        (i, i_weights), (g, g_weights) = write, candidate
        product = i[..., :, None] * g[..., None, :]
        w = i_weights[..., :, None] * g_weights[..., None, :] * self._params.environment_weights[:, None, None]
        together = (*product.shape[:-3], -1)
        p, w = _compressed(product.reshape(together), w.reshape(together))
        return self._operator(self.x[..., :, None] + p[..., None, :], w[..., None, :])

    @cached_property
    def _added(self) -> Array:
        """P."""
        cell = self._params.cell
        return self._shift(self._alone(cell.write_gate, cell.write), self._alone(cell.candidate_gate, cell.candidate))

    def _sourced(self) -> Array:
        """P weighted by σ_i² i'²g² + σ_g² i²g'²."""
        cell, gates = self._params.cell, self._params.gates
        total: Array = np.zeros((1, 1))
        for gate in filter(None, (cell.write_gate, cell.candidate_gate)):
            rules = (
                self._alone(name, function, (lambda y: y.tangent) if name == gate else (lambda y: y.value))
                for name, function in ((cell.write_gate, cell.write), (cell.candidate_gate, cell.candidate))
            )
            total = total + gates[gate].recurrent[..., None] * self._shift(*rules)
        return total

    def _alone(
        self,
        gate: str | None,
        function: Callable[[dict[str, Any]], Any],
        weigh: Callable[[Dual], Array] | None = None,
    ) -> Rule:
        """The rule of one gate's value in every environment, (*batch, K, environments, nodes).

        It is weighted by the square of ``weigh``, of the value and its derivative by the gate.
        """
        environments = self._params.environment_weights.size
        if gate is None:
            y = Dual(np.full((1, environments, 1), float(function({}))), np.zeros((1, environments, 1)))
            return y.value, np.ones(y.value.shape) if weigh is None else weigh(y) ** 2
        u, (_, w) = self._rules[gate]
        u = np.broadcast_to(u, (*u.shape[:-2], environments, u.shape[-1]))
        if weigh is None:
            return _compressed(np.asarray(function({gate: u})), np.broadcast_to(w, u.shape))
        y = function({gate: Dual(u, np.ones_like(u))})
        return _compressed(y.value, w * weigh(y) ** 2)

    def _together(
        self,
        weigh: Callable[[Dual, Dual, Array, Array], Any] | None = None,
        weigh_candidate: Callable[[Dual], Array] | None = None,
    ) -> Array:
        """T where one gate keeps and writes, weighted by ``weigh(keep, write, n, x)``; derivatives are by that gate.

        ``weigh_candidate``: as in ``_alone``.
        """
        cell = self._params.cell
        gate = cell.keep_gate or ""
        environments = self._params.environment_weights
        n, n_weights = self._alone(cell.candidate_gate, cell.candidate, weigh_candidate)
        u, (_, w) = self._rules[gate]
        u = np.broadcast_to(u, (*u.shape[:-2], environments.size, u.shape[-1]))[..., None]
        keep, write = (function({gate: Dual(u, np.ones_like(u))}) for function in (cell.keep, cell.write))
        added = write.value * n[..., None, :]
        weights = w[:, None] * n_weights[..., None, :] * environments[:, None, None]
        flat = (*added.shape[:-3], 1, -1)

        def points(y: Array) -> Array:
            return np.broadcast_to(y, added.shape).reshape(flat)

        x = self.x[..., :, None]
        image = points(keep.value) * x + points(added)
        factor = np.broadcast_to(weights, added.shape).reshape(flat)
        if weigh is not None:
            kept, written = (Dual(points(y.value), points(y.tangent)) for y in (keep, write))
            factor = factor * weigh(kept, written, points(n[..., None, :]), x)
        return self._operator(image, factor)

    def _kept(self, power: int, slope: bool = False) -> Array:
        """F weighted by keep**power, or by (∂keep/∂u)²."""
        cell = self._params.cell
        if cell.keep_gate is None:
            kept = float(cell.keep({}))
            weight = 0.0 if slope else kept**power
            return self._operator(self.x[..., :, None] * kept, np.full((1, 1), weight))
        u = self._joint(cell.keep_gate)[cell.keep_gate]
        keep = cell.keep({cell.keep_gate: Dual(u, np.ones_like(u))})
        weights = self._weights(cell.keep_gate) * (keep.tangent**2 if slope else keep.value**power)
        nodes, weights = _compressed(keep.value, np.broadcast_to(weights, keep.value.shape))
        return self._operator(self.x[..., :, None] * nodes[..., None, :], weights[..., None, :])

    @cached_property
    def _environments(self) -> list[tuple[float, MemoryDistribution]]:
        """The same layer in each of several environments, with its probability: there the gates are independent."""
        moments, order = self._moments, self._order
        return [(w, MemoryDistribution(p, self._q, moments, order)) for w, p in in_environments(self._params)]

    @cached_property
    def _transfer(self) -> Array:
        """T."""
        if self._environments:
            return np.asarray(sum(weight * alone._transfer for weight, alone in self._environments))
        return self._together() if self._params.cell.couples else self._kept(0) @ self._added

    @cached_property
    def stationary(self) -> Array:
        """Weights w (*batch, K, nodes) with E φ(c) = Σ w φ(x)."""
        transfer, n = self._transfer, self._nodes
        system = np.swapaxes(transfer, -1, -2) - np.eye(n)
        system[..., -1, :] = 1.0
        right = np.zeros((*system.shape[:-1], 1))
        right[..., -1, 0] = 1.0
        return np.asarray(np.linalg.solve(system, right)[..., 0])

    def _read(self, power: int, by: str | None, x: Array) -> Array:
        """E_o of (h, or its slope by "memory" or "gate") to a power at memories x (*batch, K, nodes)."""
        cell = self._params.cell
        if cell.read_gate is None:
            h = cell.read(Dual(x, np.full(x.shape, float(by == "memory"))), {})
            return np.asarray((h.value if by is None else h.tangent) ** power)
        u = self._joint(cell.read_gate)[cell.read_gate][..., None, :]
        x = x[..., :, None]
        shape = np.broadcast_shapes(u.shape, x.shape)
        h = cell.read(
            Dual(np.broadcast_to(x, shape), np.full(shape, float(by == "memory"))),
            {cell.read_gate: Dual(np.broadcast_to(u, shape), np.full(shape, float(by == "gate")))},
        )
        return np.asarray((h.value if by is None else h.tangent) ** power @ self._weights(cell.read_gate))

    def _transfer_mean(self, values: Array) -> Array:
        return np.asarray(np.sum(self.stationary * values, axis=-1))

    def _growth(self, power: int, by: str | None) -> tuple[Array, Array]:
        """How what ``_read`` gives grows at large |x|: coefficients of x² and x⁴ of its even part, (*batch, K).

        They are 0 for what saturates, as tanh does.
        """
        far = _FAR * np.array([[1.0, -1.0, 2.0, -2.0, 4.0, -4.0]])
        read = self._read(power, by, far)
        first, second, third = (0.5 * (read[..., 2 * n] + read[..., 2 * n + 1]) / _FAR**2 for n in range(3))
        slopes = (second - first) / 3.0, (third - second) / 12.0  # of the even part over x², in units of _FAR²
        fourth = (slopes[1] - slopes[0]) / 15.0
        return slopes[0] - 5.0 * fourth, fourth / _FAR**2

    def _transfer_mean_of_growing(self, values: Array, square: Array, fourth: Array) -> Array:
        """The mean of a function that grows as square·x² + fourth·x⁴: E c² and E c⁴ are known, better than by nodes."""
        known = [np.where(a != 0.0, a * m, 0.0) for a, m in ((square, self._moments[2]), (fourth, self._moments[4]))]
        left = values - square[..., None] * self.x**2 - fourth[..., None] * self.x**4
        return self._transfer_mean(left) + known[0] + known[1]

    def _resolved(self, power: int, by: str | None) -> Array:
        """What ``average`` returns, by the transfer operator: the last step's environment is the read gate's too."""
        if not self._environments:
            return self._transfer_mean_of_growing(self._read(power, by, self.x), *self._growth(power, by))
        now = self.stationary[..., None, :]
        means = (
            weight * np.sum((now @ alone._transfer)[..., 0, :] * alone._read(power, by, self.x), axis=-1)
            for weight, alone in self._environments
        )
        return np.asarray(sum(means))

    def average(self, power: int, by: str | None) -> Array:
        """Return E of h, or of its slope by "memory" (∂h/∂c) or "gate" (∂h/∂u_o), to an even power; by class."""
        resolved = self._resolved(power, by)
        reference = np.sum(self._gauss_weights * self._read(power, by, self._gauss_x), axis=-1)
        return np.maximum(np.where(self.holds & ~self._narrow, resolved, reference), 0.0)

    def paired(self, message: Array, correlated: Array, correlation: Array, by: str | None) -> Array:
        """Return E over two copies of the product of h, or of ∂h/∂c or ∂h/∂u_o ("memory", "gate"), by class.

        It is that of a Gaussian copula with the distribution's own second moment: exact at correlation 1, an
        approximation of the dependence elsewhere (1e-3 for narrow points).

        Args:
            message: E h².
            correlated: E h h'.
            correlation: The copies' correlation of c.
            by: None, "memory" or "gate".
        """
        params, cell = self._params, self._params.cell
        z, w = rule_for(1.5, TANH_STRIP, _ORDER)
        rho = np.clip(correlation, 0.0, 1.0)[..., None, None]
        c = np.sqrt(rho) * z[:, None] + np.sqrt(1.0 - rho) * z
        c = self._mean[..., None, None] + self._deviation[..., None, None] * c
        read = self._read(1, by, c.reshape(*c.shape[:-2], -1))
        read = read.reshape(*read.shape[:-1], *c.shape[-2:])
        square = (read**2 @ w) @ w
        shared = np.divide((read @ w) ** 2 @ w, square, out=np.ones_like(square), where=square > 0)
        if cell.read_gate is None:
            return self.average(2, by) * shared
        # the read gate factors out of h = o·tanh(c): its own pair average, at any one memory
        variance, covariance = gate_moments(params, cell.read_gate, message, correlated)
        gate = OneGate(params, cell.read_gate, variance, covariance, _ORDER, broken=False)
        once, slope = gate.conditional(lambda u: cell.read(1.0, {cell.read_gate or "": u}))
        pair = (slope if by == "gate" else once) ** 2 @ gate.weights
        single = OneGate(params, cell.read_gate, variance, variance, _ORDER, broken=False)
        once, slope = single.conditional(lambda u: cell.read(1.0, {cell.read_gate or "": u}))
        whole = (slope if by == "gate" else once) ** 2 @ single.weights
        return self.average(2, by) * shared * (over_environments(params, pair) / over_environments(params, whole))

    def distance_operator(self, kept: Array, source: Array) -> DistanceOperator:
        """Return the linear recursion of squared distances; ``kept`` = E f² and ``source`` = E v by class.

        In classes that the transfer operator does not resolve, and in all where next to nothing returns through the
        recurrent kernels, δc² is taken as independent of c within its class.
        """
        params, cell = self._params, self._params.cell
        by_output: Array = np.zeros(1)
        if cell.read_gate is not None:
            by_output = params.gates[cell.read_gate].recurrent[..., 0] * self.average(2, "gate")
        mean_read = self.average(2, "memory")
        returned = source * mean_read / np.maximum(1.0 - kept, np.finfo(float).tiny) + by_output
        returned = np.broadcast_to(returned, (*returned.shape[:-1], params.class_weights.size)) @ params.class_weights
        resolves = self.holds & ~self._narrowest & (returned >= _WEAK)[..., None]
        if not np.any(resolves):
            through, sources = kept[..., None, None], source[..., None]
            return DistanceOperator(np.ones(1), kept, through, sources, mean_read[..., None], by_output, params)
        through, row = self._distances()
        weights, read = self.stationary, self._read(2, "memory", self.x)
        # the constant is the eigenfunction of E f², and the source's sum is E v
        through = through + (kept[..., None] - np.sum(through, axis=-1))[..., None] * weights[..., None, :]
        total = np.sum(row, axis=-1)
        row = row * np.divide(source, total, out=np.zeros(np.shape(total + source)), where=total > 0.0)[..., None]
        resolves = resolves[..., None]
        through = np.where(resolves[..., None], through, (kept[..., None] * weights)[..., None, :])
        row = np.where(resolves, row, source[..., None] * weights)
        return DistanceOperator(
            weights, kept, through, row, np.where(resolves, read, mean_read[..., None]), by_output, params
        )

    def _distances(self) -> tuple[Array, Array]:
        """A and r."""
        params, cell = self._params, self._params.cell
        if cell.couples:
            sigma = params.gates[cell.keep_gate or ""].recurrent[..., 0, None, None]
            through = self._together(lambda keep, write, n, x: keep.value**2)
            source_by_gate = self._together(
                lambda keep, write, n, x: sigma * (keep.tangent * x + write.tangent * n) ** 2
            )
            by_candidate = self._together(lambda keep, write, n, x: write.value**2, lambda y: y.tangent)
            source_by_gate = (
                source_by_gate + params.gates[cell.candidate_gate or ""].recurrent[..., None] * by_candidate
            )
            return through, np.einsum("...i,...ij->...j", self.stationary, source_by_gate)
        added = self._added
        through = self._kept(2) @ added
        row = np.einsum("...i,...ij->...j", self.stationary, self._kept(0) @ self._sourced())
        if cell.keep_gate is not None:
            by_keep = params.gates[cell.keep_gate].recurrent[..., 0, None] * self._square
            row = row + np.einsum("...i,...ij->...j", self.stationary * by_keep, self._kept(0, slope=True) @ added)
        return through, row


def _near_gaussian(moments: list[Array]) -> tuple[Array, Array]:
    """Nodes (*batch, K, n) and weights of the Gaussian with cumulant corrections of third and fourth order."""
    m1, m2, m3, m4 = moments[1], moments[2], moments[3], moments[4]
    variance = np.maximum(m2 - m1**2, 0.0)
    resolved = (variance > 1e-9 * m2) & (variance > 1e-100)  # else the cumulants are rounding
    unit = np.where(resolved, variance, 1.0)
    third = np.where(resolved, (m3 - 3 * m1 * m2 + 2 * m1**3) / unit**1.5, 0.0)
    fourth = np.where(resolved, (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / unit**2 - 3.0, 0.0)
    z, w = rule_for(float(np.sqrt(np.max(variance))), TANH_STRIP, _ORDER)
    correction = third[..., None] * (z**3 - 3 * z) / 6.0 + fourth[..., None] * (z**4 - 6 * z**2 + 3) / 24.0
    return m1[..., None] + np.sqrt(variance)[..., None] * z, w * (1.0 + correction)


class DistanceOperator:
    """Squared distances over time: Y' = Y·through + H·source by class; H' = E over units of Y'·read + by_output·H.

    Args:
        start: The row of a unit perturbation of the memory.
        kept: E f², the leading eigenvalue of ``through``.
        through: The transfer of the memory's squared distance.
        source: What a squared distance of the messages adds to it.
        read: What it adds to that of the messages.
        by_output: What a squared distance of the messages adds to itself, through the read gate.
        params: The layer.
    """

    def __init__(
        self,
        start: Array,
        kept: Array,
        through: Array,
        source: Array,
        read: Array,
        by_output: Array,
        params: LayerParameters,
    ) -> None:
        shape = np.broadcast_shapes(
            through.shape[:-1], source.shape, read.shape, (*params.batch, params.class_weights.size, 1)
        )
        self._through = np.broadcast_to(through, (*shape, shape[-1]))
        self._source, self._read = np.broadcast_to(source, shape), np.broadcast_to(read, shape)
        self._start = np.broadcast_to(start, shape)
        self._kept = np.broadcast_to(kept, shape[:-1])
        self._classes = params.class_weights
        self._by_output = np.broadcast_to(by_output, shape[:-1]) @ self._classes

    def log_retention(self, steps: int) -> Array:
        """Return ln E|δc_T|²/E|δc_0|² after ``steps`` steps from a perturbation of c, which h follows, (*batch,)."""
        classes, resolved = self._classes, self._through.shape[-1]
        k = classes.size
        if k * resolved >= _SQUARED:
            follow = self._followed if steps <= _FOLLOWED else self._integrated
            found = np.empty(self._start.shape[:-2])
            for point in np.ndindex(*found.shape):
                found[point] = follow(point, steps)
            return found
        # the state (Y of every class, H) in one matrix; Y' = A Y + H r,  H' = ρ·Y' + ω H
        size = k * resolved + 1
        matrix = np.zeros((*self._start.shape[:-2], size, size))
        read = (self._read * classes[:, None]).reshape(*self._read.shape[:-2], -1)
        for c in range(k):
            here = slice(c * resolved, (c + 1) * resolved)
            matrix[..., here, here] = np.swapaxes(self._through[..., c, :, :], -1, -2)
        matrix[..., :-1, -1] = self._source.reshape(read.shape)
        matrix[..., -1, :] = np.einsum("...i,...ij->...j", read, matrix[..., :-1, :])
        matrix[..., -1, -1] += self._by_output
        memory = self._start.reshape(read.shape)
        # what is read of the memory moves with it, at fixed pre-activations
        start = np.concatenate([memory, np.sum(read * memory, axis=-1, keepdims=True)], axis=-1)
        by_component = np.append(np.repeat(classes, resolved), 0.0)
        return log_power_mean(matrix, steps, start, by_component)

    def _followed(self, point: tuple[int, ...], steps: int) -> float:
        """``log_retention`` at one point of the grid, step by step."""
        read, through, source = self._read[point], self._through[point], self._source[point]
        y = self._start[point]
        h, log_scale = float(np.sum(read * y, axis=-1) @ self._classes), 0.0
        for _ in range(steps):
            y = (y[:, None, :] @ through)[:, 0, :] + h * source
            h = float(np.sum(read * y, axis=-1) @ self._classes + self._by_output[point] * h)
            scale = float(np.max(np.abs(y), initial=np.finfo(float).tiny))
            y, h, log_scale = y / scale, h / scale, log_scale + math.log(scale)
        left = float(np.sum(y, axis=-1) @ self._classes)
        return log_scale + math.log(left) if left > 0.0 else -math.inf

    def _integrated(self, point: tuple[int, ...], steps: int) -> float:
        """The same as 1/2πi ∮ λᵀ Σ_t |δc_t|² λ⁻ᵗ⁻¹ dλ, over λ = χ·exp(z/T) with z on a parabola around z ≤ 0."""
        chi = float(self.growth()[point])
        theta = (np.arange(_CONTOUR // 2) + 0.5) * (2.0 * np.pi / _CONTOUR)  # the other half is its mirror image
        z = _CONTOUR * (0.1309 - 0.1194 * theta**2 + 0.25j * theta)
        direction = _CONTOUR * (0.25j - 0.2388 * theta)
        values = chi * np.exp(z / steps)
        total = 0.0
        for value_, factor in zip(values, np.exp(z) * direction * values, strict=True):
            rows = np.stack([self._source[point], self._start[point]], axis=-1)
            added, left = np.moveaxis(self._resolvent(point, value_, rows), -1, 0)
            h = value_ * self._weighed(point, left)
            h = h / (value_ - self._by_output[point] - value_ * self._weighed(point, added))
            memory = np.sum(left, axis=-1) @ self._classes + h * (np.sum(added, axis=-1) @ self._classes)
            total += float((factor * memory).imag)
        total *= 2.0 / (_CONTOUR * steps)
        return steps * math.log(chi) + math.log(total) if total > 0.0 else -math.inf

    def _resolvent(self, point: tuple[int, ...], at: complex, rows: Array) -> Array:
        """Rows (K, n, rows) times the inverse of at − A."""
        through = self._through[point]
        return np.linalg.solve(np.swapaxes(at * np.eye(through.shape[-1]) - through, -1, -2), rows)

    def _weighed(self, point: tuple[int, ...], rows: Array) -> Any:
        """What rows (K, n) of the memory's squared distance add to that of the messages."""
        return np.sum(rows * self._read[point], axis=-1) @ self._classes

    def growth(self) -> Array:
        """Return χ, (*batch,): the root of the secular equation of the coupled classes, or the slowest class alone."""
        kept = np.max(self._kept, axis=-1)
        chi = np.empty(kept.shape)
        for point in np.ndindex(*kept.shape):
            low = float(kept[point]) + _KEPT_ACCURACY
            found = falling_root(partial(self._excess, point), low, _FIRST_STEP, _CHI_ACCURACY)
            chi[point] = kept[point] if found == low else found
        return chi

    def _excess(self, point: tuple[int, ...], chi: float) -> float:
        """What a squared distance H brings back of itself at one point of the grid, where it grows as χᵗ, less χ."""
        resolvent = self._resolvent(point, chi, self._source[point][..., None])[..., 0]
        return float(chi * self._weighed(point, resolvent) + self._by_output[point] - chi)
