"""Hugging Face transformers: a spec's weights in a ``PreTrainedModel``, where its ``_init_weights`` asks for them.

    class Tagger(PreTrainedModel):
        def _init_weights(self, module):
            if not init_weights(spec, self, module):
                super()._init_weights(module)

transformers calls ``_init_weights`` for one module after another, when a model is made from its configuration and, after
a checkpoint was read, for the modules that it did not fill; tensors that were loaded carry ``_is_hf_initialized``.
Nothing of transformers is imported.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from critinit.tensors.sampling import check_seed
from critinit.spec import InitSpec
from critinit_adapters.shared.planning import Plan, plan
from critinit_adapters.torch.adapter import ADAPTER

__all__ = ["init_weights"]

FLAG = "_is_hf_initialized"


def init_weights(spec: InitSpec, model: nn.Module, module: nn.Module, *, seed: int = 0) -> bool:
    """Write the spec into ``module``, a part of ``model``; False where it is no recurrent network of the spec's cell.

    The numbers are those that ``critinit.apply(spec, model, seed=seed)`` would write there, so that several networks of
    a model get independent weights and the spec's layers in their order.  Tensors that are marked as initialized are
    left alone, one by one: a checkpoint that holds some of a network's tensors is completed.  Raises ``ApplyError``
    where the spec does not fit the model, and changes nothing then.
    """
    if not any(network.name == "" and network.takes(spec.cell) for network in ADAPTER.survey(module, {}).networks):
        return False
    made = plan(spec, ADAPTER.survey(model, {}), check_seed(seed), None)
    missing = {id(parameter) for parameter in module.parameters() if not _is_initialized(module, parameter)}
    writes = tuple(write for write in made.writes if id(write.tensor.handle) in missing)
    ADAPTER.execute(model, Plan(writes, (), ()), "portable", {})
    return True


def _is_initialized(module: nn.Module, parameter: Any) -> bool:
    return bool(getattr(module, FLAG, False) or getattr(parameter, FLAG, False))
