"""Gradient flossing: bring Lyapunov exponents of a layer towards 0 (Engelken 2023, arXiv:2312.17306).

The mean L of (λ_i − target)² over the first k exponents is a differentiable function of the weights, by the derivative
of the QR decomposition.  It is descended before training or in episodes between steps of training.

Settings are those that the author's published example code runs with: one sequence a step, 55 steps of time of which
the first 10 + ⌈55/10⌉ do not count, weights of the input, recurrent weights and biases trained, target 0.  That example
takes 75 exponents of a tanh network of 80 units; the default here is a quarter of the units, as gated layers have many
directions that should be forgotten.

Two departures.  First, the step.  The example takes 500 steps of Adam at .001.  Adam moves all entries of a kernel by
the same amount; in a gated layer they move to the same side, H of them add up, and every unit saturates: the exponents
are 0, and nothing of the inputs is seen in the states any more.  The default is 100 steps along the gradient g itself,
of the length that would end at L = 0 if L were linear (Polyak 1987, "Introduction to Optimization", ch. 5.3),

    θ ← θ − (L/‖g‖²) g,        ‖step‖ at most .03 ‖θ‖,

which needs no rate, changes the weights by less, and moves the biases of the gates most.  Where the start is chaotic
the derivatives are noisy, and these steps get nowhere: there Adam, which averages them, is the one to take.

Second, where the start is chaotic, a derivative along the course of the states grows as e^(λ steps) and drowns what the
exponents depend on.  There it goes through the last 3/λ steps alone, and these alone count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.cells import find_cell
from critinit.errors import ArgumentError
from critinit.foreign import Foreign, Library
from critinit.refining.layers import Array, HeldLayer, exponents, orthonormal, state_size, weights_of

__all__ = ["Flossed", "Flossing", "floss"]

_SHARE = 4
"""Units for each exponent that is flossed by default."""
_MEASURED = 8
"""Stretches of sequences whose exponents are measured before and after."""
_HORIZON = 3.0
"""The largest λ·(steps that a derivative goes through): a derivative along a chaotic course grows as e^(λ steps)."""
_LONGEST = 0.03
"""The longest step along the gradient, over the norm of all weights."""
_BETAS, _TINY = (0.9, 0.999), 1e-8
"""Adam's own defaults."""


@dataclass(frozen=True, slots=True)
class Flossing:
    """Settings of gradient flossing.

    Attributes:
        exponents: How many of the largest Lyapunov exponents are brought to the target; a quarter of the units unless
            given.
        target: Where they are brought, in units of 1/step; 0 is a gradient that neither grows nor shrinks.
        epochs: Steps of descent.
        learning_rate: Adam's rate; None goes along the gradient and needs no rate.  The author's example has Adam:
            ``Flossing(epochs=500, learning_rate=1e-3)``.
        steps: Steps of time that the exponents are measured over; fewer where the sequences are shorter.
        sequences: Sequences in a step of descent.

    Example:
        >>> Flossing(exponents=10).epochs
        100
    """

    exponents: int | None = None
    target: float = 0.0
    epochs: int = 100
    learning_rate: float | None = None
    steps: int = 55
    sequences: int = 1

    def __post_init__(self) -> None:
        for name in ("exponents", "epochs", "steps", "sequences"):
            number = getattr(self, name)
            if number is not None and (type(number) is not int or number < 1):
                raise ArgumentError(name, found=repr(number), allowed="an integer from 1")
        for name, low in (("target", -math.inf), ("learning_rate", 0.0)):
            number = getattr(self, name)
            if number is None and name == "learning_rate":
                continue
            if type(number) not in (int, float) or not math.isfinite(number) or number <= low:
                allowed = "a finite number" + (" above 0" if low == 0.0 else "")
                raise ArgumentError(name, found=repr(number), allowed=allowed)


@dataclass(frozen=True, slots=True, eq=False)
class Flossed:
    """One layer's new weights.

    Attributes:
        values: Its tensors, by name; those that it had where flossing did not bring the exponents nearer.
        before: Exponents of the layer as it was, (k,), the mean over sequences.
        after: Exponents with ``values``.
        losses: The mean of (λ_i − target)² step by step.
        problem: Why the old weights stay, or nothing.
        is_finite: Whether all numbers on the way were.
    """

    values: Mapping[str, Array]
    before: Array
    after: Array
    losses: tuple[float, ...]
    problem: str = ""
    is_finite: bool = True


def floss(
    layer: HeldLayer,
    sequences: Sequence[NDArray[Any]],
    settings: Flossing,
    seed: int,
    library: Library,
    progress: Callable[[int, float], object],
) -> Flossed:
    """Return a layer's weights after flossing.

    Args:
        layer: The layer.
        sequences: What it reads, (steps, I) each, in the order in which it reads them.
        settings: The settings.
        seed: Of the sequences' order and of the first directions.
        library: What differentiates.
        progress: Called after each step with its number and its loss.

    Raises:
        ArgumentError: The sequences are too short, or there are fewer directions than exponents.
    """
    cell = find_cell(layer.cell)
    steps, transient = _lengths(sequences, settings)
    blocks = {held.name: held.blocks for held in layer.tensors}
    values = {held.name: np.array(held.values, dtype=float) for held in layer.tensors}
    size = state_size(cell, weights_of(blocks, values))
    count = settings.exponents or max(1, layer.hidden_size // _SHARE)
    if count > size:
        raise ArgumentError("exponents", found=str(count), allowed=f"from 1 to {size}, the numbers in the state")
    stretches = _Stretches(sequences, steps, settings.sequences, seed)
    start = orthonormal(size, count, settings.sequences, seed)

    def loss(transient: int, cut: bool, leaves: Any, x: Any, columns: Any) -> tuple[Any, Any]:
        own = weights_of(blocks, {name: Foreign(leaf, library) for name, leaf in leaves.items()})
        found = exponents(cell, own, x, columns, transient, library, cut=cut)
        off = found - settings.target
        return library.mean(off * off), library.mean(found, (0,))

    measured = library.differentiate(partial(loss, transient, False))

    def judge(values: Mapping[str, Array]) -> tuple[float, Array]:
        each = [measured(values, one, start)[:2] for one in stretches.judged]
        return float(np.mean([value for value, _ in each])), np.mean([found for _, found in each], axis=0)

    first, before = judge(values)
    descended, chaos = measured, float(np.max(before))
    if chaos > 0.0 and (counted := math.ceil(_HORIZON / chaos)) < steps - transient:
        descended = library.differentiate(partial(loss, steps - counted, True))
    free = [held.name for held in layer.tensors if not held.frozen]
    descent = _Polyak() if settings.learning_rate is None else _Adam(settings.learning_rate)
    losses = list[float]()
    old = {held.name: held.values for held in layer.tensors}
    for epoch in range(settings.epochs):
        value, _, slopes = descended(values, stretches.draw(), start)
        losses.append(value)
        if not math.isfinite(value) or not all(np.isfinite(slopes[name]).all() for name in free):
            why = f"step {epoch + 1} of flossing gave numbers that are not finite; fewer exponents= may help"
            return Flossed(old, before, before, tuple(losses), why, False)
        values = values | descent.step(value, {name: values[name] for name in free}, slopes)
        progress(epoch + 1, value)
    last, after = judge(values)
    if not last < first:
        numbers = f"{settings.target:g} (mean square {first:.3g}, now {last:.3g})"
        why = f"flossing brought the exponents no nearer to {numbers}"
        if chaos > 0.0 and settings.learning_rate is None:
            why += (
                "; a chaotic layer's derivatives are noisy: epochs=500 and learning_rate=1e-3 take Adam's mean of them"
            )
        return Flossed(old, before, before, tuple(losses), why)
    return Flossed(values, before, after, tuple(losses))


class _Stretches:
    """Stretches of sequences, of one length each; sequences that are shorter are left out.

    Args:
        sequences: The sequences, (steps, I) each.
        steps: The stretches' length.
        together: How many are drawn at a time.
        seed: Of their order and of where they begin.
    """

    def __init__(self, sequences: Sequence[NDArray[Any]], steps: int, together: int, seed: int) -> None:
        self._sequences = [sequence for sequence in sequences if len(sequence) >= steps]
        self._steps, self._together, self._rng = steps, together, np.random.default_rng(seed)
        self._order: list[int] = []
        single = (self._cut([n % len(self._sequences)]) for n in range(_MEASURED))
        self.judged = [np.repeat(one, together, axis=1) for one in single]
        """What exponents are measured on before and after, (steps, together, I) each."""

    def draw(self) -> Array:
        """Return the next stretches, (steps, together, I); each sequence comes once before any comes again."""
        while len(self._order) < self._together:
            self._order += self._rng.permutation(len(self._sequences)).tolist()
        chosen, self._order = self._order[: self._together], self._order[self._together :]
        return self._cut(chosen)

    def _cut(self, chosen: Sequence[int]) -> Array:
        lengths = [len(self._sequences[n]) for n in chosen]
        starts = [int(self._rng.integers(length - self._steps + 1)) for length in lengths]
        cut = [self._sequences[n][start : start + self._steps] for n, start in zip(chosen, starts, strict=True)]
        return np.stack(cut, axis=1).astype(float)


def _lengths(sequences: Sequence[NDArray[Any]], settings: Flossing) -> tuple[int, int]:
    """Steps of time that are measured over, and those of them that do not count."""
    longest = max((len(sequence) for sequence in sequences), default=0)
    steps = min(settings.steps, longest)
    if steps < 2:
        hint = "exponents are means over steps; the author's example has 55"
        raise ArgumentError("batch", found=f"sequences of {longest} step(s)", allowed="2 or more", hint=hint)
    return steps, min(10 + math.ceil(steps / 10), steps // 3)


class _Polyak:
    """Steps along the gradient that end where a linear loss would be 0."""

    def step(self, loss: float, values: Mapping[str, Array], slopes: Mapping[str, Array]) -> dict[str, Array]:
        steepness, size = (
            math.sqrt(sum(float(np.sum(array[name] ** 2)) for name in values)) for array in (slopes, values)
        )
        if steepness == 0.0:
            return dict(values)
        length = min(loss / steepness, _LONGEST * size)
        return {name: value - length / steepness * slopes[name] for name, value in values.items()}


class _Adam:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980) on arrays by name."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate, self.count = learning_rate, 0
        self.first: dict[str, Array] = {}
        self.second: dict[str, Array] = {}

    def step(self, loss: float, values: Mapping[str, Array], slopes: Mapping[str, Array]) -> dict[str, Array]:
        del loss
        self.count += 1
        moved = {}
        for name, value in values.items():
            slope = slopes[name]
            self.first[name] = _BETAS[0] * self.first.get(name, 0.0) + (1.0 - _BETAS[0]) * slope
            self.second[name] = _BETAS[1] * self.second.get(name, 0.0) + (1.0 - _BETAS[1]) * slope**2
            mean = self.first[name] / (1.0 - _BETAS[0] ** self.count)
            size = np.sqrt(self.second[name] / (1.0 - _BETAS[1] ** self.count))
            moved[name] = value - self.learning_rate * mean / (size + _TINY)
        return moved
