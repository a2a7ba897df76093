"""What adapters share that lend ``critinit.refine`` and ``critinit.prune`` their framework's derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ApplyError, ArgumentError, Problem
from critinit.refining.layers import Held, HeldLayer
from critinit_adapters.shared.planning import found_in
from critinit_adapters.shared.survey import Tensor

__all__ = ["RefinesModels", "all_tensors", "no_output", "target_like"]


_SHARED = Problem("", "weights that another layer holds too", "all weights of the two shared, or none", "untie them")


class RefinesModels:
    """An adapter that can refine and prune; a mixin before ``BaseAdapter``."""

    def held_layers(self: Any, target: Any, options: Mapping[str, Any]) -> Sequence[HeldLayer]:
        """Return every recurrent layer in each direction, with its numbers; one that stands twice counts once."""
        self._check_options(options)
        survey = self.survey(target, options)
        if not survey.modules:
            raise ApplyError(
                "target", found=found_in(survey), allowed=f"a model with a layer of {', '.join(self.cells)}"
            )
        found: list[HeldLayer] = []
        seen: set[Any] = set()
        for module in survey.modules:
            place = module.name, module.cell, module.hidden_size
            refusal = module.refusal
            if module.overrides:
                refusal = Problem("", module.overrides, f"the step of {module.cell}", "no other step can be refined")
            if refusal is not None:
                found.append(HeldLayer(place[0], 0, 0, *place[1:], (), refusal=refusal))
                continue
            if {tensor.identity for tensor in module.tensors} <= seen:
                continue
            for slot in module.slots:
                keys = {tensor.identity for tensor in slot.tensors}
                if keys & seen:
                    found.append(HeldLayer(place[0], slot.layer, slot.direction, *place[1:], (), refusal=_SHARED))
                    continue
                seen |= keys
                held = tuple(
                    Held(tensor.name, self.to_numpy(self.present(tensor)), tensor.blocks, tensor.frozen)
                    for tensor in slot.tensors
                )
                found.append(HeldLayer(place[0], slot.layer, slot.direction, *place[1:], held, slot.window))
        return found


def all_tensors(adapter: Any, target: Any, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return every tensor by its name, those of recurrent layers with their blocks."""
    survey = adapter.survey(target, options)
    layers = {tensor.name: tensor for module in survey.modules for tensor in module.tensors}
    return {**adapter.tensors(target, options), **layers}


def target_like(shape: Sequence[int], seed: int) -> NDArray[np.float64]:
    """Return what the default loss draws a model's output to: normal numbers of its shape."""
    return np.random.default_rng(seed).standard_normal(tuple(shape))


def no_output() -> ArgumentError:
    """Return the error of a model whose output has no array of floating-point numbers."""
    hint = "give loss=, a function of the model and the batch"
    return ArgumentError("loss", found="none, of a model that gives no array of numbers", hint=hint)
