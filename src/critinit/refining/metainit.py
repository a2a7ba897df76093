"""MetaInit: tune the norms of weights so that the loss is close to linear where training starts.

With the gradient g of the loss and the product H g of its Hessian with it, the gradient quotient of N parameters is

    GQ = (1/N) Σ |(g − H g)/(g + ε·sign g) − 1|,        sign 0 = 1,

the relative change of the gradient by one step of gradient descent of length 1 (Dauphin & Schoenholz 2019, "MetaInit:
Initializing learning by learning to initialize", eq. 1 and the code in its appendix).  Signed gradient descent with
momentum changes the norms ‖W‖ alone, and no direction:

    v ← μ v − η·sign(⟨W, ∂GQ/∂W⟩/‖W‖),        ‖W‖ ← ‖W‖ + v.

Default settings are those of that code: 500 steps, η = .1, μ = .9, ε = 1e-5; biases count in GQ and keep their norms.
Three departures: a gate's kernel counts as one tensor, however a framework stacks gates, so all frameworks get the same
weights; a norm never falls below a hundredth of what it was, where that code can turn a kernel's sign; and the weights
are those of the smallest quotient on the way, where that code takes the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from critinit.errors import ArgumentError
from critinit.refining.layers import Array
from critinit.tensors.blocks import Index

__all__ = ["Group", "MetaInit", "Objective", "Tuned", "tune"]

_LEAST = 0.01
"""The share of its first norm that a norm keeps at least."""


class Objective(Protocol):
    """A model's loss on one batch, as a function of its weights by their tensors' names."""

    def gradient(self, values: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
        """Return the loss and its gradient."""
        ...

    def quotient(self, values: Mapping[str, Array], epsilon: float) -> tuple[float, dict[str, Array]]:
        """Return the gradient quotient and its gradient."""
        ...


@dataclass(frozen=True, slots=True)
class MetaInit:
    """Settings of MetaInit.

    Attributes:
        steps: Steps of signed gradient descent.
        learning_rate: By how much a norm changes in a step, in units of the norm.
        momentum: The share of the last change that is added.
        epsilon: What keeps the quotient finite where a gradient is 0.

    Example:
        >>> MetaInit(steps=100).learning_rate
        0.1
    """

    steps: int = 500
    learning_rate: float = 0.1
    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if type(self.steps) is not int or self.steps < 1:
            raise ArgumentError("steps", found=repr(self.steps), allowed="an integer from 1")
        for name, most in (("learning_rate", math.inf), ("epsilon", math.inf), ("momentum", 1.0)):
            number = getattr(self, name)
            low = 0.0 if name == "momentum" else math.ulp(0.0)
            if type(number) not in (int, float) or not low <= number < most:
                allowed = "from 0 to below 1" if name == "momentum" else "a finite number above 0"
                raise ArgumentError(name, found=repr(number), allowed=allowed)


@dataclass(frozen=True, slots=True)
class Group:
    """Numbers whose norm is tuned.

    Attributes:
        tensor: The tensor's name.
        index: Their place in it.
    """

    tensor: str
    index: Index


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """New weights.

    Attributes:
        values: All tensors, by name.
        quotients: The gradient quotient at each step, from that of the weights as they were.
        problem: Why the old weights stay, or nothing.
    """

    values: Mapping[str, Array]
    quotients: tuple[float, ...]
    problem: str = ""


def tune(
    objective: Objective,
    values: Mapping[str, Array],
    groups: Sequence[Group],
    settings: MetaInit,
    progress: Callable[[int, float], object],
) -> Tuned:
    """Return the weights whose norms MetaInit has tuned.

    Args:
        objective: The loss.
        values: The weights as they are.
        groups: What is scaled; groups that are 0 stay so.
        settings: The settings.
        progress: Called after each step with its number and its quotient.
    """
    now = {name: np.array(value, dtype=float) for name, value in values.items()}
    tuned = [(group, norm) for group in groups if (norm := float(np.linalg.norm(now[group.tensor][group.index]))) > 0.0]
    speed = [0.0] * len(tuned)
    best, least = now, math.inf
    quotients: list[float] = []
    for step in range(settings.steps + 1):
        quotient, slopes = objective.quotient(now, settings.epsilon)
        quotients.append(quotient)
        wrong = not math.isfinite(quotient) or not all(np.isfinite(slopes[group.tensor]).all() for group, _ in tuned)
        if wrong:
            why = f"the gradient quotient is not finite at step {step}"
            return Tuned(values, tuple(quotients), why)
        if quotient < least:
            best, least = now, quotient
        progress(step, quotient)
        if step == settings.steps:
            break
        now = {name: value.copy() for name, value in now.items()}
        for number, (group, first) in enumerate(tuned):
            region = now[group.tensor][group.index]
            norm = float(np.linalg.norm(region))
            slope = float(np.sum(region * slopes[group.tensor][group.index]))
            speed[number] = settings.momentum * speed[number] - settings.learning_rate * float(np.sign(slope))
            now[group.tensor][group.index] = region * (max(norm + speed[number], _LEAST * first) / norm)
    if not least < quotients[0]:
        return Tuned(values, tuple(quotients), f"no step had a smaller gradient quotient than the start's {least:.3g}")
    return Tuned(best, tuple(quotients))
