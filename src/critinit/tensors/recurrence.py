"""One recurrent layer in canonical numbers, and the step that it makes.

The numbers are what stands in a model or in a file, whatever the framework: layout, sign, offset and second bias
vectors undone (``critinit.tensors.blocks``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.cells import EMBEDDED, Cell
from critinit.cells.normalizing import normalized
from critinit.spec.model import GAINS
from critinit.tensors.blocks import Block

__all__ = ["LayerWeights", "layer_weights", "times"]

Array = NDArray[np.float64]


def times(x: Any, kernel: NDArray[Any]) -> NDArray[Any]:
    """Return rows times a kernel, in one product and in the kernel's precision.

    Args:
        x: An array of shape (…, n).
        kernel: Of shape (n, m).
    """
    rows = np.asarray(x, dtype=kernel.dtype).reshape(-1, kernel.shape[0])
    return np.asarray((rows @ kernel).reshape(*x.shape[:-1], kernel.shape[1]))


@dataclass(frozen=True)
class LayerWeights:
    """One layer in one direction, by gate.  Products are made in the precision that the kernels have.

    Attributes:
        cell: The cell.
        recurrent: The recurrent kernels, (units, fan-in) each.
        input: The input kernels, (units, inputs) each.
        bias: The effective biases, (units,) each.
        projection: The kernel that makes the projected state, (coordinates, units); None without one.
        inner_bias: What a framework adds within r∘(·), (units,), by gate.
        recurrent_gain: Of a normalized cell, the gains of the recurrent products, (units,) each.
        input_gain: The same of the input products.
        memory_gain: The gain of the normalized memory, (units,); None where it is not normalized.
    """

    cell: Cell
    recurrent: Mapping[str, Array]
    input: Mapping[str, Array]
    bias: Mapping[str, Array]
    projection: Array | None = None
    inner_bias: Mapping[str, Array] = field(default_factory=dict)
    recurrent_gain: Mapping[str, Array] = field(default_factory=dict)
    input_gain: Mapping[str, Array] = field(default_factory=dict)
    memory_gain: Array | None = None

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.bias[self.cell.gates[0]])

    @property
    def inputs(self) -> int:
        """Number of input coordinates."""
        return int(self.input[self.cell.gates[0]].shape[1])

    @property
    def outputs(self) -> int:
        """Number of coordinates of what the layer gives, and its kernels read."""
        return self.units if self.projection is None else len(self.projection)

    @property
    def shares_state(self) -> bool:
        """Whether what the gates read is the memory itself, so that the state is one array."""
        return self.cell.message_is_memory or not self.cell.has_readout

    @cached_property
    def direct(self) -> tuple[str, ...]:
        """The gates whose kernels read the state as it is; one product serves them all."""
        return tuple(gate for gate in self.cell.gates if gate not in self.cell.before)

    @cached_property
    def is_plain(self) -> bool:
        """Whether all kernels read h itself, and nothing is normalized."""
        special = self.cell.before or self.cell.embeds_input or self.recurrent_gain or self.input_gain
        return not special and self.memory_gain is None

    @cached_property
    def stacked(self) -> Array:
        """The recurrent kernels of the direct gates, one above the other."""
        return np.concatenate([self.recurrent[gate] for gate in self.direct])

    @cached_property
    def stacked_across(self) -> Array:
        """``stacked``, transposed in memory: a product of rows with it is faster."""
        return np.ascontiguousarray(self.stacked.T)

    def split(self, product: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return a product with ``stacked``, (…, gates·units), by gate.

        Args:
            product: The product.
        """
        n = self.units
        return {gate: product[..., i * n : (i + 1) * n] for i, gate in enumerate(self.direct)}

    def rest(self, batch: int) -> tuple[Array, Array]:
        """Return the zero state: what the gates read, and the memory.

        Args:
            batch: The number of sequences.
        """
        return np.zeros((batch, self.outputs)), np.zeros((batch, self.units))

    def external(self, x: Array) -> dict[str, Any]:
        """Return U_k x + b_k by gate, of a normalized cell γ_x·norm(U_k x) + b_k.

        Args:
            x: Inputs, (…, inputs).
        """
        gates = self.cell.gates
        every = times(x, np.concatenate([self.input[gate] for gate in gates]).T)
        found: dict[str, Any] = {}
        for gate, product in zip(gates, np.split(every, len(gates), axis=-1), strict=True):
            gain = self.input_gain.get(gate)
            found[gate] = (product if gain is None else gain * normalized(product)[0]) + self.bias[gate]
        if self.cell.embeds_input:
            found[EMBEDDED] = x
        return found

    def products(self, h: Array) -> Callable[[str, Any], Any]:
        """Return the function of a gate and its message that ``Cell.pre_activations`` takes, for a state.

        Args:
            h: What the gates read, (…, coordinates).
        """
        shared = self.split(times(h, self.stacked.T))

        def product(gate: str, message: Any) -> Any:
            found: Any = shared[gate] if gate in shared else times(message, self.recurrent[gate].T)
            gain, inner = self.recurrent_gain.get(gate), self.inner_bias.get(gate)
            found = found if gain is None else gain * normalized(found)[0]
            return found if inner is None else found + inner

        return product

    def visible(self, s: Any, u: Mapping[str, Any]) -> Any:
        """Return what the units show of a memory, before a projection.

        Args:
            s: The memory, (…, units).
            u: The pre-activations that led to it.
        """
        if self.cell.message_is_memory:
            return s
        is_kept = self.memory_gain is None or self.cell.keeps_normalized
        return self.cell.read(s if is_kept else self.memory_gain * normalized(s)[0], u)

    def step(self, h: Array, s: Array, external: Mapping[str, Any]) -> tuple[Array, Array, dict[str, Any]]:
        """Return the next state and the pre-activations that led to it.

        Args:
            h: What the gates read, (…, coordinates).
            s: The memory, (…, units).
            external: What ``external`` returned for the step.
        """
        u = self.cell.pre_activations(h, self.products(h), external)
        s = np.asarray(self.cell.update(s, u))
        if self.cell.keeps_normalized and self.memory_gain is not None:
            s = np.asarray(self.memory_gain * normalized(s)[0])
        h = s if self.shares_state else np.asarray(self.visible(s, u))
        return (h if self.projection is None else times(h, self.projection.T)), s, u

    def run(self, x: Array) -> Array:
        """Return the outputs (time, batch, coordinates) for inputs (time, batch, inputs), from zero states.

        Args:
            x: The inputs.
        """
        h, s = self.rest(x.shape[1])
        external = self.external(x)
        seen = []
        for t in range(len(x)):
            h, s, _ = self.step(h, s, {name: part[t] for name, part in external.items()})
            seen.append(h)
        return np.stack(seen)


def layer_weights(cell: Cell, stored: Iterable[tuple[Block, Any]]) -> LayerWeights:
    """Return a layer from what stands in the blocks of its tensors.

    Args:
        cell: The cell.
        stored: Blocks, each with its region of a tensor as anything that NumPy reads.  Biases that are missing are 0.

    Raises:
        KeyError: A kernel is missing.
    """
    parts: dict[tuple[str, str], Array] = {}
    inner: dict[str, Array] = {}
    for block, region in stored:
        found = np.asarray(region)
        numbers = block.canonical(found if found.dtype == np.float64 else found.astype(np.float32))
        if block.part == "zero" and not block.gate:
            if block.inside:
                inner[block.inside] = inner.get(block.inside, 0.0) + numbers
            continue
        key = block.gate, "bias" if block.part == "zero" else block.part
        parts[key] = parts[key] + numbers if key in parts else numbers
    gates = cell.gates
    none = np.zeros(len(parts[gates[0], "recurrent"]))
    gains = {part: {g: parts[g, part] for g in gates if (g, part) in parts} for part in GAINS}
    return LayerWeights(
        cell,
        {gate: parts[gate, "recurrent"] for gate in gates},
        {gate: parts[gate, "input"] for gate in gates},
        {gate: parts.get((gate, "bias"), none) for gate in gates},
        parts.get(("", "projection")),
        inner,
        gains["recurrent_gain"],
        gains["input_gain"],
        parts.get(("", "memory_gain")),
    )
