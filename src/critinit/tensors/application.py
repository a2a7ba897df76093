"""``apply``: put a spec's weights into a model of any framework.

The core knows no framework.  An adapter is an object with the attributes of ``Adapter``, published under the
entry-point group ``critinit.adapters``.  **The entry point's name is the module that must already be imported** for the
adapter to be considered, so finding an adapter imports no framework that the user has not imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

from critinit.errors import ApplyError, ArgumentError, PluginError
from critinit.plugins import Registry
from critinit.showing import Shown, Table
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
    "apply",
    "find_adapter",
    "patterns_of",
]

GROUP = "critinit.adapters"
Sampler = Literal["portable", "native"]
Model = TypeVar("Model")
ModelOut = TypeVar("ModelOut", covariant=True)


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
        return "\n".join([*_columns([_HEAD, *map(_cells, self.rows)]), *self._below()])

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
    place = (row.tensor, str(row.layer), str(row.direction), row.gate, row.part, row.distribution)
    return (*place, *(f"{number:.4g}" for number in numbers), error)


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


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
    """The result of ``apply``.

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
    ) -> Applied[Any]:
        """Write the spec into the target, all or nothing.

        The arguments are those of ``critinit.apply``, checked but for the seed: what stands for one is the framework's.
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
    **options: Any,
) -> Applied[Model]:
    """Write the weights that a spec describes into a model of any framework that has an adapter.

    Every recurrent module of the spec's cell inside the target is written.  A module with as many layers as the spec
    takes the whole spec.  Modules that have as many layers *together* (a Sequential of single layers) take the spec's
    layers one after the other; the report's notes say which took which.  Several modules that each take the whole spec
    get independent weights from the same seed; a target with a single module gets exactly
    ``critinit.tensors.sampling.draw(spec, …, seed=seed)``.

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
            below it.
        framework: The framework's name, where the target could be of several, or an adapter that is not published.
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
    patterns = patterns_of(include)
    adapter = find_adapter(target, framework, options)
    return adapter.apply(spec, target, seed=seed, sampler=sampler, include=patterns, options=options)


def patterns_of(include: str | Sequence[str] | None) -> Sequence[str] | None:
    """Return the patterns that ``include=`` gives, or None.

    Raises:
        ArgumentError: It gives something else.
    """
    patterns = (include,) if isinstance(include, str) else include
    if patterns is None or (isinstance(patterns, Sequence) and patterns and all(isinstance(p, str) for p in patterns)):
        return patterns
    raise ArgumentError("include", found=repr(include), allowed="a pattern of module paths, or a list of them")


def find_adapter(target: object, framework: str | Adapter | None, options: Mapping[str, Any]) -> Adapter:
    """Return the adapter that ``framework=`` gives or names, or the one that claims the target.

    Raises:
        ApplyError: No adapter, or more than one, claims it.
        ArgumentError: No usable adapter has the name.
    """
    return _find(target, framework, options) if framework is None or isinstance(framework, str) else framework


def _checked(item: object, source: str) -> tuple[str, Adapter]:
    missing = [name for name in ("framework", "module", "claims", "apply") if not hasattr(item, name)]
    if missing:
        allowed = "an adapter (critinit.tensors.application.Adapter)"
        raise PluginError(found=f"no {missing[0]}", allowed=allowed, source=source)
    adapter: Adapter = item  # type: ignore[assignment]  # held by its attributes
    return adapter.module, adapter


ADAPTERS: Registry[Adapter] = Registry("adapter", group=GROUP, built_in={}, checked=_checked)
"""The published adapters by the module that must be imported for them."""


def _find(target: object, framework: str | None, options: Mapping[str, Any]) -> Adapter:
    published = ADAPTERS.names()
    imported = [name for name in published if name in sys.modules]
    usable = [adapter for name in imported if (adapter := ADAPTERS.find(name)) is not None]
    named = [adapter for adapter in usable if framework is None or adapter.framework == framework]
    if framework is not None and not named:
        allowed = ", ".join(adapter.framework for adapter in usable) or "none (import the framework first)"
        raise ArgumentError("framework", found=repr(framework), allowed=allowed)
    claiming = [adapter for adapter in named if framework is not None or adapter.claims(target, options)]
    if len(claiming) == 1:
        return claiming[0]
    kind = f"{type(target).__module__}.{type(target).__qualname__}"
    if claiming:
        names = ", ".join(adapter.framework for adapter in claiming)
        found = f"a {kind}, which could be of several frameworks"
        raise ApplyError("target", found=found, hint=f"say framework= and one of {names}")
    adapters = ", ".join(published) or "none (critinit's own come with its installed distribution)"
    words = f"no adapter for it; adapters found: {adapters}; imported: {', '.join(imported) or 'none of these'}"
    hint = "; ".join(filter(None, (_instead(target), words, ADAPTERS.hint(""))))
    raise ApplyError("target", found=f"a {kind}", allowed="a model of a framework that is imported", hint=hint)


def _instead(target: object) -> str:
    """What to give instead, for what people give."""
    if isinstance(target, type):
        return f"give a model, {target.__name__}(...), not its class"
    if isinstance(target, (str, os.PathLike)):
        return "give a model, not a file; critinit.materialize makes a file of weights"
    if isinstance(target, Mapping) and any(str(name).rpartition(".")[2].startswith("weight") for name in target):
        return "this looks like a state_dict; give the model"
    return ""
