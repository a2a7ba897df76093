"""What reaches the cells of an Equinox model: a copy runs in which each cell records.

A recording cell is an instance of a subclass of its own class, with the same fields and the number of its place, so it
passes through every transformation and every ``isinstance``.  Dropout is off in the copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from critinit_adapters.shared.changing import state_of
from critinit_adapters.shared.jax_arrays import path_name
from critinit_adapters.shared.jax_compiling import recorded
from critinit_adapters.shared.jax_recording import record_step, running
from critinit_adapters.shared.recording import Place, Recorder, places
from critinit_adapters.shared.survey import Survey

__all__ = ["natural", "record", "without_dropout"]


def record(target: Any, survey: Survey, run: Callable[..., object]) -> Recorder:
    """Run a copy of the model on every sequence of the batch and return what was recorded.

    Args:
        target: The model.
        survey: What was found in it.
        run: Runs the model that it is given; takes the way in which Equinox' models are called on a batch.
    """
    cells = {name.rpartition("/")[0]: place for place, names, _ in places(survey) for name in names}

    def trace(recorder: Recorder, model: Any, run: Callable[..., object]) -> None:
        def replaced(path: tuple[Any, ...], node: Any) -> Any:
            if isinstance(node, eqx.nn.Dropout):
                return dataclasses.replace(node, inference=True)
            place = cells.get(path_name(path))
            return node if place is None or not isinstance(node, eqx.Module) else _recording(node, recorder, place)

        run(jax.tree_util.tree_map_with_path(replaced, model, is_leaf=_is_replaced), natural)

    done = recorded(run, target, ("equinox", tuple(cells.items()), _held(target)), trace)
    if done is not None:
        return done[0]
    recorder = Recorder()
    with running():
        trace(recorder, target, run)
    return recorder


def _held(target: Any) -> Hashable:
    """A key of what the modules' code and their own objects read beside their arrays."""
    held: list[Any] = []

    def look(node: Any) -> bool:
        if isinstance(node, eqx.Module):
            held.extend((type(node), sorted(vars(node).items())))
        return False

    leaves = {id(leaf) for leaf in jax.tree.leaves(target, is_leaf=look) if isinstance(leaf, np.ndarray)}
    return state_of(held, lambda value: isinstance(value, (eqx.Module, jax.Array)) or id(value) in leaves)


def _is_replaced(node: Any) -> bool:
    return isinstance(node, (eqx.nn.GRUCell, eqx.nn.LSTMCell, eqx.nn.Dropout))


def natural(model: Any, *args: Any, **named: Any) -> Any:
    """Run a model of one sequence on a batch of them."""
    return jax.vmap(model)(*args, **named)


natural.hint = (  # type: ignore[attr-defined]
    "it was run on each sequence of the batch (jax.vmap); where it takes a batch, or the batch is one sequence: "
    "call=lambda model, x: model(x)"
)


def without_dropout(tree: Any) -> Any:
    """Return the tree with its dropout off."""
    return jax.tree.map(
        lambda node: dataclasses.replace(node, inference=True) if isinstance(node, eqx.nn.Dropout) else node,
        tree,
        is_leaf=lambda node: isinstance(node, eqx.nn.Dropout),
    )


def _recording(cell: Any, recorder: Recorder, place: Place) -> Any:
    """A cell like this one that records."""
    kind: Any = type(cell)

    def call(self: Any, input: Any, hidden: Any, **more: Any) -> Any:
        return kind.__call__(self, record_step(recorder, place, input, hidden), hidden, **more)

    recording = type(kind.__name__, (kind,), {"__call__": call, "__module__": __name__, "__annotations__": {}})
    copy: Any = object.__new__(recording)
    for field in dataclasses.fields(cell):
        if hasattr(cell, field.name):
            object.__setattr__(copy, field.name, getattr(cell, field.name))
    return copy
