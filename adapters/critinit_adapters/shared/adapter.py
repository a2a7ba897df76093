"""The two kinds of adapter: models written in place (with undo), and immutable trees (rebuilt).

A framework's adapter states how to find layers (``survey``) and how to read and write one tensor.  Everything else is
here: planning, checking, drawing, measuring, reporting and undoing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ApplyError, ArgumentError, CritinitError
from critinit.spec import InitSpec
from critinit.tensors.application import Applied, Report, ReportRow, Sampler, StepLimit
from critinit.tensors.blocks import Block, fill
from critinit.tensors.limiting import NOTE
from critinit.tensors.sampling import SEEDS, Draw, check_seed
from critinit_adapters.shared.journal import Journal, Saved
from critinit_adapters.shared.measuring import Measured, measure
from critinit_adapters.shared.planning import Plan, Write, plan
from critinit_adapters.shared.survey import Survey, Tensor

__all__ = ["BaseAdapter", "InPlaceAdapter", "TreeAdapter", "assemble"]

Array = NDArray[Any]


def assemble(write: Write) -> NDArray[np.float64]:
    """Return the whole tensor in float64, portable draws in their places."""
    return fill(write.tensor.shape, write.draws)


class BaseAdapter(ABC):
    """What both kinds share: survey, plan, write, report.

    Attributes:
        framework: Its name in messages and for ``framework=``.
        module: The name of the module that must be imported before the adapter is considered, and of its entry point.
        cells: The cells that it has layers for.
        options: The arguments that it takes beyond those of ``critinit.apply``, each with a word on what it is.
    """

    framework: ClassVar[str]
    module: ClassVar[str]
    cells: ClassVar[Sequence[str]]
    options: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @abstractmethod
    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether ``target`` is surely this framework's."""

    @abstractmethod
    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        """Return the recurrent modules in ``target`` and the names of all its tensors; changes nothing."""

    @abstractmethod
    def execute(
        self, target: Any, plan: Plan, sampler: Sampler, options: Mapping[str, Any]
    ) -> tuple[Any, list[ReportRow]]:
        """Write the plan; return the model and what was measured."""

    def seed_of(self, given: object, target: Any) -> int:
        """Return the seed that ``seed=given`` stands for; of None the next number of the framework's global generator.

        Raises:
            ArgumentError: It stands for none, or there is no global generator.
        """
        if given is None:
            hint = f"{self.framework} has no global seed to follow: give one, such as seed=0"
            raise ArgumentError("seed", found="none", allowed=SEEDS, hint=hint)
        return check_seed(given)

    def measure(self, stored: Any, block: Block, draw: Draw) -> Measured:
        """Measure one stored block; an adapter may do this on its own device."""
        return measure(stored, block, draw)

    def plan(
        self, spec: InitSpec, target: Any, seed: int, include: Sequence[str] | None, options: Mapping[str, Any]
    ) -> Plan:
        """Return what ``apply`` would do; raises ``ApplyError`` where the spec does not fit."""
        may_pair = "bidirectional" in self.options and "bidirectional" not in options
        return plan(spec, self.survey(target, options), self.cells, seed, include, may_pair=may_pair)

    def apply(
        self,
        spec: InitSpec,
        target: Any,
        *,
        seed: object,
        sampler: Sampler,
        include: Sequence[str] | None,
        options: Mapping[str, Any],
    ) -> Applied[Any]:
        """Write the spec into the target; see ``critinit.apply``."""
        self._check(options)
        number = self.seed_of(seed, target)
        made = self.plan(spec, target, number, include, options)
        model, rows = self.execute(target, made, sampler, options)
        zeroed = tuple(w.tensor.name for w in made.writes if all(draw is None for _, draw in w.draws))
        limits = self.limits_of(made, model)
        notes = (*made.notes, NOTE) if limits else made.notes
        return Applied(model, Report(tuple(rows), number, zeroed, made.untouched, notes), limits)

    def step_limits(
        self, spec: InitSpec, target: Any, include: Sequence[str] | None, options: Mapping[str, Any]
    ) -> tuple[StepLimit, ...]:
        """Return the limits that ``apply`` would return; changes nothing.  See ``critinit.step_limits``."""
        self._check(options)
        return self.limits_of(self.plan(spec, target, 0, include, options), target)

    def limits_of(self, made: Plan, model: Any) -> tuple[StepLimit, ...]:
        """Return the limits on the learning rate in a plan, by the names that the tensors have in ``model``."""
        return tuple(limit for write in made.writes for limit in write.limits)

    def _check(self, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in self.options:
                allowed = ", ".join(f"{known} ({what})" for known, what in self.options.items()) or "none"
                raise ArgumentError(name, found=f"no option of the {self.framework} adapter", allowed=allowed)

    def rows(self, write: Write, stored: Any) -> list[ReportRow]:
        """Return the report's rows of one tensor.

        Args:
            write: What was written.
            stored: What now stands in the tensor, sliceable.

        Raises:
            ApplyError: A number did not survive the cast to the tensor's type.
        """
        rows = []
        for block, draw in write.draws:
            if draw is None:
                continue
            mean, variance, error = self.measure(stored[block.index], block, draw)
            if not (math.isfinite(mean) and math.isfinite(variance)):
                found = f"numbers of {draw.path} that the tensor's type cannot hold"
                raise ApplyError(write.tensor.name, found=found, hint="nothing was changed")
            distribution = "coupled" if draw.coupled_to else draw.distribution.distribution
            place = (write.tensor.name, write.layer, write.direction, draw.gate, draw.part, distribution)
            rows.append(ReportRow(*place, draw.mean, draw.variance, mean, variance, error))
        return rows


class InPlaceAdapter(BaseAdapter):
    """For frameworks whose models are mutable: written in place, undone if anything fails.

    An interrupt undoes it too.  Old values go to a ``Journal`` just before each tensor is written.
    """

    @abstractmethod
    def read(self, tensor: Tensor) -> Array:
        """Return the tensor's present values, exactly, on the host (a view will do)."""

    @abstractmethod
    def restore(self, tensor: Tensor, values: Array) -> None:
        """Write back what ``read`` returned."""

    @abstractmethod
    def store(self, tensor: Tensor, values: NDArray[np.float64]) -> None:
        """Write float64 values of the tensor's full shape, cast once to its type, on its own device."""

    def store_portable(self, write: Write) -> None:
        """Draw by NumPy and write; an adapter that can write single blocks holds less by overriding this."""
        self.store(write.tensor, assemble(write))

    @abstractmethod
    def store_native(self, write: Write) -> None:
        """Draw the kernels on the tensor's own device and write them; biases are ``draw.sample()``."""

    @abstractmethod
    def view(self, tensor: Tensor) -> Any:
        """Return the tensor's present values, sliceable by a block's ``index``, for ``measure``."""

    def execute(
        self, target: Any, plan: Plan, sampler: Sampler, options: Mapping[str, Any]
    ) -> tuple[Any, list[ReportRow]]:
        """Write tensor by tensor."""
        rows: list[ReportRow] = []
        done: list[tuple[Tensor, Saved]] = []
        with Journal() as journal:
            for write in plan.writes:
                try:
                    done.append((write.tensor, journal.save(self.read(write.tensor))))
                    if sampler == "native":
                        self.store_native(write)
                    else:
                        self.store_portable(write)
                    rows += self.rows(write, self.view(write.tensor))
                except BaseException as error:
                    self._undo(done, journal)
                    if isinstance(error, CritinitError) or not isinstance(error, Exception):
                        raise
                    raise _failed(write.tensor, "written", error) from error
        return target, rows

    def _undo(self, done: Sequence[tuple[Tensor, Saved]], journal: Journal) -> None:
        lost = []
        for tensor, saved in reversed(done):
            old = journal.load(saved)
            try:
                self.restore(tensor, old)
            except Exception:
                # a tensor that cannot be written was not changed either
                if self.read(tensor).tobytes() != old.tobytes():
                    lost.append(tensor.name)
        if lost:
            raise ApplyError(", ".join(lost), hint="writing failed midway, and the old values cannot be written back")


class TreeAdapter(BaseAdapter):
    """For frameworks whose models are immutable trees: new leaves, then one rebuilt tree."""

    @abstractmethod
    def leaf(self, tensor: Tensor, values: NDArray[np.float64]) -> Any:
        """Return a leaf like the tensor's present one (type, device, sharding) that holds ``values``, cast once."""

    @abstractmethod
    def native_leaf(self, write: Write) -> Any:
        """Return a leaf whose kernels are drawn on the device; biases are ``draw.sample()``."""

    @abstractmethod
    def rebuild(self, target: Any, leaves: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Return the tree with ``leaves`` (by tensor name) in their places, everything else the same objects."""

    def execute(
        self, target: Any, plan: Plan, sampler: Sampler, options: Mapping[str, Any]
    ) -> tuple[Any, list[ReportRow]]:
        """Make every leaf, then rebuild once."""
        rows: list[ReportRow] = []
        leaves: dict[str, Any] = {}
        for write in plan.writes:
            try:
                leaf = self.native_leaf(write) if sampler == "native" else self.leaf(write.tensor, assemble(write))
            except CritinitError:
                raise
            except Exception as error:  # each framework raises its own
                raise _failed(write.tensor, "made", error) from error
            rows += self.rows(write, leaf)
            leaves[write.tensor.name] = leaf
        return self.rebuild(target, leaves, options), rows


def _failed(tensor: Tensor, done: str, error: Exception) -> ApplyError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return ApplyError(tensor.name, hint=f"cannot be {done} ({reason}); nothing was changed")
