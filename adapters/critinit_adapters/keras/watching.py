"""Keras: a callback that logs ``critinit.diagnose`` of the model while it trains."""

from __future__ import annotations

from typing import Any

import keras

from critinit.diagnosis.watching import Watch
from critinit.spec import InitSpec

__all__ = ["DiagnoseTraining"]


class DiagnoseTraining(keras.callbacks.Callback):
    """A callback that puts the numbers of ``critinit.diagnose`` into the logs of ``fit``.

    It measures before the first step, and then so seldom that it takes at most 2 % of the training time (``share``), or
    at every ``every``-th step.  The numbers, those of ``Diagnosis.scalars``, stand in the logs of the batch that they
    were measured after and in the logs of each epoch, so ``History`` has them, and so do the callbacks that come after
    it in the list: put it before ``TensorBoard`` or ``CSVLogger``.

    Args:
        batch: The inputs that the model is called with.
        spec: The spec that the weights started from, or None.
        **settings: The arguments of ``critinit.Watch``.

    Attributes:
        watch: The ``critinit.Watch``, whose ``history`` has the diagnoses.

    Raises:
        ArgumentError: An argument is out of its range.

    Example:
        model.fit(x, y, callbacks=[DiagnoseTraining(x[:32], spec), keras.callbacks.TensorBoard()])
    """

    def __init__(self, batch: Any, spec: InitSpec | None = None, **settings: Any) -> None:
        super().__init__()
        self.watch = Watch(batch, spec, **settings)
        self._numbers: dict[str, float] = {}

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Measure the model as it is before the first step."""
        self._measure()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Measure where it is time."""
        if self._measure() and logs is not None:
            logs.update(self._numbers)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Put the numbers of the last measurement into the epoch's logs."""
        if logs is not None:
            logs.update(self._numbers)

    def _measure(self) -> bool:
        if not self.watch.counted():  # on JAX, asking for the model costs a copy of its weights
            return False
        self._numbers = self.watch.measured(self.model)
        return True
