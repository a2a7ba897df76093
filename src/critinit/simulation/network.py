"""A network of one layer: its weights, its inputs, its step, all through the one definition of the cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np

from critinit.cells import EMBEDDED, Cell
from critinit.cells.normalizing import normalized
from critinit.distributions import CoupledBias, NormalKernel
from critinit.dual import Array, Dual, value
from critinit.simulation.kernels import Apply, Rows, blocks, fixed, fresh, side_by_side
from critinit.simulation.sources import OwnInputs, Source, StatesBelow
from critinit.spec import Gates, Layer
from critinit.theory.protocol import STEADY, Inputs

__all__ = ["Network", "Regime", "SideBySide", "State", "draw_network", "joined"]

Regime = Literal["tied", "untied"]
"""Whether the weights are drawn once or at every step."""

_CHUNK = 64
"""Steps whose inputs go through the input kernels in one product."""


@dataclass(frozen=True)
class State:
    """Memory s and visible state h, each (…, copies, N) or a Dual of it with tangents (K, …, copies, N).

    The dots are nothing, or an axis of networks side by side.
    """

    s: Any
    h: Any

    def of(self, network: int) -> State:
        """Return the state of one of several networks side by side."""
        return State(_of(self.s, network), _of(self.h, network))


def _of(x: Any, network: int) -> Any:
    """The part of one network, of an array (networks, copies, N) or a dual of it."""
    return Dual(x.value[network], x.tangent[:, network]) if isinstance(x, Dual) else x[network]


def _rows(x: Any) -> Rows:
    """What a kernel multiplies, (…, rows, N): every copy, and of a dual its tangents after them."""
    if not isinstance(x, Dual):
        return Rows(x)
    *networks, _, width = x.value.shape
    tangents = x.tangent.swapaxes(0, -3).reshape(*networks, -1, width)
    return Rows(np.concatenate([x.value, tangents], axis=-2))


def _like(x: Any, rows: Array) -> Any:
    """The reverse of ``_rows``, for rows of another length."""
    if not isinstance(x, Dual):
        return rows
    *networks, copies, _ = x.value.shape
    tangents = rows[..., copies:, :].reshape(*networks, -1, copies, rows.shape[-1])
    return Dual(rows[..., :copies, :], tangents.swapaxes(0, -3))


@dataclass(frozen=True)
class Network:
    """One drawn layer, fed by inputs of its own, or by the states of the layer below.

    Attributes:
        cell: The cell.
        layer: The layer.
        width: Number of units.
        copies: 1, or 2 that share the weights and see inputs of correlation ``layer.input.correlation``.
        weights: Whether the weights are drawn once ("tied") or at every step ("untied").
        inputs: The course of the inputs in time.
        recurrent: The recurrent kernel of each gate, as an operator on rows.
        projection: The projection kernel, in a cell that projects.
        feed: The input kernel of each gate, and that by which a cell embeds what it reads.
        biases: The bias of each gate, (width,).
        source: What it reads.
        rng: Random generator.
    """

    cell: Cell
    layer: Layer
    width: int
    copies: int
    weights: Regime
    inputs: Inputs
    recurrent: Mapping[str, Apply]
    projection: Apply | None
    feed: Mapping[str, Apply]
    biases: Mapping[str, Array]
    source: Source
    rng: np.random.Generator

    def rest(self) -> State:
        """Return the zero state."""
        zero = np.zeros((self.copies, self.width))
        return State(zero, np.zeros((self.copies, _coordinates(self.layer, self.width))))

    def visible(self, s: Any, u: Mapping[str, Any]) -> Any:
        """Return what the kernels read of a memory s, h or its projection, given the pre-activations that led to it."""
        gain = None if self.cell.keeps_normalized else self.layer.memory_gain
        h = self.cell.read(s if gain is None else gain * normalized(s)[0], u)
        return h if self.projection is None else _like(h, self.projection(_rows(h)))

    def product(self, gate: str, message: Any, rows: Rows) -> Any:
        """Return W_k m_k of a gate for the rows of a message, of a normalized cell γ_h·norm(W_k m_k)."""
        product = _like(message, self.recurrent[gate](rows))
        gain = self.layer.groups[0].gates[gate].recurrent_gain  # a normalized cell has one group
        return product if gain is None else gain * normalized(product)[0]

    def step(self, state: State, external: Mapping[str, Any]) -> tuple[State, dict[str, Any]]:
        """Return the next state, and the pre-activations that led there."""
        read: list[tuple[Any, Rows]] = []  # gates mostly read the same message

        def recurrent(gate: str, message: Any) -> Any:
            if not read or read[-1][0] is not message:
                read.append((message, _rows(message)))
            return self.product(gate, *read[-1])

        u = self.cell.pre_activations(state.h, recurrent, external)
        s = self.cell.update(state.s, u)
        if self.cell.keeps_normalized:
            s = (self.layer.memory_gain or 0.0) * normalized(s)[0]
        return State(s, self.visible(s, u)), u

    def kept(self, s: Any, u: Mapping[str, Any]) -> Array:
        """Return what units of the first copy keep of a memory s in a step, (…, N)."""
        plain = {name: value(x) for name, x in u.items()}
        keep = np.broadcast_to(self.cell.keep(plain), value(s).shape)
        if not self.cell.keeps_normalized:
            return np.asarray(keep[..., 0, :])
        before = self.cell.update(value(s), plain)
        return np.asarray((keep * (self.layer.memory_gain or 0.0) / before.std(axis=-1, keepdims=True))[..., 0, :])

    def frozen(self) -> Network:
        """Return this network; of an untied one a network with full matrices, equal in distribution for one step."""
        if self.weights == "tied":
            return self
        recurrent, projection = _draw_recurrent(self.layer, self.width, self.rng, fixed)
        return replace(self, recurrent=recurrent, projection=projection, weights="tied")

    def external_inputs(self, start: int, stop: int) -> Iterator[dict[str, Array]]:
        """Yield U_k x + b_k (of a normalized cell γ_x·norm(U_k x) + b_k) by gate, (copies, N), step by step.

        Args:
            start: The first step; negative: before the perturbation.
            stop: The step after the last.
        """
        for stretch in self.stretches(start, stop):
            yield from _by_step(stretch)

    def stretches(self, start: int, stop: int) -> Iterator[dict[str, Array]]:
        """Yield what ``external_inputs`` yields, many steps at once: (steps, copies, N)."""
        # a burn-in ends when it likes: inputs that are correlated in time are not drawn ahead of it
        chunk = _CHUNK if self.source.is_white or start >= 0 else 1
        for first in range(start, stop, chunk):
            steps = range(first, min(first + chunk, stop))
            x = self.source.draw(steps)
            if self.weights == "tied":
                rows = Rows(x.reshape(-1, x.shape[-1]))
                fed = {n: apply(rows).reshape(*x.shape[:-1], -1) for n, apply in self.feed.items()}
            else:
                each = [Rows(one) for one in x]
                fed = {n: np.stack([apply(one) for one in each]) for n, apply in self.feed.items()}
            for name, gate in self.layer.groups[0].gates.items():
                if name in fed and gate.input_gain is not None:
                    fed[name] = gate.input_gain * normalized(fed[name])[0]
            biases = self._biases_of(len(steps))
            external = {n: fed[n] + biases[n] if n in biases else fed[n] for n in fed}
            if self.cell.embeds_input:
                external.setdefault(EMBEDDED, x)
            yield external

    def _biases_of(self, steps: int) -> Mapping[str, Array]:
        """The biases at so many steps, (N,) or (steps, 1, N)."""
        redrawn = {name for group in self.layer.groups for name in _redrawn_of(group.gates)}
        if self.weights == "tied" or not redrawn:
            return self.biases
        drawn = [self._redrawn() for _ in range(steps)]
        return {**self.biases, **{n: np.stack([one[n] for one in drawn])[:, None] for n in redrawn}}

    def _redrawn(self) -> Mapping[str, Array]:
        """Biases of an untied network: normal ones are drawn with the weights, spread ones stay with their unit."""
        fresh, units = _biases(self.layer, self.width, self.rng), _slices(self.layer.split(self.width))
        biases = {name: bias.copy() for name, bias in self.biases.items()}
        for group, own in zip(self.layer.groups, units, strict=True):
            for name in _redrawn_of(group.gates):
                biases[name][own] = fresh[name][own]
        return biases


def _by_step(stretch: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The inputs of each step of a stretch."""
    for i in range(len(next(iter(stretch.values())))):
        yield {name: x[i] for name, x in stretch.items()}


@dataclass(frozen=True)
class SideBySide:
    """Networks of one layer that take their steps together; every array has an axis of networks ahead of the copies.

    Each network draws from its own generator what it would draw alone.  A step of a few narrow networks takes hardly
    longer than that of one.

    Attributes:
        networks: The networks.
        together: A network whose kernels are those of all.
    """

    networks: tuple[Network, ...]
    together: Network

    @classmethod
    def of(cls, networks: Sequence[Network]) -> SideBySide:
        """Return these networks side by side."""
        first = networks[0]
        recurrent = {name: side_by_side([net.recurrent[name] for net in networks]) for name in first.recurrent}
        projections = [net.projection for net in networks if net.projection is not None]
        projection = side_by_side(projections) if projections else None
        return cls(tuple(networks), replace(first, recurrent=recurrent, projection=projection))

    def rest(self) -> State:
        """Return the zero state."""
        return joined([net.rest() for net in self.networks])

    def step(self, state: State, external: Mapping[str, Any]) -> tuple[State, dict[str, Any]]:
        """Return the next state, and the pre-activations that led there."""
        return self.together.step(state, external)

    def external_inputs(self, start: int, stop: int) -> Iterator[dict[str, Array]]:
        """Yield U_k x + b_k by gate, (networks, copies, N), step by step."""
        for stretch in zip(*(net.stretches(start, stop) for net in self.networks), strict=True):
            yield from _by_step({name: np.stack([one[name] for one in stretch], axis=1) for name in stretch[0]})


def joined(states: Sequence[State]) -> State:
    """Return the states of networks as one of these networks side by side."""
    return State(np.stack([state.s for state in states]), np.stack([state.h for state in states]))


def _redrawn_of(gates: Gates) -> list[str]:
    """The gates whose biases are drawn anew with the weights."""
    return [name for name in gates if gates.followed(name)[1].redrawn_variance > 0.0]


def _slices(counts: Sequence[int]) -> list[slice]:
    """Stretches of so many units, one after the other."""
    ends = [0, *accumulate(counts)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _biases(layer: Layer, width: int, rng: np.random.Generator) -> dict[str, Array]:
    """Biases as the portable sampler draws them, (width,) each."""
    drawn = [_own_biases(group.gates, n, rng) for group, n in zip(layer.groups, layer.split(width), strict=True)]
    return {name: np.concatenate([biases[name] for biases in drawn]) for name in drawn[0]}


def _own_biases(gates: Gates, units: int, rng: np.random.Generator) -> dict[str, Array]:
    own = {n: gate.bias.sample(rng, units) for n, gate in gates.items() if not isinstance(gate.bias, CoupledBias)}
    return {n: g.bias.sign * own[g.bias.to] if isinstance(g.bias, CoupledBias) else own[n] for n, g in gates.items()}


def draw_network(
    cell: Cell,
    layer: Layer,
    width: int,
    rng: np.random.Generator,
    *,
    weights: Regime = "tied",
    inputs: Inputs = STEADY,
    below: Sequence[Layer] = (),
    features: int | None = None,
    copies: int = 1,
) -> Network:
    """Return a drawn network; it takes O(gates·width²) numbers when tied, O(gates·width) when untied.

    Args:
        cell: The cell.
        layer: The layer.
        width: Number of units.
        rng: Random generator.
        weights: "tied" or "untied".
        inputs: The course of the inputs in time; of the lowest layer's where there are layers below.
        below: The layers whose states reach this one, lowest first; none: it has inputs of its own.
        features: Numbers in one input of the lowest layer.  None: as many as units.
        copies: 1, or 2 with inputs of the layer's correlation.
    """
    make = fixed if weights == "tied" else fresh
    biases = _biases(layer, width, rng)
    recurrent, projection = _draw_recurrent(layer, width, rng, make)
    coordinates = _coordinates(below[-1], width) if below else features or width
    units = layer.split(width)
    feed = {
        name: blocks(
            [make(group.gates[name].input, n, coordinates, rng) for group, n in zip(layer.groups, units, strict=True)]
        )
        for name in cell.gates
    }
    source: Source
    if below:
        lower = draw_network(
            cell,
            below[-1],
            width,
            rng,
            weights=weights,
            inputs=inputs,
            below=below[:-1],
            features=features,
            copies=copies,
        )
        source = StatesBelow(lower)
    else:
        source = OwnInputs(layer.input, (copies, coordinates), inputs, rng)
    if cell.embeds_input and (below or features is not None):
        feed[EMBEDDED] = make(NormalKernel(variance=1.0), width, coordinates, rng)
    return Network(cell, layer, width, copies, weights, inputs, recurrent, projection, feed, biases, source, rng)


def _coordinates(layer: Layer, width: int) -> int:
    """How many coordinates the kernels read."""
    return width if layer.projection is None else layer.projection.coordinates(width)


def _draw_recurrent(
    layer: Layer, width: int, rng: np.random.Generator, make: Callable[..., Apply]
) -> tuple[dict[str, Apply], Apply | None]:
    units, projection = layer.split(width), layer.projection
    read = units if projection is None else layer.split(projection.coordinates(width))
    sizes = list(zip(layer.groups, units, read, strict=True))
    recurrent = {
        name: blocks([make(group.gates[name].recurrent, n, m, rng) for group, n, m in sizes], _slices(read))
        for name in layer.groups[0].gates
    }
    if projection is None:
        return recurrent, None
    return recurrent, blocks([make(projection.kernel, m, n, rng) for _, n, m in sizes], _slices(units))
