"""The portable sampler: the weights of a spec, drawn by NumPy in float64, the same for every framework.

Canonical form, per layer, direction and gate, in the notation u = U x + W m + b of ``critinit.spec``:

    recurrent W  (H, F)   F = H, or the projection's width P where the state is projected
    input     U  (H, I)   I = the input's width; (F · directions) of the layer below for further layers
    bias      b  (H,)     effective: the sum of all that a framework adds
    projection   (P, H)   h' = projection·(o∘tanh c'), where there is one

Kernels of a convolution are (H, window·channels), or (H, channels) where the centre tap alone is drawn
(``critinit.tensors.convolutions``).

A normalized cell has ``recurrent_gain`` and ``input_gain`` (H,), the gains of a gate's two normalizations, and where
the memory is normalized ``memory_gain`` (H,).

What each distribution is, ``critinit.distributions`` says.  Where a layer has a projection that its spec does not state
(a spec of ``lstm``), it is the first P rows of a Haar matrix: entries of variance 1/H, so E h'² = E(o tanh c')².  A
coupled bias is the other gate's draw times its sign.

A layer of several groups of units has the draws of each group.  Its units stand in the order of the groups, and what
a group's recurrent kernels and projection would read of the others is 0.

Every (module, layer, direction, gate, part, group) has its own stream, ``SeedSequence(seed, spawn_key=...)``, so
draws can be made one at a time, in any order, and a wider model changes no other part's stream.  The same
seed gives the same weights for one version of NumPy's ``Generator`` and of LAPACK's QR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from critinit.distributions import (
    KERNELS,
    Bias,
    ConstantBias,
    CoupledBias,
    EntryKernel,
    Kernel,
    KernelFamily,
    OrthogonalKernel,
)
from critinit.errors import ArgumentError, Problem
from critinit.foreign import check_numbers
from critinit.spec import InitSpec
from critinit.spec.model import GAINS

__all__ = [
    "SEEDS",
    "Direction",
    "Draw",
    "GateWeights",
    "GroupDraws",
    "Part",
    "Stream",
    "Weights",
    "check_seed",
    "draw",
    "draws_of",
]

Array = NDArray[np.float64]
Part = Literal["recurrent", "input", "bias", "projection", "recurrent_gain", "input_gain", "memory_gain"]
_PARTS: tuple[Part, ...] = (
    "recurrent", "input", "bias", "projection", "recurrent_gain", "input_gain", "memory_gain",
)  # fmt: skip
_MOST_PLACES = 2**20
"""More than a group has gates times parts."""
_MAX_SEED = 2**128
"""The first seed that is too large: NumPy's seed sequences take 128 bits."""
SEEDS = "an integer from 0 to 2**128 - 1"
"""What a seed can be, for messages."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The address of one random stream.  ``module`` counts the separate networks of one model."""

    seed: int
    module: int
    layer: int
    direction: int
    gate: int
    part: Part
    group: int = 0

    @property
    def sequence(self) -> np.random.SeedSequence:
        """NumPy's seed sequence of this address."""
        key = (self.module, self.layer, self.direction, self.gate, _PARTS.index(self.part))
        return np.random.SeedSequence(self.seed, spawn_key=(*key, self.group) if self.group else key)

    @property
    def place(self) -> int:
        """A number for the gate, its part and its group, of which each has its own within a layer."""
        return self.group * _MOST_PLACES + self.gate * len(_PARTS) + _PARTS.index(self.part)

    def generator(self) -> np.random.Generator:
        """Return a fresh generator at the start of this stream."""
        return np.random.Generator(np.random.PCG64(self.sequence))

    def words(self) -> tuple[int, int]:
        """Return two 32-bit words that seed another library's generator for this stream."""
        first, second = self.sequence.generate_state(2, np.uint32)
        return int(first), int(second)


@dataclass(frozen=True, slots=True)
class Draw:
    """One array to be drawn.

    Attributes:
        distribution: Its distribution, never a coupled bias: those are the draw of gate ``coupled_to`` times ``sign``.
        shape: Its canonical shape.
        stream: Its random stream.
        gate: The gate.
        part: The gate's part.
        path: The spec's field.
        sign: What the draw is multiplied with.
        coupled_to: The gate whose bias it follows, or None.
        window: The window of a convolution whose centre tap it fills, all other taps being 0; none where it fills all.
        max_learning_rate: The largest learning rate of an entry, or None.
        group: The name of the group of units, "" in a layer of one group.
    """

    distribution: Kernel | Bias
    shape: tuple[int, ...]
    stream: Stream
    gate: str
    part: Part
    path: str
    sign: int = 1
    coupled_to: str | None = None
    window: tuple[int, ...] = ()
    max_learning_rate: float | None = None
    group: str = ""

    @property
    def fan_in(self) -> int:
        """Width of what the kernel reads; 1 for a bias, whose variance is not scaled."""
        return self.shape[1] if len(self.shape) == 2 else 1

    @property
    def mean(self) -> float:
        """Mean of the entries that the spec asks for."""
        if isinstance(self.distribution, Kernel):
            return self.distribution.entry_mean(self.shape[1])
        return self.sign * self.distribution.moments[0]

    @property
    def variance(self) -> float:
        """What the spec asks for: Var(entry)·fan-in of a kernel, Var(entry) of a bias."""
        if isinstance(self.distribution, Kernel):
            return self.distribution.variance_at(*self.shape)
        return self.distribution.moments[1]

    @property
    def gain(self) -> float | None:
        """The g with W Wᵀ = g²·I, of an orthogonal or identity kernel or a projection; else None."""
        keeps = isinstance(self.distribution, Kernel) and self.distribution.keeps_angles
        return math.sqrt(self.variance) if keeps and self.variance else None

    @property
    def is_zero(self) -> bool:
        """Whether every entry is 0 with certainty."""
        if isinstance(self.distribution, Kernel):
            return self.distribution.is_zero
        return self.distribution.moments == (0.0, 0.0)

    def problem(self) -> Problem | None:
        """Return why this distribution cannot have this shape, or None."""
        if self.part == "projection" or not isinstance(self.distribution, Kernel):
            return None
        if any(size % 2 == 0 for size in self.window):
            where = f"a convolution of window {self.window}, which has no centre"
            allowed = f"{_no_centre_needed()}, or a window of odd sizes"
            return Problem(self.path, f"{self.distribution.distribution}, for {where}", allowed)
        found = self.distribution.problem(*self.shape)
        if found is None:
            return None
        names = ", ".join(name for name, kind in KERNELS.loaded().items() if not kind.is_square)
        if self.part == "recurrent":
            hint = "the state goes through a projection, so its kernels are not square; the theory does not hold"
            return Problem(self.path, found, names, hint)
        return Problem(self.path, found, f"{names}, or an input as wide as the hidden state")

    def sample(self) -> Array:
        """Return the canonical float64 array, of ``shape``.

        Raises:
            ArgumentError: ``problem`` names one.
        """
        problem = self.problem()
        if problem is not None:
            raise ArgumentError(problem.where, found=problem.found, allowed=problem.allowed, hint=problem.hint)
        if isinstance(self.distribution, Kernel):
            rows, columns = self.shape
            return self.distribution.sample(self.stream.generator, rows, columns)
        return self.sign * self.distribution.sample(self.stream.generator, self.shape[0])


@dataclass(frozen=True, slots=True)
class GroupDraws:
    """What one group of units asks for; a layer of one group has one of these.

    Attributes:
        draws: The draws, keyed by (gate, part).
        units: Which of the layer's units are the group's.
        messages: Which coordinates its kernels read: its units, or those of its projection.
    """

    draws: Mapping[tuple[str, Part], Draw]
    units: slice
    messages: slice

    def place(self, part: Part | Literal["zero"]) -> tuple[slice, ...]:
        """Return where a part of the group stands in the canonical array of all units, by axis from the first on."""
        if part == "recurrent":
            return self.units, self.messages
        return (self.messages, self.units) if part == "projection" else (self.units,)


def draws_of(
    spec: InitSpec,
    layer: int,
    *,
    seed: int,
    input_size: int,
    hidden_size: int,
    projection_size: int | None = None,
    direction: int = 0,
    module: int = 0,
    window: tuple[int, ...] = (),
) -> tuple[GroupDraws, ...]:
    """Return what each group of units of one layer in one direction asks for; nothing is drawn yet.

    Args:
        spec: The spec.
        layer: The layer's number, from 0.
        seed: The seed.
        input_size: Coordinates of the input.
        hidden_size: Units.
        projection_size: Coordinates of the projection in a module that has one, where the spec's cell has none.
        direction: 0 forward, 1 backward.
        module: The number of the network within the model.
        window: That of a convolutional layer's kernels, whose channels and filters the sizes then are.

    Returns:
        The draws of each group in order.  A projection has the key ("", "projection").  It is that of the spec or, of a
        cell without one, of ``projection_size`` coordinates where that is given.  The gain of the memory has the key
        ("", "memory_gain").

    Raises:
        ArgumentError: There are fewer units than groups.
    """
    whole = spec.layers[layer]
    if whole.projection is not None:  # the spec's word counts
        projection_size = whole.projection.coordinates(hidden_size)
    units = whole.split(hidden_size)
    messages = units if projection_size is None else whole.split(projection_size)
    found, first, read = [], 0, 0
    for number, (own, coordinates) in enumerate(zip(units, messages, strict=True)):
        draws = _draws_of_group(
            spec,
            layer,
            number,
            Stream(seed, module, layer, direction, 0, "bias", number),
            input_size=input_size,
            units=own,
            projection_size=None if projection_size is None else coordinates,
            window=window,
        )
        found.append(GroupDraws(draws, slice(first, first + own), slice(read, read + coordinates)))
        first, read = first + own, read + coordinates
    return tuple(found)


def _draws_of_group(
    spec: InitSpec,
    layer: int,
    number: int,
    stream: Stream,
    *,
    input_size: int,
    units: int,
    projection_size: int | None,
    window: tuple[int, ...],
) -> Mapping[tuple[str, Part], Draw]:
    """What one group asks for, keyed by (gate, part)."""
    whole = spec.layers[layer]
    group, alone = whole.groups[number], len(whole.groups) == 1
    gates, memory_gain, projection = group.gates, whole.memory_gain, whole.projection
    names, name = tuple(gates), "" if alone else group.name
    above = f"layers.{layer}" if alone else f"layers.{layer}.groups.{number}"
    message = units if projection_size is None else projection_size
    shapes: dict[Part, tuple[int, ...]] = {
        "recurrent": (units, message),
        "input": (units, input_size),
        "bias": (units,),
    }
    gains = tuple(part for part in GAINS if gates[names[0]].recurrent_gain is not None)

    def own(gate: str, part: Part) -> Stream:
        return replace(stream, gate=names.index(gate) if gate else len(names), part=part)

    def gain(gate: str, part: Part, found: float | None, path: str) -> Draw:
        return Draw(ConstantBias(mean=found or 0.0), (units,), own(gate, part), gate, part, path, group=name)

    def one(gate: str, part: Part) -> Draw:
        asked: Kernel | Bias = getattr(gates[gate], part)
        path = f"{above}.gates.{gate}.{part}"
        limit = asked.limit_at(shapes[part][1]) if isinstance(asked, Kernel) else asked.max_learning_rate
        if isinstance(asked, CoupledBias):
            followed = one(asked.to, part)
            return replace(
                followed, sign=asked.sign, coupled_to=asked.to, gate=gate, path=path, max_learning_rate=limit
            )
        drawn = Draw(asked, shapes[part], own(gate, part), gate, part, path, max_learning_rate=limit, group=name)
        return _convolved(drawn, asked, window) if window and isinstance(asked, Kernel) else drawn

    draws: dict[tuple[str, Part], Draw] = {(g, part): one(g, part) for g in names for part in shapes}
    for gate_name, gate in gates.items():
        for part in gains:
            draws[gate_name, part] = gain(gate_name, part, getattr(gate, part), f"{above}.gates.{gate_name}.{part}")
    if memory_gain is not None:
        draws["", "memory_gain"] = gain("", "memory_gain", memory_gain, f"layers.{layer}.memory_gain")
    if projection_size is not None:
        kernel = OrthogonalKernel(variance=1.0) if projection is None else projection.kernel
        path = f"layers.{layer} projection" if projection is None else f"layers.{layer}.projection.kernel"
        limit, shape, at = kernel.limit_at(units), (projection_size, units), own("", "projection")
        draws["", "projection"] = Draw(kernel, shape, at, "", "projection", path, max_learning_rate=limit, group=name)
    return MappingProxyType(draws)


def _fills_the_centre(kernel: Kernel | type[Kernel]) -> bool:
    """Whether a distribution stands at the centre tap of a convolution's kernel."""
    return kernel.is_square or kernel.family is not KernelFamily.INDEPENDENT


def _no_centre_needed() -> str:
    """The distributions that fill all taps, for messages."""
    return ", ".join(name for name, kind in KERNELS.loaded().items() if not _fills_the_centre(kind))


def _convolved(draw: Draw, kernel: Kernel, window: tuple[int, ...]) -> Draw:
    """The draw of a dense kernel, for a convolution that reads as many channels."""
    if _fills_the_centre(kernel):
        return replace(draw, window=window)
    units, channels = draw.shape
    if isinstance(kernel, EntryKernel) and kernel.fan != "in":  # all taps count in the fan-out too
        kernel = kernel.model_copy(update={"variance": kernel.variance_at(units, channels), "fan": "in"})
    return replace(draw, distribution=kernel, shape=(units, math.prod(window) * channels))


@dataclass(frozen=True, slots=True)
class GateWeights:
    """The drawn arrays of one gate: recurrent (H, F), input (H, I), bias (H,); of a normalized cell its gains (H,)."""

    recurrent: Array
    input: Array
    bias: Array
    recurrent_gain: Array | None = None
    input_gain: Array | None = None


@dataclass(frozen=True, slots=True)
class Direction:
    """One layer in one direction: its gates by name, the projection (P, H) or None, the memory's gain (H,) or None."""

    gates: Mapping[str, GateWeights]
    projection: Array | None
    memory_gain: Array | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """Canonical weights: ``weights.layers[k][direction].gates["update"].recurrent``."""

    layers: tuple[tuple[Direction, ...], ...]


def draw(
    spec: InitSpec,
    input_size: int,
    hidden_size: int,
    *,
    seed: int = 0,
    directions: int = 1,
    projection_size: int | None = None,
    module: int = 0,
) -> Weights:
    """Return all canonical float64 weights of ``spec`` for a stack of layers of one width.

    Layer 0 reads ``input_size`` coordinates, every further layer the state below it in all ``directions``.
    ``module`` is the index of the network within a model that has several.  Cost: O(H³) per orthogonal
    kernel.

    Raises ``ArgumentError`` for sizes below 1, a seed that is no integer ≥ 0, or an orthogonal or identity
    kernel that would not be square.
    """
    seed = check_seed(seed)
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "directions": directions}
    for name, size in (
        *sizes.items(),
        ("projection_size", 1 if projection_size is None else projection_size),
    ):
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise ArgumentError(name, found=repr(size), allowed="an integer of at least 1")
    if directions > 2:
        raise ArgumentError("directions", found=str(directions), allowed="1, 2")
    if projection_size is not None and projection_size > hidden_size:
        allowed = f"at most hidden_size, {hidden_size}"
        raise ArgumentError("projection_size", found=str(projection_size), allowed=allowed)
    layers: list[tuple[Direction, ...]] = []
    for layer in range(len(spec.layers)):
        below = None if layer == 0 else spec.layers[layer - 1].projection
        message = projection_size or hidden_size if below is None else below.coordinates(hidden_size)
        reads = input_size if layer == 0 else message * directions
        layers.append(
            tuple(
                _sample_all(
                    draws_of(
                        spec,
                        layer,
                        seed=seed,
                        input_size=reads,
                        hidden_size=hidden_size,
                        projection_size=projection_size,
                        direction=direction,
                        module=module,
                    )
                )
                for direction in range(directions)
            )
        )
    return Weights(tuple(layers))


def _sample_all(groups: tuple[GroupDraws, ...]) -> Direction:
    arrays = {key: _assembled(key, groups) for key in groups[0].draws}
    parts: dict[str, dict[str, Array]] = {gate: {} for gate, _ in arrays}
    for (gate, part), array in arrays.items():
        parts[gate][part] = array
    own = parts.pop("", {})
    gates = MappingProxyType({gate: GateWeights(**found) for gate, found in parts.items()})
    return Direction(gates, own.get("projection"), own.get("memory_gain"))


def _assembled(key: tuple[str, Part], groups: tuple[GroupDraws, ...]) -> Array:
    """One part of all units, 0 where a group would read another."""
    drawn = [group.draws[key].sample() for group in groups]
    if len(groups) == 1:
        return drawn[0]
    places = [group.place(key[1]) for group in groups]
    ends = [place.stop for place in places[-1]]
    whole = np.zeros((*ends, *drawn[0].shape[len(ends) :]))
    for place, array in zip(places, drawn, strict=True):
        whole[place] = array
    return whole


def check_seed(seed: object) -> int:
    """Return ``seed`` as an int; raises ``ArgumentError`` unless it is an integer from 0 to 2¹²⁸ − 1."""
    check_numbers("seed", seed)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < _MAX_SEED:
        raise ArgumentError("seed", found=repr(seed), allowed=SEEDS)
    return int(seed)
