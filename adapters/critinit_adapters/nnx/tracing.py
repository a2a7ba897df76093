"""What reaches the cells of an NNX model: their classes' ``__call__`` is replaced while the model runs.

NNX copies modules within its transformations, so a cell is known by a mark (a static attribute) that it carries
meanwhile.  ``nnx.RNN`` says how long the sequences are.  Dropout is off; batch normalization is as its own flag says.
All variables are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
from flax import nnx

from critinit_adapters.nnx.layout import CELLS
from critinit_adapters.shared.changing import state_of
from critinit_adapters.shared.jax_compiling import recorded, refuse_traced
from critinit_adapters.shared.jax_recording import recorded_step, running, scanned
from critinit_adapters.shared.recording import Place, Recorder, patched, places
from critinit_adapters.shared.survey import Survey

__all__ = ["record"]

_MARK = "critinit_place"
_CELLS = tuple(getattr(nnx, kind) for kind in CELLS)


def record(target: Any, survey: Survey, run: Callable[[Any], object]) -> Recorder:
    """Run the model and return what was recorded.

    Args:
        target: The model.
        survey: What was found in it.
        run: Runs the model that it is given.
    """
    refuse_traced(getattr(run, "batch", None))
    by_variable = {id(handle): place for place, _, handles in places(survey) for handle in handles}
    marks: list[Place] = []
    with ExitStack() as stack:
        nodes = survey.nodes
        stack.enter_context(_without_dropout(nodes))
        kinds: dict[type, None] = {nnx.RNN: None}
        for module in nodes:
            own = _place(module, by_variable)
            if own is not None:
                setattr(module, _MARK, len(marks))
                stack.callback(_unmark, module)
                marks.append(own)
                kinds[type(module)] = None

        def trace(recorder: Recorder, model: Any, run: Callable[[Any], object]) -> None:
            makes = [(kind, _scan(recorder) if kind is nnx.RNN else _step(recorder, marks)) for kind in kinds]
            with patched([(kind, "__call__", make) for kind, make in makes]):
                run(model)

        graph, state = nnx.split(target)
        held = [(type(node), sorted(vars(node).items())) for node in nodes if isinstance(node, nnx.Module)]
        static = "nnx", graph, tuple(marks), state_of(held, _is_in_the_graph)
        done = recorded(run, state, static, lambda recorder, tree, run: trace(recorder, nnx.merge(graph, tree), run))
        if done is not None:
            return done[0]
        recorder = Recorder()
        with running(), _unchanged(nodes):
            trace(recorder, target, run)
    return recorder


def _is_in_the_graph(value: Any) -> bool:
    """Whether something that a module holds is looked at where the module is split, or is Flax' own and made anew."""
    is_of_flax = str(type(value).__module__).startswith("flax.") and not isinstance(value, type)
    return is_of_flax or isinstance(value, (nnx.Module, nnx.Variable, jax.Array))


def _unmark(module: Any) -> None:
    """Take a mark away, and its name among those of the module's attributes."""
    delattr(module, _MARK)
    nodes = vars(module).get("_pytree__nodes", {})
    if _MARK in nodes:  # private: Flax 0.12.1 leaves it there, and 0.12.8 does not
        vars(module)["_pytree__nodes"] = type(nodes)({name: kind for name, kind in nodes.items() if name != _MARK})


def _place(module: Any, by_variable: Mapping[int, Place]) -> Place | None:
    """The place of a cell; None of another module, such as a cell that only runs a known one."""
    if not isinstance(module, _CELLS):
        return None
    own = list(vars(module).values())
    held = [*own, *(node for part in own if isinstance(part, nnx.Module) for node in vars(part).values())]
    return next((by_variable[id(node)] for node in held if id(node) in by_variable), None)


def _step(recorder: Recorder, marks: Sequence[Place]) -> Callable[[Any], Any]:
    def make(call: Any) -> Any:
        def recording(self: Any, carry: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            mark = getattr(self, _MARK, None)
            if mark is None:
                return call(self, carry, inputs, *args, **kwargs)
            return recorded_step(recorder, marks[mark], lambda x: call(self, carry, x, *args, **kwargs), inputs, carry)

        return recording

    return make


def _scan(recorder: Recorder) -> Callable[[Any], Any]:
    def make(call: Any) -> Any:
        def recording(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            lengths = kwargs.get("seq_lengths")
            return scanned(recorder, lambda x: call(self, x, *args, **kwargs), inputs, lengths)

        return recording

    return make


@contextmanager
def _without_dropout(nodes: Sequence[Any]) -> Iterator[None]:
    """Switch dropout off meanwhile."""
    live = [node for node in nodes if getattr(node, "deterministic", None) is False]
    try:
        for node in live:
            node.deterministic = True
        yield
    finally:
        for node in live:
            node.deterministic = False


@contextmanager
def _unchanged(nodes: Sequence[Any]) -> Iterator[None]:
    """Put variables back."""
    variables = [(node, node.get_value()) for node in nodes if isinstance(node, nnx.Variable)]
    try:
        yield
    finally:
        for variable, value in variables:
            if variable.get_value() is not value:
                variable.set_value(value)
