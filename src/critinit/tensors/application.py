"""``apply``: put a spec's weights into a model of any framework.

The core knows no framework.  An adapter is an object with the attributes of ``Adapter``, published under
the entry-point group ``critinit.adapters``; **the entry point's name is the module that must already be
imported** for the adapter to be considered ("torch", "flax.linen", …), so that finding an adapter imports
no framework that the user has not imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

from critinit.errors import ApplyError, ArgumentError, PluginError
from critinit.plugins import Registry
from critinit.tensors.sampling import check_seed
from critinit.showing import Shown, Table
from critinit.spec import InitSpec

__all__ = ["ADAPTERS", "Adapter", "Applied", "Report", "ReportRow", "Sampler", "apply"]

GROUP = "critinit.adapters"
Sampler = Literal["portable", "native"]
Model = TypeVar("Model")
ModelOut = TypeVar("ModelOut", covariant=True)


@dataclass(frozen=True, slots=True)
class ReportRow:
    """What one gate's part was to be, and what stands in the model.

    Means and variances are of the effective numbers: the framework's sign, offset and layout undone.
    ``variance`` of a kernel is Var(entry)·fan_in.  ``orthogonality_error`` is max |W Wᵀ/gain² − I| over (at
    most 32, evenly spaced) rows; None where the spec asks for no orthogonal or identity kernel.
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
    """What ``apply`` wrote: iterable over its ``rows``.

    ``zeroed`` names tensors that hold no gate's own numbers and were set to 0 (a second bias).  ``untouched``
    names every tensor of the model that was left as it was.  ``notes`` says in words what else matters.
    """

    rows: tuple[ReportRow, ...]
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
        if self.zeroed:
            yield f"set to 0: {', '.join(self.zeroed)}"
        yield f"left as it was: {', '.join(self.untouched) or 'nothing'}"
        yield from (f"note: {note}" for note in self.notes)


_HEAD = (
    "tensor",
    "layer",
    "dir",
    "gate",
    "part",
    "distribution",
    "mean",
    "is",
    "variance",
    "is",
    "orth. error",
)


def _cells(row: ReportRow) -> tuple[str, ...]:
    error = "" if row.orthogonality_error is None else f"{row.orthogonality_error:.1e}"
    numbers = (row.mean, row.realised_mean, row.variance, row.realised_variance)
    place = (row.tensor, str(row.layer), str(row.direction), row.gate, row.part, row.distribution)
    return (*place, *(f"{number:.4g}" for number in numbers), error)


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]


@dataclass(frozen=True, slots=True)
class Applied(Shown, Generic[Model]):
    """The result of ``apply``: the model, and the report of what was written into it.

    ``model`` is the very object that was given where the framework's models are mutable (torch, Keras,
    nnx), and a new tree where they are not (linen, Equinox, Haiku).
    """

    model: Model
    report: Report

    def __repr__(self) -> str:
        return f"Applied({type(self.model).__name__}, {len(self.report)} rows)"

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
        """Whether the target is this framework's."""
        ...

    def apply(
        self,
        spec: InitSpec,
        target: Any,
        *,
        seed: int,
        sampler: Sampler,
        include: Sequence[str] | None,
        options: Mapping[str, Any],
    ) -> Applied[Any]:
        """Write the spec into the target, all or nothing; raises ``CritinitError``."""
        ...


def apply(
    spec: InitSpec,
    target: Model,
    *,
    seed: int = 0,
    sampler: Sampler = "portable",
    include: str | Sequence[str] | None = None,
    framework: str | Adapter | None = None,
    **options: Any,
) -> Applied[Model]:
    """Write the weights that ``spec`` describes into ``target``, a model of a framework with an adapter.

    Every recurrent network of the spec's cell inside the target is written; ``include`` narrows them to
    those whose path matches one of its patterns (shell style; a pattern also matches all that lies below
    it).  A network with as many layers as the spec takes the whole spec; networks that have as many layers
    *together* (a Sequential of single layers) take it in the order of the tree.  Several networks that each
    take the whole spec get independent weights from the same seed; a target with a single network gets
    exactly ``critinit.tensors.sampling.draw(spec, …, seed=seed)``.

    ``sampler``: "portable" draws in NumPy, float64, the same numbers in every framework, cast once; "native"
    draws kernels by the framework on the tensor's own device (biases, H numbers each, are portable in both).
    ``framework`` names the adapter where a target could be of several, or is one that is not published.
    ``options`` are the adapter's own.

    Nothing is written before everything was checked, and what was written is undone if writing fails.  No
    global random state is touched.  Raises ``ApplyError`` (the target cannot take the spec; it is as it was)
    or ``ArgumentError`` (an argument out of range).
    """
    if not isinstance(spec, InitSpec):
        hint = "critinit.load reads one"
        raise ArgumentError("spec", found=type(spec).__name__, allowed="an InitSpec", hint=hint)
    if sampler not in get_args(Sampler):
        raise ArgumentError("sampler", found=repr(sampler), allowed=", ".join(get_args(Sampler)))
    patterns = (include,) if isinstance(include, str) else include
    if patterns is not None and not _are_patterns(patterns):
        allowed = "a pattern of module paths, or a list of them"
        raise ArgumentError("include", found=repr(include), allowed=allowed)
    adapter = _find(target, framework, options) if framework is None or isinstance(framework, str) else framework
    return adapter.apply(spec, target, seed=check_seed(seed), sampler=sampler, include=patterns, options=options)


def _are_patterns(value: object) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(isinstance(pattern, str) for pattern in value)


def _checked(item: object, source: str) -> tuple[str, Adapter]:
    missing = [name for name in ("framework", "module", "claims", "apply") if not hasattr(item, name)]
    if missing:
        raise PluginError(found=f"no {missing[0]}", allowed="an adapter (critinit.tensors.application.Adapter)", source=source)
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
        raise ApplyError("target", found=f"a {kind}, which could be of several frameworks", hint=f"say framework={names}")
    found = ", ".join(published) or "none (critinit's own come with its installed distribution)"
    words = f"no adapter for it; adapters found: {found}; imported: {', '.join(imported) or 'none of these'}"
    hint = "; ".join(filter(None, (words, ADAPTERS.hint(""), _instead(target))))
    raise ApplyError("target", found=f"a {kind}", hint=hint)


def _instead(target: object) -> str:
    """What to give instead, for what people give."""
    if isinstance(target, type):
        return "give a model, not its class"
    if isinstance(target, Mapping) and any(str(name).rpartition(".")[2].startswith("weight") for name in target):
        return "give the model, and load its state_dict afterwards if you have to"
    return ""
