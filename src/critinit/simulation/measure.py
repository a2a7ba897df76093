"""Measurements on simulated networks.

A network runs from rest until its state is stationary; then K random perturbations of the memory are carried along
by forward mode, δs' = (∂s'/∂s) δs, and made orthonormal again every few steps (QR), Δ_t = Q_t P_t:

    retention(t) = |Δ_t|²/|Δ_0|²,    ln χ = slope of ln |Δ_t|² over the second half,
    Lyapunov exponents = mean of ln |R_ii| per step over the second half

(of the LSTM the perturbation is of c, h following at fixed output gate, and is measured in c).  With inputs of
correlation below 1 and weights that are drawn anew, χ is the growth of the inner product ⟨δ¹, δ²⟩ of a perturbation
carried through two copies: the derivative of their covariance.  With weights that stay it is that of copies with the
same inputs, as in the tied theory.  The one-step Jacobian comes from N unit tangents.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array, Dual, tangent, value
from critinit.errors import ArgumentError
from critinit.simulation.network import Network, Regime, SideBySide, State, draw_network, joined
from critinit.simulation.reduction import (
    NetworkRun,
    further_perturbations,
    informative_steps,
    is_stationary,
    reduce,
    share_of_units,
)
from critinit.spec import InitSpec, Layer, Numbers, checked_spec
from critinit.theory.protocol import (
    GROWING,
    LEAST_STEPS,
    LONGEST_UNIT_TIME,
    OUTGROWN,
    SAME_INPUTS,
    STEADY,
    Inputs,
    features_of,
    features_read,
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

__all__ = ["WIDEST", "Measurement", "Progress", "simulate", "simulate_layer"]

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

WIDEST = 10**5
"""Units of a simulated network: kernels of more do not fit a machine's memory."""
_QR_EVERY = 8
"""Steps between two orthonormalizations: tangents of gated cells turn little in so many."""
_PAIR_STEPS = 12
"""Steps that the inner product of two copies' perturbations is followed: later it sinks into its noise, 1/√N."""
_TICK_EVERY = 20
"""Steps between two calls of ``progress``."""
_NUMBERS = 4 * 10**6
"""Entries of recurrent kernels, in all, of networks that are run side by side: more do not fit a processor's cache."""
_FOREVER = 10**9
"""Steps before the perturbation for which inputs can be asked: more than any run has."""


@dataclass(frozen=True)
class Measurement:
    """What was measured on the networks of one layer.

    Attributes:
        numbers: Means over networks, with standard errors.
        lyapunov: The leading Lyapunov exponents per step, largest first, (tangents,); NaN where they were not measured.
        lyapunov_error: Their standard errors.
        log_distance: ln E|δ_t|²/E|δ_0|², mean over networks, (steps + 1,).
        singular_values: Of the one-step Jacobian, ascending, (networks, width); None unless asked for.
    """

    numbers: Numbers
    lyapunov: Array
    lyapunov_error: Array
    log_distance: Array
    singular_values: Array | None = None


def simulate(
    spec: InitSpec,
    *,
    width: int,
    steps: int | None = None,
    seeds: int = 4,
    weights: Regime = "tied",
    seed: int = 0,
    tangents: int = 4,
    inputs: Inputs = STEADY,
    features: int | None = None,
    burn_in: int | None = None,
    singular_values: bool = False,
    progress: Progress | None = None,
) -> tuple[Measurement | None, ...]:
    """Run random networks with the weights of a spec, and return the numbers of every layer as measured on them.

    The same arguments give the same numbers.

    The first layer is fed Gaussian inputs of the power and the correlations that it states, of independent features.
    Every further layer is fed the states of the layers below, as in a stacked network.  A layer costs
    O(seeds·steps·gates·width²·K) with tied weights and O(seeds·steps·gates·width·K²) with untied ones, K tangents.

    Args:
        spec: The spec.
        width: Units of a network.
        steps: How long the perturbation is followed.  None: T, between 300 and 2000.
        seeds: Number of networks.
        weights: "tied": weights are drawn once, as in every real network; "untied": at every step, as the untied theory
            has it.
        seed: Seed of the random numbers.
        tangents: K, the number of perturbations carried at once, and of Lyapunov exponents.
        inputs: The course of the inputs in time.
        features: M, numbers in one input.  None: what the spec's ``generated`` says, where that is at most 100; else as
            many as units.
        burn_in: Steps from rest to the perturbation.  None: until the state is stationary.
        singular_values: Whether to return the singular values of the one-step Jacobian.
        progress: Called with (steps done, steps in all).

    Returns:
        One ``Measurement`` a layer; None for a layer without an untied reading (an identity kernel, untied).

    Raises:
        ArgumentError: An argument is out of its range.

    Example:
        >>> from critinit import generate
        >>> measured, = simulate(generate("gru", T=20), width=30, steps=20, seeds=2)
        >>> 0 < measured.numbers.chi_over_T < 1
        True
    """
    n = len(checked_spec(spec).layers)
    _check(0, seed=seed)
    features = features_of(spec) if features is None else features

    def part(i: int) -> Progress | None:
        return None if progress is None else lambda done, total: progress(i * total + done, n * total)

    return tuple(
        simulate_layer(
            spec.find_cell(), layer, T=spec.T, width=width, steps=steps, seeds=seeds, weights=weights,
            seed=(seed, i), tangents=tangents, inputs=inputs, features=features_read(spec, i, features),
            burn_in=burn_in, singular_values=singular_values, below=layers_below(spec, i), progress=part(i),
        )
        for i, layer in enumerate(spec.layers)
    )  # fmt: skip


def simulate_layer(
    cell: Cell,
    layer: Layer,
    *,
    T: int,
    width: int,
    steps: int | None = None,
    seeds: int = 4,
    weights: Regime = "tied",
    seed: int | tuple[int, ...] = 0,
    tangents: int = 4,
    inputs: Inputs = STEADY,
    features: int | None = None,
    burn_in: int | None = None,
    singular_values: bool = False,
    below: Sequence[Layer] = (),
    progress: Progress | None = None,
) -> Measurement | None:
    """Return the numbers of one layer of a cell as measured on drawn networks.

    Args:
        cell: The cell.
        layer: The layer.
        T: Steps at which the retention is stated.
        width: As for ``simulate``, like all the following.
        steps: How long the perturbation is followed.
        seeds: Number of networks.
        weights: "tied" or "untied".
        seed: Seed of the random numbers.
        tangents: Number of perturbations carried at once.
        inputs: The course of the inputs in time.
        features: Numbers in one input of the lowest layer.  None: as many as units.
        burn_in: Steps from rest to the perturbation.
        singular_values: Whether to return the singular values of the one-step Jacobian.
        below: The layers whose states reach this one, lowest first; none: it has inputs of its own.
        progress: Called with (steps done, steps in all).

    Returns:
        The measurement; None where untied weights have no reading (an identity kernel).

    Raises:
        ArgumentError: An argument is out of its range.
    """
    _check(1, seeds=seeds, tangents=tangents, T=T, features=1 if features is None else features)
    _check(0, width=width)
    if not tangents < width <= WIDEST:
        hint = f"a network follows {tangents} perturbations at once and needs more units; kernels have the square of it"
        raise ArgumentError("width", found=str(width), allowed=f"{tangents + 1} to {WIDEST:,}", hint=hint)
    if weights not in ("tied", "untied"):
        raise ArgumentError("weights", found=repr(weights), allowed="tied, untied")
    if weights == "untied" and any(
        gate.recurrent.reads_itself for group in layer.groups for gate in group.gates.values()
    ):
        return None
    spread = has_spread(cell, layer, tied=weights == "tied")
    length = steps_to_follow(cell, layer, T, tied=weights == "tied") if steps is None else steps
    _check(LEAST_STEPS, steps=length)
    before = first_burn_in(cell, layer, below, few=features is not None) if burn_in is None else burn_in
    _check(1, burn_in=before)
    again = not (spread and length >= T)  # else the growth after many steps is not asked for
    experiment = _Experiment(
        cell, layer, width, weights, inputs, features, below, tangents, length, singular_values, again
    )
    together = max(1, _NUMBERS // (len(cell.gates) * width**2))
    generators = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(seeds)]
    results: list[_Result] = []
    for i in range(0, seeds, together):
        chosen = generators[i : i + together]
        tick = _share(progress, i / seeds, len(chosen) / seeds, seeds * (before + length))
        results += experiment.measure(chosen, before, burn_in is not None, tick)
    exponents = np.array([r.lyapunov for r in results])
    notes = []
    if _has_pairs(layer, weights):
        notes.append(
            f"chi: growth of the covariance of two copies with inputs of correlation {layer.input.correlation:g}"
        )
    elif layer.input.correlation < 1.0:
        notes.append(SAME_INPUTS)
    if features is not None:
        notes += unfilled(cell, layer)
    has_error = seeds > 1 and bool(np.all(np.isfinite(exponents)))
    lyapunov_error = exponents.std(axis=0, ddof=1) / math.sqrt(seeds) if has_error else np.full(tangents, math.nan)
    return Measurement(
        numbers=reduce(
            [r.run for r in results],
            layer,
            T,
            spread=spread,
            outlasted=partial(is_outlasted, cell, layer),
            notes=notes,
            tied=weights == "tied",
        ),
        lyapunov=exponents.mean(axis=0),
        lyapunov_error=lyapunov_error,
        log_distance=np.mean([r.run.log_square for r in results], axis=0),
        singular_values=np.array([r.singular for r in results]) if singular_values else None,
    )


def _has_pairs(layer: Layer, weights: Regime) -> bool:
    """Whether two copies with inputs of their own are followed: those that χ is of in the untied theory."""
    return weights == "untied" and layer.input.correlation < 1.0


def _check(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
            raise ArgumentError(name, found=repr(number), allowed=f"an integer of at least {least}")


@dataclass(frozen=True)
class _Result:
    """The run of one network, its Lyapunov exponents, and its singular values where asked for."""

    run: NetworkRun
    lyapunov: Array
    singular: Array | None


def _share(progress: Progress | None, start: float, share: float, total: int) -> Progress | None:
    """What reports the steps of some of the networks as steps of all of them."""
    if progress is None:
        return None
    return lambda done, of: progress(int(total * (start + share * done / of)), total)


@dataclass(frozen=True)
class _Experiment:
    """Networks from rest to their numbers."""

    cell: Cell
    layer: Layer
    width: int
    weights: Regime
    inputs: Inputs
    features: int | None
    below: Sequence[Layer]
    tangents: int
    steps: int
    singular_values: bool
    again: bool

    def measure(
        self, generators: Sequence[np.random.Generator], first: int, exact: bool, tick: Progress | None
    ) -> list[_Result]:
        """Burn in for ``first`` steps (or, unless ``exact``, for as long as it takes), then follow perturbations."""
        count, steps, copies = len(generators), self.steps, 2 if _has_pairs(self.layer, self.weights) else 1
        total = count * (first + steps)
        nets = [self._drawn(rng, copies) for rng in generators]
        side = SideBySide.of(nets)
        state, u, settled = self._burnt_in(side, first, exact, None if tick is None else lambda n: tick(n, total))
        state = _perturbed(side.together, state, u, np.stack([self._signs(rng) for rng in generators], axis=1))
        start = tangent(state.s)
        pair = _PairGrowth(start, steps, _PAIR_STEPS if self.again else steps) if copies == 2 else None
        carried = _Tangents(start, steps, shares=self.again)
        keep, moments, halves = np.zeros((count, self.width)), np.zeros((2, count)), np.zeros((2, count))
        for t, external in enumerate(side.external_inputs(0, steps)):
            before = state.s
            state, u = side.step(state, external)
            state = pair.record(t, side.together, state, u) if pair else carried.record(t, state)
            keep += side.together.kept(before, u)
            moments += _square(state.h), _square(state.s)
            halves[2 * t // steps] += _square(state.h)
            if not np.all(np.isfinite(moments)):
                raise ArgumentError("second_moment", found="a state that outgrows all numbers", hint=OUTGROWN)
            if tick and t % _TICK_EVERY == 0:
                tick(count * (first + t), total)
        results = []
        for i, net in enumerate(side.networks):
            alone, gates = state.of(i), _of_network(u, i)
            jacobian = self._jacobian(net, alone, gates)
            gram = jacobian @ jacobian.T
            run = NetworkRun(
                second_moment=float(moments[0, i] / steps),
                memory=float(moments[1, i] / steps) if self.cell.has_readout else None,
                time_constants=1.0 / np.maximum(1.0 - keep[i] / steps, 1.0 / LONGEST_UNIT_TIME),
                log_square=pair.log_square[i] if pair else carried.log_square[i],
                carrying=np.ones(pair.window + 1) if pair else carried.carrying[i],
                squared_singular_values=(
                    float(np.trace(gram) / self.width),
                    float(np.sum(gram * gram) / self.width),
                ),
                settled=settled[i] and bool(halves[1, i] <= GROWING * halves[0, i]),
            )
            courses = [] if pair else self._further(net, run, alone, gates)
            singular = np.sort(np.linalg.svd(jacobian, compute_uv=False)) if self.singular_values else None
            exponents = np.full(self.tangents, math.nan) if pair else carried.lyapunov(i)
            results.append(_Result(replace(run, repeated=tuple(courses)), exponents, singular))
        if tick:
            tick(total, total)
        return results

    def _further(self, net: Network, run: NetworkRun, state: State, u: Any) -> list[Array]:
        """The courses of further perturbations, where the first one informs for few steps."""
        if self.inputs.off_after is not None or not self.again:
            return []
        informative = informative_steps([run.carrying])
        courses = []
        for _ in range(further_perturbations(informative, self.steps)):
            course, state, u = self._course(net, state, u, informative)
            courses.append(course)
        return courses

    def _drawn(self, rng: np.random.Generator, copies: int) -> Network:
        return draw_network(
            self.cell, self.layer, self.width, rng,
            weights=self.weights, inputs=self.inputs, below=self.below, features=self.features, copies=copies,
        )  # fmt: skip

    def _burnt_in(
        self, side: SideBySide, first: int, exact: bool, tick: Callable[[int], None] | None
    ) -> tuple[State, dict[str, Any], list[bool]]:
        """The states after the burn-in, the pre-activations that led there, and which of them are stationary."""
        moments: list[Array] = []
        state, u = side.rest(), dict[str, Any]()
        if not exact:
            state, u = self._filled(side, state)
        for reached in itertools.islice(_from(side, state), first):
            state, u = reached
            moments.append(self._moments(state))
            if tick and len(moments) % _TICK_EVERY == 0:
                tick(len(moments) * len(side.networks))
        longest = first if exact else longest_burn_in(self.layer, first, self.steps)
        least = least_burn_in(self.cell, self.layer, self.steps)
        ends = []
        for i, net in enumerate(side.networks):
            alone, gates, so_far = state.of(i), _of_network(u, i), [moment[:, i] for moment in moments]
            still = exact or (len(so_far) >= least and _are_stationary(so_far))
            while not still and len(so_far) < longest:
                look = min(2 * len(so_far), longest)
                for reached in itertools.islice(_from(net, alone), look - len(so_far)):
                    alone, gates = reached
                    so_far.append(self._moments(alone))
                still = len(so_far) >= least and _are_stationary(so_far)
            ends.append((alone, gates, still))
        states, gates_of, settled = zip(*ends, strict=True)
        u = {name: np.stack([gates[name] for gates in gates_of]) for name in gates_of[0]}
        return joined(states), u, list(settled)

    def _moments(self, state: State) -> Array:
        """The mean square of h over the units of each group, (groups, …)."""
        parts = np.split(state.h**2, np.cumsum(self.layer.split(state.h.shape[-1]))[:-1], axis=-1)
        return np.stack([np.mean(part, axis=(-2, -1)) for part in parts])

    def _filled(self, side: SideBySide, state: State) -> tuple[State, dict[str, Any]]:
        """The states after a pilot run, with what inputs before it would have left in slow units.

        A unit's memory is s' = k·s + w, with E k² and E w² as the pilot run shows them.  Had it run for ever, E s²
        would be larger by E w²·(E k²)ᵗ·(1 + E k² + (E k²)² + …).
        """
        pilot, net = pilot_steps(self.cell, self.layer), side.together
        if not pilot or net.copies > 1:
            return state, {}
        kept, written = [], []
        u: dict[str, Any] = {}
        for external in side.external_inputs(-pilot, 0):
            before = state.s
            state, u = side.step(state, external)
            keep = net.kept(before, u)
            kept.append(keep**2)
            written.append((state.s[..., 0, :] - keep * before[..., 0, :]) ** 2)
        square, power = np.mean(kept, axis=0), np.mean(written, axis=0)
        forgets = square < 1.0
        missing = np.where(forgets, power * square**pilot / np.where(forgets, 1.0 - square, 1.0), 0.0)
        drawn = np.stack([net.rng.standard_normal(self.width) for net in side.networks])
        s = state.s + (np.sqrt(missing) * drawn)[..., None, :]
        return State(s, net.visible(s, u)), u

    def _signs(self, rng: np.random.Generator) -> Array:
        """K random directions of entries ±1, (K, 1, N)."""
        return np.where(rng.random((self.tangents, 1, self.width)) < 0.5, -1.0, 1.0)

    def _course(self, net: Network, state: State, u: Any, steps: int) -> tuple[Array, State, Any]:
        """ln |δ_t|² of new perturbations for ``steps`` steps, (steps + 1,), and where they ended."""
        state = _perturbed(net, state, u, self._signs(net.rng))
        carried = _Tangents(tangent(state.s)[:, None], steps)
        side = SideBySide.of([net])
        state = State(*(Dual(value(x)[None], tangent(x)[:, None]) for x in (state.s, state.h)))
        for t, external in enumerate(side.external_inputs(0, steps)):
            state, u = side.step(state, external)
            state = carried.record(t, state)
        return carried.log_square[0], state.of(0), _of_network(u, 0)

    def _jacobian(self, net: Network, state: State, u: Any) -> Array:
        """∂s'/∂s of the first copy at the present state (of the LSTM at fixed output gate), (N, N)."""
        net = net.frozen()
        unit = np.eye(self.width)[:, None, :]
        external = next(iter(net.external_inputs(0, 1)))
        first = {n: value(x)[:1] for n, x in external.items()}
        here = State(value(state.s)[:1], value(state.h)[:1])
        gates = {n: value(x)[:1] for n, x in (u or {}).items()}
        after, _ = net.step(_perturbed(net, here, gates, unit), first)
        return np.ascontiguousarray(tangent(after.s)[:, 0, :].T)


def _are_stationary(moments: Sequence[Array]) -> bool:
    """Whether the second moment of every group of units no longer drifts."""
    return all(is_stationary(course) for course in np.array(moments).T)


def _square(x: Any) -> Array:
    """The mean square of each network's first copy, (networks,)."""
    first = value(x)[:, 0]
    return np.asarray(np.mean(first * first, axis=-1))


def _of_network(u: Mapping[str, Any], network: int) -> dict[str, Array]:
    """The pre-activations of one of several networks side by side."""
    return {name: value(x)[network] for name, x in u.items()}


def _from(net: Network | SideBySide, state: State) -> Iterator[tuple[State, dict[str, Any]]]:
    """The states after each step before the perturbation, and the pre-activations that led to each."""
    for external in net.external_inputs(-_FOREVER, 0):
        state, u = net.step(state, external)
        yield state, u


def _perturbed(net: Network, state: State, u: Any, direction: Array) -> State:
    """The state with tangents in the memory; h follows at fixed pre-activations."""
    shape = np.broadcast_shapes(direction.shape, np.shape(value(state.s)))
    s = Dual(value(state.s), np.broadcast_to(direction, shape))
    return State(s, net.visible(s, {n: value(x) for n, x in (u or {}).items()}))


class _Tangents:
    """K tangents of each network kept orthonormal: Δ_t = P_tᵀ·(rows at t), every scale in a logarithm.

    Args:
        start: The tangents of the memory, (K, networks, 1, N).
        steps: For how many steps they will be followed.
        shares: Whether to record the share of units that carry them at each step, else at the last one.
    """

    def __init__(self, start: Array, steps: int, *, shares: bool = False) -> None:
        self.shares, self.steps = shares, steps
        k, networks = start.shape[:2]
        self.p, self.log_scale = np.tile(np.eye(k), (networks, 1, 1)), np.zeros(networks)
        self.log_square = np.full((networks, steps + 1), -math.inf)
        self.log_square[:, 0] = np.log(np.sum(start**2, axis=(0, 2, 3)))
        self.carrying = np.ones((networks, steps + 1))
        self.log_r, self.late = np.zeros((networks, k)), np.zeros(networks, dtype=int)

    def record(self, t: int, state: State) -> State:
        """Note how large the tangents are after step t, and return the state with tangents that are orthonormal."""
        s, h = state.s, state.h
        mixed = self.p.swapaxes(-1, -2) @ _by_network(s)
        square = np.einsum("skn,skn->s", mixed, mixed)
        alive = square > 0.0
        with np.errstate(divide="ignore"):
            self.log_square[:, t + 1] = np.log(square) + 2.0 * self.log_scale
        if self.shares or t + 1 == self.steps:
            self.carrying[:, t + 1] = np.mean(share_of_units(mixed), axis=-1)
        if (t + 1) % _QR_EVERY or not np.any(alive):
            return state
        return self._orthonormal(t, s, h, alive)

    def _orthonormal(self, t: int, s: Any, h: Any, alive: Array) -> State:
        """The same for the networks whose tangents are alive."""
        pair = h is not s
        rows = np.concatenate([_by_network(s), _by_network(h)], axis=-1) if pair else _by_network(s)
        q, r = np.linalg.qr(rows.swapaxes(-1, -2))
        if (t + 1) > self.steps // 2:
            with np.errstate(divide="ignore"):
                self.log_r[alive] += np.log(np.abs(np.diagonal(r, axis1=-2, axis2=-1)))[alive]
            self.late[alive] += _QR_EVERY
        p = r @ self.p
        norm = np.linalg.norm(p, axis=(-2, -1))
        self.p[alive] = p[alive] / norm[alive, None, None]
        self.log_scale[alive] += np.log(norm[alive])
        width = value(s).shape[-1]
        new = np.where(alive[:, None, None], q.swapaxes(-1, -2), rows).swapaxes(0, 1)[:, :, None]
        ds = Dual(value(s), np.ascontiguousarray(new[..., :width]))
        return State(ds, Dual(value(h), np.ascontiguousarray(new[..., width:])) if pair else ds)

    def lyapunov(self, network: int) -> Array:
        """Exponents per step, largest first; −∞ where the perturbation died."""
        log_r, late = self.log_r[network], self.late[network]
        dead = late == 0 or self.log_square[network, -1] == -math.inf
        return np.full(log_r.shape, -math.inf) if dead else -np.sort(-log_r / late)


def _by_network(x: Any) -> Array:
    """The tangents of the first copy, (networks, K, N)."""
    return np.asarray(np.swapaxes(tangent(x)[:, :, 0], 0, 1))


class _PairGrowth:
    """χ of two copies: growth of ⟨δ¹, δ²⟩ from equal perturbations, over short windows begun again and again.

    The inner product sinks below its own noise |δ¹||δ²|/√N after a while, hence the windows.  Where units keep with
    time constants of their own the slow ones carry it, which stay in step, and one window is as long as the run.

    Args:
        start: The perturbations, (K, networks, 2, N).
        steps: For how many steps they will be followed.
        window: Steps of a window.
    """

    def __init__(self, start: Array, steps: int, window: int) -> None:
        self.start, self.window = start, window
        self.inner = np.zeros((start.shape[1], window + 1))
        self.log_scale = np.zeros((start.shape[1], window + 1))
        self.whole = steps - steps % window

    def record(self, t: int, net: Network, state: State, u: Any) -> State:
        """Note the inner products after step t, and return the state, perturbed anew where a window ends."""
        if t >= self.whole:
            return state
        d, now = tangent(state.s), t % self.window + 1
        self.inner[:, now] += np.einsum("ksn,ksn->s", d[:, :, 0], d[:, :, 1])
        if now < self.window:
            return self._rescaled(now, state)
        self.inner[:, 0] += np.einsum("ksn,ksn->s", self.start[:, :, 0], self.start[:, :, 0])
        return _perturbed(net, state, u, self.start)

    def _rescaled(self, now: int, state: State) -> State:
        """The state with tangents of size 1, in the only window; several are added up as they are."""
        if self.window < self.whole:
            return state
        root = np.sqrt(np.mean(tangent(state.s) ** 2, axis=(0, 2, 3)))
        root = np.where(root > 0.0, root, 1.0)
        self.log_scale[:, now + 1] = self.log_scale[:, now] + np.log(root)
        s, h = (Dual(value(x), tangent(x) / root[:, None, None]) for x in (state.s, state.h))
        return State(s, s if state.h is state.s else h)

    @property
    def log_square(self) -> Array:
        """ln of the mean inner product, (networks, window steps + 1); −∞ from where it is not positive."""
        good = np.logical_and.accumulate(self.inner > 0.0, axis=-1)
        return np.where(good, np.log(np.where(good, self.inner, 1.0)) + 2.0 * self.log_scale, -math.inf)
