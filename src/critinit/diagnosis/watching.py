"""Numbers while a model trains: ``Watch`` diagnoses it now and then, for at most a share of the training time."""

from __future__ import annotations

import time
import warnings
from collections import deque
from typing import Any

from critinit.diagnosis.diagnosing import Settings, diagnose
from critinit.diagnosis.result import Diagnosis
from critinit.errors import ArgumentError, DataError
from critinit.spec import InitSpec, checked_spec

__all__ = ["NOT_FINITE", "SHARE", "Watch"]

SHARE = 0.02
"""The share of the training time that measuring may take, by default."""
_KEPT = 100
"""Diagnoses that are kept: each has courses as long as the sequences."""
NOT_FINITE = "critinit/not_finite"
"""The name under which it is logged, as 1, that weights or states are no longer numbers."""


class Watch:
    """A function that diagnoses a model while it trains, and returns numbers to log when it is time.

    It measures at its first call, so that there is a start to compare with.  After that it measures whenever all the
    measuring so far, and the next one, take at most a share of the time that was spent on training; the clock decides,
    so the share holds on every machine.  The batch is always the same one, so that only the model changes.

    Args:
        batch: What the model is called with, as ``critinit.diagnose`` takes it.
        spec: The spec that the weights started from, or None.
        every: Measure at every so many calls instead, whatever it costs.
        share: The share of the training time.
        **arguments: All further arguments of ``critinit.diagnose``, by name, such as ``sequences=4``.

    Attributes:
        history: The last hundred diagnoses, each with the number of the call that it was made at, from 1.

    Raises:
        ArgumentError: An argument is out of its range.

    Example:
        watch = critinit.Watch(batch, spec)
        for step, (x, y) in enumerate(loader):
            train(model, x, y)
            for name, number in watch(model).items():
                writer.add_scalar(name, number, step)
    """

    def __init__(
        self,
        batch: Any,
        spec: InitSpec | None = None,
        *,
        every: int | None = None,
        share: float = SHARE,
        **arguments: Any,
    ) -> None:
        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise ArgumentError("every", found=repr(every), allowed="an integer of at least 1, or None")
        if not isinstance(share, (int, float)) or not 0.0 < share <= 1.0:
            raise ArgumentError("share", found=repr(share), allowed="a number above 0 and up to 1")
        Settings(**{name: arguments[name] for name in Settings._fields if name in arguments}).checked()
        self.batch, self.spec = batch, None if spec is None else checked_spec(spec)
        self.every, self.share, self._arguments = every, share, arguments
        self.history: deque[tuple[int, Diagnosis]] = deque(maxlen=_KEPT)
        self._calls, self._spent, self._last, self._ended = 0, 0.0, 0.0, 0.0
        self._began: float | None = None

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the numbers of ``Diagnosis.scalars`` where it is time to measure, and nothing otherwise.

        Args:
            model: The model as it is now.

        Raises:
            CritinitError: The model cannot be diagnosed at all.
        """
        return self.measured(model) if self.counted() else {}

    def counted(self) -> bool:
        """Count a call, and return whether it is time to measure; the first half of a call."""
        self._calls += 1
        now = time.perf_counter()
        self._began = now if self._began is None else self._began
        if self.every is not None:
            return (self._calls - 1) % self.every == 0
        if self._spent == 0.0:
            return True
        trained = now - self._began - self._spent
        # the second keeps measurements apart after a first one that was slow, as imports and caches make it
        return self._spent + self._last <= self.share * trained and self._last <= self.share * (now - self._ended)

    def measured(self, model: Any) -> dict[str, float]:
        """Measure, and return the numbers; the second half of a call.

        Args:
            model: The model as it is now.

        Raises:
            CritinitError: The model cannot be diagnosed at all.
        """
        start = time.perf_counter()
        try:
            found = diagnose(model, self.batch, self.spec, **self._arguments)
        except DataError as error:
            if not self.history:  # the batch itself is not fit
                raise
            warnings.warn(f"call {self._calls}: {error}", stacklevel=2)
            return {NOT_FINITE: 1.0}
        finally:
            self._ended = time.perf_counter()
            self._last = self._ended - start
            self._spent += self._last
        self.history.append((self._calls, found))
        return {**found.scalars(), NOT_FINITE: float(any(layer.numbers.ends_at is not None for layer in found))}

    @property
    def cost(self) -> float:
        """The share of the training time that measuring has taken so far."""
        if self._began is None:
            return 0.0
        training = time.perf_counter() - self._began - self._spent
        return self._spent / training if training > 0.0 else float("inf")
