"""A population of single units in the fields that they make for each other: causal dynamic mean field theory.

Each of P particles is one unit of an infinitely wide network.  Its biases stay its own, its inputs are Gaussian
(``sources``), and its recurrent signals come from ``Field``, fed by all particles' messages.  A further layer's inputs
are such a field too, fed by the states of a population of the layer below.  K tangents a particle ride along by
forward mode, in fields of their own: a perturbation is random, so it has no overlap with the state and its fields
are independent of the state's, with covariance σ² E δm(t) δm(s) over particles and tangents.  An identity kernel
returns a unit's own message and needs no field; neither does a rotation, which couples particles in pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.cells import EMBEDDED, Cell
from critinit.dual import Array, Dual, value
from critinit.spec import Gate, Layer
from critinit.theory.normalization import normalized_memory, normalized_message
from critinit.theory.protocol import Inputs
from critinit.theory.settling import steady_moment
from critinit.theory.tied.biases import draw_biases
from critinit.theory.tied.fields import Field
from critinit.theory.tied.jacobian import Couplings
from critinit.theory.tied.sources import Features, OwnInputs, SharedInputs

__all__ = ["Groups", "Population", "population_of", "rescale"]

_ROUNDING = 1e-12
"""Of what a unit keeps of its memory's square."""
_STATE = "state"
"""The name of the message that gates without a scale share."""


@dataclass
class _Fields:
    """The fields of one kind of message vector (states, or tangents), by the message that gates share."""

    fields: dict[str, Field]
    shared: dict[str, str]
    signals: dict[str, dict[str, Array]]

    @classmethod
    def of(cls, cell: Cell, layer: Layer, rows: int, rng: np.random.Generator, recent: int) -> _Fields:
        """One field for each message: gates with a scale ahead of the kernel have their own, the others share."""
        shared: dict[str, str] = {}
        gains: dict[str, dict[str, float]] = {}
        for name, gate in layer.gates.items():
            if gate.recurrent.variance > 0 and not (gate.recurrent.reads_itself or gate.recurrent.pairs_units):
                shared[name] = name if name in cell.before else _STATE
                gains.setdefault(shared[name], {})[name] = math.sqrt(gate.recurrent.variance)
        return cls({m: Field(rows, g, rng, recent=recent) for m, g in gains.items()}, shared, {})

    def signal(self, gate: str, message: Array) -> Array:
        """The signal of one gate; the first gate of a step that asks moves the field of its message on."""
        group = self.shared[gate]
        if group not in self.signals:
            self.signals[group] = self.fields[group].signals(message.reshape(-1))
        return self.signals[group][gate].reshape(message.shape)


@dataclass(frozen=True)
class Before:
    """What one step started from: the memory, the pre-activations that led to it, and what came from outside."""

    s: Array
    u: Mapping[str, Array]
    external: Mapping[str, Array]


class Population:
    """P particles with K tangents each; ``s`` and ``h`` are (P,) arrays, or duals with tangents (K, P).

    Args:
        cell: The cell.
        layer: The layer, reduced.
        particles: P.
        rng: Random generator.
        inputs: The course of the inputs in time; of the lowest layer's where there are layers below.
        below: The layers whose states reach this one, lowest first; none: it has inputs of its own.
        features: The sequence of few features that the lowest layer reads.  None: one of infinitely many.
        tangents: K, perturbations a particle.
        recent: Newest messages that fields keep one by one.
    """

    def __init__(
        self,
        cell: Cell,
        layer: Layer,
        particles: int,
        rng: np.random.Generator,
        *,
        inputs: Inputs,
        below: Sequence[Layer] = (),
        features: Features | None = None,
        tangents: int = 1,
        recent: int = 32,
    ) -> None:
        self.cell, self.layer, self.particles, self.rng = cell, layer, particles, rng
        self.tangents, self.recent = tangents, recent
        self.states = _Fields.of(cell, layer, particles, rng, recent)
        self.deltas = _Fields({}, self.states.shared, {})
        biases = draw_biases(layer.gates, particles, lambda bias: _strata(particles, rng))
        self.biases = {name: _once(b) if _is_idle(layer.gates[name]) else b for name, b in biases.items()}
        self._source: OwnInputs | SharedInputs | _StateBelow
        if below:
            self._source = _StateBelow(cell, layer, below, particles, rng, inputs, features, recent)
        elif features is not None:
            self._source = SharedInputs(cell, layer, particles, rng, inputs, features)
        else:
            self._source = OwnInputs(cell, layer, particles, rng, inputs)
        self._pairing = {
            name: gate.recurrent
            for name, gate in layer.gates.items()
            if gate.recurrent.pairs_units and gate.recurrent.variance > 0
        }
        self._own = {
            name: math.sqrt(gate.recurrent.variance)
            for name, gate in layer.gates.items()
            if name not in self.states.shared and name not in self._pairing
        }
        self.s: Any = np.zeros(particles)
        self.h: Any = self.s
        self.u: dict[str, Any] = {}
        self._read: tuple[Any, Any] | None = None

    def external(self, t: int) -> dict[str, Array]:
        """Return U_k x + b_k of each gate at step t after the perturbation."""
        u = dict(self.biases)
        for name, fed in self._source.fed(t).items():
            u[name] = u[name] + fed if name in u else fed
        return u

    def recurrent(self, gate: str, message: Any) -> Any:
        """Return W_k m_k of an array or a dual."""
        if gate in self._own:
            return self._own[gate] * message if self._own[gate] else 0.0
        if self.cell.normalized:
            message = self._normalized(message)
        if gate in self._pairing:
            turned = self._pairing[gate].turned
            if not isinstance(message, Dual):
                return turned(message)
            return Dual(turned(message.value), turned(message.tangent))
        signal = self.states.signal(gate, value(message))
        return Dual(signal, self.deltas.signal(gate, message.tangent)) if isinstance(message, Dual) else signal

    def _normalized(self, message: Any) -> Any:
        """The normalized message, kept for the gates that read the same one."""
        if self._read is None or self._read[0] is not message:
            self._read = message, normalized_message(message)
        return self._read[1]

    def step(self, t: int) -> None:
        """Do one step of all particles, tangents too once they are there."""
        self.states.signals.clear()
        self.deltas.signals.clear()
        external = self.external(t)
        self.before = Before(value(self.s), {name: value(x) for name, x in self.u.items()}, external)
        self.u = self.cell.pre_activations(self.h, self.recurrent, external)
        self.s = self._updated(self.s, self.u)
        self.h = self._visible(self.s, self.u)

    def _updated(self, s: Any, u: Mapping[str, Any]) -> Any:
        """The memory after a step, normalized where the cell keeps it so."""
        updated = self.cell.update(s, u)
        return normalized_memory(updated, self.layer.memory_gain) if self.cell.keeps_normalized else updated

    def _visible(self, s: Any, u: Mapping[str, Any]) -> Any:
        """h of a memory, normalized where it is read so."""
        return self.cell.read(s if self.cell.keeps_normalized else normalized_memory(s, self.layer.memory_gain), u)

    def kept(self) -> Array:
        """Return what units kept of their memory in the last step, (P,)."""
        own = np.broadcast_to(value(self.cell.keep(self.u)), self.before.s.shape)
        if not self.cell.keeps_normalized:
            return np.asarray(own)
        u = {name: value(x) for name, x in self.u.items()}
        after = Dual(self.cell.update(self.before.s, u), 1.0)
        return np.asarray(own * normalized_memory(after, self.layer.memory_gain).tangent)

    def by_bias(self) -> NDArray[np.int64]:
        """Return the particles in the order of their keep gates' biases."""
        bias = 0.0 if self.cell.keep_gate is None else self.biases.get(self.cell.keep_gate, 0.0)
        return np.argsort(np.broadcast_to(bias, self.particles), kind="stable")

    def fill(self, steps: int) -> None:
        """Give units the memory of what was before the first step.

        A state that is a function of the last step's fields alone starts with its steady second moment, that for inputs
        of infinitely many features.

        Args:
            steps: Steps that show what is missing, as ``critinit.theory.protocol.pilot_steps`` says.
        """
        moment = steady_moment(self.cell, self.layer)
        if moment is not None:
            self.s = math.sqrt(moment) * self.rng.standard_normal(self.particles)
            self.h = self._visible(self.s, self.u)
        if not steps:
            return
        keep_square, write_square = np.zeros(self.particles), np.zeros(self.particles)
        for _ in range(steps):
            self.step(-1)
            keep = self.kept()
            keep_square += keep**2 / steps
            write_square += (self.s - keep * self.before.s) ** 2 / steps
        left = np.where(keep_square < 1.0, keep_square**steps / np.maximum(1.0 - keep_square, _ROUNDING), 0.0)
        self.s = self.s + np.sqrt(write_square * left) * self.rng.standard_normal(self.particles)
        self.h = self._visible(self.s, self.u)

    def perturb(self, steps: int) -> None:
        """Give the memory K new tangents of random signs, for ``steps`` steps; h follows at fixed pre-activations."""
        recent = min(self.recent, steps // 2 + 1)
        self.deltas = _Fields.of(self.cell, self.layer, self.particles * self.tangents, self.rng, recent)
        signs = np.where(self.rng.random((self.tangents, self.particles)) < 0.5, -1.0, 1.0)
        self.s = Dual(value(self.s), signs)
        self.h = self._visible(self.s, {name: value(x) for name, x in self.u.items()})

    def couplings(self) -> Couplings:
        """Return the derivatives of the last step: of s' by s and by fields, of messages by s and by other fields."""
        names = [*self.states.shared, *self._pairing]
        unit = np.eye(1 + len(names))[:, :, None] * np.ones(self.particles)
        s = Dual(self.before.s, unit[0][None] if not names else unit[0] * np.eye(1 + len(names))[:, :1])
        messages: dict[str, Array] = {}

        def recurrent(gate: str, message: Any) -> Any:
            if gate in self._own:
                return self._own[gate] * message
            if self.cell.normalized:
                message = normalized_message(message)
            messages[gate] = message.tangent
            pairing = self._pairing.get(gate)
            signal = self.states.signal(gate, message.value) if pairing is None else pairing.turned(message.value)
            return Dual(signal, unit[1 + names.index(gate)])

        u = self.cell.pre_activations(self._visible(s, self.before.u), recurrent, self.before.external)
        return Couplings(names, self._updated(s, u).tangent, messages)

    def jacobian_moments(self, excess: float) -> Array:
        """Return the first two moments of the squared singular values of the last step's Jacobian.

        Args:
            excess: κ of a projection between kernels and state.
        """
        factor = self.couplings().factor({name: gate.recurrent for name, gate in self.layer.gates.items()})
        return np.array([factor.first_moment(), factor.second_moment(excess)])

    def shrink(self, root: float) -> None:
        """Divide the tangents of the memory by ``root``."""
        same = self.h is self.s
        self.s = Dual(self.s.value, self.s.tangent / root)
        self.h = self.s if same else Dual(self.h.value, self.h.tangent / root)


class Groups:
    """The populations of a layer's groups of units, which do not read each other, as one population.

    Args:
        populations: One population a group, with as many particles as its share of the units.
    """

    def __init__(self, populations: Sequence[Population]) -> None:
        self.populations = tuple(populations)
        self.particles = sum(p.particles for p in populations)

    def step(self, t: int) -> None:
        """Do one step of all particles."""
        for population in self.populations:
            population.step(t)

    @property
    def s(self) -> Any:
        """The memory of all particles."""
        return _joined([population.s for population in self.populations])

    @property
    def h(self) -> Any:
        """The visible state of all particles."""
        return _joined([population.h for population in self.populations])

    def kept(self) -> Array:
        """Return what units kept of their memory in the last step."""
        return np.concatenate([population.kept() for population in self.populations])

    def by_bias(self) -> NDArray[np.int64]:
        """Return the particles in the order of their keep gates' biases, group by group."""
        first = np.cumsum([0, *(population.particles for population in self.populations)])
        return np.concatenate(
            [n + population.by_bias() for n, population in zip(first, self.populations, strict=False)]
        )

    def fill(self, steps: int) -> None:
        """Give units the memory of what was before the first step; all read the same steps."""
        for population in self.populations:
            population.fill(steps)

    def perturb(self, steps: int) -> None:
        """Give the memory new tangents, for ``steps`` steps."""
        for population in self.populations:
            population.perturb(steps)

    def jacobian_moments(self, excess: float) -> Array:
        """Return the first two moments of the squared singular values of the last step's Jacobian."""
        weighted = [population.particles * population.jacobian_moments(excess) for population in self.populations]
        return np.asarray(sum(weighted) / self.particles)

    def shrink(self, root: float) -> None:
        """Divide the tangents of the memory by ``root``."""
        for population in self.populations:
            population.shrink(root)


def population_of(
    cell: Cell,
    layer: Layer,
    particles: int,
    rng: np.random.Generator,
    *,
    inputs: Inputs,
    below: Sequence[Layer] = (),
    features: Features | None = None,
    recent: int = 32,
) -> Population | Groups:
    """Return the particles of a layer, those of all its groups of units; the arguments are those of ``Population``."""
    counts = layer.split(particles)
    populations = [
        Population(cell, one.reduced(), count, rng, inputs=inputs, below=below, features=features, recent=recent)
        for one, count in zip(layer.alone(), counts, strict=True)
    ]
    return populations[0] if len(populations) == 1 else Groups(populations)


def rescale(population: Population | Groups) -> float:
    """Bring the tangents of the memory back to mean square 1; return ln of what it was (−∞: all dead)."""
    square = float(np.mean(population.s.tangent**2))
    if square == 0.0:
        return -math.inf
    population.shrink(math.sqrt(square))
    return math.log(square)


def _joined(parts: Sequence[Any]) -> Any:
    """Arrays or duals side by side."""
    if not isinstance(parts[0], Dual):
        return np.concatenate(parts)
    return Dual(
        np.concatenate([part.value for part in parts]), np.concatenate([part.tangent for part in parts], axis=-1)
    )


class _StateBelow:
    """The states of a population of the layer below, x, as inputs: fields U_k x of the fixed matrices U_k.

    Through identity kernels a particle reads the state of one unit below; a cell that embeds its input does so by a
    matrix of variance 1, which keeps the power.
    """

    def __init__(
        self,
        cell: Cell,
        layer: Layer,
        below: Sequence[Layer],
        particles: int,
        rng: np.random.Generator,
        inputs: Inputs,
        features: Features | None,
        recent: int,
    ) -> None:
        *lower, read = below
        self._population = population_of(
            cell, read, particles, rng, inputs=inputs, below=lower, features=features, recent=recent
        )
        self._gain = 1.0 if read.projection is None else math.sqrt(read.projection.gain)
        gains = {name: math.sqrt(gate.input.variance) for name, gate in layer.gates.items() if gate.input.variance > 0}
        self._itself = {name: gains.pop(name) for name in [*gains] if layer.gates[name].input.reads_itself}
        if cell.embeds_input:
            gains[EMBEDDED] = 1.0
        self._field = Field(particles, gains, rng, recent=recent)
        self._normalized = cell.normalized

    def fed(self, t: int) -> dict[str, Array]:
        """U_k x of each gate at step t after the perturbation; the layers below go on by a step."""
        self._population.step(t)
        x = self._gain * value(self._population.h)
        if self._normalized:
            x = normalized_message(x)
        return {**{name: gain * x for name, gain in self._itself.items()}, **self._field.signals(x)}


def _is_idle(gate: Gate) -> bool:
    """Whether a gate reads nothing, so that its pre-activation is its bias."""
    return not (gate.recurrent.variance or gate.input.variance)


def _once(x: Array) -> Array:
    """One number where all are alike, (1,): then what is computed of it at every step costs next to nothing."""
    return x[:1] if np.all(x == x[0]) else x


def _strata(count: int, rng: np.random.Generator) -> Array:
    """Uniform numbers, one in each of ``count`` equal strata, in random order."""
    return np.asarray((rng.permutation(count) + rng.random(count)) / count)
