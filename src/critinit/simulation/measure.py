"""Measurements on simulated networks.

A network runs from rest until its state is stationary; then K random perturbations of the memory are carried along
by forward mode, δs' = (∂s'/∂s) δs, and made orthonormal again every few steps (QR), Δ_t = Q_t P_t:

    retention(t) = |Δ_t|²/|Δ_0|²,    ln χ = slope of ln |Δ_t|² over the second half,
    Lyapunov exponents = mean of ln |R_ii| per step over the second half

(of the LSTM the perturbation is of c, h following at fixed output gate, and is measured in c).  With inputs of
correlation below 1, χ is the growth of the inner product ⟨δ¹, δ²⟩ of a perturbation carried through two copies:
the derivative of their covariance.  The one-step Jacobian comes from N unit tangents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array, Dual, tangent, value
from critinit.errors import ArgumentError
from critinit.simulation.network import Network, State, Weights, draw_network
from critinit.spec import InitSpec, Layer, Numbers
from critinit.theory.tied.growth import (
    LEAST_STEPS,
    Sample,
    Settling,
    combine,
    first_burn_in,
    follow_steps,
    participation,
    reach,
    windows,
)
from critinit.theory.tied.inputs import STEADY, Inputs

__all__ = ["Measurement", "Progress", "simulate", "simulate_layer"]

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

WIDEST = 10**5
"""Units of a simulated network: kernels of more do not fit a machine's memory."""
_QR_EVERY = 8
_PAIR_STEPS = 12
_LARGEST_TIME = 1e12
_FOREVER = 10**9


@dataclass(frozen=True)
class Measurement:
    """What was measured on the networks of one layer.

    ``numbers``: means over networks with standard errors.  ``lyapunov``, ``lyapunov_error``: leading exponents per
    step, NaN where they were not measured.  ``log_distance``: ln E|δ_t|²/E|δ_0|², t = 0 … steps, mean over networks.
    ``singular_values``: of the one-step Jacobian, ascending, (networks, width), where asked for.
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
    weights: Weights = "tied",
    seed: int = 0,
    tangents: int = 4,
    inputs: Inputs = STEADY,
    burn_in: int | None = None,
    singular_values: bool = False,
    progress: Progress | None = None,
) -> tuple[Measurement | None, ...]:
    """Measure every layer of ``spec`` on ``seeds`` networks of ``width`` units; the same arguments, the same numbers.

    Each layer is fed independent Gaussian inputs of the variance it declares, one coordinate per unit.
    ``steps``: how long the perturbation is followed (default: T between 300 and 2000); ``tangents``: K, also the
    number of Lyapunov exponents.  None stands for a layer without an untied reading (an identity kernel, untied).
    Cost: O(seeds·steps·gates·width²·K) when tied, O(seeds·steps·gates·width·K²) when untied.
    Raises ``ArgumentError`` for arguments out of range.
    """
    n = len(spec.layers)

    def part(i: int) -> Progress | None:
        return None if progress is None else lambda done, total: progress(i * total + done, n * total)

    return tuple(
        simulate_layer(
            spec.find_cell(), layer, T=spec.T, width=width, steps=steps, seeds=seeds, weights=weights,
            seed=(seed, i), tangents=tangents, inputs=inputs, burn_in=burn_in, singular_values=singular_values,
            progress=part(i),
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
    weights: Weights = "tied",
    seed: int | tuple[int, ...] = 0,
    tangents: int = 4,
    inputs: Inputs = STEADY,
    burn_in: int | None = None,
    singular_values: bool = False,
    progress: Progress | None = None,
) -> Measurement | None:
    """``simulate`` for one layer of a cell."""
    _check(width=width, seeds=seeds, tangents=tangents, T=T)
    if width > WIDEST:
        raise ArgumentError(f"width: found {width}; allowed: at most {WIDEST}, as kernels have its square")
    if weights not in ("tied", "untied"):
        raise ArgumentError(f"weights: found {weights!r}; allowed: tied, untied")
    if tangents >= width:
        raise ArgumentError(f"width: found {width}; allowed: above {tangents}, the number of tangents")
    if weights == "untied" and any(gate.recurrent.reads_itself for gate in layer.gates.values()):
        return None
    length = follow_steps(T) if steps is None else steps
    if length < LEAST_STEPS:
        raise ArgumentError(f"steps: found {length}; allowed: at least {LEAST_STEPS}")
    before = first_burn_in(cell, layer) if burn_in is None else burn_in
    _check(burn_in=before)
    total = seeds * (before + length)
    results = []
    for i, child in enumerate(np.random.SeedSequence(seed).spawn(seeds)):
        run = _Run(cell, layer, np.random.default_rng(child), width, weights, inputs, tangents)
        tick = None if progress is None else (lambda done, i=i: progress(i * (before + length) + done, total))
        results.append(run.measure(Settling(before, length, exact=burn_in is not None), length, singular_values, tick))
    exponents = np.array([r.lyapunov for r in results])
    notes = []
    if layer.input.correlation < 1.0:
        notes.append(
            f"chi: growth of the covariance of two copies with inputs of correlation {layer.input.correlation:g}"
        )
    told = seeds > 1 and bool(np.all(np.isfinite(exponents)))
    spread = exponents.std(axis=0, ddof=1) / math.sqrt(seeds) if told else np.full(tangents, math.nan)
    return Measurement(
        numbers=combine([r.sample for r in results], T, notes=notes, tied=weights == "tied"),
        lyapunov=exponents.mean(axis=0),
        lyapunov_error=spread,
        log_distance=np.mean([r.sample.log_square for r in results], axis=0),
        singular_values=np.array([r.singular for r in results]) if singular_values else None,
    )


def _check(**positive: int) -> None:
    for name, number in positive.items():
        if number < 1:
            raise ArgumentError(f"{name}: found {number}; allowed: at least 1")


@dataclass(frozen=True)
class _Result:
    sample: Sample
    lyapunov: Array
    singular: Array | None


class _Run:
    """One network from rest to its numbers."""

    def __init__(
        self,
        cell: Cell,
        layer: Layer,
        rng: np.random.Generator,
        width: int,
        weights: Weights,
        inputs: Inputs,
        tangents: int,
    ) -> None:
        copies = 2 if layer.input.correlation < 1.0 else 1
        self.network = draw_network(cell, layer, width, rng, weights=weights, inputs=inputs, copies=copies)
        self.rng, self.width, self.tangents = rng, width, tangents

    def measure(
        self, settling: Settling, steps: int, singular_values: bool, tick: Callable[[int], None] | None
    ) -> _Result:
        net, cell = self.network, self.network.cell
        state, u, first = net.rest(), None, settling.first
        for external in net.external_inputs(-_FOREVER, 0):
            state, u = net.step(state, external)
            if not settling.goes_on(float(np.mean(state.h**2))):
                break
            if tick and len(settling) % 20 == 0:
                tick(min(len(settling), first))
        carried = _Tangents(self._signs(), steps)
        pair = _PairGrowth(carried.start, steps) if net.copies == 2 else None
        state = _perturbed(net, state, u, carried.start)
        keep, moments, seen = np.zeros(self.width), np.zeros(2), 0
        for t, external in enumerate(net.external_inputs(0, steps)):
            state, u = net.step(state, external)
            state = pair.record(t, net, state, u) if pair else carried.record(t, state)
            keep += np.broadcast_to(value(cell.keep(u)), (net.copies, self.width))[0]
            moments += np.mean(value(state.h)[0] ** 2), np.mean(value(state.s)[0] ** 2)
            seen += 1
            if tick and t % 20 == 0:
                tick(first + t)
        jacobian = self._jacobian(state, u)
        gram = jacobian @ jacobian.T
        sample = Sample(
            second_moment=float(moments[0] / seen),
            memory=float(moments[1] / seen) if cell.has_readout else None,
            time_constants=1.0 / np.maximum(1.0 - keep / seen, 1.0 / _LARGEST_TIME),
            log_square=pair.log_square if pair else carried.log_square,
            participation=np.ones(_PAIR_STEPS + 1) if pair else carried.participation,
            jacobian_square=float(np.trace(gram) / self.width),
            jacobian_second=float(np.sum(gram * gram) / self.width),
            settled=settling.settled,
        )
        if tick:
            tick(first + steps)
        told = reach([sample])
        again = 0 if pair or net.inputs.off_after is not None else windows(told, steps)
        courses = []
        for _ in range(again):
            course, state, u = self._window(state, u, told)
            courses.append(course)
        sample = replace(sample, windows=tuple(courses))
        singular = np.sort(np.linalg.svd(jacobian, compute_uv=False)) if singular_values else None
        exponents = np.full(self.tangents, math.nan) if pair else carried.lyapunov()
        return _Result(sample, exponents, singular)

    def _signs(self) -> Array:
        """K random directions of entries ±1, (K, 1, N)."""
        return np.where(self.rng.random((self.tangents, 1, self.width)) < 0.5, -1.0, 1.0)

    def _window(self, state: State, u: Any, steps: int) -> tuple[Array, State, Any]:
        """ln E|δ_t|² of new perturbations for ``steps`` steps, (steps + 1,), and where they ended."""
        carried = _Tangents(self._signs(), steps)
        state = _perturbed(self.network, state, u, carried.start)
        for t, external in enumerate(self.network.external_inputs(0, steps)):
            state, u = self.network.step(state, external)
            state = carried.record(t, state)
        return carried.log_square, state, u

    def _jacobian(self, state: State, u: Any) -> Array:
        """∂s'/∂s of the first copy at the present state (of the LSTM at fixed output gate), (N, N)."""
        net = self.network.frozen()
        unit = np.eye(self.width)[:, None, :]
        external = next(iter(net.external_inputs(0, 1)))
        first = {n: value(x)[:1] for n, x in external.items()}
        here = State(value(state.s)[:1], value(state.h)[:1])
        gates = {n: value(x)[:1] for n, x in (u or {}).items()}
        after, _ = net.step(_perturbed(net, here, gates, unit), first)
        return np.ascontiguousarray(tangent(after.s)[:, 0, :].T)


def _perturbed(net: Network, state: State, u: Any, direction: Array) -> State:
    """The state with tangents in the memory; h follows at fixed pre-activations."""
    shape = np.broadcast_shapes(direction.shape, np.shape(value(state.s)))
    s = Dual(value(state.s), np.broadcast_to(direction, shape))
    return State(s, net.visible(s, {n: value(x) for n, x in (u or {}).items()}))


class _Tangents:
    """K tangents kept orthonormal: Δ_t = P_tᵀ·(rows at t), every scale in a logarithm."""

    def __init__(self, start: Array, steps: int) -> None:
        self.start = start
        k = start.shape[0]
        self.p, self.log_scale = np.eye(k), 0.0
        self.log_square = np.full(steps + 1, -math.inf)
        self.log_square[0] = math.log(float(np.sum(start**2)))
        self.participation = np.ones(steps + 1)
        self.log_r, self.late = np.zeros(k), 0
        self.steps = steps

    def record(self, t: int, state: State) -> State:
        s, h = state.s, state.h
        rows = tangent(s)[:, 0]
        mixed = self.p.T @ rows
        square = float(np.sum(mixed * mixed))
        if square > 0.0:
            self.log_square[t + 1] = math.log(square) + 2.0 * self.log_scale
            self.participation[t + 1] = np.mean([participation(row * row) for row in mixed])
        if (t + 1) % _QR_EVERY or square == 0.0:
            return state
        return self._orthonormal(t, s, h)

    def _orthonormal(self, t: int, s: Any, h: Any) -> State:
        pair = h is not s
        rows = np.concatenate([tangent(s)[:, 0], tangent(h)[:, 0]], axis=1) if pair else tangent(s)[:, 0]
        q, r = np.linalg.qr(rows.T)
        if (t + 1) > self.steps // 2:
            with np.errstate(divide="ignore"):
                self.log_r += np.log(np.abs(np.diag(r)))
            self.late += _QR_EVERY
        p = r @ self.p
        norm = float(np.linalg.norm(p))
        self.p, self.log_scale = p / norm, self.log_scale + math.log(norm)
        width = tangent(s).shape[-1]
        new = np.ascontiguousarray(q.T)[:, None, :]
        ds = Dual(value(s), new[..., :width])
        return State(ds, Dual(value(h), new[..., width:]) if pair else ds)

    def lyapunov(self) -> Array:
        """Exponents per step, largest first; −∞ where the perturbation died."""
        dead = self.late == 0 or self.log_square[-1] == -math.inf
        return np.full(self.log_r.shape, -math.inf) if dead else -np.sort(-self.log_r / self.late)


class _PairGrowth:
    """χ of two copies: growth of ⟨δ¹, δ²⟩ from equal perturbations, over short windows begun again and again.

    The inner product sinks below its own noise |δ¹||δ²|/√N after a while, hence the windows.
    """

    def __init__(self, start: Array, steps: int) -> None:
        self.start = start
        self.inner = np.zeros(_PAIR_STEPS + 1)
        self.whole = steps - steps % _PAIR_STEPS

    def record(self, t: int, net: Network, state: State, u: Any) -> State:
        if t >= self.whole:
            return state
        d = tangent(state.s)
        self.inner[t % _PAIR_STEPS + 1] += float(np.sum(d[:, 0] * d[:, 1]))
        if (t + 1) % _PAIR_STEPS:
            return state
        self.inner[0] += float(np.sum(self.start**2))
        return _perturbed(net, state, u, self.start)

    @property
    def log_square(self) -> Array:
        """ln of the mean inner product, window steps + 1 long; −∞ from where it is not positive."""
        good = np.logical_and.accumulate(self.inner > 0.0)
        return np.where(good, np.log(np.where(good, self.inner, 1.0)), -math.inf)
