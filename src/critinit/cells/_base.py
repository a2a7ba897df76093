"""What a cell is: one elementwise definition that every engine uses.

All gated cells are an affine recursion of a scalar memory s per unit,

    s' = keep(u)·s + write(u)·candidate(u),        h' = read(s', u),

with one pre-activation per gate,

    u_k = U_k x + b_k + after_k(u)·W_k m_k,        m_k = before_k(u)·h,

where m_k is the *message* of gate k: what its recurrent kernel reads.  ``before`` scales it ahead of the kernel (the
original GRU) and ``after`` scales the product (the GRU of most frameworks); both are 1 where a cell names no scale.

A cell states these five functions in NumPy and nothing else: derivatives come from forward mode (``critinit.dual``),
averages from the theory's quadrature, trajectories from the simulator.  It may state ``update`` itself instead of keep,
write and candidate, which then follow from it.

*Keep gate*, *write gate*, *candidate gate* and *read gate* are the gates that ``keep``, ``write``, ``candidate`` and
``read`` depend on, by these names in all of critinit.

A cell can *project*: the kernels read r = P h, with a kernel P of its own from the H units to αH coordinates, and r
is what the layer gives to the next.

A cell can be *normalized*: each product goes through a layer normalization of its own before they are added,

    u_k = γ_x·norm(U_k x) + b_k + after_k(u)·γ_h·norm(W_k h),        norm(y) = (y − mean y)/(deviation of y over units).

At large width norm(W_k h) is W_k h over √(σ_k² E h²): a kernel of variance γ_h² that reads h/√E h², whatever σ_k is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from critinit.dual import Dual, sigmoid, tangent, value

__all__ = ["EMBEDDED", "Cell", "PreActivations", "Scale"]

EMBEDDED = "input"
"""The key under which a cell with ``embeds_input`` finds its input among the pre-activations."""

PreActivations = Mapping[str, Any]
"""Gate name -> pre-activation, an array or a ``Dual``; of a cell with ``embeds_input`` also its input at "input"."""


class Scale(NamedTuple):
    """A factor, ``factor(u[gate])``, by which a gate multiplies what the recurrent kernel of another reads or gives.

    Attributes:
        gate: The gate whose pre-activation the factor depends on.
        factor: The factor, elementwise.
    """

    gate: str
    factor: Callable[[Any], Any]


_UNIT = 1.0
"""The pre-activation at which the candidate is compared with its slope."""
_WIDE = 100.0
"""Pre-activations beyond which a gate or a bounded candidate changes no more."""
_SATURATED = 1.05
"""By how much a bounded candidate's largest value within ±100 may exceed that within ±50; u/(1 + |u|) has 1.01."""
_POINTS = 2001
"""Points within these."""
_ROUNDING = 1e-12
"""By how much |keep| + |write| may exceed 1."""
_KINKS_WITHIN, _KINK_POINTS, _JUMP = 20.0, 20_001, 0.02
"""Kinks are looked for at pre-activations within ±20; at one the slope changes by more than .02 between two of 20,001
points, where a smooth gate's changes by .002."""
_STAYS = 1e-3
"""Share of the slope's change between two points that a kink keeps between points 1e-10 apart; a smooth one keeps
5e-8."""
_ODD = 1e-9
"""By how much n(−u) may differ from −n(u) in an odd candidate."""
_KINK_PLACES, _BEND_PLACES = 9, 7
"""Decimal places to which the place of a kink, and of a jump of the curvature, is found."""
_STRIP = 2.0 * math.pi / (3.0 * math.sqrt(3.0))
"""Half the width of tanh's strip, π/2, times its largest curvature, 4/(3√3), over its largest slope, 1; the logistic
function has the same."""
_CURVATURE_STEP = 1e-8
"""Of the differences of slopes that give a curvature, to 1e-8 of the slope."""
_CURVATURE_ROUNDING = 1e-6
"""Jumps of a curvature below this share of the largest slope are rounding: slopes to 1e-15, over twice that step."""
_ASIDE = 7e-4
"""By how much the points between which jumps are looked for are moved: none is a round number, where functions jump."""
_LOGISTIC_WITHIN, _LOGISTIC_POINTS, _LOGISTIC_ERROR = 30.0, 61, 1e-9
"""A keep gate is compared with the logistic function at 61 pre-activations within ±30, to 1e-9."""


class Cell:
    """A recurrent cell: its gates, and what each does, in NumPy.

    Subclasses set the class attributes and either ``keep``, ``write`` and ``candidate`` or ``update`` (and ``read``
    where h is not s), each elementwise.  ``critinit.register_cell`` checks them all.  Biases are effective: the sum of
    all that a framework adds to a pre-activation.

    Attributes:
        name: Its name in specs.
        gates: The gates' names in canonical order; a gate named in a ``Scale`` comes before the gate that it scales.
        keep_gate: The gate that ``keep`` depends on, or None.
        write_gate: The gate that ``write`` depends on, or None; it may be the keep gate.
        candidate_gate: The gate that ``candidate`` depends on, no other; None where the cell embeds its input.
        read_gate: The gate that ``read`` depends on, no other, or None.
        before: The gate that scales the candidate's message, ahead of its kernel.
        after: The gate that scales the kernel's product.
        message_is_memory: The gates read s, as they do in every cell without a ``read`` (the peephole LSTM).
        embeds_input: The candidate is the embedded input x itself, u["input"], with E x² = R.
        projects: The gates read r = P h.
        normalized: Every product of a kernel is layer-normalized, and gates have a gain for each (``critinit.spec``).
        keeps_normalized: A normalized memory is not only read so but kept so.

    Example:
        >>> class Leaky(Cell):
        ...     name, gates, candidate_gate = "leaky", ("hidden",), "hidden"
        ...     def keep(self, u): return 0.9
        ...     def write(self, u): return 0.1
        ...     def candidate(self, u): return np.tanh(u["hidden"])
        >>> float(Leaky().update(1.0, {"hidden": 0.0}))
        0.9
    """

    name: ClassVar[str]
    gates: ClassVar[tuple[str, ...]]
    keep_gate: ClassVar[str | None] = None
    write_gate: ClassVar[str | None] = None
    candidate_gate: ClassVar[str | None] = None
    read_gate: ClassVar[str | None] = None
    before: ClassVar[Mapping[str, Scale]] = {}
    after: ClassVar[Mapping[str, Scale]] = {}
    message_is_memory: ClassVar[bool] = False
    embeds_input: ClassVar[bool] = False
    projects: ClassVar[bool] = False
    normalized: ClassVar[bool] = False
    keeps_normalized: ClassVar[bool] = False

    def keep(self, u: PreActivations) -> Any:
        """Return the factor that multiplies the old memory in the update, as an array of shape (units,)."""
        full = self._at_zero(u)
        return self.update(1.0, full) - self.update(0.0, full)

    def write(self, u: PreActivations) -> Any:
        """Return the factor that multiplies the candidate in the update, as an array of shape (units,)."""
        return self.update(0.0, self._at_zero({**u, self._written: _UNIT})) / self._candidate_scale[1]

    def candidate(self, u: PreActivations) -> Any:
        """Return the new content of the memory, as an array of shape (units,); its slope at 0 is 1 where it follows
        from ``update``."""
        return self.update(0.0, self._at_zero({self._written: u[self._written]})) / self._candidate_scale[0]

    @property
    def _written(self) -> str:
        """The pre-activation that the candidate reads."""
        return self.candidate_gate or EMBEDDED

    def _at_zero(self, u: PreActivations) -> dict[str, Any]:
        """``u``, and 0 for the gates that it leaves out."""
        return {**dict.fromkeys((*self.gates, EMBEDDED), 0.0), **u}

    @cached_property
    def _candidate_scale(self) -> tuple[float, float]:
        """Where ``update`` is all that is stated: write at 0, which makes the candidate's slope at 0 one, and n(1)."""
        slope = self.update(0.0, self._at_zero({self._written: Dual(0.0, 1.0)}))
        at_zero = float(slope.tangent) if isinstance(slope, Dual) else 0.0
        product = float(value(self.update(0.0, self._at_zero({self._written: _UNIT}))))
        return at_zero, product / at_zero if at_zero else 0.0

    def read(self, s: Any, u: PreActivations) -> Any:
        """Return the visible state h of memory s; the memory itself unless a cell says otherwise."""
        return s

    @property
    def has_readout(self) -> bool:
        """Whether h differs from the memory s, so that the state is the pair (h, s)."""
        return type(self).read is not Cell.read

    @property
    def couples(self) -> bool:
        """Whether one gate both keeps and writes."""
        return self.keep_gate is not None and self.keep_gate == self.write_gate

    @cached_property
    def is_logistic(self) -> bool:
        """Whether the keep gate keeps sigmoid(u), so that a bias ln(τ − 1) makes a time constant of τ steps."""
        return self._keeps_sigmoid(1.0)

    @cached_property
    def lets_go(self) -> bool:
        """Whether the keep gate keeps sigmoid(−u): it is the other way round, as the update gate of some GRUs."""
        return self._keeps_sigmoid(-1.0)

    def _keeps_sigmoid(self, sign: float) -> bool:
        if self.keep_gate is None:
            return False
        u = np.linspace(-_LOGISTIC_WITHIN, _LOGISTIC_WITHIN, _LOGISTIC_POINTS)
        return bool(np.allclose(self.keep({self.keep_gate: sign * u}), sigmoid(u), rtol=0.0, atol=_LOGISTIC_ERROR))

    @cached_property
    def is_odd(self) -> bool:
        """Whether the candidate is odd, so that it has mean 0 at pre-activations of mean 0."""
        if self.candidate_gate is None:
            return True
        u = np.linspace(-_KINKS_WITHIN, _KINKS_WITHIN, _POINTS)
        there, mirrored = (value(self.candidate({self.candidate_gate: x})) for x in (u, -u))
        return bool(np.allclose(there, -mirrored, rtol=_ODD, atol=_ODD))

    @property
    def _of_one_gate(self) -> list[tuple[str, Callable[[Any], Any]]]:
        """Every function of one gate's pre-activation, with the gate."""
        parts: list[tuple[str | None, Callable[[Any], Any]]] = [
            (self.keep_gate, self.keep),
            (self.write_gate, self.write),
            (self.candidate_gate, self.candidate),
        ]
        found = [(gate, partial(_of_one, f, gate)) for gate, f in parts if gate is not None]
        return [*found, *((scale.gate, scale.factor) for scale in (*self.before.values(), *self.after.values()))]

    @cached_property
    def kinks(self) -> tuple[float, ...]:
        """The pre-activations at which the slope of a function of one gate jumps, as those of maximum and abs do."""
        return tuple(sorted({kink for _, function in self._of_one_gate for kink in _kinks(function)}))

    @cached_property
    def breaks(self) -> tuple[float, ...]:
        """The kinks and the bends, between which all functions of one gate are smooth.

        At a bend the slope is continuous and the curvature jumps, as those of u/(1 + |u|) and of the ELU do.
        """
        found = list(self.kinks)
        for bend in sorted({bend for _, function in self._of_one_gate for bend in _bends(function)}):
            if all(abs(bend - known) > 10.0 * 10.0**-_BEND_PLACES for known in found):
                found.append(bend)
        return tuple(sorted(found))

    @cached_property
    def strips(self) -> Mapping[str, float]:
        """By gate, half the width of the strip around the real numbers in which its functions are analytic.

        It is estimated by 2π/(3√3)·max|f'|/max|f''|: π for the logistic function, π/2 for tanh.
        """
        u, found = np.linspace(-_KINKS_WITHIN, _KINKS_WITHIN, _KINK_POINTS), dict.fromkeys(self.gates, math.inf)
        for gate, function in self._of_one_gate:
            slopes = _slope(function, u)
            bent = np.max(np.abs(np.diff(slopes))) / (u[1] - u[0])
            if bent > 0.0:
                found[gate] = min(found[gate], _STRIP * float(np.max(np.abs(slopes)) / bent))
        return found

    @cached_property
    def keeps_nothing(self) -> bool:
        """Whether no share of the old memory stays, whatever the gates: keep is the constant 0."""
        return self.keep_gate is None and float(value(self.keep({}))) == 0.0

    @property
    def is_of_one_step(self) -> bool:
        """Whether the state is a function of the last step's fields alone: nothing kept, nothing read, none scaled."""
        return self.keeps_nothing and not (self.has_readout or self.projects or self.before or self.after)

    @cached_property
    def bounded(self) -> bool:
        """Whether the message is at most 1 in absolute value, whatever the pre-activations.

        It is where |keep| + |write|·max|n| ≤ 1, and where a read-out is so.
        """
        ends = np.linspace(-_WIDE, _WIDE, _POINTS)

        def largest(function: Callable[[PreActivations], Any], gate: str | None, ends: Any = ends) -> Any:
            return np.abs(value(function({} if gate is None else {gate: ends})))

        if self.message_is_memory or not self.has_readout:
            if self.candidate_gate is None:
                return False
            keep, write = largest(self.keep, self.keep_gate), largest(self.write, self.write_gate)
            new, half = (np.max(largest(self.candidate, self.candidate_gate, x)) for x in (ends, 0.5 * ends))
            together = np.max(keep + write * new) if self.couples else np.max(keep) + np.max(write) * new
            return bool(together <= 1.0 + _ROUNDING and new <= _SATURATED * half)
        read = self.read(ends[:, None], {} if self.read_gate is None else {self.read_gate: ends})
        return bool(np.max(np.abs(value(read))) <= 1.0)

    def update(self, s: Any, u: PreActivations) -> Any:
        """Return the next memory, elementwise: s' = keep(u)·s + write(u)·candidate(u)."""
        return self.keep(u) * s + self.write(u) * self.candidate(u)

    def pre_activations(
        self, h: Any, recurrent: Callable[[str, Any], Any], external: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return all pre-activations of one step, by gate.

        Args:
            h: The visible state, (units,).
            recurrent: Called with a gate and its message m_k, it returns W_k m_k (a matrix product, a Gaussian
                process, …).
            external: U_k x + b_k by gate.
        """
        u: dict[str, Any] = {}
        if self.embeds_input:
            u[EMBEDDED] = external[EMBEDDED]
        for gate in self.gates:
            before, after = self.before.get(gate), self.after.get(gate)
            message = h if before is None else before.factor(u[before.gate]) * h
            signal = recurrent(gate, message)
            u[gate] = external[gate] + (signal if after is None else after.factor(u[after.gate]) * signal)
        return u

    def __repr__(self) -> str:
        return f"<cell {self.name}>"


def _of_one(function: Callable[[Any], Any], gate: str, u: Any) -> Any:
    """A function of the pre-activations, at one gate's."""
    return function({gate: u})


def _slope(function: Callable[[Any], Any], u: Any) -> Any:
    """The slope of an elementwise function at an array."""
    return np.broadcast_to(tangent(function(Dual(u, np.ones_like(u)))), u.shape)


def _kinks(function: Callable[[Any], Any]) -> list[float]:
    """Where the slope of an elementwise function jumps."""
    return _jumps(partial(_slope, function), _KINK_PLACES)


def _bends(function: Callable[[Any], Any]) -> list[float]:
    """Where the curvature of an elementwise function jumps, and its slope does not."""

    def curvature(u: Any) -> Any:
        ahead, behind = (_slope(function, u + step) for step in (_CURVATURE_STEP, -_CURVATURE_STEP))
        return (ahead - behind) / (2.0 * _CURVATURE_STEP)

    steepest = float(np.max(np.abs(_slope(function, np.linspace(-_KINKS_WITHIN, _KINKS_WITHIN, _KINK_POINTS)))))
    return _jumps(curvature, _BEND_PLACES, max(_JUMP, _CURVATURE_ROUNDING * steepest))


def _jumps(function: Callable[[Any], Any], places: int, least: float = _JUMP) -> list[float]:
    """Where a function jumps by ``least``, to so many decimal places: between two near points, then by bisection.

    A steep smooth function, as the exponential one, changes as much between two near points, but less and less between
    nearer ones.
    """
    u = np.linspace(-_KINKS_WITHIN, _KINKS_WITHIN, _KINK_POINTS) + _ASIDE
    values = function(u)
    jumps = np.flatnonzero(np.abs(np.diff(values)) > least)
    low, high, below, above = u[jumps], u[jumps + 1], values[jumps], values[jumps + 1]
    while np.any(high - low > 0.1 * 10.0**-places):
        middle = 0.5 * (low + high)
        at = function(middle)
        nearer_below = np.abs(at - below) <= np.abs(at - above)
        low, high = np.where(nearer_below, middle, low), np.where(nearer_below, high, middle)
    left = np.abs(function(high) - function(low))
    stays = left > np.maximum(least, _STAYS * np.abs(above - below))
    return sorted({round(float(x), places) + 0.0 for x in 0.5 * (low + high)[stays]})
