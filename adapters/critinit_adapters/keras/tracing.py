"""What reaches the recurrent layers of a Keras model: their ``call`` is replaced while the model runs.

Layers that run a cell over a sequence show the whole sequence and its mask; the upper cells of a stack and cells called
in a loop show step by step.  Of images every place is a sequence of its channels.

The model runs with ``training=False``, but batch normalization that is trained normalizes by the batch, as in training.
All variables are put back, and on TensorFlow nothing is compiled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from critinit_adapters.shared.preserving import generators_kept
from critinit_adapters.shared.recording import Place, Recorder, patched, places
from critinit_adapters.shared.survey import Survey

__all__ = ["called", "record", "states_of"]

Host = Callable[[Any], NDArray[Any]]


def record(
    target: Any, survey: Survey, run: Callable[..., object], host: Host, assign: Callable[[Any, NDArray[Any]], None]
) -> tuple[Recorder, Mapping[str, bool]]:
    """Run the model; return what was recorded, and by network whether a layer that is trained ran before it.

    Args:
        target: The model.
        survey: What was found in it.
        run: Runs the model that it is given.
        host: Brings a backend's tensor to the host.
        assign: Writes a variable.
    """
    recorder, trains = Recorder(), dict[str, bool]()
    cells = {id(handles[0].cell): place for place, _, handles in places(survey)}
    trained: list[Any] = []
    replacements: list[tuple[Any, str, Callable[[Any], Any]]] = []
    for layer in _all(target):
        place = cells.get(id(layer))
        if isinstance(layer, layers.RNN):
            first = layer.cell.cells[0] if isinstance(layer.cell, layers.StackedRNNCells) else layer.cell
            of_first = cells.get(id(first))
            if of_first is not None:
                replacements.append((layer, "call", _sequences(recorder, of_first, layer, host, trains, trained)))
        elif place is not None:
            replacements.append((layer, "call", _steps(recorder, place, host, trains, trained)))
        elif isinstance(layer, layers.BatchNormalization) and layer.trainable:
            replacements.append((layer, "call", _by_batch(trained)))
        elif layer.trainable and any(v.trainable for v in layer._trainable_variables):
            replacements.append((layer, "call", _noted(trained)))
    with ExitStack() as stack:
        stack.enter_context(_unchanged(target, host, assign))
        stack.enter_context(patched(replacements))
        run(target, called)
    return recorder, trains


def states_of(layer: Any) -> list[Any]:
    """Return the variables in which a stateful layer keeps its state; Keras counts them to no variables of a model.

    Args:
        layer: Any layer.
    """
    states = getattr(layer, "states", None) if getattr(layer, "stateful", False) else None
    return [state for state in keras.tree.flatten(states) if hasattr(state, "value")]


def called(model: Any, *args: Any, **named: Any) -> Any:
    """Return what a model gives without training; a model of one argument gets several inputs as a list or mapping."""
    takes = getattr(model, "_call_has_training_arg", False)
    training = {"training": False} if takes else {}
    own = [name for name in inspect.signature(model.call).parameters if name not in ("training", "mask", "kwargs")]
    if len(args) > 1 and len(own) == 1:
        return model(list(args), **training, **named)
    if named and not args and len(own) == 1 and own[0] not in named:
        return model(named, **training)
    return model(*args, **training, **named)


def _all(target: Any) -> list[Any]:
    return list({id(layer): layer for layer in target._flatten_layers(include_self=True, recursive=True)}.values())


def _sequences(
    recorder: Recorder, place: Place, layer: Any, host: Host, trains: dict[str, bool], trained: Sequence[Any]
) -> Callable[[Any], Any]:
    def make(call: Any) -> Any:
        def recording(sequences: Any, *args: Any, **named: Any) -> Any:
            trains.setdefault(place.network, bool(trained))
            mask = named.get("mask", args[1] if len(args) > 1 else None)
            read = None if mask is None else np.asarray(host(mask), dtype=np.bool_)
            seen = _by_place(host(sequences), getattr(layer, "data_format", ""))
            if read is not None:
                read = np.repeat(read, len(seen) // len(read), axis=0)
            if layer.go_backwards and place.direction == 0:  # alone, no second direction of a network
                seen, read = seen[:, ::-1], None if read is None else read[:, ::-1]
            given = named.get("initial_state", args[0] if args else None)
            begun = any(np.any(host(part)) for part in keras.tree.flatten(given) if part is not None)
            dtype = keras.backend.standardize_dtype(sequences.dtype)
            recorder.sequence(place, seen, read, dtype, from_rest=not begun)
            with recorder.scan(read=read, steps=sequences.shape[1]), recorder.without(place):
                return call(sequences, *args, **named)

        return recording

    return make


def _by_place(sequences: NDArray[Any], data_format: str) -> NDArray[Any]:
    """Sequences (N, T, F), every place of images (N, T, *places, F) one of its own."""
    if sequences.ndim == 3:
        return sequences
    images = np.moveaxis(sequences, 2, -1) if data_format == "channels_first" else sequences
    by_place = np.moveaxis(images, 1, -2)
    return by_place.reshape(-1, *by_place.shape[-2:])


def _steps(
    recorder: Recorder, place: Place, host: Host, trains: dict[str, bool], trained: Sequence[Any]
) -> Callable[[Any], Any]:
    def make(call: Any) -> Any:
        def recording(inputs: Any, states: Any, *args: Any, **named: Any) -> Any:
            trains.setdefault(place.network, bool(trained))
            state = np.concatenate([host(part).reshape(-1) for part in keras.tree.flatten(states)])
            recorder.step(place, host(inputs), state, keras.backend.standardize_dtype(inputs.dtype))
            return call(inputs, states, *args, **named)

        return recording

    return make


def _noted(trained: list[Any]) -> Callable[[Any], Any]:
    def make(call: Any) -> Any:
        def noting(*args: Any, **named: Any) -> Any:
            trained.append(call)
            return call(*args, **named)

        return noting

    return make


def _by_batch(trained: list[Any]) -> Callable[[Any], Any]:
    def make(call: Any) -> Any:
        def normalizing(inputs: Any, training: Any = None, mask: Any = None) -> Any:
            trained.append(call)
            return call(inputs, training=True, mask=mask)

        return normalizing

    return make


@contextmanager
def _unchanged(target: Any, host: Host, assign: Callable[[Any, NDArray[Any]], None]) -> Iterator[None]:
    """Run without gradients and compiling; put back variables that are no weights, and generators."""
    held = [*target.non_trainable_variables, *(state for layer in _all(target) for state in states_of(layer))]
    kept = [(variable, np.array(host(variable.value))) for variable in held]
    with ExitStack() as stack:
        stack.enter_context(generators_kept())
        backend = keras.backend.backend()
        if backend == "jax":
            import jax

            stack.enter_context(jax.disable_jit())
        elif backend == "torch":
            import torch

            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        else:
            import tensorflow as tf

            eager = tf.config.functions_run_eagerly()
            tf.config.run_functions_eagerly(True)
            stack.callback(tf.config.run_functions_eagerly, eager)
        try:
            yield
        finally:
            for variable, old in kept:
                if not np.array_equal(host(variable.value), old):
                    assign(variable, old)
