"""What a cell is: one elementwise definition that every engine uses.

All gated cells are an affine recursion of a scalar memory s per unit,

    s' = keep(u)·s + write(u)·candidate(u),        h' = read(s', u),

driven by one pre-activation per gate,

    u_k = U_k x + b_k + after_k(u)·W_k m_k,        m_k = before_k(u)·h,

where ``before`` scales the message ahead of the recurrent kernel (GRU, reset before) and ``after`` scales the
product (GRU, reset after); both are 1 where a cell names no scale.  A cell states these five functions in
NumPy and nothing else: derivatives come from forward mode (``critinit.dual``), averages from the theory's
quadrature, trajectories from the simulator.  It may state ``update`` itself instead of keep, write and candidate,
which then follow from it.

A cell can *project*: the kernels read r = P h, with a kernel P of its own from the H units to αH coordinates, and r
is what the layer gives to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from critinit.dual import Dual, sigmoid, tangent, value

__all__ = ["Cell", "Drives", "Scale"]

Drives = Mapping[str, Any]
"""Gate name -> pre-activation: an array or a Dual.  A cell with ``embeds_input`` finds its input at "input"."""


class Scale(NamedTuple):
    """A factor by which one gate scales another's recurrent signal: ``factor(u[gate])``."""

    gate: str
    factor: Callable[[Any], Any]


_UNIT = 1.0
_WIDE = 100.0
"""Pre-activations beyond which a gate or a bounded candidate changes no more."""
_KINKS_WITHIN, _JUMP = 20.0, 0.02
"""Where kinks are looked for, and how much a slope changes at one; a smooth one changes by .002 between two points."""


class Cell:
    """A recurrent cell in semantic gates (``update`` keeps the old state; biases are effective).

    Subclasses set the class attributes and either ``keep``, ``write`` and ``candidate`` or ``update`` (and ``read``
    where h is not s), each elementwise.  ``critinit.register`` checks them all.

    ``name``: as specs have it.  ``gates``: names in canonical order; a gate named in a ``Scale`` comes before the
    gate it scales.
    ``keep_gate``, ``write_gate``, ``candidate_gate``, ``read_gate``: the one gate that each function reads, or
    None.  ``keep`` and ``write`` may read the same gate; the candidate's and the read-out's gates are their own.
    ``before``, ``after``: the gate that scales the candidate's message ahead of its kernel, or the kernel's product.
    ``message_is_memory``: the gates read s and not h = read(s) (the peephole LSTM).
    ``embeds_input``: the candidate is the embedded input x itself, u["input"], with E x² = R.
    ``projects``: the gates read r = P h.
    """

    name: ClassVar[str]
    reset: ClassVar[str | None] = None
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

    def keep(self, u: Drives) -> Any:
        """What multiplies the old memory: update(1, u) − update(0, u)."""
        full = self._at_zero(u)
        return self.update(1.0, full) - self.update(0.0, full)

    def write(self, u: Drives) -> Any:
        """What multiplies the candidate: update(0, u) at a fixed pre-activation of the candidate, over its n there."""
        return self.update(0.0, self._at_zero({**u, self._written: _UNIT})) / self._candidate_scale[1]

    def candidate(self, u: Drives) -> Any:
        """The new content: update(0, u) at a fixed pre-activation of the write gate, of slope 1 at 0."""
        return self.update(0.0, self._at_zero({self._written: u[self._written]})) / self._candidate_scale[0]

    @property
    def _written(self) -> str:
        """The pre-activation that the candidate reads."""
        return self.candidate_gate or "input"

    def _at_zero(self, u: Drives) -> dict[str, Any]:
        """``u``, and 0 for the gates that it leaves out."""
        return {**dict.fromkeys((*self.gates, "input"), 0.0), **u}

    @cached_property
    def _candidate_scale(self) -> tuple[float, float]:
        """Where ``update`` is all that is stated: write at 0, which makes the candidate's slope at 0 one, and n(1)."""
        slope = self.update(0.0, self._at_zero({self._written: Dual(0.0, 1.0)}))
        at_zero = float(slope.tangent) if isinstance(slope, Dual) else 0.0
        product = float(value(self.update(0.0, self._at_zero({self._written: _UNIT}))))
        return at_zero, product / at_zero if at_zero else 0.0

    def read(self, s: Any, u: Drives) -> Any:
        """The visible state h of memory s; the memory itself unless a cell says otherwise."""
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
        u = np.linspace(-30.0, 30.0, 61)
        return self.keep_gate is not None and bool(np.allclose(self.keep({self.keep_gate: u}), sigmoid(u), atol=1e-9))

    @cached_property
    def is_plain(self) -> bool:
        """Whether it is h' = n(u): one gate, nothing kept, nothing read out."""
        alone = self.candidate_gate is not None and self.gates == (self.candidate_gate,)
        return (
            alone
            and not self.has_readout
            and not self.projects
            and float(self.keep({})) == 0.0
            and float(self.write({})) == 1.0
        )

    @cached_property
    def has_kinks(self) -> bool:
        """Whether a slope jumps, as those of maximum and abs do, so that Gaussian averages need many nodes."""
        u = np.linspace(-_KINKS_WITHIN, _KINKS_WITHIN, 20001)
        functions: list[tuple[Callable[[Any], Any], str | None]] = [
            (self.keep, self.keep_gate),
            (self.write, self.write_gate),
            (self.candidate, self.candidate_gate),
        ]
        slopes = [function({gate: Dual(u, np.ones_like(u))}) for function, gate in functions if gate is not None]
        slopes += [scale.factor(Dual(u, np.ones_like(u))) for scale in (*self.before.values(), *self.after.values())]
        jumps = [np.max(np.abs(np.diff(tangent(slope))), initial=0.0) for slope in slopes]
        return max(jumps, default=0.0) > _JUMP

    @cached_property
    def bounded(self) -> bool:
        """Whether the message is at most 1 in absolute value whatever the drives: |n| ≤ 1 and |keep| + |write| ≤ 1,
        or a read-out that is so."""
        ends = np.linspace(-_WIDE, _WIDE, 2001)

        def largest(function: Callable[[Drives], Any], gate: str | None) -> Any:
            return np.abs(value(function({} if gate is None else {gate: ends})))

        if self.message_is_memory or not self.has_readout:
            if self.candidate_gate is None:
                return False
            keep, write = largest(self.keep, self.keep_gate), largest(self.write, self.write_gate)
            together = np.max(keep + write) if self.couples else np.max(keep) + np.max(write)
            return bool(together * 1.0 <= 1.0 + 1e-12 and np.max(largest(self.candidate, self.candidate_gate)) <= 1.0)
        read = self.read(ends[:, None], {} if self.read_gate is None else {self.read_gate: ends})
        return bool(np.max(np.abs(value(read))) <= 1.0)

    def update(self, s: Any, u: Drives) -> Any:
        """One step of the memory, elementwise: s' = keep(u)·s + write(u)·candidate(u)."""
        return self.keep(u) * s + self.write(u) * self.candidate(u)

    def drives(self, h: Any, recurrent: Callable[[str, Any], Any], external: Mapping[str, Any]) -> dict[str, Any]:
        """All pre-activations of one step.

        ``recurrent(gate, message)`` returns W_k m_k (a matrix product, a Gaussian process, …) and
        ``external[gate]`` is U_k x + b_k.
        """
        u: dict[str, Any] = {}
        if self.embeds_input:
            u["input"] = external["input"]
        for gate in self.gates:
            before, after = self.before.get(gate), self.after.get(gate)
            message = h if before is None else before.factor(u[before.gate]) * h
            signal = recurrent(gate, message)
            u[gate] = external[gate] + (signal if after is None else after.factor(u[after.gate]) * signal)
        return u

    def __repr__(self) -> str:
        return f"<cell {self.name}{f', reset {self.reset}' if self.reset else ''}>"
