"""What the pictures of one spec share: each theory and each simulation runs once, when a picture first needs it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from critinit.cells import Cell
from critinit.distributions.numbers import LONGEST_TIME
from critinit.dual import Array, value
from critinit.errors import ArgumentError
from critinit.simulation import Measurement, simulate_layer
from critinit.simulation.network import Regime
from critinit.spec import InitSpec, Layer, Numbers
from critinit.theory.analysis import untied_numbers
from critinit.theory.parameters import LayerParameters, has_identity, layer_parameters
from critinit.theory.protocol import layers_below
from critinit.theory.quadrature import LOGISTIC_STRIP, rule_for
from critinit.theory.tied.solution import tied_with_courses
from critinit.theory.untied.solution import Untied, padding_parameters, scaled_memory, solve

__all__ = ["QUANTILES", "Study", "StudyProgress", "unit_times"]

StudyProgress = Callable[[str, int, int], None]
"""Called with the name of a computation, how much of it is done, and of how much."""

QUANTILES = np.linspace(0.0, 1.0, 201)
"""Shares of the units at which time constants are given: one for each half percent."""
_TAIL = 1e-3
"""Share of the units that is left out at either end where the distribution of biases has no end."""
_STEPS = (10, 2000)
"""Fewest and most steps that a perturbation is followed on networks: in fewer no growth shows, more take minutes."""


def unit_times(cell: Cell, layer: Layer, *, second_moment: float, input_power: float) -> Array:
    """Return the time constant 1/(1 − E keep) of the unit at each of ``QUANTILES``, shortest first, in steps.

    The average is over inputs and states.  The unit's own bias stays as it is, as in a network.

    Args:
        cell: The cell.
        layer: A layer of it.
        second_moment: Mean square of the state that the layer's recurrent kernels read.
        input_power: Mean square of an input coordinate.
    """
    if cell.keep_gate is None:
        kept = np.full(QUANTILES.shape, float(value(cell.keep({}))))
    else:
        gate = layer.reduced().gates[cell.keep_gate]
        if cell.normalized:  # whatever is read has power 1
            second_moment, input_power = 1.0, float(input_power > 0.0)
            cell = scaled_memory(layer_parameters(cell, layer)).cell
        deviation = math.sqrt(gate.recurrent.variance * second_moment + gate.input.variance * input_power)
        z, weights = rule_for(deviation, LOGISTIC_STRIP)
        keep = str(cell.keep_gate)
        kept = value(cell.keep({keep: _unit_biases(keep, layer)[:, None] + deviation * z})) @ weights
    return np.asarray(1.0 / np.maximum(1.0 - kept, 1.0 / LONGEST_TIME))


def _unit_biases(gate: str, layer: Layer) -> Array:
    """The bias of the unit at each of ``QUANTILES``, ascending."""
    sign, bias = layer.gates.followed(gate)
    biases = bias.quantile(QUANTILES)
    if not np.all(np.isfinite(biases)):
        biases = bias.quantile(np.clip(QUANTILES, _TAIL, 1.0 - _TAIL))
    return np.sort(sign * biases)


@dataclass(frozen=True)
class LayerTheory:
    """The untied theory of a layer, group by group of its units.

    Attributes:
        shares: The share of the units of each group.
        parts: The theory of each group.
    """

    shares: tuple[float, ...]
    parts: tuple[Untied, ...]

    @property
    def chi(self) -> float:
        """χ of the group in which perturbations last longest."""
        return max(float(part.chi) for part in self.parts)

    def retention(self, steps: int) -> float:
        """Return what ``steps`` steps leave of a perturbation, relative squared length."""
        return sum(share * float(part.retention(steps)) for share, part in zip(self.shares, self.parts, strict=True))


def _mixed_times(shares: Sequence[float], times: Sequence[Array]) -> Array:
    """The time constants at ``QUANTILES`` of all units, from those of each group."""
    if len(times) == 1:
        return times[0]
    every = np.concatenate(times)
    weights = np.concatenate([np.full(len(t), share / len(t)) for share, t in zip(shares, times, strict=True)])
    order = np.argsort(every)
    reached = np.searchsorted(np.cumsum(weights[order]), QUANTILES)
    return np.asarray(every[order][np.minimum(reached, len(every) - 1)])


class Study:
    """One layer of a spec, with what theory says of it and what simulated networks show.

    Args:
        spec: The spec.
        layer: The layer's number, from 0.
        width: Units of each simulated network.
        networks: How many networks are simulated.
        seed: Seed of everything that is drawn.
        progress: Called while something takes long.

    Raises:
        ArgumentError: The spec has no such layer.

    Example:
        >>> from critinit import generate
        >>> study = Study(generate("gru", T=50, scheme="chrono"))
        >>> times = study.times()
        >>> bool(times[0] < times[-1] < 51)
        True
    """

    def __init__(
        self,
        spec: InitSpec,
        *,
        layer: int = 0,
        width: int = 200,
        networks: int = 4,
        seed: int = 0,
        progress: StudyProgress | None = None,
    ) -> None:
        if not 0 <= layer < len(spec.layers):
            raise ArgumentError("layer", found=str(layer), allowed=f"0 to {len(spec.layers) - 1}")
        self.spec, self.index = spec, layer
        self.width, self.networks, self.seed = width, networks, seed
        self.progress = progress
        self._measured: dict[Regime, Measurement | None] = {}

    @cached_property
    def cell(self) -> Cell:
        """The spec's cell."""
        return self.spec.find_cell()

    @property
    def layer(self) -> Layer:
        """The layer that is studied."""
        return self.spec.layers[self.index]

    @property
    def steps(self) -> int:
        """How many steps a perturbation is followed on networks: T, but at least 10 and at most 2000."""
        return min(max(self.spec.T, _STEPS[0]), _STEPS[1])

    @property
    def has_untied(self) -> bool:
        """Whether the untied theory can describe the layer; it cannot where a recurrent kernel is the identity."""
        return not any(has_identity(group.gates) for group in self.layer.groups)

    def needs_untied(self, picture: str) -> LayerTheory:
        """Return the untied theory under the layer's input, for a picture that cannot do without it.

        Raises:
            ArgumentError: A recurrent kernel is the identity, or a normalized memory has no steady state.
        """
        if self.solution is None:
            hint = "the untied theory, which this picture shows, cannot describe an identity kernel, or a memory that "
            hint += "is kept normalized and has no steady state"
            raise ArgumentError(picture, hint=hint)
        return self.solution

    @cached_property
    def solution(self) -> LayerTheory | None:
        """The untied theory under the layer's input; None with an identity kernel, or without a steady state."""
        if not self.has_untied:
            return None
        found = self._solved(layer_parameters)
        settled = all(bool(part.converged) for part in found.parts)
        return found if settled or not self.cell.keeps_normalized else None

    @cached_property
    def padded(self) -> LayerTheory | None:
        """The untied theory while the input is padding; None where that changes nothing, or with an identity kernel.

        Padding changes nothing where nothing is known of it, or where it is as strong as the input.
        """
        source = self.layer.input
        if self.solution is None or source.padding_power == source.variance:
            return None
        return self._solved(padding_parameters)

    def _solved(self, parameters: Callable[[Cell, Layer], LayerParameters]) -> LayerTheory:
        shares = tuple(group.share for group in self.layer.groups)
        return LayerTheory(shares, tuple(solve(parameters(self.cell, one)) for one in self.layer.alone()))

    def times(self) -> Array:
        """Return the units' time constants under the layer's input (``unit_times``)."""
        return self._times(self.needs_untied("time constants"), self.layer.input.variance)

    def padded_times(self) -> Array | None:
        """Return the units' time constants while the input is padding; None where ``padded`` is None."""
        return None if self.padded is None else self._times(self.padded, self.layer.input.padding_power)

    def _times(self, theory: LayerTheory, input_power: float) -> Array:
        times = [
            unit_times(self.cell, one, second_moment=float(part.second_moment), input_power=input_power)
            for one, part in zip(self.layer.alone(), theory.parts, strict=True)
        ]
        return _mixed_times(theory.shares, times)

    @cached_property
    def untied_numbers(self) -> Numbers | None:
        """The untied theory's numbers; None with an identity kernel."""
        return untied_numbers(self.spec, self.layer)

    @property
    def tied_numbers(self) -> Numbers:
        """The tied theory's numbers."""
        return self._tied[0]

    @property
    def tied_course(self) -> Array:
        """ln of what the tied theory says is left of a squared distance after 0, 1, … ``steps`` steps."""
        return np.asarray(self._tied[1].mean(axis=0)[: self.steps + 1])

    @cached_property
    def _tied(self) -> tuple[Numbers, Array]:
        return tied_with_courses(
            self.cell,
            self.layer,
            T=self.spec.T,
            seed=(self.seed, self.index),
            below=layers_below(self.spec, self.index),
            progress=self.reporter("theory of tied weights"),
        )

    def measured(self, weights: Regime) -> Measurement | None:
        """Return what networks show; None for untied weights with an identity kernel."""
        if weights not in self._measured:
            self._measured[weights] = simulate_layer(
                self.cell,
                self.layer,
                T=self.spec.T,
                width=self.width,
                steps=self.steps,
                seeds=self.networks,
                weights=weights,
                seed=(self.seed, self.index),
                singular_values=weights == "tied",
                below=layers_below(self.spec, self.index),
                progress=self.reporter(f"networks, {weights} weights"),
            )
        return self._measured[weights]

    def reporter(self, computation: str) -> Callable[[int, int], None] | None:
        """Return ``progress`` for one computation, called with what is done and what there is to do."""
        progress = self.progress
        return None if progress is None else (lambda done, total: progress(computation, done, total))
