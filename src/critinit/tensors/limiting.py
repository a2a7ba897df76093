"""``limit_steps``: hold an optimizer's steps to the limits that a spec states.

A kernel or a bias of a spec may state ``max_learning_rate``, the largest learning rate that the start can bear there.
``apply`` returns these limits with the model; ``limit_steps`` makes an optimizer use the smaller of its own rate and
the limit in each limited region.  The adapters know how, each for the optimizers of its framework.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from critinit.errors import ArgumentError
from critinit.spec import InitSpec, checked_spec
from critinit.tensors.application import ADAPTERS, Adapter, StepLimit, Where, find_adapter, patterns_of

__all__ = [
    "NOTE",
    "Limited",
    "LimitingAdapter",
    "StepLimits",
    "limit_steps",
    "not_found",
    "of_other_tensors",
    "states_its_rate",
    "states_limits",
    "step_limits",
]

NOTE = "the spec limits steps: optimizer = critinit.limit_steps(optimizer, applied)"
"""What a report says where limits were stated, as ``apply`` alone cannot make an optimizer keep them."""
Model = TypeVar("Model")
Optimizer = TypeVar("Optimizer")


@dataclass(frozen=True, slots=True)
class StepLimits(Generic[Model]):
    """A model, and the limits on the learning rate of its tensors.

    Attributes:
        model: The model.
        limits: One limit for each limited region.
    """

    model: Model
    limits: tuple[StepLimit, ...]


@runtime_checkable
class Limited(Protocol):
    """A result that says which steps are limited, and in which model."""

    @property
    def model(self) -> Any:
        """The model."""
        ...

    @property
    def limits(self) -> tuple[StepLimit, ...]:
        """One limit for each limited region."""
        ...


@runtime_checkable
class LimitingAdapter(Adapter, Protocol):
    """An adapter that can limit steps, as all of critinit's own can."""

    def step_limits(
        self,
        spec: InitSpec,
        target: Any,
        include: Sequence[str] | None,
        options: Mapping[str, Any],
        *,
        trust: bool = False,
        where: Where | None = None,
    ) -> tuple[StepLimit, ...]:
        """Return the limits that a spec states for the tensors of the target; changes nothing."""
        ...

    def takes_optimizer(self, optimizer: object) -> bool:
        """Return whether the optimizer is one of this framework's."""
        ...

    def limit_steps(self, optimizer: Any, limits: Sequence[StepLimit], model: Any, learning_rate: Any) -> Any:
        """Return the optimizer that keeps the limits; see ``critinit.limit_steps``."""
        ...


def limit_steps(
    optimizer: Optimizer,
    applied: Limited,
    learning_rate: Any = None,
    *,
    model: Any = None,
) -> Optimizer:
    """Make an optimizer keep the limits on the learning rate that the applied spec states.

    In each limited region an update becomes min(1, limit/rate) of what it would be, with the optimizer's rate at that
    step.  Of an optimizer whose updates are proportional to its rate that is training with the rate min(rate, limit)
    there, weight decay included.  Where no limit is smaller than the rate, and where the spec states none, nothing
    changes.  Optimizers for which this means nothing are refused with the reason.

    Limited tensors that this optimizer does not train are left out, so several optimizers can share the limits.

    Args:
        optimizer: The optimizer.  What can be changed in place is, and is returned; of other optimizers a new one is
            returned.
        applied: What ``critinit.apply``, ``critinit.initialize`` or ``critinit.step_limits`` returned.
        learning_rate: The optimizer's rate, a number or a function of the step, where the optimizer does not state it
            itself.
        model: The model that the optimizer trains, where it is not ``applied.model`` but, say, a copy of it.

    Returns:
        The optimizer to train with.

    Raises:
        ArgumentError: The optimizer is of no framework that is imported, trains none of the limited tensors, or cannot
            keep limits.

    Example:
        optimizer = critinit.limit_steps(optimizer, applied)
    """
    if not isinstance(applied, Limited):
        allowed = "what critinit.apply, critinit.initialize or critinit.step_limits returned"
        raise ArgumentError("applied", found=type(applied).__name__, allowed=allowed)
    imported = (ADAPTERS.find(name) for name in ADAPTERS.names() if name in sys.modules)
    limiting = [adapter for adapter in imported if isinstance(adapter, LimitingAdapter)]
    adapter = next((adapter for adapter in limiting if adapter.takes_optimizer(optimizer)), None)
    if adapter is None:
        found = f"a {type(optimizer).__module__}.{type(optimizer).__qualname__}"
        hint = "give an optimizer, not its class" if isinstance(optimizer, type) else ""
        allowed = "an optimizer of a framework that is imported"
        raise ArgumentError("optimizer", found=found, allowed=allowed, hint=hint)
    chosen = applied.model if model is None else model
    limited: Optimizer = adapter.limit_steps(optimizer, applied.limits, chosen, learning_rate)
    return limited


def step_limits(
    spec: InitSpec,
    target: Model,
    *,
    include: str | Sequence[str] | None = None,
    framework: str | Adapter | None = None,
    trust: bool = False,
    where: Where | None = None,
    **options: Any,
) -> StepLimits[Model]:
    """Return the limits on the learning rate that a spec states for a model, and change nothing.

    For a model whose weights come from elsewhere, such as a run that goes on.  The arguments are those of
    ``critinit.apply``.

    Args:
        spec: The spec.
        target: The model.
        include: Patterns of module paths that narrow what is limited.
        framework: The framework's name, or an adapter.
        trust: As in ``critinit.apply``.
        where: As in ``critinit.apply``.
        **options: The adapter's own options.

    Returns:
        The model and its limits, for ``critinit.limit_steps``.

    Raises:
        ApplyError: The spec does not fit the model.
        ArgumentError: An argument is out of its range.

    Example:
        optimizer = critinit.limit_steps(optimizer, critinit.step_limits(spec, model))
    """
    checked_spec(spec)
    patterns = patterns_of(include)
    adapter = find_adapter(target, framework, options, anything=where is not None)
    if not isinstance(adapter, LimitingAdapter):
        raise ArgumentError("framework", found=adapter.framework, hint="its adapter knows no limits on steps")
    limits = adapter.step_limits(spec, target, patterns, options, trust=trust, where=where)
    return StepLimits(target, limits)


def states_its_rate(learning_rate: object) -> None:
    """Raise ``ArgumentError`` where a rate is given beside an optimizer that states its own."""
    if learning_rate is not None:
        hint = "leave it out: the optimizer states its own"
        raise ArgumentError("learning_rate", found=repr(learning_rate), allowed="none", hint=hint)


def states_limits(spec: InitSpec) -> bool:
    """Return whether a spec states any limit on the learning rate."""
    gates = [gate for layer in spec.layers for group in layer.groups for gate in group.gates.values()]
    kernels = [layer.projection.kernel for layer in spec.layers if layer.projection is not None]
    parts = [*kernels, *(part for gate in gates for part in (gate.recurrent, gate.input, gate.bias))]
    return any(part.max_learning_rate is not None for part in parts)


def of_other_tensors(limits: Sequence[StepLimit], new: Sequence[StepLimit]) -> tuple[StepLimit, ...]:
    """Return the limits that stay where new ones take the place of those for the tensors that they name.

    Args:
        limits: The limits so far.
        new: The new ones.
    """
    named = {limit.tensor for limit in new}
    return tuple(limit for limit in limits if limit.tensor not in named)


def not_found(limits: Sequence[StepLimit], trained: Sequence[str]) -> ArgumentError:
    """Return the error of an optimizer that trains none of the limited tensors.

    Args:
        limits: The limits.
        trained: The names of what it trains, as far as they are known.
    """
    limited = dict.fromkeys(limit.tensor for limit in limits)
    allowed = f"one that trains at least one of the limited tensors: {_some(list(limited))}"
    hint = "give the model that the optimizer trains to apply, or as model="
    found = f"an optimizer of {_some(trained)}" if trained else "an optimizer of other tensors"
    return ArgumentError("optimizer", found=found, allowed=allowed, hint=hint)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
