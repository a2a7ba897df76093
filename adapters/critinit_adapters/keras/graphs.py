"""On TensorFlow: recording from a run that ``tf.function`` made a graph of.

Without a graph a layer's loop runs in Python, which takes some ten times as long.  While the graph is made, what is
recorded are its tensors; they are made its results.  The graph is kept for models of the same variables and batches of
the same shapes, as ``model.predict`` keeps its own.  Where none can be made, the model runs without.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from critinit.inputs.network import Runner
from critinit_adapters.shared.recording import Recorder

__all__ = ["GraphRecorder", "recorded"]

_KEPT = 8
"""Graphs that are kept."""


class GraphRecorder(Recorder):
    """A recorder while a graph is made: it keeps the tensors that are to be recorded.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: object) -> None:
        super().__init__()
        self.graph = graph
        self.takes: list[Callable[..., None]] = []
        self.operands: list[tuple[Any, ...]] = []

    def hold(self, take: Callable[..., None], *operands: Any) -> None:
        """Keep the operands of a call on the host.

        Raises:
            NotImplementedError: They are tensors of a loop or a branch, which are no results of the graph.
        """
        import tensorflow as tf

        if tf.compat.v1.get_default_graph() is not self.graph:
            raise NotImplementedError("within a loop or a branch")
        self.takes.append(take)
        self.operands.append(operands)


class _Graph(NamedTuple):
    """A graph: a function of the batch's arrays, the takes in their order, and what the adapter noted."""

    run: Callable[..., Any]
    takes: tuple[Callable[..., None], ...]
    noted: Mapping[str, bool]


_GRAPHS: OrderedDict[Hashable, _Graph | None] = OrderedDict()


def recorded(
    target: Any,
    static: Hashable,
    run: Callable[..., object],
    trace: Callable[[Recorder, Callable[..., object]], dict[str, bool]],
) -> tuple[Recorder, Mapping[str, bool]] | None:
    """Run a model as a graph; return what was recorded and what ``trace`` returned, or None where that cannot be done.

    Args:
        target: The model.
        static: What else decides how it runs.
        run: What runs it.  With a function of the user's, which may read anything, it runs without a graph.
        trace: Runs the model and records.
    """
    import tensorflow as tf

    if not isinstance(run, Runner) or run.call is not None or tf.config.functions_run_eagerly():
        return None
    leaves = keras.tree.flatten(run.batch)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, (np.ndarray, tf.Tensor))]
    arrays = [tf.convert_to_tensor(leaves[i]) for i in places]
    rest = tuple(None if i in places else leaf for i, leaf in enumerate(leaves))
    shapes = tuple((tuple(array.shape), array.dtype.name) for array in arrays)
    variables = tuple(map(id, target.variables))
    try:
        key = weakref.ref(target), variables, static, _structure(run.batch), rest, shapes
        known = key in _GRAPHS
    except TypeError:  # something in the batch that may change
        return None
    if not known:
        _GRAPHS[key] = _made(run, places, leaves, arrays, trace)
    _GRAPHS.move_to_end(key)
    while len(_GRAPHS) > _KEPT:
        _GRAPHS.popitem(last=False)
    graph = _GRAPHS[key]
    if graph is None:
        return None
    recorder = Recorder()
    for take, operands in zip(graph.takes, graph.run(*arrays), strict=True):
        take(recorder, *(operand.numpy() for operand in operands))
    return recorder, graph.noted


def _structure(batch: Any) -> Hashable:
    """The structure of a batch, without what is in it."""
    if isinstance(batch, Mapping):
        return type(batch), tuple((name, _structure(part)) for name, part in batch.items())
    if isinstance(batch, (tuple, list)):
        return type(batch), tuple(map(_structure, batch))
    return None


def _made(
    run: Runner,
    places: Sequence[int],
    leaves: Sequence[Any],
    arrays: Sequence[Any],
    trace: Callable[[Recorder, Callable[..., object]], dict[str, bool]],
) -> _Graph | None:
    """The graph, or None."""
    import tensorflow as tf

    takes: list[Callable[..., None]] = []
    noted: dict[str, bool] = {}

    def whole(*arrays: Any) -> list[tuple[Any, ...]]:
        recorder = GraphRecorder(tf.compat.v1.get_default_graph())
        every = list(leaves)
        for i, array in zip(places, arrays, strict=True):
            every[i] = array
        noted.update(trace(recorder, run.on(keras.tree.pack_sequence_as(run.batch, every))))
        takes[:] = recorder.takes
        return recorder.operands

    try:
        specs = [tf.TensorSpec(array.shape, array.dtype) for array in arrays]
        graph = tf.function(whole, autograph=False).get_concrete_function(*specs)
    except Exception:  # whatever it is, the run without a graph shows it, or does without
        return None
    return _Graph(graph, tuple(takes), dict(noted))
