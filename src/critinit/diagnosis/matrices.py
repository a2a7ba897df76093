"""The derivatives of the steps of small layers, a matrix for each step and sequence.

To make the matrices costs about as much as to carry vectors through them, but a step is then one small product.  From
some hundred units on they take more memory and time than they save.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from critinit.diagnosis.joint import Joint, spread
from critinit.dual import Array
from critinit.tensors.recurrence import LayerWeights

__all__ = ["Matrices"]

_UNITS = 96
"""The largest layer that is taken."""
_APART = 16
"""Numbers between two matrices.  Rows that are a power of two apart in memory are kept in one place of the processor's
cache, where they push each other out: without these the matrices take three times as long."""


@dataclass(frozen=True)
class Matrices:
    """The derivatives of ``Joint``, where no state is projected.

    Attributes:
        weights: The layer.
        through: ∂s'_i/∂h_j, (steps, sequences, units i, units j).  Where the state is one array, h with s.
        keep: As in ``Joint``, as all that follow; None where ``through`` has it.
        shows: ∂h'/∂s'.
        opened: By gate, W_k, its transpose in memory, and ∂h'/∂(W_k h).
    """

    weights: LayerWeights
    through: Array
    keep: Array | None
    shows: Array | None
    opened: tuple[tuple[Array, Array, Array], ...]

    @classmethod
    def of(cls, joint: Joint) -> Matrices | None:
        """Return the same derivatives; None where the layer is large or has a projection.

        Args:
            joint: The derivatives.
        """
        weights, units, is_one = joint.weights, joint.weights.units, joint.weights.shares_state
        if units > _UNITS or weights.projection is not None:
            return None
        places, gates = joint.keep.shape[:2], joint.written.shape[3]
        kernels = np.stack([weights.recurrent[gate] for gate in weights.direct[:gates]], axis=1)
        through = np.empty((*places, units * units + _APART), joint.keep.dtype)[..., : units * units]
        through = through.reshape(*places, units, units)  # views, as both are of a part of each place
        by_unit = np.ascontiguousarray(joint.written.reshape(-1, gates, units).transpose(2, 0, 1))
        np.matmul(by_unit, kernels, out=through.reshape(-1, units, units).transpose(1, 0, 2))
        if is_one:
            np.einsum("...ii->...i", through)[:] += joint.keep[..., 0, :]
        opened = ((weights.recurrent[weights.direct[place]], slope) for place, slope in joint.opened)
        both = tuple((kernel, np.ascontiguousarray(kernel.T), slope) for kernel, slope in opened)
        return cls(weights, through, None if is_one else joint.keep, joint.shows, both)

    @property
    def steps(self) -> int:
        """How many steps."""
        return len(self.through)

    @property
    def kinds(self) -> int:
        """Numbers that are kept for a unit and a step."""
        return int(self.through.shape[-1]) + 2 + len(self.opened)

    def visible(self, ds: Array, at: Any) -> Array:
        """Return how h' moves with a perturbation of s'; see ``Linear.visible``."""
        return ds if self.shows is None else self.shows[at] * ds

    def gathered(self, gh: Array, at: Any) -> Array:
        """Return the gradient that reaches s' through h', the transpose of ``visible``."""
        return self.visible(gh, at)

    def forward(self, dh: Array, ds: Array, steps: slice, sequences: slice) -> tuple[Array, Array]:
        """Carry perturbations through steps; see ``Linear.forward``."""
        at, kind, (_, vectors, units) = (steps, sequences), self.through.dtype, ds.shape
        memories, dh = np.empty((steps.stop - steps.start, *ds.shape), kind), dh.astype(kind)
        matrices = self.through[at].swapaxes(2, 3)
        if self.keep is None or self.shows is None:
            for new, matrix in zip(memories, matrices, strict=True):
                dh = np.matmul(dh, matrix, out=new)
            return dh, memories
        keeps, shows = (spread(part[at], vectors) for part in (self.keep, self.shows))
        opened = [(across, iter(spread(slope[at], vectors))) for _, across, slope in self.opened]
        part, shape = np.empty(ds.shape, kind), (-1, units)
        flat = part.reshape(shape)
        for new, matrix, keep, show in zip(memories, matrices, keeps, shows, strict=True):
            np.matmul(dh, matrix, out=new)
            np.multiply(keep, ds, part)
            np.add(new, part, new)
            ds, dh, before = new, show * new, dh
            for kernel, slopes in opened:
                np.dot(before.reshape(shape), kernel, out=flat)
                np.multiply(next(slopes), part, part)
                np.add(dh, part, dh)
        return dh, memories

    def backward(self, gh: Array, gs: Array, steps: slice, sequences: slice) -> tuple[Array, Array, Array]:
        """Carry gradients back through steps; see ``Linear.backward``."""
        at, kind, (_, vectors, units) = (steps, sequences), self.through.dtype, gs.shape
        matrices = self.through[at][::-1]
        if self.keep is None or self.shows is None:
            wholes = np.empty((len(matrices) + 1, *gs.shape), kind)
            np.add(gs, gh, out=wholes[0])
            for whole, before, matrix in zip(wholes, wholes[1:], matrices, strict=False):
                np.matmul(whole, matrix, out=before)
            return wholes[-1], np.zeros(gs.shape, kind), wholes[:-1]
        keeps, shows = (spread(part[at], vectors)[::-1] for part in (self.keep, self.shows))
        opened = [(kernel, iter(spread(slope[at], vectors)[::-1])) for kernel, _, slope in self.opened]
        part, other, gh = np.empty(gs.shape, kind), np.empty(gs.shape, kind), gh.astype(kind)
        flat, rows = part.reshape(-1, units), other.reshape(-1, units)
        memories = np.empty((len(matrices), *gs.shape), kind)
        for whole, matrix, keep, show in zip(memories, matrices, keeps, shows, strict=True):
            np.add(gs, np.multiply(show, gh, part), out=whole)
            through = whole @ matrix
            for kernel, slopes in opened:
                np.multiply(next(slopes), gh, part)
                np.dot(flat, kernel, out=rows)
                np.add(through, other, out=through)
            gh, gs = through, keep * whole
        return gh, gs, memories
