"""``apply``: put a spec's weights into a model of any framework.

The core knows no framework.  An adapter is an object with the attributes of ``Adapter``, published under the
entry-point group ``critinit.adapters``.  **The entry point's name is the module that must already be imported** for the
adapter to be considered, so finding an adapter imports no framework that the user has not imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

from critinit.errors import ApplyError, ArgumentError, PluginError
from critinit.plugins import Registry
from critinit.showing import Shown, Table, aligned
from critinit.spec import InitSpec, checked_spec
from critinit.tensors.blocks import Index

__all__ = [
    "ADAPTERS",
    "Adapter",
    "Applied",
    "Report",
    "ReportRow",
    "Sampler",
    "StepLimit",
    "Where",
    "apply",
    "find_adapter",
    "patterns_of",
]

GROUP = "critinit.adapters"
Sampler = Literal["portable", "native"]
Model = TypeVar("Model")
ModelOut = TypeVar("ModelOut", covariant=True)
Where = Mapping[str, Any] | Sequence[Mapping[str, Any] | Sequence[Mapping[str, Any]]]
"""What ``where`` can be: see ``critinit.tensors.places``."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """What one gate's part was to be, and what stands in the model.

    Means and variances are of the effective numbers: the framework's sign, offset and layout undone.

    Attributes:
        tensor: The tensor's name in the model.
        layer: The spec's layer.
        direction: 0 for forward, 1 for backward.
        gate: The gate; empty for a projection.
        part: "recurrent", "input", "bias" or "projection".
        distribution: The name of the distribution asked for.
        mean: The mean asked for.
        variance: The variance asked for: Var(entry)·fan-in of a kernel.
        realised_mean: The mean of what stands there.
        realised_variance: The variance of what stands there, like ``variance``.
        orthogonality_error: max |W Wᵀ/gain² − I| over at most 32 evenly spaced rows; None where the spec asks for no
            orthogonal or identity kernel.
        group: The name of the group of units, "" in a layer of one group.
    """

    tensor: str
    layer: int
    direction: int
    gate: str
    part: str
    distribution: str
    mean: float
    variance: float
    realised_mean: float
    realised_variance: float
    orthogonality_error: float | None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Report(Shown):
    """What ``apply`` wrote; iterating goes over its rows.

    Attributes:
        rows: One row a gate and part.
        seed: The seed that the weights were drawn with; with ``seed=`` the same weights are made again.
        zeroed: The tensors that hold no gate's own numbers and were set to 0 (a second bias).
        untouched: Every tensor of the model that was left as it was.
        notes: What else matters, in words, such as which module took which layer.
    """

    rows: tuple[ReportRow, ...]
    seed: int
    zeroed: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ReportRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return "\n".join([*aligned([_HEAD, *map(_cells, self.rows)]), *self._below()])

    def _tables(self) -> Iterator[Table]:
        yield Table("written weights", _HEAD, tuple(map(_cells, self.rows)), tuple(self._below()))

    def _below(self) -> Iterator[str]:
        yield f"seed: {self.seed}"
        if self.zeroed:
            yield f"set to 0: {', '.join(self.zeroed)}"
        yield f"left as it was: {', '.join(self.untouched) or 'nothing'}"
        yield from (f"note: {note}" for note in self.notes)


_HEAD = ("tensor", "layer", "dir", "gate", "part", "distribution", "mean", "is", "variance", "is", "orth. error")


def _cells(row: ReportRow) -> tuple[str, ...]:
    error = "" if row.orthogonality_error is None else f"{row.orthogonality_error:.1e}"
    numbers = (row.mean, row.realised_mean, row.variance, row.realised_variance)
    gate = f"{row.group}: {row.gate}" if row.group else row.gate
    place = (row.tensor, str(row.layer), str(row.direction), gate, row.part, row.distribution)
    return (*place, *(f"{number:.4g}" for number in numbers), error)


@dataclass(frozen=True, slots=True)
class StepLimit:
    """The largest learning rate that one region of a tensor can bear (see ``critinit.limit_steps``).

    Attributes:
        tensor: The tensor's name in the model.
        index: The region, a slice or a number for each axis that it restricts; () for the whole tensor.
        limit: The rate.
    """

    tensor: str
    index: Index
    limit: float


@dataclass(frozen=True, slots=True)
class Applied(Shown, Generic[Model]):
    """What ``apply`` returns: the model, the report and the limits on the learning rate.

    Attributes:
        model: The very object that was given where the framework's models are mutable, and a new tree where they are
            not.
        report: What was written into it.
        limits: The limits on the learning rate that the spec states, for ``critinit.limit_steps``.
    """

    model: Model
    report: Report
    limits: tuple[StepLimit, ...] = ()

    @property
    def seed(self) -> int:
        """The seed that the weights were drawn with, the report's."""
        return self.report.seed

    def __repr__(self) -> str:
        return f"Applied({type(self.model).__name__}, {len(self.report)} rows, seed={self.seed})"

    def _tables(self) -> Iterator[Table]:
        return self.report._tables()


class Adapter(Protocol):
    """What an entry point of the group ``critinit.adapters`` loads to."""

    @property
    def framework(self) -> str:
        """Its name in messages, and as ``framework=``."""
        ...

    @property
    def module(self) -> str:
        """The module that must be imported before it is considered, the name of its entry point."""
        ...

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether the target is this framework's."""
        ...

    def apply(
        self,
        spec: InitSpec,
        target: Any,
        *,
        seed: object,
        sampler: Sampler,
        include: Sequence[str] | None,
        options: Mapping[str, Any],
        trust: bool = False,
        where: Any = None,
        verify: bool | Callable[..., Any] = False,
    ) -> Applied[Any]:
        """Write the spec into the target, all or nothing.

        The arguments are those of ``critinit.apply``, checked but for the seed: what stands for one is the framework's.
        ``trust``, ``where`` and ``verify`` are handed over only where they are given.
        """
        ...


def apply(
    spec: InitSpec,
    target: Model,
    *,
    seed: Any = None,
    sampler: Sampler = "portable",
    include: str | Sequence[str] | None = None,
    framework: str | Adapter | None = None,
    trust: bool = False,
    where: Where | None = None,
    verify: bool | Callable[..., Any] = False,
    **options: Any,
) -> Applied[Model]:
    """Write the weights that a spec describes into a model of any framework that has an adapter.

    Every recurrent module of the spec's cell inside the target is written.  A module with as many layers as the spec
    takes the whole spec.  Modules that have as many layers *together* (a Sequential of single layers) take the spec's
    layers one after the other, in an order in which each reads the width that the one before gives; the report's notes
    say which took which.  Several modules that each take the whole spec get independent weights from the same seed; a
    target with a single module gets exactly ``critinit.tensors.sampling.draw(spec, …, seed=seed)``.

    Of a module whose class the adapter does not know, ``where`` says in which tensors the parts of the gates lie.

    Nothing is written before everything was checked, and what was written is undone if writing fails.

    With a seed no global random state is read or changed.  Without one, the seed is the next number of the generator
    that the framework's own initializers follow, and each call takes exactly one.  A framework without a global
    generator asks for a seed or a key.

    Args:
        spec: What the weights are to be.
        target: The model, or a part of it; it must be built already.
        seed: An integer from 0 to 2¹²⁸ − 1; the same seed gives the same weights.  A framework that draws from keys
            takes a key too, which stands for the integer that its words spell.  None: see above; the seed that was
            taken is in ``seed`` of what is returned.
        sampler: "portable" draws by NumPy in float64, the same numbers in every framework, and casts once.  "native"
            draws kernels by the framework on the tensor's own device (biases, H numbers each, are portable in both).
        include: Shell-style patterns of module paths that narrow what is written; a pattern also matches all that lies
            below it.  A list that names one module after the other says their order, where widths leave it open.
        framework: The framework's name, where the target could be of several, or an adapter that is not published.
        trust: Whether to write also into a class that overrides the step of the framework's layer that it derives from,
            because you know that it computes the same.
        where: Where the target keeps the parts of its gates (``critinit.fused``, ``critinit.separate``,
            ``critinit.Slice``): a layer, or a list of layers, or of pairs (forward, backward).  Only these are written.
        verify: How to run the model, to hold it to the cell's equations before anything is written:
            ``(model, x, state) -> state`` for one step of a single layer, with x (batch, inputs) and the state h
            (batch, units) or, of a cell that has a memory s beside h, (h, s); or ``(model, x) -> outputs`` for
            sequences x (time, batch, inputs) from zero states.  True where the model itself is such a step.
        **options: The adapter's own options.

    Returns:
        The model, the report of what was written, and the seed.

    Raises:
        ApplyError: The target cannot take the spec; it is as it was.
        ArgumentError: An argument is out of its range.

    Example:
        applied = critinit.apply(critinit.generate("gru", T=784), torch.nn.GRU(10, 64), seed=0)
        print(applied.report)
    """
    checked_spec(spec)
    if sampler not in get_args(Sampler):
        raise ArgumentError("sampler", found=repr(sampler), allowed=", ".join(get_args(Sampler)))
    for name, flag in (("trust", trust), ("verify", verify)):
        if not isinstance(flag, bool) and not (name == "verify" and callable(flag)):
            allowed = "True, False" + (", or a function that runs the model" if name == "verify" else "")
            raise ArgumentError(name, found=repr(flag), allowed=allowed)
    if where is not None and include is not None:
        hint = "where says itself what is written; for several networks call apply for each, with a seed of its own"
        raise ArgumentError("include", found=repr(include), allowed="nothing beside where", hint=hint)
    patterns = patterns_of(include)
    adapter = find_adapter(target, framework, options, anything=where is not None)
    asked: dict[str, Any] = {"trust": trust, "where": where, "verify": verify}
    given = {name: value for name, value in asked.items() if value is not None and value is not False}
    return adapter.apply(spec, target, seed=seed, sampler=sampler, include=patterns, options=options, **given)


def patterns_of(include: str | Sequence[str] | None) -> Sequence[str] | None:
    """Return the patterns that ``include=`` gives, or None.

    Raises:
        ArgumentError: It gives something else.
    """
    patterns = (include,) if isinstance(include, str) else include
    if patterns is None or (isinstance(patterns, Sequence) and patterns and all(isinstance(p, str) for p in patterns)):
        return patterns
    raise ArgumentError("include", found=repr(include), allowed="a pattern of module paths, or a list of them")


def _checked(item: object, source: str) -> tuple[str, Adapter]:
    missing = [name for name in ("framework", "module", "claims", "apply") if not hasattr(item, name)]
    if missing:
        allowed = "an adapter (critinit.tensors.application.Adapter)"
        raise PluginError(found=f"no {missing[0]}", allowed=allowed, source=source)
    adapter: Adapter = item  # type: ignore[assignment]  # held by its attributes
    return adapter.module, adapter


ADAPTERS: Registry[Adapter] = Registry("adapter", group=GROUP, built_in={}, checked=_checked)
"""The published adapters by the module that must be imported for them."""


def find_adapter(
    target: object, framework: str | Adapter | None, options: Mapping[str, Any], *, anything: bool = False
) -> Adapter:
    """Return the adapter for a target: the one that is given or named, or the only one that claims it.

    Args:
        target: The model.
        framework: The framework's name, or the adapter, or None.
        options: The options of adapters that are given.
        anything: Whether one will do that only knows what ``where`` says.

    Raises:
        ApplyError: The target is no model, no adapter claims it, or several do.
        ArgumentError: No adapter has that name.
    """
    _check_target(target)
    if framework is not None and not isinstance(framework, str):
        return framework
    published = ADAPTERS.names()
    imported = [name for name in published if name in sys.modules]
    usable = [adapter for name in imported if (adapter := ADAPTERS.find(name)) is not None]
    named = [adapter for adapter in usable if framework is None or adapter.framework == framework]
    if framework is not None and not named:
        allowed = ", ".join(adapter.framework for adapter in usable) or "none (import the framework first)"
        raise ArgumentError("framework", found=repr(framework), allowed=allowed)

    def claim(needs_where: bool) -> list[Adapter]:
        able = [adapter for adapter in named if getattr(adapter, "needs_where", False) == needs_where]
        return [adapter for adapter in able if framework is not None or adapter.claims(target, options)]

    claiming = claim(needs_where=False)
    only_where = [] if claiming else claim(needs_where=True)  # these look through all of a model
    claiming = claiming or (only_where if anything or framework is not None else [])
    if len(claiming) == 1:
        return claiming[0]
    kind = f"{type(target).__module__}.{type(target).__qualname__}"
    if claiming:
        names = ", ".join(adapter.framework for adapter in claiming)
        found = f"a {kind}, which could be of several frameworks"
        raise ApplyError("target", found=found, hint=f"say framework= and one of {names}")
    adapters = ", ".join(published) or "none (critinit's own come with its installed distribution)"
    words = f"no adapter for it; adapters found: {adapters}; imported: {', '.join(imported) or 'none of these'}"
    instead = _instead(target, named, options)
    if only_where and not instead:
        instead = "say with where= in which arrays its gates lie (critinit.fused, critinit.separate)"
    hint = "; ".join(filter(None, (instead, words, ADAPTERS.hint(""))))
    raise ApplyError("target", found=f"a {kind}", allowed="a model of a framework that is imported", hint=hint)


def _check_target(target: object) -> None:
    """Refuse what people give instead of a model, and say what to give."""
    kind = f"a {type(target).__module__}.{type(target).__qualname__}"
    if isinstance(target, type):
        kind = f"the class {target.__module__}.{target.__qualname__}"
        hint = f"make a model of it first: model = {target.__name__}(...), then apply(spec, model)"
    elif isinstance(target, (str, os.PathLike)):
        hint = "give a model, not a file; critinit.materialize makes a file of weights, critinit.check reads one"
    elif isinstance(target, Iterator):
        hint = "an iterator, such as parameters() returns, is no model; give the model itself"
    else:
        return
    raise ApplyError("target", found=kind, allowed="a model", hint=hint)


def _instead(target: object, adapters: Sequence[Adapter], options: Mapping[str, Any]) -> str:
    """What to give instead of an object that no adapter claims, where that is known."""
    if _is_state(target):
        return "this looks like a state_dict; give the model itself"
    held = list(target.values()) if isinstance(target, Mapping) else target if isinstance(target, (list, tuple)) else ()
    for adapter in adapters:
        if any(adapter.claims(one, options) for one in held):
            return f"it holds models of {adapter.framework}; give a model that holds them, or each by itself"
        of_framework = getattr(adapter, "instead", None)
        if of_framework is not None and (said := of_framework(target)):
            return str(said)
    return ""


def _is_state(target: object) -> bool:
    """Whether these are a model's weights by dotted names."""
    if not isinstance(target, Mapping) or not target or not all(isinstance(name, str) for name in target):
        return False
    ends = ("weight", "bias")
    named = any(name.rpartition(".")[2].startswith(ends) for name in target)
    return named and all(hasattr(value, "shape") for value in target.values())
