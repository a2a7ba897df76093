"""What a cell is: one elementwise definition that every engine uses.

All gated cells are an affine recursion of a scalar memory s per unit,

    s' = keep(u)·s + write(u)·candidate(u),        h' = read(s', u),

driven by one pre-activation per gate,

    u_k = U_k x + b_k + after_k(u)·W_k m_k,        m_k = before_k(u)·h,

where ``before`` scales the message ahead of the recurrent kernel (GRU, reset before) and ``after`` scales the
product (GRU, reset after); both are 1 where a cell names no scale.  A cell states these five functions in
NumPy and nothing else: derivatives come from forward mode (``critinit.dual``), averages from the theory's
quadrature, trajectories from the simulator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

__all__ = ["Cell", "Drives", "Scale"]

Drives = Mapping[str, Any]
"""Gate name -> pre-activation: an array or a Dual.  A cell with ``embeds_input`` finds its input at "input"."""


class Scale(NamedTuple):
    """A factor by which one gate scales another's recurrent signal: ``factor(u[gate])``."""

    gate: str
    factor: Callable[[Any], Any]


class Cell(ABC):
    """A recurrent cell in semantic gates (``update`` keeps the old state; biases are effective).

    Subclasses set the class attributes and ``keep``, ``write``, ``candidate`` (and ``read`` where h is not s).

    ``gates``: names in canonical order; a gate named in a ``Scale`` comes before the gate it scales.
    ``keep_gate``, ``write_gate``, ``candidate_gate``, ``read_gate``: the one gate that each function reads, or
    None.  ``keep`` and ``write`` may read the same gate; the candidate's and the read-out's gates are their own.
    ``message_is_memory``: the gates read s and not h = read(s) (the peephole LSTM).
    ``embeds_input``: the candidate is the embedded input x itself, u["input"], with E x² = R.
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

    @abstractmethod
    def keep(self, u: Drives) -> Any:
        """What multiplies the old memory."""

    @abstractmethod
    def write(self, u: Drives) -> Any:
        """What multiplies the candidate."""

    @abstractmethod
    def candidate(self, u: Drives) -> Any:
        """The new content."""

    def read(self, s: Any, u: Drives) -> Any:
        """The visible state h of memory s; the memory itself unless a cell says otherwise."""
        return s

    @property
    def has_readout(self) -> bool:
        """Whether h differs from the memory s, so that the state is the pair (h, s)."""
        return type(self).read is not Cell.read

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
