"""What pictures of one spec share: theory and simulation are computed once, when a picture first asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

from critinit.errors import ArgumentError
from critinit.simulation import Measurement, simulate_layer
from critinit.spec import InitSpec, Layer, Numbers
from critinit.theory.analysis import untied_numbers
from critinit.theory.parameters import LayerParameters, has_identity, layer_parameters
from critinit.theory.tied.solution import tied_layer
from critinit.theory.untied.solution import Untied, solve

__all__ = ["Progress", "Reading", "Study", "padding_parameters"]

Reading = Literal["untied", "tied"]
Progress = Callable[[str, int, int], None]
"""Called with what is computed, how much of it is done, and of how much."""

_STEPS = (10, 2000)


def padding_parameters(spec: InitSpec, layer: Layer) -> LayerParameters:
    """The hyperparameters of a layer while its inputs carry no information."""
    return layer_parameters(spec.find_cell(), layer, input_variance=layer.input.padding_power)


class Study:
    """One layer of a spec, and what theory and ``networks`` networks of ``width`` units say of it.

    Raises ``ArgumentError`` for a layer that the spec has not.
    """

    def __init__(
        self,
        spec: InitSpec,
        *,
        layer: int = 0,
        width: int = 200,
        networks: int = 4,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        if not 0 <= layer < len(spec.layers):
            raise ArgumentError(f"layer: found {layer}; allowed: 0 to {len(spec.layers) - 1}")
        self.spec, self.index = spec, layer
        self.width, self.networks, self.seed = width, networks, seed
        self.progress = progress
        self._measured: dict[Reading, Measurement | None] = {}

    @property
    def layer(self) -> Layer:
        """The layer that is meant."""
        return self.spec.layers[self.index]

    @property
    def steps(self) -> int:
        """How long copies are followed on networks: T, between 10 and 2000 steps."""
        return min(max(self.spec.T, _STEPS[0]), _STEPS[1])

    @property
    def has_untied(self) -> bool:
        """Whether weights can be drawn anew: not where a kernel is the identity."""
        return not has_identity(self.layer.gates)

    @cached_property
    def solution(self) -> Untied | None:
        """The untied theory; None without an untied reading."""
        if not self.has_untied:
            return None
        return solve(layer_parameters(self.spec.find_cell(), self.layer))

    @cached_property
    def idle(self) -> Untied | None:
        """The untied theory while the input is padding; None where that is no different, or without a reading."""
        source = self.layer.input
        if not self.has_untied or source.padding_power == source.variance:
            return None
        return solve(padding_parameters(self.spec, self.layer))

    def numbers(self, reading: Reading) -> Numbers | None:
        """The theory's numbers."""
        return untied_numbers(self.spec, self.layer) if reading == "untied" else self._tied

    @cached_property
    def _tied(self) -> Numbers:
        return tied_layer(
            self.spec.find_cell(),
            self.layer,
            T=self.spec.T,
            seed=(self.seed, self.index),
            progress=self.reporter("theory of tied weights"),
        )

    def measured(self, reading: Reading) -> Measurement | None:
        """What networks show; None without an untied reading."""
        if reading not in self._measured:
            self._measured[reading] = simulate_layer(
                self.spec.find_cell(),
                self.layer,
                T=self.spec.T,
                width=self.width,
                steps=self.steps,
                seeds=self.networks,
                weights=reading,
                seed=(self.seed, self.index),
                singular_values=reading == "tied",
                progress=self.reporter(f"networks, {reading} weights"),
            )
        return self._measured[reading]

    def reporter(self, what: str) -> Callable[[int, int], None] | None:
        """``progress`` for one computation."""
        progress = self.progress
        return None if progress is None else (lambda done, total: progress(what, done, total))
