"""The derivatives of a layer's steps, and how perturbations and gradients go through them.

The derivative of a step is elementwise but for the kernels, so it is kept as the elementwise factors at every step.
``Linear.forward`` multiplies perturbations by it (a Jacobian–vector product), ``Linear.backward`` gradients by its
transpose (a vector–Jacobian product).  A perturbation *of the memory* moves h along with it, at fixed pre-activations,
as in the theory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from critinit.cells import Scale
from critinit.cells.normalizing import normalized
from critinit.dual import Array, Dual, derivative, tangent, value
from critinit.tensors.recurrence import LayerWeights, times

__all__ = ["Linear"]


@dataclass(frozen=True)
class _Norm:
    """The derivative of gain·norm(y): a symmetric matrix for each layer, times the gain."""

    gain: Array
    rate: Array
    y: Array

    def inner(self, x: Array, at: Any) -> Array:
        """norm's derivative times vectors."""
        y = self.y[at]
        x = x - x.mean(axis=-1, keepdims=True)
        return np.asarray(self.rate[at] * (x - y * np.mean(x * y, axis=-1, keepdims=True)))

    def forward(self, x: Array, at: Any) -> Array:
        return self.gain * self.inner(x, at)

    def backward(self, x: Array, at: Any) -> Array:
        return self.inner(self.gain * x, at)


@dataclass(frozen=True)
class Linear:
    """The derivatives of steps, elementwise: arrays of shape (places, 1, units) or (steps, sequences, 1, units).

    Attributes:
        weights: The layer.
        keep: ∂s'/∂s at fixed pre-activations.
        writes: ∂s'/∂u_k by gate.
        shows: ∂h'/∂s' at fixed pre-activations, before a projection; None where h' is s'.
        opens: ∂h'/∂u of the read gate; None without one.
        before: By gate, before_k(u) and its derivative times h.
        after: By gate, after_k(u) and its derivative times W_k m_k.
        norms: By gate, the derivative of the product's normalization.
        kept_norm: That of a memory which is kept normalized.
        shown_norm: That of a memory which is read normalized.
    """

    weights: LayerWeights
    keep: Array
    writes: Mapping[str, Array]
    shows: Array | None
    opens: Array | None
    before: Mapping[str, tuple[Array, Array]]
    after: Mapping[str, tuple[Array, Array]]
    norms: Mapping[str, _Norm]
    kept_norm: _Norm | None
    shown_norm: _Norm | None

    @classmethod
    def of(cls, weights: LayerWeights, h: Array, s: Array, u: Mapping[str, Array]) -> Linear:
        """Return the derivatives of steps from states and pre-activations.

        Args:
            weights: The layer.
            h: What the gates read before each step, (…, coordinates).
            s: The memory before each step, (…, units).
            u: The pre-activations of each step by gate, (…, units).
        """
        cell = weights.cell
        before, after, norms = {}, {}, {}
        for gate in cell.gates:
            message = h
            if gate in cell.before:
                scale, slope = _scaled(cell.before[gate], u, h.shape)
                before[gate] = scale[..., None, :], (slope * h)[..., None, :]
                message = scale * h
            gain = weights.recurrent_gain.get(gate)
            if gain is None and gate not in cell.after:
                continue
            product = times(message, weights.recurrent[gate].T)
            if gain is not None:
                y, rate = normalized(product)
                norms[gate] = _Norm(gain, rate[..., None, :], y[..., None, :])
                product = gain * y
            if gate in cell.after:
                whole = product + weights.inner_bias.get(gate, 0.0)
                scale, slope = _scaled(cell.after[gate], u, whole.shape)
                after[gate] = scale[..., None, :], (slope * whole)[..., None, :]
        keep, keeps = _with_slope(cell.keep, cell.keep_gate, u, s.shape)
        write, opening = _with_slope(cell.write, cell.write_gate, u, s.shape)
        candidate, moves = _with_slope(cell.candidate, cell.candidate_gate, u, s.shape)
        writes: dict[str, Array] = {}
        for moved, slope, partner in (
            (cell.keep_gate, keeps, s),
            (cell.write_gate, opening, candidate),
            (cell.candidate_gate, moves, write),
        ):
            if moved is not None:
                _add(writes, moved, (slope * partner)[..., None, :])
        new = keep * s + write * candidate
        kept_norm = shown_norm = None
        if cell.keeps_normalized and weights.memory_gain is not None:
            y, rate = normalized(new)
            kept_norm = _Norm(weights.memory_gain, rate[..., None, :], y[..., None, :])
            new = weights.memory_gain * y
        shows = opens = None
        if not weights.shares_state:
            if weights.memory_gain is not None and not cell.keeps_normalized:
                y, rate = normalized(new)
                shown_norm = _Norm(weights.memory_gain, rate[..., None, :], y[..., None, :])
                new = weights.memory_gain * y
            shows = derivative(lambda x: cell.read(x, u), new)[..., None, :]
            if cell.read_gate is not None:
                gate = cell.read_gate
                opens = derivative(lambda x: cell.read(new, {**u, gate: x}), u[gate])[..., None, :]
        return cls(weights, keep[..., None, :], writes, shows, opens, before, after, norms, kept_norm, shown_norm)

    @property
    def steps(self) -> int:
        """How many steps."""
        return len(self.keep)

    @property
    def kinds(self) -> int:
        """Numbers that are kept for a unit and a step, about."""
        return 3 + 3 * len(self.weights.cell.gates)

    def visible(self, ds: Array, at: Any) -> Array:
        """Return how h' moves with a perturbation of s', at fixed pre-activations, (sequences, vectors, coordinates).

        Args:
            ds: The perturbations, (sequences, vectors, units).
            at: Which step and sequences.
        """
        return self._projected(self._shown(ds, at))

    def gathered(self, gh: Array, at: Any) -> Array:
        """Return the gradient that reaches s' through h', the transpose of ``visible``.

        Args:
            gh: Gradients with respect to h'.
            at: Which step and sequences.
        """
        return self._collected(gh if self.weights.projection is None else times(gh, self.weights.projection), at)

    def forward(self, dh: Array, ds: Array, steps: slice, sequences: slice) -> tuple[Array, Array]:
        """Carry perturbations through steps; return that of h after the last one, and those of s after each.

        Args:
            dh: Of what the gates read, (sequences, vectors, coordinates).
            ds: Of the memory, (sequences, vectors, units).
            steps: Which of the steps.
            sequences: Which of the sequences.
        """
        memories = []
        for at in range(steps.start, steps.stop):
            dh, ds = self._forward(dh, ds, (at, sequences))
            memories.append(ds)
        return dh, np.stack(memories)

    def _forward(self, dh: Array, ds: Array, at: Any) -> tuple[Array, Array]:
        """Perturbations after one step."""
        weights, du = self.weights, dict[str, Array]()
        direct = weights.split(times(dh, weights.stacked.T))
        for gate in weights.cell.gates:
            signal = direct.get(gate)
            if signal is None:
                scale, turn = self.before[gate]
                message = scale[at] * dh + turn[at] * du[weights.cell.before[gate].gate]
                signal = times(message, weights.recurrent[gate].T)
            if gate in self.norms:
                signal = self.norms[gate].forward(signal, at)
            if gate in self.after:
                scale, turn = self.after[gate]
                signal = scale[at] * signal + turn[at] * du[weights.cell.after[gate].gate]
            du[gate] = signal
        new = self.keep[at] * ds
        for gate, slope in self.writes.items():
            new += slope[at] * du[gate]
        if self.kept_norm is not None:
            new = self.kept_norm.forward(new, at)
        if self.shows is None:
            return self._projected(new), new
        shown = self._shown(new, at)
        if self.opens is not None and weights.cell.read_gate is not None:
            shown = shown + self.opens[at] * du[weights.cell.read_gate]
        return self._projected(shown), new

    def backward(self, gh: Array, gs: Array, steps: slice, sequences: slice) -> tuple[Array, Array, Array]:
        """Carry gradients back through steps, the transpose of ``forward``.

        Args:
            gh: With respect to h' after the last of the steps, (sequences, vectors, coordinates).
            gs: With respect to s' at fixed h', (sequences, vectors, units).
            steps: Which of the steps.
            sequences: Which of the sequences.

        Returns:
            Those with respect to h and s before the first of the steps, and with respect to s' after each of them, the
            last one first, what reaches it through h' included.
        """
        memories = []
        for step in reversed(range(steps.start, steps.stop)):
            at = step, sequences
            memories.append(gs + self.gathered(gh, at))
            gh, gs = self._backward(gh, memories[-1], at)
        return gh, gs, np.stack(memories)

    def _backward(self, gh: Array, gs: Array, at: Any) -> tuple[Array, Array]:
        """Gradients before one step, from those after it."""
        weights = self.weights
        shown = gh if weights.projection is None else times(gh, weights.projection)
        if self.kept_norm is not None:
            gs = self.kept_norm.backward(gs, at)
        gu = {gate: slope[at] * gs for gate, slope in self.writes.items()}
        if self.opens is not None and weights.cell.read_gate is not None:
            _add(gu, weights.cell.read_gate, self.opens[at] * shown)
        back: Array | None = None
        direct: dict[str, Array] = {}
        for gate in reversed(weights.cell.gates):
            g = gu.get(gate)
            if g is None:  # it only scales another gate, which nothing depends on
                g = np.zeros_like(gs)
            if gate in self.after:
                scale, turn = self.after[gate]
                _add(gu, weights.cell.after[gate].gate, turn[at] * g)
                g = scale[at] * g
            if gate in self.norms:
                g = self.norms[gate].backward(g, at)
            if gate in self.before:
                scale, turn = self.before[gate]
                message = times(g, weights.recurrent[gate])
                _add(gu, weights.cell.before[gate].gate, turn[at] * message)
                back = scale[at] * message if back is None else back + scale[at] * message
            else:
                direct[gate] = g
        through = times(np.concatenate([direct[gate] for gate in weights.direct], axis=-1), weights.stacked)
        return through if back is None else through + back, self.keep[at] * gs

    def _shown(self, ds: Array, at: Any) -> Array:
        if self.shows is None:
            return ds
        return np.asarray(self.shows[at] * (ds if self.shown_norm is None else self.shown_norm.forward(ds, at)))

    def _collected(self, shown: Array, at: Any) -> Array:
        if self.shows is None:
            return shown
        found = self.shows[at] * shown
        return found if self.shown_norm is None else self.shown_norm.backward(found, at)

    def _projected(self, shown: Array) -> Array:
        return shown if self.weights.projection is None else times(shown, self.weights.projection.T)


def _scaled(by: Scale, u: Mapping[str, Array], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """What a gate scales another by, and its derivative."""
    return _with_slope(lambda u: by.factor(u[by.gate]), by.gate, u, shape)


def _with_slope(
    function: Callable[[Mapping[str, Any]], Any], gate: str | None, u: Mapping[str, Array], shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """A function of a gate's pre-activation, or of none, and its derivative."""
    if gate is None:
        return np.broadcast_to(function(u), shape), np.zeros(())
    found = function({**u, gate: Dual(u[gate], 1.0)})
    return np.broadcast_to(value(found), shape), np.broadcast_to(tangent(found), shape)


def _add(table: dict[str, Array], key: str, more: Array) -> None:
    table[key] = table[key] + more if key in table else more
