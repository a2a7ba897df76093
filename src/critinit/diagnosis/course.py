"""A layer that runs over real sequences, and its derivatives at every step.

Sequences of different lengths end together: the longest begins first, so those that run at a step are the first ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.diagnosis.joint import Joint
from critinit.diagnosis.linear import Linear
from critinit.diagnosis.matrices import Matrices
from critinit.dual import Array
from critinit.tensors.recurrence import LayerWeights, times

__all__ = ["Course", "Run", "run_course"]

_CHUNK = 2**14
"""Units · sequences · steps whose derivatives are taken at once: arrays of 128 kB, which stay near the processor."""
_KEPT = 2**25
"""Numbers of derivatives that are kept for the way back (128 MB as a rule); of more they are taken again."""

_NEAR = 1e-5
"""How far outputs may be from what the layer's step makes of those before, relative to the largest: single precision
leaves 1e-6, and another step or a lower precision more than this."""


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
    _kept: dict[int, Matrices | Joint | Linear] = field(default_factory=dict, repr=False)

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

    def at(self, t: int) -> tuple[Matrices | Joint | Linear, int]:
        """Return the derivatives of a stretch of steps that has step t in it, and where in the stretch that is.

        Args:
            t: The step.
        """
        stretch = max(1, _CHUNK // (self.s.shape[1] * self.s.shape[2]))
        number = t // stretch
        if number not in self._kept:
            first = number * stretch
            found = self.linear(slice(first, min(first + stretch, self.steps)), slice(None))
            if (len(self._kept) + 1) * found.kinds * stretch * self.s.shape[1] * self.s.shape[2] > _KEPT:
                self._kept.clear()
            self._kept[number] = found
        return self._kept[number], t - number * stretch

    def linear(self, steps: slice, sequences: slice) -> Matrices | Joint | Linear:
        """Return the derivatives at some steps of some sequences.

        Args:
            steps: The steps.
            sequences: The sequences.
        """
        u = {gate: x[steps, sequences] for gate, x in self.u.items()}
        found = Linear.of(self.weights, self.h[steps, sequences], self.s[steps, sequences], u)
        joint = Joint.of(found)
        return found if joint is None else Matrices.of(joint) or joint


Run = Callable[[LayerWeights, Mapping[str, Any], NDArray[np.bool_]], tuple[NDArray[Any], NDArray[Any]] | None]
"""Returns the states h and s after each step, (steps, sequences, …), in the kernels' precision; None where it cannot.
It is called with a layer, ``LayerWeights.external`` of its inputs, and which steps each sequence makes, (steps,
sequences): before these its state is 0."""


def run_course(
    weights: LayerWeights,
    sequences: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]] | None = None,
    run: Run | None = None,
) -> Course:
    """Run a layer over sequences from the zero state.

    Args:
        weights: The layer.
        sequences: Inputs of shape (steps, inputs), longest first.
        outputs: What the layer gave for each of them, (steps, coordinates), where a model ran it.  They are taken for
            the states h if each follows from the one before by the layer's step, which spares running it step by step.
        run: What runs layers in less time than NumPy, if anything does.
    """
    steps, count = len(sequences[0]), len(sequences)
    starts = np.array([steps - len(x) for x in sequences])
    x = np.zeros((steps, count, weights.inputs))
    for i, one in enumerate(sequences):
        x[starts[i] :, i] = one
    external = weights.external(x)
    followed = None if outputs is None else _followed(weights, starts, external, outputs)
    if followed is not None:
        return Course(weights, starts, *followed)
    made = np.arange(steps)[:, None] >= starts
    states = None if run is None else run(weights, external, made)
    if states is not None:
        h, s = (np.concatenate([np.zeros((1, *part.shape[1:])), part]) for part in states)
        s = h if weights.shares_state and weights.projection is None else s
        return Course(weights, starts, h, s, _signals(weights, h, external, made))
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


def _followed(
    weights: LayerWeights, starts: NDArray[np.int64], external: Mapping[str, Any], outputs: Sequence[NDArray[Any]]
) -> tuple[Array, Array, dict[str, Array]] | None:
    """The states h and s and the pre-activations of outputs; None where they are not those of the layer's steps."""
    cell, shares = weights.cell, weights.shares_state
    steps = len(next(iter(external.values())))
    if (shares and weights.projection is not None) or (cell.keeps_normalized and weights.memory_gain is not None):
        return None
    if [one.shape for one in outputs] != [(steps - start, weights.outputs) for start in starts]:
        return None
    rest = weights.rest(len(starts))
    h, s = (np.zeros((steps + 1, *part.shape)) for part in rest)
    for i, (start, one) in enumerate(zip(starts, outputs, strict=True)):
        h[start + 1 :, i] = one
    made = np.arange(steps)[:, None] >= starts
    u = _signals(weights, h, external, made)
    if shares:
        s, shown = h, cell.update(h[:-1], u)
    else:
        keep, new = (np.broadcast_to(part, s[1:].shape) for part in (cell.keep(u), cell.write(u) * cell.candidate(u)))
        for before, after, kept, more in zip(s, s[1:], keep, new * made[..., None], strict=False):
            np.multiply(kept, before, after)
            after += more
        shown = weights.visible(s[1:], u)
    shown = shown if weights.projection is None else times(shown, weights.projection.T)
    away = np.abs(shown - h[1:])[made]
    return (h, s, u) if np.all(away <= _NEAR * np.abs(h).max()) else None  # not where one is no number


def _signals(weights: LayerWeights, h: Array, external: Mapping[str, Any], made: NDArray[np.bool_]) -> dict[str, Array]:
    """The pre-activations of all steps from the states before them, in double precision."""
    u = weights.cell.pre_activations(h[:-1], weights.products(h[:-1]), external)
    u = {gate: part.astype(np.float64, copy=False) for gate, part in u.items()}
    return u if made.all() else {gate: np.where(made[..., None], part, 0.0) for gate, part in u.items()}


def _run_plainly(
    weights: LayerWeights, starts: NDArray[np.int64], external: Mapping[str, Array], h: Array, s: Array
) -> dict[str, Array]:
    """Run a layer whose kernels all read h, with one product a step; fill h and s, return the pre-activations."""
    cell, gates, shares = weights.cell, weights.cell.gates, weights.shares_state
    u = np.stack([external[gate] for gate in gates], dtype=np.float64)  # gates first: NumPy is fast on whole arrays
    kernels = np.stack([weights.recurrent[gate].T for gate in gates])
    scaled = [
        (gates.index(gate), gates.index(other), factor, weights.inner_bias.get(gate))
        for gate, (other, factor) in ((gate, cell.after[gate]) for gate in gates if gate in cell.after)
    ]
    for t, n in enumerate(np.searchsorted(starts, np.arange(u.shape[1]), side="right").tolist()):
        own = u[:, t, :n]
        product = (h[t, :n].astype(kernels.dtype, copy=False) @ kernels).astype(np.float64, copy=False)
        for i, other, factor, inner in scaled:
            signal = product[i]
            if inner is not None:
                signal += inner
            signal *= factor(own[other] + product[other])
        own += product
        now = dict(zip(gates, own, strict=True))
        memory = s[t + 1, :n] = cell.update(s[t, :n], now)
        shown = memory if shares else weights.visible(memory, now)
        h[t + 1, :n] = shown if weights.projection is None else times(shown, weights.projection.T)
    if starts[-1] > 0:
        made = np.arange(u.shape[1])[:, None] >= starts
        u *= made[..., None]
    return dict(zip(gates, u, strict=True))
