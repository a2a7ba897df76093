"""A layer that runs over real sequences, and its derivatives at every step.

Sequences of different lengths end together: the longest begins first, so those that run at a step are the first ones.

One step takes the state (h, s), what the gates read and the memory, to the next.  Its derivative is elementwise but for
the kernels, so it is kept as the elementwise factors at every step.  ``Linear.forward`` multiplies perturbations by it
(a Jacobian–vector product), ``Linear.backward`` gradients by its transpose (a vector–Jacobian product).  A
perturbation *of the memory* moves h along with it, at fixed pre-activations, as in the theory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.cells.normalizing import normalized
from critinit.dual import Array, Dual, tangent, value
from critinit.tensors.recurrence import LayerWeights, times

__all__ = ["Course", "Linear", "run_course"]

_CHUNK = 2**18
"""Numbers of one kind whose derivatives are taken at once: 2 MB, and some ten times as much for all kinds."""
_KEPT = 2**21
"""Numbers of one kind whose derivatives are kept for the way back (about 160 MB); of more they are taken again."""


@dataclass(frozen=True)
class Course:
    """What a layer did.

    Attributes:
        weights: The layer.
        starts: The step before which each sequence begins, ascending; all end at the last step.
        h: What the gates read, (steps + 1, sequences, coordinates); 0 before a sequence begins.
        s: The memory, (steps + 1, sequences, units).
        u: The pre-activations by gate, (steps, sequences, units).
    """

    weights: LayerWeights
    starts: NDArray[np.int64]
    h: Array
    s: Array
    u: Mapping[str, Array]
    _kept: dict[int, Linear] = field(default_factory=dict, repr=False)

    @property
    def steps(self) -> int:
        """Steps of the longest sequence."""
        return len(self.s) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each sequence, descending."""
        return self.steps - self.starts

    @cached_property
    def running(self) -> tuple[int, ...]:
        """How many sequences make each step."""
        return tuple(np.searchsorted(self.starts, np.arange(self.steps), side="right").tolist())

    def made(self) -> NDArray[np.bool_]:
        """Return which sequences make which steps, (steps, sequences)."""
        return np.asarray(np.arange(self.steps)[:, None] >= self.starts)

    def at(self, t: int) -> tuple[Linear, int]:
        """Return the derivatives of a stretch of steps that has step t in it, and where in the stretch that is.

        Args:
            t: The step.
        """
        stretch = max(1, _CHUNK // (self.s.shape[1] * self.s.shape[2]))
        number = t // stretch
        if number not in self._kept:
            if (len(self._kept) + 1) * stretch * self.s.shape[1] * self.s.shape[2] > _KEPT:
                self._kept.clear()
            first = number * stretch
            self._kept[number] = self.linear(np.arange(first, min(first + stretch, self.steps)), slice(None))
        return self._kept[number], t - number * stretch

    def linear(self, steps: NDArray[np.int64], sequences: Any) -> Linear:
        """Return the derivatives at some steps of some sequences.

        Args:
            steps: The steps.
            sequences: Which sequences: a slice for the same ones at every step, or one for each step.
        """
        u = {gate: x[steps, sequences] for gate, x in self.u.items()}
        return Linear.of(self.weights, self.h[steps, sequences], self.s[steps, sequences], u)


def run_course(weights: LayerWeights, sequences: Sequence[NDArray[Any]]) -> Course:
    """Run a layer over sequences from the zero state.

    Args:
        weights: The layer.
        sequences: Inputs of shape (steps, inputs), longest first.
    """
    steps, count = len(sequences[0]), len(sequences)
    starts = np.array([steps - len(x) for x in sequences])
    x = np.zeros((steps, count, weights.inputs))
    for i, one in enumerate(sequences):
        x[starts[i] :, i] = one
    external = weights.external(x)
    rest = weights.rest(count)
    h, s = (np.zeros((steps + 1, *part.shape)) for part in rest)
    if weights.is_plain:
        return Course(weights, starts, h, s, _run_plainly(weights, starts, external, h, s))
    u = {gate: np.zeros((steps, count, weights.units)) for gate in external}
    first = np.searchsorted(starts, np.arange(steps), side="right").tolist()
    for t in range(steps):
        n = first[t]
        now = {gate: part[t, :n] for gate, part in external.items()}
        h[t + 1, :n], s[t + 1, :n], found = weights.step(h[t, :n], s[t, :n], now)
        for gate, part in found.items():
            u[gate][t, :n] = part
    return Course(weights, starts, h, s, u)


def _run_plainly(
    weights: LayerWeights, starts: NDArray[np.int64], external: Mapping[str, Array], h: Array, s: Array
) -> dict[str, Array]:
    """Run a layer whose kernels all read h, with one product a step; fill h and s, return the pre-activations."""
    u = np.stack([external[gate] for gate in weights.cell.gates]).astype(np.float64)
    gates, steps, _, units = u.shape
    by_gate = dict(zip(weights.cell.gates, u, strict=True))
    kernel, after = weights.stacked.T, weights.cell.after
    for t, n in enumerate(np.searchsorted(starts, np.arange(steps), side="right").tolist()):
        product = times(h[t, :n], kernel).reshape(n, gates, units).swapaxes(0, 1)
        now = {gate: x[t, :n] for gate, x in by_gate.items()}
        if after:
            for gate, signal in zip(now, product, strict=True):
                if gate in after:
                    other, factor = after[gate]
                    signal = factor(now[other]) * (signal + weights.inner_bias.get(gate, 0.0))
                now[gate] += signal
        else:
            u[:, t, :n] += product
        s[t + 1, :n] = weights.cell.update(s[t, :n], now)
        shown = s[t + 1, :n] if weights.shares_state else weights.visible(s[t + 1, :n], now)
        h[t + 1, :n] = shown if weights.projection is None else times(shown, weights.projection.T)
    if starts[-1] > 0:
        made = np.arange(steps)[:, None] >= starts
        u *= made[..., None]
    return by_gate


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


class _Joint(NamedTuple):
    """Elementwise derivatives in the kernels' precision, by the products W_k h of the kernels.

    Attributes:
        keep: Of s' by s, (…, 1, units).
        written: Of s', (…, 1, gates, units).
        opened: Of h' at a fixed memory: a gate's place among the products, and the derivative.
    """

    keep: Array
    written: Array
    opened: tuple[tuple[int, Array], ...]


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
                other, factor = cell.before[gate]
                scale = np.broadcast_to(factor(u[other]), h.shape)
                before[gate] = scale[..., None, :], (_slope(factor, u[other]) * h)[..., None, :]
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
                other, factor = cell.after[gate]
                whole = product + weights.inner_bias.get(gate, 0.0)
                scale = np.broadcast_to(factor(u[other]), whole.shape)
                after[gate] = scale[..., None, :], (_slope(factor, u[other]) * whole)[..., None, :]
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
            shows = _slope(lambda x: cell.read(x, u), new)[..., None, :]
            if cell.read_gate is not None:
                gate = cell.read_gate
                opens = _slope(lambda x: cell.read(new, {**u, gate: x}), u[gate])[..., None, :]
        shows = None if shows is None else shows.astype(weights.stacked.dtype, copy=False)
        return cls(weights, keep[..., None, :], writes, shows, opens, before, after, norms, kept_norm, shown_norm)

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

    def forward(self, dh: Array, ds: Array, at: Any) -> tuple[Array, Array]:
        """Return perturbations after the step.

        Args:
            dh: Of what the gates read, (sequences, vectors, coordinates).
            ds: Of the memory, (sequences, vectors, units).
            at: Which step and sequences.
        """
        if self.joint is not None:
            return self._forward_jointly(self.joint, dh, ds, at)
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

    def backward(self, gh: Array, gs: Array, at: Any) -> tuple[Array, Array]:
        """Return gradients before the step from those after it, the transpose of ``forward``.

        Args:
            gh: With respect to h', (sequences, vectors, coordinates).
            gs: With respect to s', what reaches it through h' (``gathered``) included, (sequences, vectors, units).
            at: Which step and sequences.
        """
        weights = self.weights
        shown = gh if weights.projection is None else times(gh, weights.projection)
        if self.kept_norm is not None:
            gs = self.kept_norm.backward(gs, at)
        if self.joint is not None:
            return self._backward_jointly(self.joint, shown, gs, at)
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

    @cached_property
    def joint(self) -> _Joint | None:
        """How s' and h' move with the products of all kernels; None where a product is more than elementwise work."""
        weights = self.weights
        if self.before or self.norms:
            return None
        written, opened = dict(self.writes), dict[str, Array]()
        if self.opens is not None and weights.cell.read_gate is not None:
            opened[weights.cell.read_gate] = self.opens
        for gate in reversed(weights.cell.gates):
            if gate in self.after:
                scale, turn = self.after[gate]
                for table in (written, opened):
                    if gate in table:
                        _add(table, weights.cell.after[gate].gate, turn * table[gate])
                        table[gate] = scale * table[gate]
        none, kind = np.zeros_like(self.keep), weights.stacked.dtype
        stacked = np.stack([written.get(gate, none) for gate in weights.direct], axis=-2, dtype=kind)
        places = ((weights.direct.index(gate), slope.astype(kind, copy=False)) for gate, slope in opened.items())
        return _Joint(self.keep.astype(kind, copy=False), stacked, tuple(places))

    def _forward_jointly(self, joint: _Joint, dh: Array, ds: Array, at: Any) -> tuple[Array, Array]:
        products = times(dh, self.weights.stacked.T).reshape(*ds.shape[:2], -1, ds.shape[2])
        new = np.add.reduce(joint.written[at] * products, axis=2)
        new += joint.keep[at] * ds
        if self.kept_norm is not None:
            new = self.kept_norm.forward(new, at)
        shown = self._shown(new, at)
        for place, slope in joint.opened:
            shown = shown + slope[at] * products[:, :, place]
        return self._projected(shown), new

    def _backward_jointly(self, joint: _Joint, shown: Array, gs: Array, at: Any) -> tuple[Array, Array]:
        products = joint.written[at] * gs[:, :, None]
        for place, slope in joint.opened:
            products[:, :, place] += slope[at] * shown
        return times(products.reshape(*gs.shape[:2], -1), self.weights.stacked), joint.keep[at] * gs

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


def _with_slope(
    function: Callable[[Mapping[str, Any]], Any], gate: str | None, u: Mapping[str, Array], shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """A function of a gate's pre-activation, or of none, and its derivative."""
    if gate is None:
        return np.broadcast_to(function(u), shape), np.zeros(())
    found = function({**u, gate: Dual(u[gate], np.ones_like(u[gate]))})
    return np.broadcast_to(value(found), shape), np.broadcast_to(tangent(found), shape)


def _slope(function: Callable[[Any], Any], x: Array) -> Array:
    """The derivative of an elementwise function."""
    return np.asarray(np.broadcast_to(tangent(function(Dual(x, np.ones_like(x)))), x.shape))


def _add(table: dict[str, Array], key: str, more: Array) -> None:
    table[key] = table[key] + more if key in table else more
