"""What theory says of a spec, in the numbers that specs and commands show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np

from critinit.cells import Cell
from critinit.distributions import ZeroKernel
from critinit.distributions.numbers import LARGEST, LONGEST_TIME, StrictModel
from critinit.errors import ArgumentError, Problem
from critinit.frozen import FrozenMapping
from critinit.showing import Shown, Table
from critinit.spec.model import (
    Gate,
    Gates,
    InitSpec,
    Jacobian,
    Layer,
    NotComputed,
    Numbers,
    Predicted,
    Target,
    TimeConstants,
)
from critinit.spec.reading import checked_spec
from critinit.spec.tables import numbers_table, of_features
from critinit.theory.comparing import OVER_T_LIMIT
from critinit.theory.decay import over_T
from critinit.theory.groups import mixed
from critinit.theory.parameters import has_identity
from critinit.theory.protocol import (
    ENDLESS,
    MANY_FEATURES,
    SAME_INPUTS,
    features_of,
    features_of_layers,
    features_read,
    has_spread,
    keep_variance,
    layers_below,
    shows_features,
)
from critinit.theory.untied.solution import UNBOUNDED, Untied, padding_parameters, solve_layer, unit_time_constants

__all__ = [
    "Analysis",
    "LayerAnalysis",
    "Theories",
    "analyze",
    "deviations",
    "fast_numbers",
    "features_counted",
    "predict",
    "predicted",
    "reached",
    "state_correlation",
    "tied_numbers",
    "tying_changes_nothing",
    "untied_numbers",
    "with_features_noted",
]

Theories = Literal["untied", "tied", "both"]
"""Which theories to ask."""

_COARSE_PARTICLES, _COARSE_STEPS = 300, 300
"""A sample of the tied theory in a few tenths of a second: second moments to 1 to 5 %, ln χ to .003 or so; over fewer
steps slow states come out too fast."""
_LONGER_STEPS = 2000
"""Steps that a sample of pairs of units is followed, at most: they need no fields, so a step is cheap; and one of units
that normal biases make slow, whose late growth goes on changing."""
_FEW_PARTICLES = 5.0 / _COARSE_PARTICLES
"""What a second moment of so few particles is too large by, relative: 1.5 % (14 samples each of six specs), more than
its own scatter, so it belongs to the standard error."""
_ERROR_DIGITS = 2
"""Digits of a standard error."""
_ERRORS = 4.0
"""Standard errors within which a sampled number still holds: chaos brings a machine's rounding to that."""
_DIGITS = 6
"""Digits of a stated number: what is left of differences between machines stays below."""
_VARIANCE_PLACES = 12
"""Decimal places of the Jacobian's variance, a difference of numbers of order 1."""
_TOLERANCE = 1e-3
"""Relative difference up to which a stated number still holds: ten times what the theories resolve."""
_SMALL = 1e-6
"""Absolute difference that never counts: numbers this small are rounding."""
_NO_MEMORY = 0.0101
"""T times a recurrent variance up to which tied and untied weights give the same numbers to .1 %."""
_SMALLEST_RATE = 1e-9
"""Difference of growth rates near 1 that is rounding."""
_SCATTERED = math.exp(-0.1)
"""χ from which networks of 100 units, whose ln χ scatters by .1, may be on either side of 1."""
_SCATTER = (
    "second_moment, chi: nothing bounds this cell's state, and ln chi of networks of H units scatters by about "
    "1/sqrt(H): where it is nearer to 0 than that, some of them grow without end"
)
_NEAR_ONE = 0.1
"""Numbers so near 1 are rounded in their distance from it, which is what matters."""
_USUAL_UNITS = 1000
"""Units of usual networks: the untied growth has a note where so many show clearly less of it."""
_UNSEEN = 0.03
"""Share of ln χ over T that these do not show, from which that note is given: the estimate is half of what they miss in
LSTMs of strong inputs."""
_MANY_FEATURES = 1000
"""Features from which on the theory takes them as infinitely many: its second moments differ by .4 % (``critical``) to
1.4 % (``chrono``) then, less than what is sampled."""
_NO_FEATURES = "for inputs of infinitely many features: where nothing bounds a state, theory has no numbers for few"
"""The note of tied numbers where few features were asked for, and units cannot be sampled."""
_UNTIED_NOTE = (
    "the inputs are correlated in time, which changes nothing where weights are drawn anew, and much where they are "
    "kept: critinit analyze samples the tied numbers"
)
"""The note of untied numbers where the tied ones differ by more than the recurrent kernels."""


class LayerAnalysis(StrictModel):
    """What theory says of one layer.

    Attributes:
        features: Of how many features the inputs are for which the tied numbers are; None: infinitely many.
        untied: The numbers of the untied theory; None where it was not asked for or has none (identity kernels).
        tied: The numbers of the tied theory; None where it was not asked for.
    """

    features: int | None = None
    untied: Numbers | None = None
    tied: Numbers | None = None


class Analysis(Shown, StrictModel):
    """What theory says of every layer; printed or in a notebook it is a table.

    Attributes:
        layers: One ``LayerAnalysis`` a layer.
    """

    layers: tuple[LayerAnalysis, ...]

    def _tables(self) -> Iterator[Table]:
        for index, layer in enumerate(self.layers):
            both = {"untied": layer.untied, "tied": layer.tied}
            readings = {name: numbers for name, numbers in both.items() if numbers is not None}
            yield numbers_table(f"layer {index}{of_features(layer.features)}", readings)


def analyze(
    spec: InitSpec,
    *,
    weights: Theories = "both",
    features: int | None = None,
    seed: int = 0,
    precision: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """Return what theory says of every layer of a spec.

    The untied theory is for inputs of infinitely many features.  The tied one is for M features, independent and
    Gaussian, where M is known: all gates of all units read the same ones.

    Args:
        spec: The spec.
        weights: "untied" (weights drawn anew at every step: the published theory, exact quadrature), "tied" (one set of
            weights, as real networks have: the causal dynamic mean field, sampled, with standard errors) or "both".
        features: M, numbers in one input; more than 1,000 count as infinitely many.  None: what the spec's
            ``generated`` says, where that is at most 100; else infinitely many.
        seed: Seed of the sampled numbers.
        precision: Wanted relative standard error of the sampled second moment, and of ln of the retention where units
            keep with time constants of their own; elsewhere a third of it is that of ln χ.  Half of it takes four times
            as long.  None: .009, or what a minute gives; .015 with M features.
        progress: Called with (parts done, parts in all) while sampling.

    Raises:
        ArgumentError: ``spec`` is no ``InitSpec``, an argument is out of its range, or the numbers of a layer overflow.

    Example:
        >>> from critinit import generate
        >>> analysis = analyze(generate("gru", T=100, scheme="isometry"), weights="untied")
        >>> round(analysis.layers[0].untied.time_scale)
        100
    """
    checked_spec(spec)
    if weights not in ("untied", "tied", "both"):
        raise ArgumentError("weights", found=repr(weights), allowed="untied, tied, both")
    counted = features_counted(spec, features)
    sampled: tuple[Numbers | None, ...] = (None,) * len(spec.layers)
    if weights != "untied":
        sampled = tied_numbers(spec, features=counted, seed=seed, precision=precision, progress=progress)
    if counted is None and _few(spec, features) is not None:
        sampled = tuple(one and one.model_copy(update={"notes": (*one.notes, _NO_FEATURES)}) for one in sampled)
    layers = []
    for index in range(len(spec.layers)):
        untied = _untied(spec, index) if weights != "tied" else None
        read = features_read(spec, index, counted) if weights != "untied" else None
        if untied is not None and read is not None:
            untied = untied.model_copy(update={"notes": (*untied.notes, MANY_FEATURES)})
        layers.append(LayerAnalysis(features=read, untied=untied, tied=sampled[index]))
    return Analysis(layers=tuple(layers))


def features_counted(spec: InitSpec, features: int | None) -> int | None:
    """Return of how many features the theory takes the inputs to be; None: infinitely many.

    It takes infinitely many, and a note says so, where no sample shows few (``critinit.theory.protocol``).

    Args:
        spec: The spec.
        features: M as it is asked for.  None: what the spec says, where that is few.

    Raises:
        ArgumentError: It is below 1.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=50, input_size=3)
        >>> [features_counted(spec, features) for features in (None, 1, 10**6)]
        [3, 1, None]
    """
    if features is not None and (not isinstance(features, int) or isinstance(features, bool) or features < 1):
        raise ArgumentError("features", found=repr(features), allowed="an integer of at least 1")
    return _few(spec, features) if shows_features(spec.find_cell()) else None


def _few(spec: InitSpec, features: int | None) -> int | None:
    """M as it is asked for, or as the spec says; None where it is infinitely many."""
    if features is None:
        return features_of(spec)
    return features if features <= _MANY_FEATURES else None


def tied_numbers(
    spec: InitSpec,
    *,
    features: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    precision: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Numbers, ...]:
    """Return the numbers of the tied theory for every layer.

    Where tied weights give the untied numbers (``tying_changes_nothing``) they are those, exact; else they are sampled.
    Further layers read the states of those below, as in a network.  With few features all groups of units read the
    same ones, so they are sampled together; without, each by itself.

    Args:
        spec: The spec.
        features: Numbers in one input of the first layer.  None: infinitely many.
        seed: Seed of the sampled numbers.
        steps: How long a perturbation is followed; by default as ``critinit.theory.protocol`` says.
        precision: As for ``analyze``.
        progress: Called with (parts done, parts in all) while sampling.
    """
    from critinit.theory.tied.solution import tied_layer, tolerance_of

    tolerance = None if precision is None else tolerance_of(precision)
    cell, found, started = spec.find_cell(), list[Numbers](), 0
    read = features_of_layers(spec, features)
    together = [(spec,) if read[i] is not None else _groups_alone(spec, i) for i in range(len(spec.layers))]
    count = sum(map(len, together))
    for index, specs in enumerate(together):
        parts = []
        for group, one in enumerate(specs):
            alone, numbers = one.layers[index], _as_untied(one, index) if read[index] is None else None
            if numbers is None:
                done = None if progress is None else partial(_part, progress, started, count)
                alone, *below = (_without_small_kernels(cell, x, spec.T) for x in (alone, *layers_below(one, index)))
                numbers = tied_layer(
                    cell, alone, T=spec.T, steps=steps, tolerance=tolerance, below=below, features=read[index],
                    seed=(seed, index, group) if group else (seed, index), progress=done,
                    beyond=_estimated_course(one, index) if read[index] is None else None,
                )  # fmt: skip
            parts.append(_with_notes(cell, alone, numbers))
            started += 1
        found.append(_together(spec, index, parts))
    return tuple(found)


def _groups_alone(spec: InitSpec, index: int) -> tuple[InitSpec, ...]:
    """For each group of units of a layer, the spec in which that layer has this group alone."""
    layer = spec.layers[index]
    if len(layer.groups) == 1:
        return (spec,)
    before, after = spec.layers[:index], spec.layers[index + 1 :]
    return tuple(spec.model_copy(update={"layers": (*before, one, *after)}) for one in layer.alone())


def _together(spec: InitSpec, index: int, parts: Sequence[Numbers]) -> Numbers:
    """The numbers of a layer from those of its groups."""
    return parts[0] if len(parts) == 1 else _stated(mixed(spec.layers[index], parts, spec.T))


def _estimated_course(spec: InitSpec, index: int) -> Callable[[int], float] | None:
    """ln of what so many steps leave of a perturbation by the fast estimate; None where that does not hold."""
    from critinit.theory.tied.estimate import NOTE, ROUGH

    def at(steps: int) -> Numbers | NotComputed:
        return fast_numbers(spec.model_copy(update={"T": steps}), index)

    def left(steps: int) -> float:
        numbers = at(steps)
        chi = 0.0 if isinstance(numbers, NotComputed) else numbers.chi_over_T
        return steps * math.log(chi) if chi > 0.0 else -math.inf

    now = at(spec.T)
    holds = isinstance(now, Numbers) and NOTE in now.notes and ROUGH not in now.notes and now.chi_over_T > 0.0
    return left if holds else None


def _without_small_kernels(cell: Cell, layer: Layer, T: int) -> Layer:
    """The layer; without recurrent kernels where these change nothing over T steps, as they take most of the time."""
    if cell.normalized:
        return layer
    groups = tuple(
        group.model_copy(update={"gates": Gates({n: _unread(g) for n, g in group.gates.items()})})
        if _has_small_kernels(cell, alone, T)
        else group
        for group, alone in zip(layer.groups, layer.alone(), strict=True)
    )
    return _bare(layer).model_copy(update={"groups": groups})


def _unread(gate: Gate) -> Gate:
    """The gate without its recurrent kernel."""
    return gate.model_copy(update={"recurrent": ZeroKernel()})


def _part(progress: Callable[[int, int], None], index: int, count: int, done: int, total: int) -> None:
    """Report a layer's progress as that of all layers."""
    progress(index * total + done, count * total)


def tying_changes_nothing(cell: Cell, layer: Layer, T: int) -> bool:
    """Return whether weights that stay give the numbers of weights that are drawn anew, to .1 % over T steps.

    They do so exactly in a cell that keeps nothing by itself and has no read-out, such as ``rnn``.  There δs' is a sum
    of a_k·(W_k δs), and the field W_k δs of a fixed matrix is independent of a_k and as large as that of a fresh one,
    so E|δs'|² = Σ_k σ_k² E a_k²·E|δs|² either way; E h'² likewise, however the inputs are correlated in time.

    In other cells the two theories differ by the recurrent kernels' memory of earlier steps, which is of the order of
    their variance in χ at each step; it is nothing where T times each variance is at most 1 %, as the schemes' "near
    zero" is.  Of a normalized cell the variance of a kernel is γ_h² over the second moment of the state.  Normal biases
    are drawn anew in the untied theory and stay with their unit in a network, so there the theories differ.
    """
    if any(gate.recurrent.pairs_units for gate in layer.gates.values()):
        return False  # pairs of units are no mean field
    return cell.is_of_one_step or _has_small_kernels(cell, layer, T)


def _has_small_kernels(cell: Cell, layer: Layer, T: int) -> bool:
    """Whether recurrent kernels change the numbers by less than .1 % over T steps, and no bias is drawn anew."""
    gates, moment = layer.reduced().gates, 1.0
    if cell.normalized and any(gate.recurrent.variance for gate in gates.values()):
        moment = float(_solution(cell, _bare(layer)).second_moment)
    small = all(T * gate.recurrent.variance <= _NO_MEMORY * moment for gate in gates.values())
    return small and not any(gates.followed(name)[1].redrawn_variance for name in gates)


def _is_white(spec: InitSpec, index: int) -> bool:
    """Whether a layer's inputs at different steps are independent: not the states of a layer, nor stated otherwise."""
    stated = spec.layers[index].input.autocorrelation
    return index == 0 if stated is None else stated == 0.0


def _as_untied(spec: InitSpec, index: int) -> Numbers | None:
    """The tied numbers of a layer where they are the untied ones; else None."""
    cell, layer = spec.find_cell(), spec.layers[index]
    if not ((_is_white(spec, index) or cell.is_of_one_step) and tying_changes_nothing(cell, layer, spec.T)):
        return None
    source = layer.input.model_copy(update={"correlation": 1.0})
    return untied_numbers(spec, layer.model_copy(update={"input": source, "predicted": Predicted()}))


def _untied(spec: InitSpec, index: int) -> Numbers | None:
    """The untied numbers of a layer, with a note where its inputs are correlated in time."""
    numbers = untied_numbers(spec, spec.layers[index])
    if numbers is None or _is_white(spec, index) or spec.find_cell().is_of_one_step:
        return numbers
    return numbers.model_copy(update={"notes": (*numbers.notes, _UNTIED_NOTE)})


def untied_numbers(spec: InitSpec, layer: Layer) -> Numbers | None:
    """Return the numbers of the untied theory for one layer; None where it has no reading.

    It has none where a recurrent kernel is the identity; where a memory is kept normalized and drifts (its candidate's
    bias is not 0 in the mean); where it is kept normalized to more than it has with every unit below 1, as the few
    slowest units then take all of it; and where its tails are so heavy that the quadrature does not give back the
    second moment that it is normalized to.

    Args:
        spec: The spec, whose T the retention is for.
        layer: The layer.

    Raises:
        ArgumentError: The numbers overflow.
    """
    if len(layer.groups) > 1:
        parts = [untied_numbers(spec, one) for one in layer.alone()]
        known = [part for part in parts if part is not None]
        return _stated(mixed(layer, known, spec.T)) if len(known) == len(parts) else None
    if has_identity(layer.gates):
        return None
    solution = _solution(spec.find_cell(), _bare(layer))
    if spec.find_cell().keeps_normalized:
        power = (layer.memory_gain or 0.0) ** 2
        if not bool(solution.converged) or not abs(float(solution.memory_moment) - power) <= _TOLERANCE * power:
            return None
    values = (solution.second_moment, solution.memory_moment, solution.chi, solution.jacobian_variance)
    if not all(np.isfinite(float(v)) for v in values) or solution.jacobian_variance > LARGEST:
        raise ArgumentError(
            "gates",
            found="variances or biases whose moments overflow in the theory",
            allowed="smaller ones",
            hint="in the recurrent kernel of a gate without bound, such as exp, they have to be near 0",
        )
    return _numbers(spec, solution)


def state_correlation(spec: InitSpec, layer: Layer) -> float:
    """Return the correlation of the states of two copies, which a further layer reads: E h h'/E h², untied.

    It is 1 where their inputs are the same.

    Args:
        spec: The spec.
        layer: The layer whose states are meant; no recurrent kernel is the identity.
    """
    if layer.input.correlation == 1.0:
        return 1.0
    solutions = [_solution(spec.find_cell(), _bare(one)) for one in layer.alone()]
    shares = [group.share for group in layer.groups]
    second, product = (
        sum(share * float(getattr(found, name)) for share, found in zip(shares, solutions, strict=True))
        for name in ("second_moment", "product_moment")
    )
    return _rounded(min(max(product / second, 0.0), 1.0)) if second > 0.0 else 1.0


def _solution(cell: Cell, layer: Layer) -> Untied:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return solve_layer(cell, layer)


def _bare(layer: Layer) -> Layer:
    """The layer without its prediction: layers that are alike are equal."""
    return layer.model_copy(update={"predicted": Predicted()})


def _rounded(x: Any, limit: float = LARGEST) -> float:
    x = min(float(x), limit)
    return float(f"{x:.{_DIGITS}g}")


def _numbers(spec: InitSpec, solution: Untied) -> Numbers:
    chi = float(solution.chi)
    log_retention = float(solution.log_retention(spec.T))
    notes = []
    if float(solution.second_moment) >= UNBOUNDED:
        notes.append(ENDLESS)
    elif not bool(solution.converged):
        notes.append("the fixed point was not reached; the numbers are those of the last iterate")
    if bool(solution.multistable()):
        notes.append("several fixed points: these are the numbers of the one reached from rest")
    if log_retention > math.log(LARGEST):
        notes.append(f"retention is beyond {LARGEST:g}")
    if float(solution.log_unseen(spec.T, _USUAL_UNITS)) > max(_UNSEEN * abs(log_retention), OVER_T_LIMIT):
        notes.append(f"rare units carry the mean chi over T: most networks of {_USUAL_UNITS:,} units show less")
    shortest, median, longest = (float(t) for t in solution.unit_time_constants)
    return _stated(
        Numbers(
            second_moment=float(solution.second_moment),
            cell_second_moment=float(solution.memory_moment) if spec.find_cell().has_readout else None,
            chi=min(chi, LARGEST),
            time_scale=None if chi >= 1.0 else (-1.0 / math.log(chi) if chi > 0 else 0.0),
            **over_T(log_retention, spec.T),
            unit_time_constants=TimeConstants(min=shortest, median=median, max=longest),
            jacobian=Jacobian(
                mean_squared_singular_value=min(float(solution.jacobian_mean), LARGEST),
                variance=float(solution.jacobian_variance),
            ),
            notes=tuple(notes),
        )
    )


def _stated(numbers: Numbers) -> Numbers:
    """The numbers as specs state them: six digits, nothing beyond the largest."""
    memory, scale, jacobian = numbers.cell_second_moment, numbers.time_scale, numbers.jacobian
    over = numbers.time_scale_over_T
    times = numbers.unit_time_constants.model_dump()
    return numbers.model_copy(
        update={
            "second_moment": _rounded(numbers.second_moment),
            "cell_second_moment": None if memory is None else _rounded(memory),
            "chi": None if numbers.chi is None else _rounded_near_one(numbers.chi),
            "time_scale": None if scale is None else _rounded(scale),
            "chi_over_T": _rounded_near_one(numbers.chi_over_T),
            "time_scale_over_T": None if over is None else _rounded(over),
            "retention": _rounded(numbers.retention),
            "standard_error": None if numbers.standard_error is None else _rounded_errors(numbers.standard_error),
            "unit_time_constants": TimeConstants(**{name: _rounded(x, LONGEST_TIME) for name, x in times.items()}),
            "jacobian": Jacobian(
                mean_squared_singular_value=_rounded_near_one(jacobian.mean_squared_singular_value),
                variance=_rounded(round(jacobian.variance, _VARIANCE_PLACES)),
            ),
        }
    )


def _rounded_errors(errors: Mapping[str, float | None]) -> FrozenMapping[float | None]:
    return FrozenMapping({name: None if x is None else float(f"{x:.{_ERROR_DIGITS}g}") for name, x in errors.items()})


def _rounded_near_one(x: float) -> float:
    """Six digits of x, and of 1 − x where x is nearly 1: the distance from criticality is what matters."""
    x = min(x, LARGEST)
    return 1.0 - _rounded(1.0 - x) if abs(1.0 - x) < _NEAR_ONE else _rounded(x)


def predict(spec: InitSpec) -> InitSpec:
    """Return the spec with ``predicted`` computed for every layer, and what it reaches of its target.

    Args:
        spec: The spec.

    Raises:
        ArgumentError: ``spec`` is no ``InitSpec``, or the numbers of a layer overflow.

    Example:
        >>> from critinit import generate
        >>> spec = generate("lstm", T=50)
        >>> predict(spec) == spec
        True
    """
    checked_spec(spec)
    layers = tuple(
        layer.model_copy(update={"predicted": predicted(spec, index)}) for index, layer in enumerate(spec.layers)
    )
    target = None if spec.target is None else _up_to_date(spec, spec.target)
    return with_features_noted(
        spec.model_copy(update={"layers": layers, "target": target, "generated": spec.generated})
    )


def with_features_noted(spec: InitSpec) -> InitSpec:
    """Return the spec with a note on each prediction that is for many features, where its network reads few.

    Args:
        spec: The spec, its predictions without such a note.

    Example:
        >>> from critinit import generate
        >>> generate("gru", T=50, input_size=3).layers[0].predicted.tied.notes[-1][:53]
        'for inputs of many features, where this network reads'
    """
    few = features_counted(spec, None)
    if few is None:
        return spec
    layers = tuple(
        layer if features_read(spec, index, few) is None else _with_few_noted(layer, few)
        for index, layer in enumerate(spec.layers)
    )
    return spec.model_copy(update={"layers": layers, "generated": spec.generated})


def _with_few_noted(layer: Layer, few: int) -> Layer:
    """The layer with a note on its predictions that its network reads few features."""
    note = (
        f"for inputs of many features, where this network reads {few}; critinit analyze samples tied numbers for {few}"
    )
    noted = {
        name: numbers.model_copy(update={"notes": (*numbers.notes, note)})
        for name, numbers in layer.predicted
        if isinstance(numbers, Numbers)
    }
    return layer.model_copy(update={"predicted": layer.predicted.model_copy(update=noted)})


def predicted(spec: InitSpec, index: int) -> Predicted:
    """Return what theory says of one layer within a second.

    Args:
        spec: The spec.
        index: The layer's number, from 0.

    Raises:
        ArgumentError: The numbers overflow.
    """
    return Predicted(untied=_untied(spec, index), tied=fast_numbers(spec, index))


def _up_to_date(spec: InitSpec, target: Target) -> Target:
    """The target with what the spec reaches now; what stopped it is kept where it still misses."""
    now = reached(spec, target.quantity)
    missed = now is not None and now < target.wanted * (1.0 - _TOLERANCE)
    return target.model_copy(update={"reached": now, "limit": target.limit if missed else None})


def fast_numbers(spec: InitSpec, index: int = 0) -> Numbers | NotComputed:
    """Return the fast estimate of the tied theory for one layer, with inputs of correlation 1 (``tied.estimate``).

    Where that can mislead, the theory is sampled coarsely; then the numbers have standard errors.

    Args:
        spec: The spec.
        index: The layer's number, from 0.

    Returns:
        The numbers, exact where tying the weights changes nothing; ``NotComputed`` where they overflow, and in cells
        that keep where the inputs are correlated in time, as those of further layers are: only sampling gets these
        right.
    """
    cell, layer = spec.find_cell(), spec.layers[index]
    if len(layer.groups) > 1:
        parts = [fast_numbers(one, index) for one in _groups_alone(spec, index)]
        known = [part for part in parts if isinstance(part, Numbers)]
        return _together(spec, index, known) if len(known) == len(parts) else NotComputed()
    found: Numbers | NotComputed | None = _as_untied(spec, index)
    if found is None and not _is_white(spec, index):
        return NotComputed()
    if found is None:
        source = layer.input.model_copy(update={"correlation": 1.0})
        same = layer.model_copy(update={"input": source, "predicted": Predicted()})
        found = _fast(cell, same, spec.T, untied_numbers(spec, same))
    return found if isinstance(found, NotComputed) else _with_notes(cell, layer, found)


def _with_notes(cell: Cell, layer: Layer, numbers: Numbers) -> Numbers:
    """The tied numbers with notes where nothing bounds the state: that it grows without end, in theory or in some
    networks; and where inputs of two copies differ, which tied numbers leave out.

    Networks of usual widths scatter about theory near χ = 1 where the state has a mean, as that of ReLU units: it turns
    so slowly there that a network follows a few of its own directions instead of an average over all.
    """
    notes = list(numbers.notes)
    if numbers.second_moment >= UNBOUNDED and ENDLESS not in notes:
        notes.append(ENDLESS)
    bounded = cell.bounded or cell.embeds_input or cell.is_odd
    bounded = bounded or any(has_identity(group.gates) for group in layer.groups)
    if not bounded and numbers.chi is not None and numbers.chi >= _SCATTERED:
        notes.append(_SCATTER)
    if layer.input.correlation < 1.0 and SAME_INPUTS not in notes:
        notes.append(SAME_INPUTS)
    return numbers.model_copy(update={"notes": tuple(notes)})


@lru_cache(maxsize=8)
def _fast(cell: Cell, layer: Layer, T: int, untied: Numbers | None) -> Numbers | NotComputed:
    from critinit.theory.tied.estimate import ROUGH, fast_tied

    if any(gate.recurrent.pairs_units for gate in layer.gates.values()):  # no mean field, and cheap to sample
        found = _coarse(cell, layer, T, steps=min(max(T, _COARSE_STEPS), _LONGER_STEPS))
        return NotComputed() if found is None else _stated(found)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = fast_tied(cell, layer, T, untied)
    if found is not None and ROUGH in found.notes and not has_spread(cell, layer, tied=True):
        steps = max(_COARSE_STEPS, T if keep_variance(cell, layer) and T <= _LONGER_STEPS else 0)
        found = _coarse(cell, layer, T, steps=steps)
        if found is not None and found.chi is None and steps < T:  # slow units: the late growth does not continue it
            found = None
    return NotComputed() if found is None else _stated(found)


def _coarse(cell: Cell, layer: Layer, T: int, *, steps: int = _COARSE_STEPS) -> Numbers | None:
    """A coarse sample of the tied theory; None where chaos takes its numbers beyond what can be stated."""
    from critinit.theory.tied.estimate import COARSE
    from critinit.theory.tied.solution import tied_layer

    sample = partial(tied_layer, cell, layer, particles=_COARSE_PARTICLES, steps=steps, tolerance=1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            found = sample(T=T)
        except ArgumentError:  # its retention is beyond what can be stated; all else is not
            try:
                found = _beyond(sample(T=steps), T)
            except ArgumentError:
                return None
    errors = dict(found.standard_error or {})
    for name in ("second_moment", "cell_second_moment"):
        number, error = getattr(found, name), errors.get(name)
        if number is not None and error is not None:
            errors[name] = math.hypot(error, _FEW_PARTICLES * number)
    return found.model_copy(update={"standard_error": FrozenMapping(errors), "notes": (COARSE, *found.notes)})


def _beyond(numbers: Numbers, T: int) -> Numbers:
    """The numbers for T steps, in which perturbations grow by χ a step to more than can be stated."""
    stated = dict(numbers.standard_error or {})
    errors = {**stated, "retention": None, "chi_over_T": stated.get("chi"), "time_scale_over_T": None}
    over = over_T(T * math.log(numbers.chi or 1.0), T)
    notes = (*numbers.notes, f"retention is beyond {LARGEST:g}")
    return numbers.model_copy(update={**over, "standard_error": FrozenMapping(errors), "notes": notes})


def reached(spec: InitSpec, quantity: str) -> float | None:
    """Return what the first layer of a spec reaches of a target's quantity; None where it is unbounded.

    Args:
        spec: The spec.
        quantity: "time_scale", of weights that stay; or "unit_time_constant": the longest of a unit at padding.
    """
    layer = spec.layers[0]
    if quantity == "time_scale":
        tied = fast_numbers(spec)
        return None if isinstance(tied, NotComputed) else tied.time_scale
    longest = max(_longest_time(spec.find_cell(), one) for one in layer.alone())
    return _rounded(min(longest, LONGEST_TIME))


def _longest_time(cell: Cell, layer: Layer) -> float:
    """The longest time constant of a unit at padding."""
    if layer.input.padding_power == layer.input.variance:
        return float(np.max(_solution(cell, _bare(layer)).unit_time_constants))
    return float(np.max(unit_time_constants(padding_parameters(cell, layer))))


def deviations(spec: InitSpec) -> list[Problem]:
    """Return where ``predicted`` no longer holds or the target is missed; empty where all holds.

    A number holds to 1e-3 of its value, or 1e-6 in absolute terms.  ``allowed`` of each problem is what theory says.
    """
    found = []
    for index, layer in enumerate(spec.layers):
        fresh = predicted(spec, index)
        for kind in ("untied", "tied"):
            written, now = getattr(layer.predicted, kind), getattr(fresh, kind)
            path = f"layers.{index}.predicted.{kind}"
            if isinstance(written, NotComputed) or isinstance(now, NotComputed):
                continue
            if written is None or now is None:
                if (written is None) != (now is None):
                    found.append(Problem(path, "numbers" if now is None else "null", "theory has the other"))
                continue
            found += [
                Problem(f"{path}.{name}", _shown(a), f"theory says {_shown(b)}")
                for name, a, b in _pairs(written, now)
                if not _holds(name, a, b, now.standard_error)
            ]
    if spec.target is not None:
        found += _missed(spec)
    return found


def _missed(spec: InitSpec) -> list[Problem]:
    assert spec.target is not None
    target = spec.target
    now = reached(spec, target.quantity)
    if not _close(target.reached, now):
        return [Problem("target.reached", _shown(target.reached), f"theory says {_shown(now)}")]
    if now is not None and now < target.wanted * (1.0 - _TOLERANCE):
        why = f" ({target.limit})" if target.limit else ""
        return [Problem("target", _shown(now), f"the scheme aims at {target.quantity} {_shown(target.wanted)}{why}")]
    return []


def _pairs(a: Numbers, b: Numbers) -> list[tuple[str, float | None, float | None]]:
    scalars = (
        "second_moment",
        "cell_second_moment",
        "chi",
        "time_scale",
        "chi_over_T",
        "time_scale_over_T",
        "retention",
    )
    pairs = [(name, getattr(a, name), getattr(b, name)) for name in scalars]
    for group in ("unit_time_constants", "jacobian"):
        one, other = getattr(a, group), getattr(b, group)
        pairs += [(f"{group}.{name}", getattr(one, name), getattr(other, name)) for name in type(one).model_fields]
    return pairs


def _holds(name: str, written: float | None, now: float | None, errors: Mapping[str, float | None] | None) -> bool:
    """Whether a stated number is what theory says, of a sampled one within its error."""
    error = (errors or {}).get(name)
    if error and written is not None and now is not None and abs(written - now) <= _ERRORS * error:
        return True
    return _close_rates(written, now) if name.startswith("chi") else _close(written, now)


def _close_rates(a: float | None, b: float | None) -> bool:
    """Whether growth rates are close in what matters: near 1 their distance from it."""
    if a is None or b is None or max(abs(a - 1.0), abs(b - 1.0)) > _NEAR_ONE:
        return _close(a, b)
    return abs(a - b) <= _TOLERANCE * max(abs(a - 1.0), abs(b - 1.0)) + _SMALLEST_RATE


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= _TOLERANCE * max(abs(a), abs(b)) + _SMALL


def _shown(x: float | None) -> str:
    return "null" if x is None else f"{x:.6g}"
