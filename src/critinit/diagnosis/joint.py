"""The derivatives of steps in which all kernels read h and all else is elementwise, by one product a step.

They are those of ``Linear``, which serves every cell, in the kernels' precision and a fraction of its memory.  In the
loops NumPy's calls, not its work, take the time, so they make as few as they can.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from critinit.diagnosis.linear import Linear
from critinit.dual import Array
from critinit.tensors.recurrence import LayerWeights, times

__all__ = ["Joint", "spread"]


@dataclass(frozen=True)
class Joint:
    """The derivatives of steps by the products W_k h of the kernels: arrays of shape (steps, sequences, 1, …).

    Attributes:
        weights: The layer.
        keep: ∂s'/∂s at fixed pre-activations, (…, units).
        written: ∂s'/∂(W_k h) of the first gates, (…, gates, units); of all later ones it is 0.
        shows: ∂h'/∂s' at fixed pre-activations, before a projection, (…, units); None where h' is s'.
        opened: ∂h'/∂(W_k h) at a fixed memory, (…, units), by the gate's place.
    """

    weights: LayerWeights
    keep: Array
    written: Array
    shows: Array | None
    opened: tuple[tuple[int, Array], ...]

    @classmethod
    def of(cls, linear: Linear) -> Joint | None:
        """Return the same derivatives; None where a step is more than elementwise work and one product.

        Args:
            linear: The derivatives.
        """
        weights, gates = linear.weights, linear.weights.cell.gates
        if linear.before or linear.norms or linear.kept_norm is not None or linear.shown_norm is not None:
            return None
        written, opened = dict(linear.writes), dict[str, Array]()
        if linear.opens is not None and weights.cell.read_gate is not None:
            opened[weights.cell.read_gate] = linear.opens
        for gate in reversed(gates):
            if gate in linear.after:
                scale, turn = linear.after[gate]
                other = weights.cell.after[gate].gate
                for table in (written, opened):
                    if gate in table:
                        table[other] = table[other] + turn * table[gate] if other in table else turn * table[gate]
                        table[gate] = scale * table[gate]
        kind = weights.stacked.dtype
        writing = 1 + max(map(gates.index, written), default=-1)
        stacked = np.zeros((*linear.keep.shape[:-1], writing, linear.keep.shape[-1]), kind)
        for gate, slope in written.items():
            stacked[..., gates.index(gate), :] = slope
        places = ((gates.index(gate), slope.astype(kind)) for gate, slope in opened.items())
        shows = None if linear.shows is None else linear.shows.astype(kind)
        return cls(weights, linear.keep.astype(kind), stacked, shows, tuple(places))

    @property
    def steps(self) -> int:
        """How many steps."""
        return len(self.keep)

    @property
    def kinds(self) -> int:
        """Numbers that are kept for a unit and a step."""
        return 2 + int(self.written.shape[-2]) + len(self.opened)

    def visible(self, ds: Array, at: Any) -> Array:
        """Return how h' moves with a perturbation of s'; see ``Linear.visible``."""
        shown = ds if self.shows is None else self.shows[at] * ds
        weights = self.weights
        return shown if weights.projection is None else times(shown, weights.projection.T)

    def gathered(self, gh: Array, at: Any) -> Array:
        """Return the gradient that reaches s' through h'; see ``Linear.gathered``."""
        shown = gh if self.weights.projection is None else times(gh, self.weights.projection)
        return shown if self.shows is None else self.shows[at] * shown

    def forward(self, dh: Array, ds: Array, steps: slice, sequences: slice) -> tuple[Array, Array]:
        """Carry perturbations through steps; see ``Linear.forward``."""
        weights, kernel, at = self.weights, self.weights.stacked_across, (steps, sequences)
        count, vectors, units = ds.shape
        rows, kind = count * vectors, kernel.dtype
        products = np.empty((rows, kernel.shape[1]), kind)
        by_gate = products.reshape(count, vectors, -1, units)
        writing = by_gate[:, :, : self.written.shape[-2]]
        memories = np.empty((steps.stop - steps.start, *ds.shape), kind)
        shows = repeat(None) if self.shows is None else self.shows[at]
        opened = [(by_gate[:, :, place], iter(slope[at])) for place, slope in self.opened]
        dh = np.asarray(dh, dtype=kind)
        for new, written, keep, show in zip(memories, self.written[at], self.keep[at], shows, strict=False):
            np.matmul(dh.reshape(rows, -1), kernel, out=products)
            np.add.reduce(written * writing, axis=2, out=new)
            new += keep * ds
            ds = dh = new
            if show is not None:
                dh = show * new
                for product, slopes in opened:
                    dh += next(slopes) * product
            if weights.projection is not None:
                dh = times(dh, weights.projection.T)
        return dh, memories

    def backward(self, gh: Array, gs: Array, steps: slice, sequences: slice) -> tuple[Array, Array, Array]:
        """Carry gradients back through steps; see ``Linear.backward``."""
        weights, kernel, at = self.weights, self.weights.stacked, (steps, sequences)
        count, vectors, units = gs.shape
        rows, kind = count * vectors, kernel.dtype
        products = np.zeros((rows, len(kernel)), kind)
        by_gate = products.reshape(count, vectors, -1, units)
        writing = by_gate[:, :, : self.written.shape[-2]]
        others = [
            (self.written.shape[-2] <= place, by_gate[:, :, place], iter(slope[at][::-1]))
            for place, slope in self.opened
        ]
        memories = np.empty((steps.stop - steps.start, *gs.shape), kind)
        shows = repeat(None) if self.shows is None else self.shows[at][::-1]
        gh = np.asarray(gh, dtype=kind)
        for whole, written, keep, show in zip(
            memories, self.written[at][::-1], self.keep[at][::-1], shows, strict=False
        ):
            shown = gh if weights.projection is None else times(gh, weights.projection)
            np.add(gs, shown if show is None else show * shown, out=whole)
            np.multiply(written, whole[:, :, None], out=writing)
            for is_alone, product, slopes in others:
                if is_alone:
                    np.multiply(next(slopes), shown, out=product)
                else:
                    product += next(slopes) * shown
            gh = (products @ kernel).reshape(count, vectors, -1)
            gs = keep * whole
        return gh, gs, memories


def spread(slopes: Array, vectors: int) -> Array:
    """Return slopes of shape (steps, sequences, 1, …) once for each vector.

    NumPy multiplies arrays of one shape in half the time.
    """
    return np.repeat(slopes, vectors, axis=2)
