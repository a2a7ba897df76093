"""Hugging Face transformers: a spec's weights in a ``PreTrainedModel``, and its limits in a ``Trainer``.

    class Tagger(PreTrainedModel):
        def _init_weights(self, module):
            if not init_weights(spec, self, module):
                super()._init_weights(module)

transformers calls ``_init_weights`` for one module after another, when a model is made from its configuration and,
after a checkpoint was read, for the modules that it did not fill; tensors that were loaded carry
``_is_hf_initialized``.

    trainer = Trainer(model, arguments, callbacks=[LimitSteps(spec)])

The trainer makes its optimizer itself.  The callback limits its steps once it exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from critinit.diagnosis.watching import Watch
from critinit.errors import MissingExtraError
from critinit.spec import InitSpec, checked_spec
from critinit.tensors.limiting import states_limits, step_limits
from critinit.tensors.sampling import check_seed
from critinit_adapters.shared.planning import Plan
from critinit_adapters.torch.adapter import ADAPTER, named_tensors
from critinit_adapters.torch.limits import limit_steps

try:
    from transformers import TrainerCallback
except ImportError:
    raise MissingExtraError("transformers", "huggingface") from None

__all__ = ["LimitSteps", "diagnose_training", "init_weights"]

_FLAG = "_is_hf_initialized"
"""Private to transformers, run with 5.23.0: the mark of a tensor or module that needs no initial weights."""
_SEED = "critinit_seed"
"""Where a model keeps the seed that was drawn for it: transformers asks module by module."""


def init_weights(
    spec: InitSpec,
    model: nn.Module,
    module: nn.Module,
    *,
    seed: int | None = None,
    include: Sequence[str] | None = None,
    trust: bool = False,
) -> bool:
    """Write the spec into one module of a model, from its ``_init_weights``.

    The numbers are those that ``critinit.apply(spec, model, seed=seed)`` would write there, so several recurrent
    modules of a model get independent weights and the spec's layers in their order.  Tensors that are marked as
    initialized are left alone, one by one: a checkpoint that holds some of a module's tensors is completed.

    Without a seed, the model's is the next number of torch's generator, that of ``transformers.set_seed``, taken
    when the first of the model's tensors is drawn and kept as ``model.critinit_seed``.

    Args:
        spec: The spec.
        model: The whole model.
        module: The module of it that transformers asks for.
        seed: The seed, or None.
        include: The patterns of ``critinit.apply``, with paths in the model.
        trust: Whether to write also into classes that override the step of torch's layers, as ``critinit.apply`` does.

    Returns:
        False where the module is no recurrent module of the spec's cell, or is left out; nothing was done.

    Raises:
        ApplyError: The spec does not fit the model; nothing was changed.
    """
    if not any(found.name == "" and found.takes(spec.cell) for found in ADAPTER.survey(module, {}).modules):
        return False
    made = ADAPTER.plan(spec, model, 0, include, {}, trust=trust)
    own = {id(parameter) for parameter in module.parameters()}
    if not any(id(write.tensor.handle) in own for write in made.writes):
        return False
    missing = {id(parameter) for parameter in module.parameters() if not _is_initialized(module, parameter)}
    if missing:  # where nothing is drawn, no seed is taken
        made = ADAPTER.plan(spec, model, _seed(model, seed), include, {}, trust=trust)
        writes = tuple(write for write in made.writes if id(write.tensor.handle) in missing)
        ADAPTER.execute(model, Plan(writes, (), ()), "portable", {})
    return True


def _seed(model: nn.Module, given: int | None) -> int:
    if given is not None:
        return check_seed(given)
    if not hasattr(model, _SEED):
        setattr(model, _SEED, ADAPTER.seed_of(None, model))
    return check_seed(getattr(model, _SEED))


def _is_initialized(module: nn.Module, parameter: Any) -> bool:
    return bool(getattr(module, _FLAG, False) or getattr(parameter, _FLAG, False))


class LimitSteps(TrainerCallback):
    """A callback of ``transformers.Trainer`` that makes its optimizer keep a spec's limits.

    It does what ``critinit.limit_steps`` does, when the training starts, of a resumed run too, whether the trainer made
    the optimizer or was given one.  Where the spec states no limits it does nothing.

    Args:
        spec: The spec.
        include: The patterns of ``critinit.apply``, with paths in the model.
        trust: Whether classes that override the step of torch's layers are meant too, as in ``critinit.apply``.

    Example:
        trainer = Trainer(model, arguments, train_dataset=data, callbacks=[LimitSteps(spec)])
    """

    def __init__(self, spec: InitSpec, *, include: Sequence[str] | None = None, trust: bool = False) -> None:
        self.spec, self.include, self.trust = checked_spec(spec), include, trust

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **more: Any
    ) -> None:
        """Limit the optimizer, which exists now.

        Raises:
            ApplyError: The spec does not fit the model.
            ArgumentError: The optimizer cannot keep limits, or trains none of the limited tensors.
        """
        if states_limits(self.spec):
            limited = step_limits(self.spec, model, include=self.include, trust=self.trust)
            limit_steps(optimizer, limited.limits, dict(named_tensors(model)))


def diagnose_training(trainer: Any, batch: Any, spec: InitSpec | None = None, **settings: Any) -> Watch:
    """Let a Hugging Face ``Trainer`` log ``critinit.diagnose`` of its model while it trains.

    A callback is added to the trainer.  It measures after the first step, and then so seldom that it takes at most 2 %
    of the training time, or at every ``every``-th step, and hands the numbers to ``trainer.log``, so they go wherever
    the trainer reports to.  Of several processes the first one measures.

    Args:
        trainer: The trainer.
        batch: What the model is called with: a mapping of named arguments, such as a batch of the data collator.
        spec: The spec that the weights started from, or None.
        **settings: The arguments of ``critinit.Watch``.

    Returns:
        The watch, whose ``history`` has the diagnoses.

    Raises:
        ArgumentError: An argument is out of its range.

    Example:
        trainer = Trainer(model, arguments, train_dataset=data)
        diagnose_training(trainer, collator([data[i] for i in range(32)]), spec)
        trainer.train()
    """
    watch = Watch(batch, spec, **settings)

    class DiagnoseTraining(TrainerCallback):
        """Measures where it is time."""

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            """Hand numbers to the trainer."""
            if state.is_world_process_zero and watch.counted():
                watch.batch = trainer._prepare_inputs(watch.batch)  # to the model's device
                trainer.log(watch.measured(model))

    trainer.add_callback(DiagnoseTraining())
    return watch
