"""The tied theory: what an infinitely wide network with one set of weights does (causal dynamic mean field).

A population of particles (``particles``) runs from rest to its stationary state, is perturbed, and followed:

    retention(t) = E|δ_t|²/E|δ_0|²,    ln χ = slope of ln E|δ_t|² over the second half.

Independent populations give the standard errors, and more of them are run until these are small enough.  Both this
theory and ``critinit.simulation`` follow ``critinit.theory.protocol``, so with the same ``steps`` the numbers are those
that are measured on networks, at infinite width.  With inputs of correlation below 1 the two differ: χ here is that of
two copies with the same inputs, and a note says so.

Related: Sompolinsky, Crisanti & Sommers 1988 (the mean field of one fixed matrix), Can, Krishnamurthy & Schwab
2002.00025 and Krishnamurthy, Can & Schwab PRX 12, 011011 (gates), Bolthausen 2014 (the conditioning in ``fields``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array, value
from critinit.errors import ArgumentError
from critinit.spec import InitSpec, Layer, Numbers
from critinit.theory.comparing import OVER_T_LIMIT
from critinit.theory.protocol import (
    GROWING,
    LEAST_STEPS,
    LONGEST_UNIT_TIME,
    SAME_INPUTS,
    STEADY,
    Inputs,
    features_read,
    follow_steps,
    has_spread,
    is_outlasted,
    layers_below,
    least_burn_in,
    longest_burn_in,
    pilot_steps,
    steps_to_follow,
    unfilled,
)
from critinit.theory.settling import first_burn_in
from critinit.theory.tied.growth import (
    Continued,
    Run,
    combine,
    holders,
    informative_steps,
    moment_error,
    participation,
    repeats,
    scatter_of_neighbours,
    settle,
)
from critinit.theory.tied.particles import Groups, Population, population_of, rescale
from critinit.theory.tied.sources import Features

__all__ = ["tied", "tied_course", "tied_layer", "tied_with_courses", "tolerance_of"]

_PARTICLES = 1000
"""Particles of a population by default: ln χ of most layers is then known to .003 from four populations."""
_LARGEST = 2
"""A population is at most so many times the default: its cost grows faster than its noise falls."""
_FEWEST, _MOST, _MOST_ASKED = 4, 8, 64
"""Populations: at least so many for a standard error; at most so many for the default accuracy, and for another."""
_FEWEST_INPUTS, _MOST_INPUTS = 8, 16
"""The same where inputs have few features: all units of a population read one sequence, so only others tell how much
the numbers owe to it."""
_RELATIVE = 3.0
"""Wanted relative error of the second moment, and of ln of the retention where units keep with time constants of their
own, in units of the tolerance of ln χ."""
_TOLERANCE = 0.003
"""Wanted standard error of ln χ by default."""
_TOLERANCE_INPUTS = 0.005
"""The same where inputs have few features: what sequences differ by takes many of them."""
_MANY_STEPS = 2500
"""A perturbation that is followed for more steps takes half of the particles, and no more populations by default: what
is left of it after T steps is known to a hundredth or so from these, and each further digit costs a minute."""
_SCATTER = 2.0
"""Populations whose ln χ scatters by more than this, in units of the tolerance, are biased too: ln of a noisy mean."""
_CALLED_FOR = 2.0
"""Larger populations are run where so many times the particles would be needed, not for less."""
_FEW_HOLD = 0.02
"""Share of the units that holds half of a second moment, below which a network of 100 units has it or not."""
_SEEDS = 2**63
"""Seeds of the inputs: any of so many."""
_SNAPSHOT_EVERY = 20
"""Steps between two looks at the Jacobian: nearer ones are alike and cost time."""


def tied(
    spec: InitSpec,
    *,
    particles: int | None = None,
    steps: int | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    inputs: Inputs = STEADY,
    features: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Numbers, ...]:
    """Return the tied numbers of every layer, with standard errors; the same arguments give the same numbers.

    Four populations are joined by others, up to 8, until the wanted accuracy is met; a note says where it is not.
    Where inputs have few features there are 8 to 16, as all units of a population read one sequence.
    The cost is O(populations·steps·particles·gates·log steps): a second or two for a GRU at the defaults.  Where units
    keep with time constants of their own a perturbation is followed for T steps, up to 10,000; beyond 2,500 half of the
    particles and four populations have to do, unless a tolerance is given.

    Args:
        spec: The spec.
        particles: Particles of a population.  None: 1,000, then as many as the first four call for, up to 2,000.
        steps: How long a perturbation is followed.  None: T, between 300 and 2000.
        tolerance: Wanted standard error of ln χ; that of ln of the second moment is three times as large, and where
            units keep with time constants of their own so is the relative one of ln of the retention.  None: .003, or
            .005 with few features.  Up to 64 populations are run for a tolerance that is given.
        seed: Seed of the random numbers.
        inputs: The course of the first layer's inputs in time.
        features: M, numbers in one input, independent and Gaussian, that all units and gates of the first layer read.
            None: infinitely many.
        progress: Called with (parts done, parts in all).

    Returns:
        One ``Numbers`` a layer.

    Raises:
        ArgumentError: An argument is out of its range.

    Example:
        >>> from critinit import generate
        >>> numbers, = tied(generate("gru", T=20), particles=50, steps=20, tolerance=1.0)
        >>> numbers.standard_error["retention"] > 0
        True
    """
    cell, n = spec.find_cell(), len(spec.layers)

    def part(i: int) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(i * total + done, n * total)

    return tuple(
        tied_layer(
            cell, layer, T=spec.T, particles=particles, steps=steps, tolerance=tolerance,
            seed=(seed, i), inputs=inputs, below=layers_below(spec, i), features=features_read(spec, i, features),
            progress=part(i),
        )
        for i, layer in enumerate(spec.layers)
    )  # fmt: skip


def tied_layer(
    cell: Cell,
    layer: Layer,
    *,
    T: int,
    particles: int | None = None,
    steps: int | None = None,
    tolerance: float | None = None,
    most: int | None = None,
    seed: int | tuple[int, ...] = 0,
    inputs: Inputs = STEADY,
    below: Sequence[Layer] = (),
    features: int | None = None,
    beyond: Callable[[int], float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Numbers:
    """Return the tied numbers of one layer of a cell.

    Args:
        cell: The cell.
        layer: The layer.
        T: Steps at which the retention is stated.
        particles: As for ``tied``, like all the following.
        steps: How long a perturbation is followed.
        tolerance: Wanted standard error of ln χ.
        most: Populations, at most, from 4 on, or from 8 on with few features.  None: 8, or 16 with few features; 64
            where a tolerance is given.
        seed: Seed of the random numbers.
        inputs: The course of the inputs in time.
        below: The layers whose states reach this one, lowest first; none: it has inputs of its own.
        features: Numbers in one input of the lowest layer.  None: infinitely many.
        beyond: ln of what so many steps leave by the fast estimate, from 2,500 steps on.  Where units keep with time
            constants of their own it continues what is sampled, from the step where fewer than 1 % of the units carry
            the perturbation, at most 2,000.  None: all is sampled.
        progress: Called with (parts done, parts in all).

    Raises:
        ArgumentError: An argument is out of its range.
    """
    return tied_with_courses(
        cell, layer, T=T, particles=particles, steps=steps, tolerance=tolerance, most=most, seed=seed, inputs=inputs,
        below=below, features=features, beyond=beyond, progress=progress,
    )[0]  # fmt: skip


def tied_with_courses(
    cell: Cell,
    layer: Layer,
    *,
    T: int,
    particles: int | None = None,
    steps: int | None = None,
    tolerance: float | None = None,
    most: int | None = None,
    seed: int | tuple[int, ...] = 0,
    inputs: Inputs = STEADY,
    below: Sequence[Layer] = (),
    features: int | None = None,
    beyond: Callable[[int], float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Numbers, Array]:
    """Return what ``tied_layer`` returns for these arguments, and the courses that it rests on.

    Returns:
        The numbers, and ln E|δ_t|²/E|δ_0|² step by step of every population, (populations, steps + 1).

    Raises:
        ArgumentError: An argument is out of its range.
    """
    spread = has_spread(cell, layer, tied=True)
    length = steps_to_follow(cell, layer, T, tied=True) if steps is None else steps
    asked = tolerance is not None
    thorough = asked or length <= _MANY_STEPS
    if not (spread and steps is None and length > _MANY_STEPS):
        beyond = None
    length = length if beyond is None else follow_steps(T)
    count = (_PARTICLES if thorough else _PARTICLES // 2) if particles is None else particles
    few = features is not None
    fewest, usual, wanted = (_FEWEST_INPUTS, _MOST_INPUTS, _TOLERANCE_INPUTS) if few else (_FEWEST, _MOST, _TOLERANCE)
    most = (_MOST_ASKED if asked else usual) if most is None else most
    tolerance = wanted if tolerance is None else tolerance
    until_T = spread and length >= T
    _check("particles", count, 2)
    _check("steps", length, LEAST_STEPS)
    _check("most", most, fewest)
    _check("features", 1 if features is None else features, 1)
    if not tolerance > 0.0:
        raise ArgumentError("tolerance", found=str(tolerance), allowed="more than 0")
    streams = iter(np.random.SeedSequence(seed).spawn(fewest + most))
    runs: list[Run] = []

    def run(size: int, populations: int) -> None:
        for i, child in enumerate(itertools.islice(streams, populations)):
            random = np.random.default_rng(child)
            shares, again = not until_T, not until_T and beyond is None
            runs.append(_follow(cell, layer, size, length, random, inputs, below, features, shares=shares, again=again))
            if progress:
                progress(min(i, fewest - 1), fewest)

    def scatter() -> float:
        if until_T:
            return _scatter_over(runs, T) / _RELATIVE
        return _scatter(runs) if beyond is None else _continued(runs, T, beyond).scatter / _RELATIVE

    def worst() -> float:
        """The largest standard error, each in units of the wanted one of ln χ."""
        return max(scatter() / math.sqrt(len(runs)), _moment_error(runs) / _RELATIVE)

    run(count, fewest)
    excess = max(worst(), scatter() / _SCATTER) ** 2 / tolerance**2
    if until_T and not asked and cell.keep_gate is not None and not few:
        # rare slow units: no number of populations that can be waited for would do
        thorough = thorough and excess <= _LARGEST * most / _FEWEST
    if particles is None and thorough and excess > _CALLED_FOR and not few:
        # larger populations rather than more: their bias goes down with their noise
        count = min(2 ** math.ceil(math.log2(excess)), _LARGEST) * _PARTICLES
        runs.clear()
        run(count, fewest)
    while thorough and worst() > tolerance and len(runs) < most:
        run(count, 1)
    if progress:
        progress(fewest, fewest)
    notes = []
    if worst() > tolerance:
        ran = f"{len(runs)} populations of {count}"
        if _moment_error(runs) > _RELATIVE * tolerance:
            error = 100.0 * _moment_error(runs)
            notes.append(
                f"second_moment: known to {error:.2g} % after {ran}; wanted {100 * _RELATIVE * tolerance:.2g} %"
            )
        if not until_T and beyond is None and scatter() > tolerance * math.sqrt(len(runs)):
            notes.append(f"chi: the wanted accuracy {tolerance:g} was not reached with {ran}")
        if (until_T or beyond is not None) and scatter() > tolerance * math.sqrt(len(runs)):
            error = 100.0 * _RELATIVE * scatter() / math.sqrt(len(runs))
            notes.append(f"retention: its logarithm is known to {error:.2g} % after {ran}")
    if few:
        held = float(np.mean([run.holders for run in runs]))
        if held < _FEW_HOLD:
            name = "cell_second_moment" if cell.has_readout else "second_moment"
            notes.append(f"{name}: {100.0 * held:.2g} % of the units hold half of it, so networks differ much in it")
        notes += unfilled(cell, layer)
    if layer.input.correlation < 1.0:
        notes.append(SAME_INPUTS)
    continued = None if beyond is None else _continued(runs, T, beyond)
    outlasted = partial(is_outlasted, cell, layer)
    numbers = combine(runs, layer, T, spread=spread, outlasted=outlasted, notes=notes, continued=continued)
    return numbers, np.array([run.log_square - run.log_square[0] for run in runs])


def tolerance_of(precision: float) -> float:
    """Return the tolerance of ln χ that goes with a wanted relative standard error of the second moment.

    Args:
        precision: The wanted relative standard error.

    Raises:
        ArgumentError: It is not between 0 and 1.

    Example:
        >>> tolerance_of(0.03)
        0.01
    """
    if not 0.0 < precision < 1.0:
        raise ArgumentError("precision", found=f"{precision:g}", allowed="more than 0, less than 1")
    return precision / _RELATIVE


def tied_course(
    cell: Cell,
    layer: Layer,
    *,
    steps: int,
    particles: int = _PARTICLES,
    populations: int = _FEWEST,
    seed: int | tuple[int, ...] = 0,
    inputs: Inputs = STEADY,
    below: Sequence[Layer] = (),
    features: int | None = None,
) -> Array:
    """Return the course of a perturbation, ln E|δ_t|²/E|δ_0|², step by step.

    Args:
        cell: The cell.
        layer: The layer.
        steps: How long the perturbation is followed.
        particles: Particles of a population.
        populations: Number of independent populations.
        seed: Seed of the random numbers.
        inputs: The course of the inputs in time.
        below: The layers whose states reach this one, lowest first.
        features: Numbers in one input of the lowest layer.  None: infinitely many.

    Returns:
        One course a population, (populations, steps + 1).

    Raises:
        ArgumentError: An argument is out of its range.
    """
    _check("particles", particles, 2)
    _check("populations", populations, 1)
    _check("steps", steps, 1)
    streams = np.random.SeedSequence(seed).spawn(populations)
    generators = (np.random.default_rng(s) for s in streams)
    followed = (_follow(cell, layer, particles, steps, rng, inputs, below, features).log_square for rng in generators)
    return np.array([course - course[0] for course in followed])


def _check(name: str, found: int, least: int) -> None:
    if found < least:
        raise ArgumentError(name, found=str(found), allowed=f"at least {least}")


def _scatter(runs: list[Run]) -> float:
    """Standard deviation of ln χ over populations."""
    steps = informative_steps(runs)
    logs = [run.log_chi(steps) for run in runs]
    return float(np.std(logs, ddof=1)) if all(map(math.isfinite, logs)) else 0.0


def _scatter_over(runs: list[Run], T: int) -> float:
    """Standard deviation of ln of the retention over populations, relative to it where it is beyond 1."""
    logs = np.array([run.log_square[T] - run.log_square[0] for run in runs])
    return float(np.std(logs, ddof=1) / max(1.0, abs(logs.mean()))) if np.all(np.isfinite(logs)) else 0.0


def _continued(runs: list[Run], T: int, beyond: Callable[[int], float]) -> Continued:
    """What T steps leave: as sampled while the sample tells, from then on as ``beyond`` has it.

    What the two differ by up to there, beyond chance, they may differ by after it, as a share of the logarithm.
    """
    sampled = informative_steps(runs)
    logs = np.array([run.log_square[sampled] - run.log_square[0] for run in runs])
    so_far, rest = beyond(sampled), beyond(T) - beyond(sampled)
    square = (float(logs.mean()) - so_far) ** 2 - float(logs.var(ddof=1)) / len(runs)
    off = math.sqrt(max(square, 0.0)) / max(abs(so_far), OVER_T_LIMIT)
    return Continued(logs + rest, sampled, off, off * abs(rest))


def _moment_error(runs: list[Run]) -> float:
    """The relative standard error of the second moment."""
    return moment_error(runs) / max(float(np.mean([run.second_moment for run in runs])), np.finfo(float).tiny)


def _follow(
    cell: Cell,
    layer: Layer,
    particles: int,
    steps: int,
    rng: np.random.Generator,
    inputs: Inputs,
    below: Sequence[Layer],
    features: int | None,
    *,
    shares: bool = False,
    again: bool = False,
) -> Run:
    """One population from rest to its numbers.

    ``shares``: with the share of units that carry the perturbation at each step, else at the last one; ``again``:
    perturbed further where few steps are informative.
    """
    projection = layer.projection
    read = None if features is None else Features(features, int(rng.integers(_SEEDS)))
    population = population_of(cell, layer, particles, rng, inputs=inputs, below=below, features=read)
    population.fill(pilot_steps(cell, layer))

    def step() -> float:
        population.step(-1)
        h = population.h
        return float(h @ h / h.size)  # a third of the time of a mean of squares

    first = first_burn_in(cell, layer, below, filled=read is None, few=read is not None)
    settled = settle(step, first, longest_burn_in(layer, first, steps), least_burn_in(cell, layer, steps))
    population.perturb(steps)
    log_square, carried = np.zeros(steps + 1), np.ones(steps + 1)
    keep, squares, jacobian, looks = np.zeros(particles), np.zeros((2, particles)), np.zeros(2), 0
    gain, excess = (1.0, 0.0) if projection is None else (projection.gain, projection.excess)
    halves = np.zeros(2)
    for t in range(steps):
        population.step(t)
        halves[2 * t // steps] += np.mean(value(population.h) ** 2)
        squares += value(population.h) ** 2, value(population.s) ** 2
        keep += population.kept()
        if t % _SNAPSHOT_EVERY == 0:
            jacobian += population.jacobian_moments(excess)
            looks += 1
        log_square[t + 1] = log_square[t] + rescale(population)
        if shares or t + 1 == steps:  # else the growth after many steps is not asked for
            carried[t + 1] = participation(np.sum(population.s.tangent**2, axis=0))
    squares /= steps
    errors = [scatter_of_neighbours(square, population.by_bias()) for square in squares]
    run = Run(
        second_moment=gain * float(np.mean(squares[0])),
        memory=float(np.mean(squares[1])) if cell.has_readout else None,
        moment_errors=(gain * errors[0], errors[1]),
        time_constants=1.0 / np.maximum(1.0 - keep / steps, 1.0 / LONGEST_UNIT_TIME),
        log_square=log_square,
        participation=carried,
        jacobian_square=float(jacobian[0] / looks),
        jacobian_second=float(jacobian[1] / looks),
        settled=settled and bool(halves[1] <= GROWING * halves[0]),
        holders=holders(squares[1]),
    )
    if not again or inputs.off_after is not None:
        return run
    informative = informative_steps([run])
    further = range(repeats(informative, steps))
    return replace(run, repeated=tuple(_course(population, informative) for _ in further))


def _course(population: Population | Groups, steps: int) -> Array:
    """ln E|δ_t|² of a new perturbation, (steps + 1,)."""
    population.perturb(steps)
    course = np.zeros(steps + 1)
    for t in range(steps):
        population.step(t)
        course[t + 1] = course[t] + rescale(population)
    return course
