"""Limits on the steps of optax transformations, for every framework whose parameters are a tree of JAX arrays.

The transformation that is given makes its updates; in the limited regions they are then multiplied by
min(1, limit/rate).  Leaves are known by their names, as in the report of ``apply``.  A tree may be a part of the one
that the spec was applied to (the optimizer trains ``variables["params"]``), or hold it as a part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from critinit.errors import ArgumentError
from critinit.tensors.application import StepLimit
from critinit.tensors.blocks import Index
from critinit.tensors.limiting import not_found, of_other_tensors, states_its_rate
from critinit_adapters.shared.naming import located, path_name

__all__ = ["LimitedState", "OptaxLimits", "limit_steps"]

_REFUSED = {
    "ScaleByLBFGSState": "it searches along a line, and a step that is shortened in a part is no point of that line",
    "ScaleByBacktrackingLinesearchState": "the line search has no learning rate",
    "ScaleByZoomLinesearchState": "the line search has no learning rate",
    "ScaleByRpropState": "Rprop's rate is only that of the first step",
    "ScheduleFreeState": "it keeps a second copy of the weights, which would move without limits",
    "SAMState": "limit the transformations that go into sam instead",
    "LookaheadState": "limit the transformation that goes into lookahead instead",
    **dict.fromkeys(
        (
            "ProdigyState", "DAdaptAdamWState", "MechanicState", "DoGState", "DoWGState", "COCOBState",
            "ScaleByDistanceOverGradientsState",
        ),
        "it finds the size of its steps itself, and its rate is only a factor to it",
    ),
}  # fmt: skip
"""The states of optax's transformations whose updates cannot be limited, and why."""
_SKIPPING = ("MultiStepsState", "ApplyIfFiniteState", "ConditionallyTransformState")
"""The states of transformations that do not make a step at each update, so a schedule is behind their updates."""


class LimitedState(NamedTuple):
    """The state of a limited transformation.

    Attributes:
        count: The number of updates so far, with which a schedule is asked for its rate.
        inner: The state of the transformation.
    """

    count: jax.Array
    inner: Any


class _Given(NamedTuple):
    """What a limited transformation was made of."""

    transformation: Any
    limits: tuple[StepLimit, ...]
    learning_rate: Any


_INSIDE: ContextVar[set[str] | None] = ContextVar("_INSIDE", default=None)
"""The limited leaves of what is inside the limited transformation whose state is being made; None: of none."""


class OptaxLimits:
    """What makes an adapter limit the steps of optax transformations."""

    def takes_optimizer(self, optimizer: object) -> bool:
        """Return whether it is an ``optax.GradientTransformation``, or says so by its two functions."""
        if isinstance(optimizer, type):
            return False
        named = isinstance(optimizer, tuple) and all(callable(getattr(optimizer, f, None)) for f in ("init", "update"))
        kind = type(optimizer).__module__.partition(".")[0]
        return named or kind == "optax" or (kind == "flax" and hasattr(optimizer, "tx"))

    def limit_steps(self, optimizer: Any, limits: Sequence[StepLimit], model: Any, learning_rate: Any) -> Any:
        """Return a transformation that keeps the limits."""
        return limit_steps(optimizer, limits, learning_rate)


def limit_steps(transformation: Any, limits: Sequence[StepLimit], learning_rate: Any) -> Any:
    """Return a transformation whose updates keep limits.

    Args:
        transformation: The whole optimizer, its rate included.  One that limits already gets the new limits for the
            tensors that they name.
        limits: The limits.
        learning_rate: Its rate, a number or a schedule; None where ``optax.inject_hyperparams`` keeps it in the state.

    Returns:
        The limited transformation; the one given where there are no limits.

    Raises:
        ArgumentError: It is no transformation, or its rate is not known.
    """
    import optax

    if not isinstance(transformation, tuple):
        hint = "limit the transformation before it goes into it"
        allowed = "an optax.GradientTransformation"
        raise ArgumentError("optimizer", found=type(transformation).__name__, allowed=allowed, hint=hint)
    before: _Given | None = getattr(getattr(transformation, "update", None), "given", None)
    known = before.limits if before is not None and _is_same(before.learning_rate, learning_rate) else ()
    if all(limit in known for limit in limits):  # twice is once
        return transformation
    _check_rate(learning_rate)
    if before:
        others = of_other_tensors(before.limits, limits)
        transformation = limit_steps(before.transformation, others, before.learning_rate)
    inner = optax.with_extra_args_support(transformation)

    def init(params: Any) -> LimitedState:
        with _limited_inside() as inside:
            state = inner.init(params)
        _check_state(state, learning_rate)
        _check_once(_found(params, limits).keys(), inside)
        return LimitedState(jnp.zeros((), jnp.int32), state)

    def update(updates: Any, state: LimitedState, params: Any = None, **extra: Any) -> tuple[Any, LimitedState]:
        made, after = inner.update(updates, state.inner, params, **extra)
        given = _injected(after) if learning_rate is None else learning_rate
        rate = abs(given(state.count) if callable(given) else given)  # the sign that makes a step go down
        own = _found(made, limits)
        shortened = jax.tree_util.tree_map_with_path(
            lambda path, leaf: _shortened(leaf, own.get(path_name(path), ()), rate), made
        )
        return shortened, LimitedState(optax.safe_increment(state.count), after)

    update.given = _Given(transformation, tuple(limits), learning_rate)  # type: ignore[attr-defined]
    return optax.GradientTransformationExtraArgs(init, update)


@contextmanager
def _limited_inside() -> Iterator[Set[str]]:
    """Give the names of the leaves that are limited by transformations whose states are made meanwhile."""
    inside: set[str] = set()
    token = _INSIDE.set(inside)
    try:
        yield inside
    finally:
        _INSIDE.reset(token)


def _check_once(leaves: Set[str], inside: Set[str]) -> None:
    """Refuse limits of leaves that are limited inside already, for that would count twice; tell what is around."""
    twice = [leaf for leaf in leaves if leaf in inside]
    if twice:
        more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
        found = f"limits around an optimizer that limits the same inside: {twice[0]}{more}"
        hint = "call limit_steps once: inside, on the part that trains these tensors, or around the whole optimizer"
        raise ArgumentError("optimizer", found=found, allowed="one limit for each tensor", hint=hint)
    outer = _INSIDE.get()
    if outer is not None:
        outer |= inside | leaves


def _check_rate(rate: Any) -> None:
    """Refuse what is no rate: with a negative one nothing would be limited."""
    if rate is None or callable(rate) or isinstance(rate, jax.core.Tracer):
        return
    known = not isinstance(rate, (str, bytes, bool)) and np.size(rate) == 1
    value = float(np.asarray(rate)) if known and np.asarray(rate).dtype.kind in "iuf" else math.nan
    if not 0.0 < value < math.inf:
        raise ArgumentError("learning_rate", found=repr(rate), allowed="a number above 0, or a schedule")


def _shortened(update: Any, own: Sequence[StepLimit], rate: Any) -> Any:
    for limit in own:
        if not _fits(limit.index, update.shape):
            hint = "limits are for the tensors as they were when the spec was applied, not stacked by vmap or scan"
            allowed = f"one with the region {limit.index}"
            raise ArgumentError(limit.tensor, found=f"a leaf of shape {update.shape}", allowed=allowed, hint=hint)
        if isinstance(rate, (int, float)) and rate <= limit.limit:
            continue
        share = jnp.minimum(1.0, limit.limit / rate).astype(update.dtype)
        region = limit.index or ...
        update = jnp.asarray(update).at[region].set(update[region] * share)
    return update


def _fits(index: Index, shape: Sequence[int]) -> bool:
    ends = [(axis.stop or 0) if isinstance(axis, slice) else axis + 1 for axis in index]
    return len(ends) <= len(shape) and all(end <= size for end, size in zip(ends, shape, strict=False))


# ---- rates in the state ----------------------------------------------------------------------------------


def _kinds(state: Any) -> Iterator[str]:
    """The names of all kinds of state in a state."""
    for node in _nodes(state):
        yield type(node).__name__


def _nodes(state: Any) -> Iterator[Any]:
    yield state
    below = state.values() if isinstance(state, Mapping) else state if isinstance(state, (tuple, list)) else ()
    for node in below:
        yield from _nodes(node)


def _check_state(state: Any, rate: Any) -> None:
    """Refuse a transformation that cannot keep limits, or whose rate is not the one that is given."""
    for name in _kinds(state):
        if name in _REFUSED:
            allowed = "an optimizer whose updates are proportional to its rate, such as Adam or SGD"
            raise ArgumentError("optimizer", found=f"one with a {name}", allowed=allowed, hint=_REFUSED[name])
        if name in _SKIPPING and callable(rate):
            found = f"a schedule beside a {name}, which does not take a step at each update"
            hint = "limit the transformation before it goes into what counts its steps"
            raise ArgumentError("optimizer", found=found, allowed="one that takes a step at each update", hint=hint)
    if rate is None:
        _injected(state)
        if _is_of_a_part(state):
            hint = "limit the transformation of the part that trains these tensors, or state its rate"
            allowed = "an optimizer of which each part states its rate, or none"
            raise ArgumentError("learning_rate", found="that of one part alone", allowed=allowed, hint=hint)
    elif len(_all_injected(state)) == 1 and not _is_of_a_part(state):
        states_its_rate(rate)


def _is_of_a_part(state: Any) -> bool:
    """Whether some parts of a partitioned optimizer keep a learning rate in the state, and others that train do not."""
    for parts in (getattr(node, "inner_states", None) for node in _nodes(state)):
        if isinstance(parts, Mapping):
            inner = [getattr(part, "inner_state", part) for part in parts.values()]
            trained = [part for part in inner if type(part).__name__ != "EmptyState"]  # set_to_zero freezes
            stated = [bool(_all_injected(part)) for part in trained]
            if any(stated) and not all(stated):
                return True
    return False


def _is_same(one: Any, other: Any) -> bool:
    """Whether two learning rates are one: the same number, or the same schedule."""
    numbers = not any(callable(rate) or rate is None or isinstance(rate, jax.core.Tracer) for rate in (one, other))
    return one is other or (numbers and bool(np.all(np.asarray(one) == np.asarray(other))))


def _all_injected(state: Any) -> list[Any]:
    """The learning rates that ``inject_hyperparams`` keeps in a state."""
    kept = (getattr(node, "hyperparams", None) or {} for node in _nodes(state))
    return [own["learning_rate"] for own in kept if "learning_rate" in own]


def _injected(state: Any) -> Any:
    """The one learning rate that ``inject_hyperparams`` keeps in a state."""
    found = _all_injected(state)
    if len(found) == 1:
        return found[0]
    said = "several in the optimizer's state" if found else "none"
    hint = "optax's transformations do not state theirs, unless made by optax.inject_hyperparams"
    allowed = "the number or the schedule that the optimizer was made with"
    raise ArgumentError("learning_rate", found=said, allowed=allowed, hint=hint)


# ---- names -----------------------------------------------------------------------------------------------


def _found(tree: Any, limits: Sequence[StepLimit]) -> dict[str, list[StepLimit]]:
    """The limits of each leaf, by the leaf's path name."""
    names = tuple(path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree))
    leaf = located(names, tuple(dict.fromkeys(limit.tensor for limit in limits)))
    if not leaf:
        raise not_found(limits, names)
    own: dict[str, list[StepLimit]] = {}
    for limit in limits:
        if limit.tensor in leaf:
            own.setdefault(leaf[limit.tensor], []).append(limit)
    return own
