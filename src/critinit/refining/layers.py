"""A recurrent layer as it stands in a model, and its step with tangents, in any library of arrays.

A layer's state is the visible state h, and beside it the memory s of a cell that reads h from it.  Over a step

    (h, s) → (h', s'),        J = ∂(h', s')/∂(h, s),

and a tangent v of the state becomes J v.  The step is the cell's own (``critinit.cells``), with duals whose numbers
belong to the library that differentiates.

Lyapunov exponents by the QR method (Benettin et al. 1980; Geist, Parlitz & Lauterborn 1990): with an orthonormal Q_0 of
k columns, Q_t R_t = J_t Q_{t−1}, and

    λ_i = mean over t of ln |(R_t)_ii|,

the mean growth a step of the i-th direction.  Steps before ``transient`` are left out, in which Q turns to the
directions that grow most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.cells import Cell, find_cell
from critinit.dual import Dual
from critinit.errors import Problem
from critinit.foreign import Foreign, Library, raw
from critinit.tensors.blocks import Block

__all__ = [
    "Held",
    "HeldLayer",
    "Weights",
    "exponents",
    "growth",
    "last_states",
    "orthonormal",
    "state_size",
    "weights_of",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One tensor of a layer.

    Attributes:
        name: Its name in the model.
        values: Its numbers.
        blocks: Where the gates' parts lie in it.
        frozen: Why an optimizer leaves it alone, or nothing.
    """

    name: str
    values: Array
    blocks: tuple[Block, ...]
    frozen: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class HeldLayer:
    """One layer of a recurrent network in one direction.

    Attributes:
        network: The network's path in the model.
        layer: The layer's number in it, from 0.
        direction: 0 for forward, 1 for backward.
        cell: critinit's name of its cell.
        hidden_size: Its number of units.
        tensors: Its tensors.
        window: The window of a convolutional layer's kernels.
        refusal: Why the network is not as critinit knows it, or None.
    """

    network: str
    layer: int
    direction: int
    cell: str
    hidden_size: int
    tensors: tuple[Held, ...]
    window: tuple[int, ...] = ()
    refusal: Problem | None = None

    def __str__(self) -> str:
        name = repr(self.network) if self.network else "the model itself"
        return f"{name}, layer {self.layer}" + ", backward" * self.direction

    @property
    def problem(self) -> Problem | None:
        """Why its step is not known, or None."""
        if self.refusal is not None:
            return self.refusal
        cell = find_cell(self.cell)
        if self.window:
            return Problem("", "a convolutional layer", "a layer whose kernels are matrices")
        if cell.normalized or cell.embeds_input:
            return Problem("", f"a layer of {self.cell}", "a cell without layer normalization and embedding")
        return None


@dataclass(frozen=True, slots=True)
class Weights:
    """A layer's effective weights, NumPy's arrays or foreign ones, by gate.

    Attributes:
        recurrent: W_k, (H, F).
        input: U_k, (H, I).
        bias: b_k, (H,); gates without one are left out.
        inside: What is added to W_k m_k before the gate that scales the product, (H,).
        projection: P, (F, H), or None.
    """

    recurrent: Mapping[str, Any]
    input: Mapping[str, Any]
    bias: Mapping[str, Any]
    inside: Mapping[str, Any]
    projection: Any = None


def weights_of(blocks: Mapping[str, Sequence[Block]], arrays: Mapping[str, Any]) -> Weights:
    """Return the effective weights that stand in a layer's tensors.

    Args:
        blocks: The blocks of each tensor, by its name.
        arrays: The tensors, of NumPy or foreign.
    """
    parts: dict[str, dict[str, Any]] = {part: {} for part in ("recurrent", "input", "bias", "inside", "projection")}
    for name, own in blocks.items():
        for block in own:
            part, gate = str(block.part), block.gate
            if part == "zero":
                part, gate = ("bias", block.gate) if block.gate else ("inside", block.inside)
                if not gate:
                    continue
            value = block.canonical(arrays[name][block.index])
            parts[part][gate] = parts[part][gate] + value if gate in parts[part] else value
    projection = parts["projection"].get("")
    return Weights(parts["recurrent"], parts["input"], parts["bias"], parts["inside"], projection)


def orthonormal(rows: int, columns: int, batch: int, seed: int) -> Array:
    """Return random orthonormal columns, (batch, rows, columns), to start the QR method from."""
    drawn = np.random.default_rng(seed).standard_normal((batch, rows, columns))
    return np.asarray(np.linalg.qr(drawn)[0])


def state_size(cell: Cell, weights: Weights) -> int:
    """Return how many numbers a layer's state has."""
    units = next(iter(weights.recurrent.values())).shape
    return int(units[1]) + (int(units[0]) if cell.has_readout or cell.projects else 0)


def exponents(
    cell: Cell, weights: Weights, x: Any, columns: Any, transient: int, library: Library, *, cut: bool = False
) -> Any:
    """Return the first k Lyapunov exponents of each sequence, (batch, k), in units of 1/step.

    Args:
        cell: The cell.
        weights: The layer's weights, foreign.
        x: What it reads, raw, (steps, batch, I).
        columns: The orthonormal columns to start from, raw, (batch, state, k).
        transient: Steps that do not count, at the start.
        library: The library.
        cut: Whether the state and the columns after these steps count as constants in derivatives.
    """

    def turned(tangents: Any) -> tuple[Any, Any]:
        return library.orthonormalize(library.moved(tangents, 0, -1))  # (k, batch, state) -> (batch, state, k)

    if cut and transient:
        _, carry = _scan(cell, weights, x[:transient], columns, turned, library)
        h, s, columns = map(library.constant, carry)
        logs, _ = _scan(cell, weights, x[transient:], columns, turned, library, (h, s))
        return library.mean(logs, (0,))
    logs, _ = _scan(cell, weights, x, columns, turned, library)
    return library.mean(logs[transient:], (0,))


def growth(cell: Cell, weights: Weights, x: Any, last: int, library: Library) -> Any:
    """Return the mean over sequences of the sum over the last steps of ‖J_t 1‖₂.

    J_t is a step's Jacobian and 1 a vector of ones; the state before step t depends on the weights too.

    Args:
        cell: The cell.
        weights: The layer's weights, foreign.
        x: What it reads from zero states, raw, (steps, batch, I).
        last: How many steps count.
        library: The library.
    """
    size = state_size(cell, weights)
    ones = library.filled(library.array(np.zeros((int(x.shape[1]), size, 1))), 1.0)

    def measured(tangents: Any) -> tuple[Any, Any]:
        squares = library.mean(tangents[0] * tangents[0], (1,)) * size
        return ones, library.call("sqrt", squares)

    norms, _ = _scan(cell, weights, x, ones, measured, library)
    return library.mean(norms[int(x.shape[0]) - last :]) * last


def last_states(cell: Cell, weights: Weights, x: Any, h: Any, s: Any, library: Library) -> Any:
    """Return the visible states after all steps, raw, (batch, F).

    Args:
        cell: The cell.
        weights: The layer's weights, foreign.
        x: What it reads, raw, (steps, batch, I).
        h: The visible states before the first step, raw, (batch, F).
        s: The memories, raw, (batch, H).
        library: The library.
    """
    _, carry = _scan(cell, weights, x, None, None, library, (h, s))
    return carry[0]


def _scan(
    cell: Cell, weights: Weights, x: Any, columns: Any, finish: Any, library: Library, start: Any = None
) -> tuple[Any, Any]:
    """Run the layer; return the steps' outputs, and the last states and columns.

    ``finish`` makes of the new tangents (k, batch, state) the next columns and the step's output.
    """
    separate = cell.has_readout or cell.projects
    units, coordinates = (int(n) for n in next(iter(weights.recurrent.values())).shape)
    external = {
        gate: raw(Foreign(x, library) @ kernel.T + weights.bias.get(gate, 0.0))
        for gate, kernel in weights.input.items()
    }
    if start is None:
        batch = int(x.shape[1])
        start = library.array(np.zeros((batch, coordinates))), library.array(np.zeros((batch, units)))

    def linear(message: Any, kernel: Any) -> Any:
        if isinstance(message, Dual):
            return Dual(message.value @ kernel.T, message.tangent @ kernel.T)
        return message @ kernel.T

    def recurrent(gate: str, message: Any) -> Any:
        product = linear(message, weights.recurrent[gate])
        return product + weights.inside[gate] if gate in weights.inside else product

    def step(carry: Any, fed: Any) -> tuple[Any, Any]:
        h: Any = Foreign(carry[0], library)
        s: Any = Foreign(carry[1], library)
        if columns is not None:
            tangents = library.moved(carry[2], -1, 0)  # (k, batch, state)
            of_h = Foreign(tangents[..., :coordinates], library)
            h, s = (
                Dual(h, of_h),
                Dual(s, Foreign(tangents[..., coordinates:], library) if separate else of_h),
            )
        u = cell.pre_activations(h, recurrent, {gate: Foreign(one, library) for gate, one in fed.items()})
        s = cell.update(s if separate else h, u)
        h = cell.read(s, u)
        h = linear(h, weights.projection) if weights.projection is not None else h
        if columns is None:
            return (raw(h), raw(s)), library.mean(raw(h))
        after = raw(h.tangent) if not separate else library.joined([raw(h.tangent), raw(s.tangent)])
        turned, output = finish(after)
        return (raw(h.value), raw(s.value), turned), output

    carry = (*start, columns) if columns is not None else tuple(start)
    carry, outputs = library.scan(step, carry, external)
    return outputs, carry
