"""PyTorch Lightning: a callback that puts a spec's weights into the model when training starts.

    trainer = Trainer(callbacks=[CriticalInit(spec)])

Lightning sets a model up, restores a checkpoint if there is one, then makes the optimizers.  The weights are written
first, at ``setup``, so that whatever is restored counts, and optimizers and averages see what was written.  A model
that is only made by its ``configure_model`` does not exist then; it is written when the fit starts, unless something
was restored in between.
"""

from __future__ import annotations

import sys
import weakref
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import uuid4

import torch

from critinit.diagnosis.watching import Watch
from critinit.errors import ArgumentError, MissingExtraError
from critinit.spec import InitSpec, checked_spec
from critinit.tensors.application import Report, Sampler, Where, apply
from critinit.tensors.limiting import NOTE, states_limits, step_limits
from critinit.tensors.sampling import check_seed
from critinit_adapters.torch.adapter import ADAPTER, named_tensors
from critinit_adapters.torch.limits import limit_steps
from critinit_adapters.torch.sharded import is_sharded

__all__ = ["CriticalInit", "DiagnoseTraining"]


def _callback() -> Any:
    """``Callback`` of the Lightning that is in use: the package has two names, and their classes do not mix."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in (*(name for name in names if name in sys.modules), *names):
        try:
            return import_module(name).Callback
        except ImportError:
            continue
    raise MissingExtraError("Lightning", "lightning")


class CriticalInit(_callback()):  # type: ignore[misc]
    """A callback that applies a spec once to each model that is fitted, before its first step.

    If the spec limits the learning rate, the optimizers keep the limits (see ``critinit.limit_steps``), in a resumed
    run too.  A resumed run keeps what it restored.  A checkpoint holds the spec and the seed.  Weights that you load
    yourself before ``fit`` are overwritten: leave the callback out there.  A strategy that spawns processes
    (``ddp_spawn``) writes at every ``fit``, as what the processes saw does not come back.

    Args:
        spec: The spec.
        seed: The seed of ``critinit.apply``.  None: the next number of torch's generator, so that of
            ``seed_everything``; all processes take that of the first.
        sampler: The sampler of ``critinit.apply``.
        include: The patterns of ``critinit.apply``.
        trust: Whether to write also into classes that override the step of torch's layers, as ``critinit.apply`` does.
        where: Where a module of your own keeps its gates, as ``critinit.apply`` takes it, with paths in the model.

    Attributes:
        report: What ``critinit.apply`` reported, with the seed that was used; None until then, and where a run was
            resumed.  Lightning's finders of rates and batch sizes restore what was written, so there it stays.

    Raises:
        ArgumentError: ``spec`` is no ``InitSpec``, or the seed is out of range.
    """

    def __init__(
        self,
        spec: InitSpec,
        seed: int | None = None,
        *,
        sampler: Sampler = "portable",
        include: str | list[str] | None = None,
        trust: bool = False,
        where: Where | None = None,
    ) -> None:
        super().__init__()
        self.spec = checked_spec(spec)
        self.seed = None if seed is None else check_seed(seed)
        self.sampler, self.include, self.trust, self.where = sampler, include, trust, where
        self.report: Report | None = None
        self._done: weakref.WeakSet[Any] = weakref.WeakSet()
        self._limited: weakref.WeakSet[Any] = weakref.WeakSet()
        self._origin: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, whose models are others than those that were written here."""
        return {**vars(self), "_done": None, "_limited": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _done=weakref.WeakSet(), _limited=weakref.WeakSet())

    @property
    def state_key(self) -> str:
        """Its name in a checkpoint: callbacks for several networks of one model have names of their own."""
        given = {"cell": self.spec.cell, "include": self.include, "where": self.where}
        return f"CriticalInit{ {name: value for name, value in given.items() if value is not None}!r}"

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Write, where the model is there already; what a resumed run restores comes after it."""
        if stage == "fit" and not _is_made_later(pl_module):
            self._apply(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Leave the model to what is restored."""
        self._done.add(pl_module)
        origin = checkpoint.get("callbacks", {}).get(self.state_key, {})
        if not origin or origin.get("written") != self._origin.get("written"):  # else its own writing comes back
            self.report, self._origin = None, origin

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Limit the optimizers: Lightning's search for a learning rate saves first, then trains without callbacks."""
        self._limit(trainer, pl_module)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Write, where the model was only made after ``setup``."""
        self._apply(trainer, pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Limit the steps of the optimizers, which exist now."""
        self._limit(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps: where the weights came from, also after a run was resumed."""
        return self._origin or {"spec": self.spec.to_json(), "seed": self.seed}

    def _limit(self, trainer: Any, module: Any) -> None:
        """Limit the optimizers that are new; those that keep limits already do so whatever became of the model."""
        new = [optimizer for optimizer in trainer.optimizers if optimizer not in self._limited]
        if new and states_limits(self.spec):
            limited = step_limits(self.spec, module, include=self.include, trust=self.trust, where=self.where)
            for optimizer in new:
                limit_steps(optimizer, limited.limits, dict(named_tensors(module)), required=False)
                self._limited.add(optimizer)

    def _apply(self, trainer: Any, module: Any) -> None:
        if module not in self._done:
            seed = self.seed
            if seed is None:  # the processes' generators can differ, and the model may not be shared yet
                seed = trainer.strategy.broadcast(ADAPTER.seed_of(None, module))
            applied = apply(
                self.spec,
                module,
                seed=seed,
                sampler=self.sampler,
                include=self.include,
                trust=self.trust,
                where=self.where,
            )
            # the optimizers are limited later, by this callback
            self.report = replace(applied.report, notes=tuple(n for n in applied.report.notes if n != NOTE))
            self._origin = {"spec": self.spec.to_json(), "seed": self.report.seed, "written": uuid4().hex}
            self._done.add(module)


class DiagnoseTraining(_callback()):  # type: ignore[misc]
    """A callback that logs ``critinit.diagnose`` of the model while it trains, to the trainer's own loggers.

    It measures before the first step, and then so seldom that it takes at most 2 % of the training time (``share``), or
    at every ``every``-th step.  The numbers are those of ``Diagnosis.scalars``; other callbacks find them too, under
    the same names, in ``trainer.callback_metrics``.  Of several processes the first one measures.

    Args:
        spec: The spec that the weights started from.  None: that of a ``CriticalInit`` beside it, if there is one.
        batch: What the model is called with.  None: the inputs of the first batch of the training, of a tuple or list
            its first element.
        **settings: The arguments of ``critinit.Watch``.

    Attributes:
        watch: The ``critinit.Watch``; None before the first step.

    Raises:
        ArgumentError: ``spec`` is no ``InitSpec``, an argument is out of its range, or the model is sharded.
    """

    def __init__(self, spec: InitSpec | None = None, batch: Any = None, **settings: Any) -> None:
        super().__init__()
        self.watch: Watch | None = None
        Watch(batch, spec, **settings)  # refused now, not when training begins
        self._spec, self._batch, self._settings = spec, batch, settings
        self._steps = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Measure the model as it is before the first step."""
        if self.watch is None and trainer.is_global_zero:
            if any(is_sharded(parameter) for parameter in pl_module.parameters()):
                hint = "diagnose a checkpoint of it: critinit diagnose SPEC CHECKPOINT --data FILE"
                raise ArgumentError("model", found="a model that several processes share", hint=hint)
            inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
            if self._batch is not None:
                inputs = trainer.strategy.batch_to_device(self._batch)
            starts = (one.spec for one in trainer.callbacks if isinstance(one, CriticalInit))
            self.watch = Watch(inputs, self._spec or next(starts, None), **self._settings)
            self._log(trainer, pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure where it is time, which only steps of an optimizer count for, and not batches that accumulate."""
        if trainer.global_step != self._steps:
            self._log(trainer, pl_module)

    def _log(self, trainer: Any, module: Any) -> None:
        """Log numbers; Lightning itself would drop what is logged between two of its own steps of logging."""
        self._steps = trainer.global_step
        numbers = {} if self.watch is None else self.watch(module)
        if not numbers:
            return
        trainer.callback_metrics.update({name: torch.tensor(number) for name, number in numbers.items()})
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=trainer.global_step)


def _is_made_later(module: Any) -> bool:
    """Whether there is no recurrent layer yet, and a ``configure_model`` that may make one."""
    lightning = ("lightning.", "pytorch_lightning.")
    own = any("configure_model" in vars(k) for k in type(module).__mro__ if not k.__module__.startswith(lightning))
    return own and not ADAPTER.survey(module, {}).modules
