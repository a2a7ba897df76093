"""The two kinds of adapter: models written in place (with undo), and immutable trees (rebuilt).

A framework's adapter states how to find layers (``survey``) and how to read and write one tensor.  Everything else is
here: planning, checking, drawing, measuring, reporting and undoing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from critinit.cells import Cell, find_cell
from critinit.errors import ApplyError, ArgumentError, CritinitError, Problem
from critinit.inputs.traced import Embedding, Traced
from critinit.spec import InitSpec
from critinit.tensors.application import Applied, Report, ReportRow, Sampler, StepLimit
from critinit.tensors.blocks import Block, fill
from critinit.tensors.limiting import NOTE
from critinit.tensors.recurrence import LayerWeights, layer_weights
from critinit.tensors.sampling import SEEDS, Draw, check_seed
from critinit_adapters.shared.defaults import Default, changed_tensors, trained_note
from critinit_adapters.shared.journal import Journal, Saved
from critinit_adapters.shared.measuring import Measured, measure
from critinit_adapters.shared.own import by_path, survey_own
from critinit_adapters.shared.planning import Plan, Write, found_in, plan
from critinit_adapters.shared.recording import Recorder
from critinit_adapters.shared.refining import all_tensors
from critinit_adapters.shared.survey import LayerSlot, RecurrentModule, Survey, Tensor
from critinit_adapters.shared.verifying import verified_note, verify_plan

__all__ = ["BaseAdapter", "InPlaceAdapter", "TreeAdapter", "assemble"]

Array = NDArray[Any]


def assemble(write: Write, present: Any = None) -> NDArray[np.float64]:
    """Return the whole tensor in float64, portable draws in their places.

    Args:
        write: What is written.
        present: What stands in the tensor now; it counts only where the tensor holds other numbers too.
    """
    other = np.asarray(present).astype(np.float64) if write.tensor.is_partial else None
    return fill(write.tensor.shape, write.draws, other)


class BaseAdapter(ABC):
    """What both kinds share: survey, plan, write, report.

    Attributes:
        framework: Its name in messages and for ``framework=``.
        module: The name of the module that must be imported before the adapter is considered, and of its entry point.
        cells: The cells that it has layers for.
        options: The arguments that it takes beyond those of ``critinit.apply``, each with a word on what it is.
        needs_where: Whether it knows no layer and takes only what ``where`` names.
    """

    framework: ClassVar[str]
    module: ClassVar[str]
    cells: ClassVar[Sequence[str]]
    options: ClassVar[Mapping[str, str]] = MappingProxyType({})
    needs_where: ClassVar[bool] = False

    @abstractmethod
    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether ``target`` is surely this framework's."""

    def instead(self, target: object) -> str:
        """Return what to give instead of a target of this framework that is no model, "" where that is not known."""
        return ""

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

    def tensors(self, target: Any, options: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return every tensor of a model by its name, without blocks; for ``where``.

        Raises:
            ApplyError: The adapter does not serve ``where``.
        """
        raise ApplyError("where", found=f"a model of {self.framework}", hint="its adapter does not serve where=")

    def find(self, target: Any, path: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """Return the tensor at a path, by its name among ``tensors`` or as the framework's objects are walked."""
        return by_path(tensors, path)

    def unwritable(self, tensor: Tensor) -> Problem | None:
        """Return why no numbers can be written into a tensor that ``where`` names, or None."""
        return None

    def step(self, model: Any, x: Any, state: Any) -> Any:
        """Return the state after one step of a model that is itself a step; for ``verify=True``."""
        return model(x, state)

    def from_numpy(self, values: NDArray[np.float64], like: Tensor) -> Any:
        """Return an array as the framework's, of the type and on the device of a tensor; for ``verify``."""
        return values

    def to_numpy(self, value: Any) -> NDArray[np.float64]:
        """Return an array of the framework in float64."""
        return np.asarray(value).astype(np.float64)

    def running(self, model: Any) -> AbstractContextManager[Any]:
        """Return a context in which a model runs as it does after training: without dropout and gradients."""
        return nullcontext()

    @abstractmethod
    def trial(self, target: Any, plan: Plan, run: Callable[[Any, Tensor], None], options: Mapping[str, Any]) -> None:
        """Write a plan, call ``run`` with the model and one of its tensors, and leave the target as it was."""

    @abstractmethod
    def present(self, tensor: Tensor) -> Any:
        """Return what stands in a tensor now, sliceable by a block's ``index``."""

    def extent(self, region: Any) -> tuple[float, float]:
        """Return the smallest and the largest number of a region."""
        values = np.asarray(region)
        return float(values.min()), float(values.max())

    def default_of(self, tensor: Tensor, block: Block) -> Default | None:
        """Return what the framework draws by default for a block, or None where that is not known."""
        return None

    def record(
        self, target: Any, survey: Survey, run: Callable[[Any], object], options: Mapping[str, Any]
    ) -> tuple[Recorder, Mapping[str, bool]]:
        """Run the model once and record what reaches its recurrent layers; changes nothing of the model.

        Args:
            target: The model.
            survey: What was found in it.
            run: Runs a model: ``target`` itself, or a copy of it that records.
            options: The adapter's options.

        Returns:
            What was recorded, and by network whether a layer that an optimizer changes ran before it, where known.
        """
        hint = "measure the arrays themselves with critinit.inputs.measure, and state what it finds"
        raise ApplyError("target", found=f"a model of {self.framework}", hint=f"its adapter cannot run it; {hint}")

    def tables(self, target: Any, options: Mapping[str, Any]) -> Sequence[tuple[Tensor, bool, bool]]:
        """Return the embeddings' tensors; of each whether an optimizer changes it, and whether others use it too."""
        return ()

    def values(self, tensor: Tensor) -> Array:
        """Return a tensor's present values as an array in single or double precision."""
        return np.asarray(tensor.handle).astype(np.float32)

    def trace(
        self, target: Any, run: Callable[[Any], object], options: Mapping[str, Any], *, embeddings: bool = True
    ) -> Traced:
        """Run the model once and return what reached its recurrent networks, and its embeddings if they are wanted."""
        self._check_options(options)
        survey = self.survey(target, options)
        if not survey.modules:
            what = f"a {type(target).__name__} with {found_in(survey)}"
            raise ApplyError("target", found=what, allowed=f"a model with a layer of {', '.join(self.cells)}")
        if not any(module.slots for module in survey.modules):  # running it would show nothing
            return Traced(Recorder().networks(survey), ())
        recorder, trains = self.record(target, survey, run, options)
        found = self.tables(target, options) if embeddings else ()
        tables = (Embedding(tensor.name, self.values(tensor), trained, tied) for tensor, trained, tied in found)
        return Traced(recorder.networks(survey, trains), tuple(tables), survey)

    def layers(
        self,
        target: Any,
        options: Mapping[str, Any],
        *,
        trust: bool = False,
        cell: str | None = None,
        survey: Survey | None = None,
    ) -> Mapping[str, Mapping[tuple[int, int], LayerWeights]]:
        """Return the present weights of every recurrent network whose step is known, by its path and then by (layer,
        direction).

        Args:
            target: The model.
            options: The adapter's options.
            trust: Whether a class that overrides the step of a known layer is taken for that layer.
            cell: The cell of networks whose weights are alike for two, or None.
            survey: What was found in the target, where that is known.

        Raises:
            ApplyError: A network's step is not that of its cell, or could be that of two.
        """
        return {
            module.name: {
                (slot.layer, slot.direction): layer_weights(_cell_of(module, cell), self._stored(slot))
                for slot in _slots_of_known_step(module, trust)
            }
            for module in (survey or self.survey(target, options)).modules
            if module.slots
        }

    def run_layer(
        self, weights: LayerWeights, external: Mapping[str, Array], made: NDArray[np.bool_]
    ) -> tuple[Array, Array] | None:
        """Return the states of a layer over a few sequences, in less time than NumPy takes; None where it cannot.

        Args:
            weights: The layer.
            external: U_k x + b_k by gate, (steps, sequences, units).
            made: Which steps each sequence makes, (steps, sequences); before them its state is 0.

        Returns:
            What the gates read and the memory after each step, (steps, sequences, …), in the kernels' precision.
        """
        return None

    def _stored(self, slot: LayerSlot) -> Iterator[tuple[Block, Any]]:
        """The blocks of a layer's tensors with what stands in them."""
        for tensor in slot.tensors:
            values = self.values(tensor)
            yield from ((block, values[block.index]) for block in tensor.blocks)

    @abstractmethod
    def scale(self, target: Any, factors: Mapping[str, float], options: Mapping[str, Any]) -> Any:
        """Multiply embeddings by factors, by their tensors' names; return the model."""

    @contextmanager
    def keeping(self, target: Any, options: Mapping[str, Any]) -> Iterator[None]:
        """Put all that critinit writes back as it was if anything fails meanwhile."""
        yield

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in self.options:
                allowed = ", ".join(f"{known} ({what})" for known, what in self.options.items()) or "none"
                raise ArgumentError(name, found=f"no option of the {self.framework} adapter", allowed=allowed)

    def plan(
        self,
        spec: InitSpec,
        target: Any,
        seed: int,
        include: Sequence[str] | None,
        options: Mapping[str, Any],
        *,
        trust: bool = False,
        where: Any = None,
    ) -> Plan:
        """Return what ``apply`` would do; raises ``ApplyError`` where the spec does not fit."""
        if where is None:
            may_pair = "bidirectional" in self.options and "bidirectional" not in options
            survey = self.survey(target, options)
            return plan(spec, survey, self.cells, seed, include, trust=trust, may_pair=may_pair)
        tensors = self.tensors(target, options)

        def find(path: str) -> Tensor | None:
            tensor = self.find(target, path, tensors)
            problem = None if tensor is None else self.unwritable(tensor)
            if problem is not None:
                raise ApplyError(problem.where, found=problem.found, allowed=problem.allowed, hint=problem.hint)
            return tensor

        survey = survey_own(where, spec.find_cell(), len(spec.layers), find, tuple(tensors))
        return plan(spec, survey, self.cells, seed, None)

    def apply(
        self,
        spec: InitSpec,
        target: Any,
        *,
        seed: object,
        sampler: Sampler,
        include: Sequence[str] | None,
        trust: bool = False,
        where: Any = None,
        verify: bool | Callable[..., Any] = False,
        options: Mapping[str, Any],
    ) -> Applied[Any]:
        """Write the spec into the target; see ``critinit.apply``."""
        self._check_options(options)
        number = self.seed_of(seed, target)
        made = self.plan(spec, target, number, include, options, trust=trust, where=where)
        if verify:
            trial = made
            if any(len(layer.groups) > 1 for layer in spec.layers):  # the equations are those of one group
                layers = tuple(layer.alone()[0] for layer in spec.layers)
                one = spec.model_copy(update={"layers": layers})
                trial = self.plan(one, target, number, include, options, trust=trust, where=where)
            verify_plan(self, spec, target, trial, verify, options)
        changed = tuple(dict.fromkeys(changed_tensors(self, made.writes)))
        model, rows = self.execute(target, made, sampler, options)
        zeroed = (w.tensor.name for w in made.writes if all(draw is None for _, draw in w.draws))
        notes = (*made.notes, *trained_note(self.framework, changed), *verified_note(spec, verify))
        limits = self.limits_of(made, model)
        notes = (*notes, NOTE) if limits else notes
        report = Report(tuple(rows), number, tuple(dict.fromkeys(zeroed)), made.untouched, notes)
        return Applied(model, report, limits)

    def step_limits(
        self,
        spec: InitSpec,
        target: Any,
        include: Sequence[str] | None,
        options: Mapping[str, Any],
        *,
        trust: bool = False,
        where: Any = None,
    ) -> tuple[StepLimit, ...]:
        """Return the limits that ``apply`` would return; changes nothing.  See ``critinit.step_limits``."""
        self._check_options(options)
        return self.limits_of(self.plan(spec, target, 0, include, options, trust=trust, where=where), target)

    def limits_of(self, made: Plan, model: Any) -> tuple[StepLimit, ...]:
        """Return the limits on the learning rate in a plan, by the names that the tensors have in ``model``."""
        return tuple(limit for write in made.writes for limit in write.limits)

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
            place = (write.tensor.label, write.layer, write.direction, draw.gate, draw.part, distribution)
            rows.append(ReportRow(*place, draw.mean, draw.variance, mean, variance, error, draw.group))
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
        self.store(write.tensor, assemble(write, self.present(write.tensor) if write.tensor.is_partial else None))

    @abstractmethod
    def store_native(self, write: Write) -> None:
        """Draw the kernels on the tensor's own device and write them; biases are ``draw.sample()``."""

    @abstractmethod
    def view(self, tensor: Tensor) -> Any:
        """Return the tensor's present values, sliceable by a block's ``index``, for ``measure``."""

    def present(self, tensor: Tensor) -> Any:
        """Return the tensor's values."""
        return self.view(tensor)

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

    def write(self, target: Any, values: Mapping[str, NDArray[np.float64]], options: Mapping[str, Any]) -> Any:
        """Write whole tensors by their names, all or none."""
        named = all_tensors(self, target, options)
        done: list[tuple[Tensor, Saved]] = []
        with Journal() as journal:
            for name, numbers in values.items():
                try:
                    done.append((named[name], journal.save(self.read(named[name]))))
                    self.store(named[name], numbers)
                except BaseException as error:
                    self._undo(done, journal)
                    if isinstance(error, CritinitError) or not isinstance(error, Exception):
                        raise
                    raise _failed(named[name], "written", error) from error
        return target

    def trial(self, target: Any, plan: Plan, run: Callable[[Any, Tensor], None], options: Mapping[str, Any]) -> None:
        """Write a plan, call ``run``, and write the old values back whatever happens."""
        with Journal() as journal:
            self.prepare(target, options)
            old = [(write.tensor, journal.save(self.read(write.tensor))) for write in plan.writes]
            try:
                self.execute(target, plan, "portable", options)
                run(target, plan.writes[0].tensor)
            finally:
                self._undo(old, journal)

    def prepare(self, target: Any, options: Mapping[str, Any]) -> None:
        """Make the target's tensors, where they are made only when they are needed."""

    def scale(self, target: Any, factors: Mapping[str, float], options: Mapping[str, Any]) -> Any:
        """Multiply in place."""
        for tensor, _, _ in self.tables(target, options):
            if tensor.name in factors:
                self.store(tensor, self.values(tensor).astype(np.float64) * factors[tensor.name])
        return target

    @contextmanager
    def keeping(self, target: Any, options: Mapping[str, Any]) -> Iterator[None]:
        """Save what may be written; put it back if anything fails, an interrupt too."""
        networks = [tensor for module in self.survey(target, options).modules for tensor in module.tensors]
        embeddings = [tensor for tensor, _, _ in self.tables(target, options)]
        with Journal() as journal:
            saved = [(tensor, journal.save(self.read(tensor))) for tensor in (*networks, *embeddings)]
            try:
                yield
            except BaseException:
                self._undo(saved, journal)
                raise

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

    def present(self, tensor: Tensor) -> Any:
        """Return the leaf."""
        return tensor.handle

    def scale(self, target: Any, factors: Mapping[str, float], options: Mapping[str, Any]) -> Any:
        """Return a tree with the embeddings multiplied."""
        tables = (tensor for tensor, _, _ in self.tables(target, options) if tensor.name in factors)
        leaves = {t.name: self.leaf(t, self.values(t).astype(np.float64) * factors[t.name]) for t in tables}
        return self.rebuild(target, leaves, options)

    def execute(
        self, target: Any, plan: Plan, sampler: Sampler, options: Mapping[str, Any]
    ) -> tuple[Any, list[ReportRow]]:
        """Make every leaf, then rebuild once."""
        rows: list[ReportRow] = []
        leaves: dict[str, Any] = {}
        for write in plan.writes:
            try:
                if write.tensor.name in leaves:  # another layer's part of the same tensor
                    write = replace(write, tensor=replace(write.tensor, handle=leaves[write.tensor.name]))
                if sampler == "native":
                    leaf = self.native_leaf(write)
                else:
                    leaf = self.leaf(write.tensor, assemble(write, write.tensor.handle))
            except CritinitError:
                raise
            except Exception as error:  # each framework raises its own
                raise _failed(write.tensor, "made", error) from error
            rows += self.rows(write, leaf)
            leaves[write.tensor.name] = leaf
        return self.rebuild(target, leaves, options), rows

    def write(self, target: Any, values: Mapping[str, NDArray[np.float64]], options: Mapping[str, Any]) -> Any:
        """Return a tree with whole tensors by their names."""
        named = all_tensors(self, target, options)
        return self.rebuild(target, {name: self.leaf(named[name], v) for name, v in values.items()}, options)

    def trial(self, target: Any, plan: Plan, run: Callable[[Any, Tensor], None], options: Mapping[str, Any]) -> None:
        """Make a tree by a plan and call ``run`` with it; the target stays as it is."""
        model, _ = self.execute(target, plan, "portable", options)
        run(model, plan.writes[0].tensor)


def _cell_of(module: RecurrentModule, cell: str | None) -> Cell:
    """The cell of a module; refuses one whose weights do not say which of two it is."""
    if module.also is None or module.projection_size is not None:  # a projection is the weights' own word
        return find_cell(module.cell)
    if cell is None or not module.takes(cell):
        found, allowed = f"weights of {module.cell} or {module.also}, which look alike", "a word on which they are"
        hint = f"say cell='{module.cell}' or cell='{module.also}', or give the spec"
        raise ApplyError(str(module), found=found, allowed=allowed, hint=hint)
    return find_cell(cell)


def _slots_of_known_step(module: RecurrentModule, trust: bool) -> Sequence[LayerSlot]:
    """The layers of a module whose step is that of its cell, by matrices."""
    if any(slot.window for slot in module.slots):
        raise ApplyError(str(module), found="a convolutional layer", allowed="a layer that multiplies matrices")
    if module.overrides and not trust:
        hint = "if it computes the same all the same, say trust=True"
        raise ApplyError(str(module), found=module.overrides, allowed=f"the step of {module.cell}", hint=hint)
    return module.slots


def _failed(tensor: Tensor, done: str, error: Exception) -> ApplyError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return ApplyError(tensor.name, hint=f"cannot be {done} ({reason}); nothing was changed")
