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
from itertools import repeat
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
    cell, gates = weights.cell, weights.cell.gates
    u = np.stack([external[gate] for gate in gates], axis=2).astype(np.float64)
    kernel, shares, units = weights.stacked.T, weights.shares_state, u.shape[3]
    scaled = [
        (gates.index(gate), gates.index(other), factor, weights.inner_bias.get(gate))
        for gate, (other, factor) in ((gate, cell.after[gate]) for gate in gates if gate in cell.after)
    ]
    for t, n in enumerate(np.searchsorted(starts, np.arange(len(u)), side="right").tolist()):
        own = u[t, :n]
        product = (h[t, :n].astype(kernel.dtype, copy=False) @ kernel).reshape(n, -1, units)
        for i, other, factor, inner in scaled:
            signal = product[:, i]
            if inner is not None:
                signal += inner
            signal *= factor(own[:, other] + product[:, other])
        own += product
        now = dict(zip(gates, own.swapaxes(0, 1), strict=True))
        memory = s[t + 1, :n] = cell.update(s[t, :n], now)
        shown = memory if shares else weights.visible(memory, now)
        h[t + 1, :n] = shown if weights.projection is None else times(shown, weights.projection.T)
    if starts[-1] > 0:
        made = np.arange(len(u))[:, None] >= starts
        u *= made[..., None, None]
    return {gate: u[:, :, i] for i, gate in enumerate(gates)}


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

    def forward(self, dh: Array, ds: Array, steps: slice, sequences: slice) -> tuple[Array, Array]:
        """Carry perturbations through steps; return that of h after the last one, and those of s after each.

        Args:
            dh: Of what the gates read, (sequences, vectors, coordinates).
            ds: Of the memory, (sequences, vectors, units).
            steps: Which of the steps.
            sequences: Which of the sequences.
        """
        if self.joint is not None:
            return self._forward_jointly(self.joint, dh, ds, (steps, sequences))
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
        if self.joint is not None:
            return self._backward_jointly(self.joint, gh, gs, (steps, sequences))
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

    @cached_property
    def joint(self) -> _Joint | None:
        """How s' and h' move with the products of all kernels; None where a step is more than elementwise work."""
        weights = self.weights
        if self.before or self.norms or self.kept_norm is not None or self.shown_norm is not None:
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

    # In the next two loops NumPy's calls, not its work, take the time, so they make as few as they can.

    def _forward_jointly(self, joint: _Joint, dh: Array, ds: Array, at: tuple[slice, slice]) -> tuple[Array, Array]:
        kernel = self.weights.stacked.T
        count, vectors, units = ds.shape
        rows, kind = count * vectors, kernel.dtype
        products = np.empty((rows, kernel.shape[1]), kind)
        by_gate = products.reshape(count, vectors, -1, units)
        memories = np.empty((at[0].stop - at[0].start, *ds.shape), kind)
        shows = repeat(None) if self.shows is None else self.shows[at]
        opened = [(by_gate[:, :, place], iter(slope[at])) for place, slope in joint.opened]
        dh = np.asarray(dh, dtype=kind)
        for new, written, keep, show in zip(memories, joint.written[at], joint.keep[at], shows, strict=False):
            np.matmul(dh.reshape(rows, -1), kernel, out=products)
            np.add.reduce(written * by_gate, axis=2, out=new)
            new += keep * ds
            ds = dh = new
            if show is not None:
                dh = show * new
                for product, slopes in opened:
                    dh += next(slopes) * product
            dh = self._projected(dh)
        return dh, memories

    def _backward_jointly(
        self, joint: _Joint, gh: Array, gs: Array, at: tuple[slice, slice]
    ) -> tuple[Array, Array, Array]:
        weights, kernel = self.weights, self.weights.stacked
        count, vectors, units = gs.shape
        rows, kind = count * vectors, kernel.dtype
        products = np.empty((rows, len(kernel)), kind)
        by_gate = products.reshape(count, vectors, -1, units)
        memories = np.empty((at[0].stop - at[0].start, *gs.shape), kind)
        shows = repeat(None) if self.shows is None else self.shows[at][::-1]
        opened = [(by_gate[:, :, place], iter(slope[at][::-1])) for place, slope in joint.opened]
        backwards = joint.written[at][::-1], joint.keep[at][::-1]
        gh = np.asarray(gh, dtype=kind)
        for whole, written, keep, show in zip(memories, *backwards, shows, strict=False):
            shown = gh if weights.projection is None else times(gh, weights.projection)
            np.add(gs, shown if show is None else show * shown, out=whole)
            np.multiply(written, whole[:, :, None], out=by_gate)
            for product, slopes in opened:
                product += next(slopes) * shown
            gh = (products @ kernel).reshape(count, vectors, -1)
            gs = keep * whole
        return gh, gs, memories

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
