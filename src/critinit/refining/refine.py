"""``critinit.refine``: change the weights that a model has, by measuring it on its user's inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ApplyError, ArgumentError
from critinit.foreign import Library
from critinit.inputs.network import Runner
from critinit.inputs.traced import Arrival, Traced
from critinit.refining.flossing import Flossed, Flossing, floss
from critinit.refining.layers import Array, HeldLayer
from critinit.refining.metainit import Group, MetaInit, Objective, tune
from critinit.showing import Shown, Table, aligned
from critinit.tensors.application import Adapter, find_adapter, patterns_of
from critinit.tensors.selecting import matches

__all__ = [
    "Change",
    "LayerExponents",
    "Loss",
    "Progress",
    "Refined",
    "RefiningAdapter",
    "check_arguments",
    "chosen_layers",
    "refine",
]

Model = TypeVar("Model")
Loss = Callable[[Any, Any], Any]
"""``loss(model, batch)``, a scalar of the framework."""
Progress = Callable[[str, int, int, float], object]
"""``progress(what, step, steps, value)``."""

METHODS = {"flossing": Flossing, "metainit": MetaInit}
_NOTHING = "nothing was written: the model is as it was"


class RefiningAdapter(Adapter, Protocol):
    """An adapter of a framework that critinit can refine models of."""

    def trace(
        self, target: Any, run: Callable[[Any], object], options: Mapping[str, Any], *, embeddings: bool
    ) -> Traced:
        """Run the model once and return what reached its recurrent networks, and its embeddings if they are wanted."""
        ...

    def held_layers(self, target: Any, options: Mapping[str, Any]) -> Sequence[HeldLayer]:
        """Return every recurrent layer in each direction, with its numbers; changes nothing."""
        ...

    def library(self, target: Any) -> Library:
        """Return what differentiates."""
        ...

    def objective(
        self,
        target: Any,
        loss: Loss | None,
        batch: Any,
        run: Callable[..., object],
        seed: int,
        options: Mapping[str, Any],
    ) -> tuple[Objective, Mapping[str, Array]]:
        """Return the loss as a function of the weights that train, and these weights by their tensors' names."""
        ...

    def write(self, target: Any, values: Mapping[str, Array], options: Mapping[str, Any]) -> Any:
        """Write whole tensors by their names, all or none; return the model."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one gate's part, or of a whole tensor that is no recurrent layer's.

    Attributes:
        tensor: The tensor's name in the model.
        layer: The layer in its network; None for other tensors.
        direction: 0 for forward, 1 for backward.
        gate: The gate; empty for other tensors.
        part: "recurrent", "input", "bias" or "projection"; empty for other tensors.
        mean: The mean before.
        new_mean: The mean now.
        variance: The variance before, times the fan-in for a kernel.
        new_variance: The variance now.
        change: ‖new − old‖/‖old‖; None where the old numbers were 0.
    """

    tensor: str
    layer: int | None
    direction: int
    gate: str
    part: str
    mean: float
    new_mean: float
    variance: float
    new_variance: float
    change: float | None


@dataclass(frozen=True, slots=True)
class LayerExponents:
    """The Lyapunov exponents of one layer before and after flossing, in units of 1/step.

    Attributes:
        network: The network's path in the model.
        layer: The layer in it.
        direction: 0 for forward, 1 for backward.
        before: The exponents, the largest first.
        after: The exponents now.
    """

    network: str
    layer: int
    direction: int
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Refined(Shown, Generic[Model]):
    """What ``refine`` returns: the refined model, and how its weights changed.

    Attributes:
        model: The very object that was given where the framework's models are mutable, and a new tree where they are
            not.
        method: The method with its settings.
        changed: Whether anything was written.
        rows: What became of each gate's part.
        exponents: The Lyapunov exponents that were flossed, layer by layer.
        history: The loss of flossing (the mean of (λ − target)²), or the gradient quotient, step by step.
        untouched: Every tensor of a recurrent layer that was left as it was.
        notes: What else matters, in words.
        seconds: How long it took.
    """

    model: Model
    method: Flossing | MetaInit
    changed: bool
    rows: tuple[Change, ...]
    exponents: tuple[LayerExponents, ...]
    history: tuple[float, ...]
    untouched: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    def __repr__(self) -> str:
        name = type(self.method).__name__
        return f"Refined({type(self.model).__name__}, {name}, changed={self.changed}, {len(self.rows)} rows)"

    def __str__(self) -> str:
        return "\n\n".join(_text(table) for table in self._tables())

    def _tables(self) -> Iterator[Table]:
        if self.exponents:
            columns = ("network", "layer", "dir", "exponents", "largest", "is", "smallest", "is")
            yield Table("Lyapunov exponents (1/step)", columns, tuple(map(_exponent_cells, self.exponents)))
        head = ("tensor", "layer", "dir", "gate", "part", "mean", "is", "variance", "is", "change")
        yield Table("refined weights", head, tuple(map(_change_cells, self.rows)), tuple(self._below()))

    def _below(self) -> Iterator[str]:
        yield f"method: {self.method}, {self.seconds:.1f} s"
        if isinstance(self.method, MetaInit) and self.history:
            yield f"gradient quotient: {self.history[0]:.4g}, the smallest {min(self.history):.4g}"
        yield f"left as it was: {', '.join(self.untouched) or 'nothing'}"
        yield from (f"note: {note}" for note in self.notes)


def refine(
    model: Model,
    batch: Any,
    method: str | Flossing | MetaInit = "flossing",
    *,
    loss: Loss | None = None,
    include: str | Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    call: Callable[..., object] | None = None,
    framework: str | Adapter | None = None,
    **options: Any,
) -> Refined[Model]:
    """Refine the weights that a model has, so that gradients of its own inputs neither vanish nor explode.

    "flossing" (Engelken 2023, arXiv:2312.17306) brings the largest Lyapunov exponents of each recurrent layer to 0, on
    what reaches the layer from the batch; layers go from the first to the last, and each reads what those before it
    now make.  "metainit" (Dauphin & Schoenholz 2019) changes the norms of all kernels so that the loss is closer to
    linear.  A good start seldom gains by either: ``docs/refine.md`` says what was measured.

    Nothing is written before all of it succeeded with finite numbers.  Training flags, buffers and random generators
    stay as they are.

    Args:
        model: A model of a framework whose adapter can refine, or its tree of parameters where that is what ``apply``
            takes.
        batch: What the model is called with, as of ``critinit.measure``.
        method: "flossing" or "metainit" with the settings of their papers, or ``critinit.Flossing(...)`` or
            ``critinit.MetaInit(...)`` with your own.
        loss: For "metainit": ``loss(model, batch)``, a scalar; of a tree of parameters ``loss(parameters, batch)``.
            None: half the mean squared distance of the model's output from normal numbers.
        include: Shell-style patterns of paths that narrow what is changed, as of ``critinit.apply``.
        seed: Of what the methods draw: first directions and the order of sequences, or the targets of the default loss.
        progress: Called as ``progress(what, step, steps, value)`` after each step; the value is the loss of flossing,
            or the gradient quotient.
        call: How to run the model, as of ``critinit.measure``.
        framework: The framework's name or an adapter.
        **options: The adapter's own options.

    Returns:
        The model, what changed, and what was measured.  Where a method did not improve what it measures, or met numbers
        that are not finite, the model is as it was, ``changed`` is False, and a note says why.

    Raises:
        ApplyError: The model holds nothing that can be refined.
        ArgumentError: An argument is out of its range, or the batch does not reach a layer.

    Example:
        refined = critinit.refine(model, batch, "flossing")
        print(refined)
    """
    settings = _settings(method)
    if loss is not None and not (callable(loss) and isinstance(settings, MetaInit)):
        allowed = "a function of the model and the batch, for metainit; nothing for flossing"
        raise ArgumentError("loss", found=repr(loss), allowed=allowed)
    check_arguments(seed, call=call, progress=progress)
    adapter = refining_adapter(model, framework, options, "refine")
    run = Runner(batch, call)
    layers = chosen_layers(adapter, model, include, options)
    start = time.perf_counter()
    tell: Progress = progress or (lambda what, step, steps, value: None)
    if isinstance(settings, Flossing):
        found = _flossed(adapter, model, run, layers, settings, seed, tell, options)
    else:
        found = _tuned(adapter, model, batch, run, loss, layers, settings, include, tell, seed, options)
    return replace(found, seconds=time.perf_counter() - start)


def check_arguments(seed: Any, **functions: Any) -> None:
    """Refuse a seed that is none, and what should be a function and cannot be called."""
    if type(seed) is not int or seed < 0:
        raise ArgumentError("seed", found=repr(seed), allowed="an integer from 0")
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise ArgumentError(name, found=repr(function), allowed="a function, or None")


def refining_adapter(
    model: Any, framework: str | Adapter | None, options: Mapping[str, Any], what: str
) -> RefiningAdapter:
    """Return the adapter of a model, if it can refine and prune."""
    adapter = find_adapter(model, framework, options)
    if not hasattr(adapter, "held_layers"):
        hint = f"its adapter cannot {what} models: docs/refine.md says which can"
        raise ApplyError("target", found=f"a model of {adapter.framework}", hint=hint)
    return cast(RefiningAdapter, adapter)


def chosen_layers(
    adapter: RefiningAdapter, model: Any, include: str | Sequence[str] | None, options: Mapping[str, Any]
) -> list[HeldLayer]:
    """Return the recurrent layers that ``include`` names, each known and trainable.

    Raises:
        ApplyError: There is none, one cannot be refined, or a weight is not finite.
        ArgumentError: ``include`` names none.
    """
    layers = list(adapter.held_layers(model, options))
    patterns = patterns_of(include)
    if patterns is not None:
        names = ", ".join(dict.fromkeys(repr(layer.network) for layer in layers))
        layers = [one for one in layers if any(matches(one.network, pattern) for pattern in patterns)]
        if not layers:
            raise ArgumentError("include", found=repr(include), allowed=f"a pattern that one of these matches: {names}")
    for layer in layers:
        problem = layer.problem
        if problem is not None:
            where = ": ".join(filter(None, (str(layer), problem.where)))
            raise ApplyError(where, found=problem.found, allowed=problem.allowed, hint=problem.hint)
        if layer.tensors and all(held.frozen for held in layer.tensors):
            hint = "let it train first, or leave it out with include="
            raise ApplyError(str(layer), found=layer.tensors[0].frozen, allowed="weights that train", hint=hint)
        wrong = next((held.name for held in layer.tensors if not np.isfinite(held.values).all()), None)
        if wrong is not None:
            raise ApplyError(wrong, found="numbers that are not finite", allowed="finite weights")
    return layers


def _settings(method: Any) -> Flossing | MetaInit:
    if isinstance(method, (Flossing, MetaInit)):
        return method
    if not isinstance(method, str) or method not in METHODS:
        allowed = f"{' or '.join(map(repr, METHODS))}, or settings, critinit.Flossing(...) or critinit.MetaInit(...)"
        raise ArgumentError("method", found=repr(method), allowed=allowed)
    return cast("Flossing | MetaInit", METHODS[method]())


# ---- flossing --------------------------------------------------------------------------------------------


def _flossed(
    adapter: RefiningAdapter,
    model: Any,
    run: Callable[[Any], object],
    layers: Sequence[HeldLayer],
    settings: Flossing,
    seed: int,
    tell: Progress,
    options: Mapping[str, Any],
) -> Refined[Any]:
    library = adapter.library(model)
    trial, done = model, list[tuple[HeldLayer, Flossed]]()
    order = _in_order(adapter, model, run, layers, options)
    with _kept(adapter, model, options) as undo:
        for number, layer in enumerate(order):
            sequences = sequences_of(adapter, trial, run, layer, options)

            def progress(step: int, value: float, layer: HeldLayer = layer) -> None:
                tell(str(layer), step, settings.epochs, value)

            found = floss(layer, sequences, settings, seed + number, library, progress)
            done.append((layer, found))
            if not found.problem:
                trial = adapter.write(trial, found.values, options)
            if not found.is_finite:
                undo()
                trial = model
                break
    wrong = not all(found.is_finite for _, found in done)
    exponents = tuple(
        LayerExponents(
            one.network, one.layer, one.direction, _numbers(f.before), _numbers(f.before if wrong else f.after)
        )
        for one, f in done
    )
    kept = [] if wrong else [(layer, found) for layer, found in done if not found.problem]
    rows = tuple(row for layer, found in kept for row in _changes(layer, found.values))
    notes = [f"{layer}: {found.problem}; its weights stay" for layer, found in done if found.problem]
    notes += [] if kept else [_NOTHING]
    return Refined(
        trial,
        settings,
        bool(kept),
        rows,
        exponents,
        tuple(loss for _, found in done for loss in found.losses),
        _untouched(layers, rows),
        tuple(notes),
        0.0,
    )


def _in_order(
    adapter: RefiningAdapter,
    model: Any,
    run: Callable[[Any], object],
    layers: Sequence[HeldLayer],
    options: Mapping[str, Any],
) -> list[HeldLayer]:
    """The layers in the order in which the batch reaches them; each must be reached."""
    traced = adapter.trace(model, run, options, embeddings=False)
    reached = [network.name for network in traced.networks if network.arrivals]
    missed = [str(layer) for layer in layers if layer.network not in reached]
    if missed:
        hint = "call= says how to run the model so that it is reached; include= names the networks to change"
        raise ArgumentError("batch", found=f"one that does not reach {', '.join(missed)}", hint=hint)
    return sorted(layers, key=lambda layer: (reached.index(layer.network), layer.layer, layer.direction))


def sequences_of(
    adapter: RefiningAdapter,
    model: Any,
    run: Callable[[Any], object],
    layer: HeldLayer,
    options: Mapping[str, Any],
) -> list[NDArray[Any]]:
    """Return what a layer reads of the batch, (steps, F) for each sequence, in the order in which it reads.

    Raises:
        ArgumentError: What arrives is not finite.
    """
    traced = adapter.trace(model, run, options, embeddings=False)
    arrivals = [one for network in traced.networks if network.name == layer.network for one in network.arrivals]
    found = [sequence for one in arrivals if one.layer == layer.layer for sequence in _sequences(one)]
    if not all(np.isfinite(sequence).all() for sequence in found):
        raise ArgumentError("batch", found=f"numbers that are not finite at {layer}", allowed="finite numbers")
    return [sequence[::-1] for sequence in found] if layer.direction else found


def _sequences(arrival: Arrival) -> Iterator[NDArray[Any]]:
    for number, values in enumerate(arrival.values):
        yield values if arrival.read is None else values[arrival.read[number]]


@contextmanager
def _kept(adapter: RefiningAdapter, model: Any, options: Mapping[str, Any]) -> Iterator[Callable[[], object]]:
    """While a model is written layer by layer: what puts it back, which is called too if anything fails."""
    held = [one for layer in adapter.held_layers(model, options) for one in layer.tensors]
    values = {one.name: one.values.copy() for one in held}

    def undo() -> object:
        return adapter.write(model, values, options)

    try:
        yield undo
    except BaseException:
        undo()
        raise


# ---- MetaInit --------------------------------------------------------------------------------------------


def _tuned(
    adapter: RefiningAdapter,
    model: Any,
    batch: Any,
    run: Callable[..., object],
    loss: Loss | None,
    layers: Sequence[HeldLayer],
    settings: MetaInit,
    include: str | Sequence[str] | None,
    tell: Progress,
    seed: int,
    options: Mapping[str, Any],
) -> Refined[Any]:
    objective, values = adapter.objective(model, loss, batch, run, seed, options)
    groups = _groups(layers, values, patterns_of(include))
    if not groups:
        raise ApplyError("target", found="no kernel that trains", allowed="a model with weights that train")
    found = tune(objective, values, groups, settings, lambda step, q: tell("metainit", step, settings.steps, q))
    rows: tuple[Change, ...] = ()
    changed, notes = model, [found.problem, _NOTHING] if found.problem else []
    if not found.problem:
        new = {group.tensor: found.values[group.tensor] for group in groups}
        changed = adapter.write(model, new, options)
        held = {one.name for layer in layers for one in layer.tensors}
        others = (name for name in new if name not in held)
        rows = (
            *(row for layer in layers for row in _changes(layer, new)),
            *(_change(name, None, 0, "", "", values[name], new[name]) for name in others),
        )
    untouched = _untouched(layers, rows)
    return Refined(changed, settings, not found.problem, rows, (), found.quotients, untouched, tuple(notes), 0.0)


def _groups(layers: Sequence[HeldLayer], values: Mapping[str, Array], patterns: Sequence[str] | None) -> list[Group]:
    """Each gate's kernels, and every other tensor of two axes or more that the patterns do not leave out."""
    held = {one.name: one for layer in layers for one in layer.tensors}
    groups = [
        Group(name, block.index)
        for name, one in held.items()
        if name in values
        for block in one.blocks
        if block.part in ("recurrent", "input", "projection")
    ]
    others = (name for name, value in values.items() if name not in held and value.ndim >= 2)
    chosen = [n for n in others if patterns is None or any(matches(n, pattern) for pattern in patterns)]
    return [*groups, *(Group(name, ()) for name in chosen)]


# ---- the report ------------------------------------------------------------------------------------------


def _changes(layer: HeldLayer, values: Mapping[str, Array]) -> Iterator[Change]:
    for held in layer.tensors:
        if held.name not in values or np.array_equal(values[held.name], held.values):
            continue
        for block in held.blocks:
            old, new = (block.canonical(array[block.index]) for array in (held.values, values[held.name]))
            part = "bias" if block.part == "zero" else str(block.part)
            yield _change(held.name, layer.layer, layer.direction, block.gate or block.inside, part, old, new)


def _change(name: str, layer: int | None, direction: int, gate: str, part: str, old: Array, new: Array) -> Change:
    fan_in = old.shape[1] if part in ("recurrent", "input", "projection") else 1
    size = float(np.linalg.norm(old))
    moved = float(np.linalg.norm(new - old)) / size if size else None
    numbers = (float(old.mean()), float(new.mean()), float(old.var()) * fan_in, float(new.var()) * fan_in)
    return Change(name, layer, direction, gate, part, *numbers, moved)


def _untouched(layers: Sequence[HeldLayer], rows: Sequence[Change]) -> tuple[str, ...]:
    changed = {row.tensor for row in rows}
    return tuple(dict.fromkeys(h.name for layer in layers for h in layer.tensors if h.name not in changed))


def _numbers(array: Array) -> tuple[float, ...]:
    return tuple(sorted(map(float, array), reverse=True))


def _exponent_cells(one: LayerExponents) -> tuple[str, ...]:
    ends = (one.before[0], one.after[0], one.before[-1], one.after[-1])
    place = (one.network, str(one.layer), str(one.direction), str(len(one.before)))
    return (*place, *(f"{number:.4g}" for number in ends))


def _change_cells(row: Change) -> tuple[str, ...]:
    place = (row.tensor, "" if row.layer is None else str(row.layer), str(row.direction), row.gate, row.part)
    numbers = (row.mean, row.new_mean, row.variance, row.new_variance)
    return (*place, *(f"{number:.4g}" for number in numbers), "" if row.change is None else f"{row.change:.3g}")


def _text(table: Table) -> str:
    return "\n".join([table.title, *aligned([table.columns, *table.rows]), *table.below])
