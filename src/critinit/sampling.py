"""The portable sampler: the weights of a spec, drawn by NumPy in float64, the same for every framework.

Canonical form, per layer, direction and gate, in the notation u = U x + W m + b of ``critinit.spec``:

    recurrent W  (H, F)   F = H, or the projection's width P where the state is projected
    input     U  (H, I)   I = the input's width; (F · directions) of the layer below for further layers
    bias      b  (H,)     effective: the sum of all that a framework adds
    projection   (P, H)   h' = projection·(o∘tanh c'), where there is one

Laws, with v the spec's ``variance`` = Var(entry)·fan_in:

    normal       N(0, v/fan_in)
    uniform      U(−√(3v/fan_in), √(3v/fan_in))
    orthogonal   √v·Q, Q Haar-distributed (QR of a Gaussian matrix, signs of R's diagonal made positive)
    identity     √v·I
    projection   as the spec of a cell with a projection says; else the first P rows of a Haar matrix: entries of
                 variance 1/H, so E h'² = E(o tanh c')²

A spread bias takes one quantile from each of H equal strata, in random order over units: every network,
also a narrow one, holds the whole range of time constants.  A coupled bias is the other gate's draw times
its sign.

Every (module, layer, direction, gate, part) has its own stream, ``SeedSequence(seed, spawn_key=...)``, so
draws can be made one at a time, in any order, and a wider model changes no other part's stream.  The same
seed gives the same weights for one version of NumPy's ``Generator`` distributions and of LAPACK's QR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ArgumentError
from critinit.spec import Bias, ConstantBias, CoupledBias, InitSpec, Kernel, NormalBias
from critinit.spec.distributions import bias_of_quantile

__all__ = [
    "Direction",
    "Draw",
    "GateWeights",
    "Part",
    "Stream",
    "Weights",
    "check_seed",
    "draw",
    "draws_of",
    "haar",
]

Array = NDArray[np.float64]
Part = Literal["recurrent", "input", "bias", "projection"]
_PARTS: tuple[Part, ...] = ("recurrent", "input", "bias", "projection")
_MAX_SEED = 2**128


@dataclass(frozen=True, slots=True)
class Stream:
    """The address of one random stream.  ``module`` counts the separate networks of one model."""

    seed: int
    module: int
    layer: int
    direction: int
    gate: int
    part: Part

    @property
    def sequence(self) -> np.random.SeedSequence:
        """NumPy's seed sequence of this address."""
        key = (self.module, self.layer, self.direction, self.gate, _PARTS.index(self.part))
        return np.random.SeedSequence(self.seed, spawn_key=key)

    def generator(self) -> np.random.Generator:
        """A fresh generator at the start of this stream."""
        return np.random.Generator(np.random.PCG64(self.sequence))

    def words(self) -> tuple[int, int]:
        """Two 32-bit words that seed another library's generator for this stream."""
        first, second = self.sequence.generate_state(2, np.uint32)
        return int(first), int(second)


@dataclass(frozen=True, slots=True)
class Draw:
    """One array to be drawn: its law, canonical shape and stream.

    ``law`` is never a coupled bias: those are the draw of gate ``coupled_to`` times ``sign``.  ``path`` is
    the spec's field.
    """

    law: Kernel | Bias
    shape: tuple[int, ...]
    stream: Stream
    gate: str
    part: Part
    path: str
    sign: int = 1
    coupled_to: str | None = None

    @property
    def fan_in(self) -> int:
        """Width of what the kernel reads; 1 for a bias, whose variance is not scaled."""
        return self.shape[1] if len(self.shape) == 2 else 1

    @property
    def mean(self) -> float:
        """Mean of the entries that the spec asks for."""
        if isinstance(self.law, Kernel):
            # the one law whose entries share a sign
            return math.sqrt(self.law.variance) / self.shape[1] if self.law.distribution == "identity" else 0.0
        return self.sign * float(self.law.mean or 0.0)

    @property
    def variance(self) -> float:
        """The spec's variance: Var(entry)·fan_in of a kernel, Var(entry) of a bias."""
        return float(self.law.variance or 0.0)

    @property
    def gain(self) -> float | None:
        """The g with W Wᵀ = g²·I, of an orthogonal or identity kernel or a projection; else None."""
        if isinstance(self.law, Kernel) and self.law.distribution in ("orthogonal", "identity"):
            return math.sqrt(self.law.variance)
        return None

    @property
    def is_zero(self) -> bool:
        """Whether every entry is 0 with certainty."""
        return self.law.variance == 0 and (isinstance(self.law, Kernel) or not self.law.mean)

    def problem(self) -> str | None:
        """Why this law cannot have this shape, or None."""
        if self.part == "projection" or not isinstance(self.law, Kernel):
            return None
        if self.law.distribution in ("orthogonal", "identity") and self.shape[0] != self.shape[1]:
            rows, columns = self.shape
            why = (
                "with a projected state, the map from state to state has rank P < H and is not "
                f"{self.law.distribution}, so the theory does not hold; allowed: normal, uniform, zero"
                if self.part == "recurrent"
                else "allowed: normal, uniform, zero, or an input as wide as the hidden state"
            )
            return f"{self.path}: found an {self.law.distribution} kernel of shape ({rows}, {columns}); {why}"
        return None

    def sample(self) -> Array:
        """The canonical float64 array, of ``shape``.

        Raises ``ArgumentError`` where ``problem`` names one.
        """
        problem = self.problem()
        if problem is not None:
            raise ArgumentError(problem)
        if isinstance(self.law, Kernel):
            return _kernel(self.law, self.shape, self.stream)
        return self.sign * _bias(self.law, self.shape[0], self.stream)


def haar(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """The first ``rows`` ≤ ``columns`` rows of a Haar-distributed orthogonal matrix; O(columns·rows²).

    Householder QR of the transposed Gaussian matrix, all in the one array that is returned.
    """
    from scipy.linalg import get_lapack_funcs  # not at the top: who draws nothing need not load it

    geqrf, orgqr = get_lapack_funcs(("geqrf", "orgqr"), dtype=np.float64)
    # a C-ordered array is LAPACK's own order of its transpose, whose columns become the rows returned
    a = rng.standard_normal((rows, columns)).T
    _, _, work, _ = geqrf(a, lwork=-1, overwrite_a=1)  # -1 asks how much work space, and changes nothing
    a, tau, _, _ = geqrf(a, lwork=int(work[0]), overwrite_a=1)
    signs = np.where(np.diagonal(a) < 0, -1.0, 1.0)
    _, work, _ = orgqr(a, tau, lwork=-1, overwrite_a=1)
    a, _, _ = orgqr(a, tau, lwork=int(work[0]), overwrite_a=1)
    a *= signs
    return np.asarray(a.T)


def _kernel(law: Kernel, shape: tuple[int, ...], stream: Stream) -> Array:
    rows, columns = shape
    scale = math.sqrt(law.variance)
    match law.distribution:
        case "zero":
            return np.zeros(shape)
        case "identity":
            return scale * np.eye(rows)
        case "orthogonal":
            q = haar(stream.generator(), rows, columns)
            q *= scale
            return q
        case "uniform":
            bound = math.sqrt(3.0 / columns) * scale
            return stream.generator().uniform(-bound, bound, shape)
        case "normal":
            w = stream.generator().standard_normal(shape)
            w *= scale / math.sqrt(columns)
            return w


def _bias(law: Bias, width: int, stream: Stream) -> Array:
    if isinstance(law, ConstantBias):
        return np.full(width, law.mean)
    rng = stream.generator()
    if isinstance(law, NormalBias):
        return law.mean + math.sqrt(law.variance) * rng.standard_normal(width)
    if isinstance(law, CoupledBias):
        raise ArgumentError(f"a coupled bias is drawn as the bias of {law.to}; allowed here: the other distributions")
    quantile = (rng.permutation(width) + rng.random(width)) / width
    return bias_of_quantile(law.distribution, law.min_time, law.max_time, quantile)


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
) -> Mapping[tuple[str, Part], Draw]:
    """What one layer in one direction asks for, keyed by (gate, part); nothing is drawn yet.

    A projection has the key ("", "projection").  It is that of the spec or, of a cell without one, of
    ``projection_size`` coordinates where that is given.
    """
    gates = spec.layers[layer].gates
    names = gates.names()
    projection = spec.layers[layer].projected
    if projection is not None:  # the spec's word counts
        projection_size = projection.coordinates(hidden_size)
    message = hidden_size if projection_size is None else projection_size
    shapes: dict[Part, tuple[int, ...]] = {
        "recurrent": (hidden_size, message),
        "input": (hidden_size, input_size),
        "bias": (hidden_size,),
    }

    def one(gate: str, part: Part) -> Draw:
        law: Kernel | Bias = getattr(gates[gate], part)
        path = f"layers.{layer}.gates.{gate}.{part}"
        if isinstance(law, CoupledBias):
            return replace(one(law.to, part), sign=law.sign, coupled_to=law.to, gate=gate, path=path)
        stream = Stream(seed, module, layer, direction, names.index(gate), part)
        return Draw(law, shapes[part], stream, gate, part, path)

    draws: dict[tuple[str, Part], Draw] = {(g, part): one(g, part) for g in names for part in shapes}
    if projection_size is not None:
        stream = Stream(seed, module, layer, direction, len(names), "projection")
        law = Kernel(distribution="orthogonal", variance=1.0) if projection is None else projection.kernel
        shape = (projection_size, hidden_size)
        path = f"layers.{layer} projection" if projection is None else f"layers.{layer}.projection.kernel"
        draws["", "projection"] = Draw(law, shape, stream, "", "projection", path)
    return MappingProxyType(draws)


@dataclass(frozen=True, slots=True)
class GateWeights:
    """The drawn arrays of one gate: recurrent (H, F), input (H, I), bias (H,)."""

    recurrent: Array
    input: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Direction:
    """One layer in one direction: its gates by name, and the projection (P, H) or None."""

    gates: Mapping[str, GateWeights]
    projection: Array | None


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
    """All canonical float64 weights of ``spec`` for a stack of layers of one width.

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
            raise ArgumentError(f"{name}: found {size!r}; allowed: an integer of at least 1")
    if directions > 2:
        raise ArgumentError(f"directions: found {directions}; allowed: 1, 2")
    if projection_size is not None and projection_size > hidden_size:
        raise ArgumentError(f"projection_size: found {projection_size}; allowed: at most hidden_size, {hidden_size}")
    layers: list[tuple[Direction, ...]] = []
    for layer in range(len(spec.layers)):
        below = None if layer == 0 else spec.layers[layer - 1].projected
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


def _sample_all(draws: Mapping[tuple[str, Part], Draw]) -> Direction:
    projection = draws.get(("", "projection"))
    return Direction(_gates(draws), None if projection is None else projection.sample())


def _gates(draws: Mapping[tuple[str, Part], Draw]) -> Mapping[str, GateWeights]:
    names = dict.fromkeys(gate for gate, part in draws if part == "recurrent")
    return MappingProxyType({name: GateWeights(*(draws[name, part].sample() for part in _PARTS[:3])) for name in names})


def check_seed(seed: object) -> int:
    """``seed`` as an int; raises ``ArgumentError`` unless it is an integer from 0 to 2¹²⁸ − 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < _MAX_SEED:
        raise ArgumentError(f"seed: found {seed!r}; allowed: an integer from 0 to 2**128 - 1")
    return int(seed)
