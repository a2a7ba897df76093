"""The two kinds of adapter: models written in place (with undo), and immutable trees (rebuilt).

A concrete adapter states how to find networks (``survey``) and how to read and write one tensor; everything
else, planning, checking, drawing, measuring, reporting and undoing, is here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from critinit.tensors.application import Applied, Report, Row, Sampler
from critinit.errors import ApplyError, ArgumentError, CritinitError
from critinit.tensors.blocks import Block, fill
from critinit.tensors.sampling import Draw
from critinit.spec import InitSpec
from critinit_adapters.shared.journal import Journal, Saved
from critinit_adapters.shared.survey import Survey, Tensor
from critinit_adapters.shared.measuring import Measured, measure
from critinit_adapters.shared.planning import Plan, Write, plan

__all__ = ["BaseAdapter", "InPlaceAdapter", "TreeAdapter", "assemble"]

Array = NDArray[Any]


def assemble(write: Write) -> NDArray[np.float64]:
    """The whole tensor in float64, portable draws in their places."""
    return fill(write.tensor.shape, write.draws)


class BaseAdapter(ABC):
    """What both kinds share: the sequence survey → plan → write → report.

    ``framework``: its name in messages and for ``framework=``.  ``cells``: the spec cells it has layers
    for. ``options``: the keyword arguments it takes beyond those of ``critinit.apply``, each with a word on
    what it is.
    """

    framework: ClassVar[str]
    cells: ClassVar[Sequence[str]]
    options: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @abstractmethod
    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Whether ``target`` is surely this framework's."""

    @abstractmethod
    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        """The networks in ``target`` and the names of all its tensors; changes nothing."""

    @abstractmethod
    def execute(self, target: Any, plan: Plan, sampler: Sampler, options: Mapping[str, Any]) -> tuple[Any, list[Row]]:
        """Write the plan; return the model and what was measured."""

    def measure(self, stored: Any, block: Block, draw: Draw) -> Measured:
        """Measure one stored block; adapters may do this on their own device."""
        return measure(stored, block, draw)

    def apply(
        self,
        spec: InitSpec,
        target: Any,
        *,
        seed: int,
        sampler: Sampler,
        include: Sequence[str] | None,
        options: Mapping[str, Any],
    ) -> Applied[Any]:
        """See ``critinit.apply``."""
        for name in options:
            if name not in self.options:
                allowed = ", ".join(f"{known} ({what})" for known, what in self.options.items()) or "none"
                raise ArgumentError(f"{name}: not an option of the {self.framework} adapter; allowed: {allowed}")
        if spec.cell not in self.cells:
            raise ApplyError(f"cell: {self.framework} has no layer for {spec.cell}; allowed: {', '.join(self.cells)}")
        made = plan(spec, self.survey(target, options), seed, include)
        model, rows = self.execute(target, made, sampler, options)
        zeroed = tuple(w.tensor.name for w in made.writes if all(draw is None for _, draw in w.draws))
        return Applied(model, Report(tuple(rows), zeroed, made.untouched, made.notes))

    def rows(self, write: Write, stored: Any) -> list[Row]:
        """The report's rows of one tensor from what now stands in it (sliceable).

        Raises ``ApplyError`` where a number did not survive the cast to the tensor's type.
        """
        rows = []
        for block, draw in write.draws:
            if draw is None:
                continue
            mean, variance, error = self.measure(stored[block.index], block, draw)
            if not (math.isfinite(mean) and math.isfinite(variance)):
                raise ApplyError(f"{write.tensor.name}: {draw.path} has numbers that the tensor's type cannot hold")
            law = "coupled" if draw.coupled_to else draw.law.distribution
            place = (write.tensor.name, write.layer, write.direction, draw.gate, draw.part, law)
            rows.append(Row(*place, draw.mean, draw.variance, mean, variance, error))
        return rows


class InPlaceAdapter(BaseAdapter):
    """For frameworks whose models are mutable: written in place, undone if anything fails.

    An interrupt undoes it too.  Old values go to a ``Journal`` just before each tensor is written.
    """

    @abstractmethod
    def read(self, tensor: Tensor) -> Array:
        """The tensor's present values, exactly, on the host (a view will do)."""

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
        """The tensor's present values, sliceable by a block's ``index``, for ``measure``."""

    def execute(self, target: Any, plan: Plan, sampler: Sampler, options: Mapping[str, Any]) -> tuple[Any, list[Row]]:
        """Write tensor by tensor."""
        rows: list[Row] = []
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
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
                    raise ApplyError(
                        f"{write.tensor.name}: cannot be written ({reason}); nothing was changed"
                    ) from error
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
            raise ApplyError(f"{', '.join(lost)}: writing failed midway and the old values cannot be written back")


class TreeAdapter(BaseAdapter):
    """For frameworks whose models are immutable trees: new leaves, then one rebuilt tree."""

    @abstractmethod
    def leaf(self, tensor: Tensor, values: NDArray[np.float64]) -> Any:
        """A leaf like the tensor's present one (type, device, sharding) that holds ``values``, cast once."""

    @abstractmethod
    def native_leaf(self, write: Write) -> Any:
        """A leaf whose kernels are drawn on the device; biases are ``draw.sample()``."""

    @abstractmethod
    def rebuild(self, target: Any, leaves: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """The tree with ``leaves`` (by tensor name) in their places, everything else the same objects."""

    def execute(self, target: Any, plan: Plan, sampler: Sampler, options: Mapping[str, Any]) -> tuple[Any, list[Row]]:
        """Make every leaf, then rebuild once."""
        rows: list[Row] = []
        leaves: dict[str, Any] = {}
        for write in plan.writes:
            try:
                leaf = self.native_leaf(write) if sampler == "native" else self.leaf(write.tensor, assemble(write))
            except CritinitError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise ApplyError(f"{write.tensor.name}: cannot be made ({reason}); nothing was changed") from error
            rows += self.rows(write, leaf)
            leaves[write.tensor.name] = leaf
        return self.rebuild(target, leaves, options), rows
