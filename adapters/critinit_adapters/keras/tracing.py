"""What reaches the recurrent layers of a Keras model: their ``call`` is replaced while the model runs.

Layers that run a cell over a sequence show the whole sequence and its mask; the upper cells of a stack and cells called
in a loop show step by step.  Of images every place is a sequence of its channels.

The model runs with ``training=False``, but batch normalization that is trained normalizes by the batch, as in training.
All variables are put back.  On JAX and TensorFlow the model runs compiled where that can be done.
"""

from __future__ import annotations

import dis
import inspect
import math
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from critinit_adapters.keras import graphs
from critinit_adapters.shared.changing import state_of
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
    layers_of = _all(target)
    cells = {id(handles[0].cell): place for place, _, handles in places(survey)}

    def trace(recorder: Recorder, run: Callable[..., object]) -> dict[str, bool]:
        seen = _Seen(recorder, host, {}, [])
        with patched(list(_replacements(layers_of, cells, seen))):
            run(target, called)
        return seen.trains

    with _unchanged(target, host, assign):
        done = _compiled(target, layers_of, tuple(cells.values()), run, trace)
        if done is not None:
            return done
        recorder = Recorder()
        with _uncompiled():
            return recorder, trace(recorder, run)


def _held(every: Sequence[Any]) -> Hashable:
    """A key of what layers' code and their own attributes say beside their variables."""
    keeps = _kept_by_keras()

    def is_own(name: str, part: object) -> bool:
        # cells get masks of dropout, which are None, as they are called; TensorFlow's own names begin with _self_
        return part is not None and name not in keeps and not name.startswith("_self_")

    own = [[item for item in sorted(vars(layer).items()) if is_own(*item)] for layer in every]
    return state_of([(type(layer), parts) for layer, parts in zip(every, own, strict=True)])


@cache
def _kept_by_keras() -> frozenset[str]:
    """The attributes that every layer and model has for Keras itself, some of which change as a model is called."""
    kinds = keras.Sequential.__mro__[:-1]
    functions = (inspect.unwrap(part) for kind in kinds for part in vars(kind).values() if inspect.isfunction(part))
    stored = (one.argval for f in functions for one in dis.get_instructions(f) if one.opname == "STORE_ATTR")
    return frozenset(stored) | {"history"}  # which a callback of Keras sets


def _compiled(
    target: Any,
    every: Sequence[Any],
    cells: Hashable,
    run: Callable[..., object],
    trace: Callable[[Recorder, Callable[..., object]], dict[str, bool]],
) -> tuple[Recorder, Mapping[str, bool]] | None:
    """On JAX and TensorFlow, what ``record`` returns from a compiled run, or None."""
    backend = keras.backend.backend()
    built = all(layer.built for layer in every)  # else building makes variables, which would be those of a traced run
    if not built or backend not in ("jax", "tensorflow"):
        return None
    flags = tuple((layer.name, layer.trainable) for layer in every)
    static = flags, cells, keras.config.floatx(), keras.config.dtype_policy().name, _held([target, *every])
    if backend == "tensorflow":
        return graphs.recorded(target, static, run, trace)
    from critinit_adapters.shared.jax_compiling import recorded

    held = [*target.variables, *(state for layer in every for state in states_of(layer))]

    def within(recorder: Recorder, values: Sequence[Any], run: Callable[..., object]) -> dict[str, bool]:
        with keras.StatelessScope(state_mapping=list(zip(held, values, strict=True))):
            return trace(recorder, run)

    return recorded(run, [variable.value for variable in held], (weakref.ref(target), *static), within)


class _Seen(NamedTuple):
    """Where what the layers of a run get is noted.

    Attributes:
        recorder: Where it is recorded.
        host: Brings a backend's tensor to the host.
        trains: By network, whether a layer that is trained ran before it.
        trained: The layers that are trained and ran so far.
    """

    recorder: Recorder
    host: Host
    trains: dict[str, bool]
    trained: list[Any]

    def reached(self, place: Place) -> None:
        """Note that a place was reached."""
        self.trains.setdefault(place.network, bool(self.trained))

    def hand(self, take: Callable[..., None], x: Any, *operands: Any) -> Any:
        """Hand tensors to ``take``, as arrays after the recorder; return the first, which has to be used."""
        if type(self.recorder) is Recorder:
            take(self.recorder, *map(self.host, (x, *operands)))
            return x
        if isinstance(self.recorder, graphs.GraphRecorder):
            self.recorder.hold(take, x, *operands)
            return x
        from critinit_adapters.shared.jax_compiling import taken

        return taken(take, x, *operands)


def _replacements(
    every: Sequence[Any], cells: Mapping[int, Place], seen: _Seen
) -> Iterator[tuple[Any, str, Callable[[Any], Any]]]:
    """What replaces the layers' calls."""
    for layer in every:
        place = cells.get(id(layer))
        if isinstance(layer, layers.RNN):
            first = layer.cell.cells[0] if isinstance(layer.cell, layers.StackedRNNCells) else layer.cell
            of_first = cells.get(id(first))
            if of_first is not None:
                yield layer, "call", _sequences(of_first, layer, seen)
        elif place is not None:
            yield layer, "call", _steps(place, seen)
        elif isinstance(layer, layers.BatchNormalization) and layer.trainable:
            yield layer, "call", _by_batch(seen.trained)
        elif layer.trainable and any(v.trainable for v in layer._trainable_variables):
            yield layer, "call", _noted(seen.trained)


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


@dataclass(frozen=True)
class _Read:
    """How a layer reads sequences.

    Attributes:
        place: Its place.
        dtype: The type of what it reads.
        data_format: Of images, where their channels are.
        backwards: Whether it reads from the end.
        steps: The steps of a sequence.
        masked: Whether there is a mask.
    """

    place: Place
    dtype: str
    data_format: str
    backwards: bool
    steps: int
    masked: bool

    def read(self, count: int, given: Sequence[Any]) -> NDArray[np.bool_] | None:
        """Return which steps are read of so many sequences, where the mask is the first of what is given."""
        if not self.masked:
            return None
        mask = np.asarray(given[0], dtype=np.bool_)
        return np.repeat(mask, count // len(mask), axis=0)[:, :: -1 if self.backwards else 1]


@dataclass(frozen=True)
class _Open:
    """Records on the host what a layer reads: sequences, their mask if there is one, and parts of an initial state."""

    how: _Read

    def __call__(self, recorder: Recorder, sequences: Any, *given: Any) -> None:
        seen = _by_place(np.asarray(sequences), self.how.data_format)[:, :: -1 if self.how.backwards else 1]
        begun = any(np.any(part) for part in given[self.how.masked :])
        read = self.how.read(len(seen), given)
        recorder.sequence(self.how.place, seen, read, self.how.dtype, from_rest=not begun)
        recorder.open_scan()


@dataclass(frozen=True)
class _Close:
    """Ends what ``_Open`` began; the mask is given again, if there is one."""

    how: _Read
    count: int
    is_blind: ClassVar[bool] = True

    def __call__(self, recorder: Recorder, _: Any, *given: Any) -> None:
        recorder.close_scan(read=self.how.read(self.count, given), steps=self.how.steps)


def _sequences(place: Place, layer: Any, seen: _Seen) -> Callable[[Any], Any]:
    def make(call: Any) -> Any:
        def recording(sequences: Any, *args: Any, **named: Any) -> Any:
            seen.reached(place)
            mask = named.get("mask", args[1] if len(args) > 1 else None)
            given = named.get("initial_state", args[0] if args else None)
            state = [part for part in keras.tree.flatten(given) if part is not None]
            data_format = getattr(layer, "data_format", "")
            backwards = layer.go_backwards and place.direction == 0  # alone, no second direction of a network
            dtype = keras.backend.standardize_dtype(sequences.dtype)
            how = _Read(place, dtype, data_format, backwards, sequences.shape[1], mask is not None)
            masks = [] if mask is None else [mask]
            sequences = seen.hand(_Open(how), sequences, *masks, *state)
            with seen.recorder.without(place):
                found = call(sequences, *args, **named)
            parts = keras.tree.flatten(found)
            count = math.prod(sequences.shape) // (sequences.shape[1] * _features(sequences.shape, data_format))
            parts[0] = seen.hand(_Close(how, count), parts[0], *masks)
            return keras.tree.pack_sequence_as(found, parts)

        return recording

    return make


def _features(shape: Sequence[int], data_format: str) -> int:
    """The number of features of sequences, which may be images."""
    return shape[2] if data_format == "channels_first" else shape[-1]


def _by_place(sequences: NDArray[Any], data_format: str) -> NDArray[Any]:
    """Sequences (N, T, F), every place of images (N, T, *places, F) one of its own."""
    if sequences.ndim == 3:
        return sequences
    images = np.moveaxis(sequences, 2, -1) if data_format == "channels_first" else sequences
    by_place = np.moveaxis(images, 1, -2)
    return by_place.reshape(-1, *by_place.shape[-2:])


@dataclass(frozen=True)
class _Step:
    """Records one step on the host: its input, and the parts of the state before it."""

    place: Place
    dtype: str

    def __call__(self, recorder: Recorder, x: Any, *state: Any) -> None:
        recorder.step(self.place, x, np.concatenate([np.asarray(part).reshape(-1) for part in state]), self.dtype)


def _steps(place: Place, seen: _Seen) -> Callable[[Any], Any]:
    def make(call: Any) -> Any:
        def recording(inputs: Any, states: Any, *args: Any, **named: Any) -> Any:
            seen.reached(place)
            if not seen.recorder.is_muted(place):
                take = _Step(place, keras.backend.standardize_dtype(inputs.dtype))
                inputs = seen.hand(take, inputs, *keras.tree.flatten(states))
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
    """Run without gradients and from states of zero; put back variables that are no weights, and generators."""
    states = [state for layer in _all(target) for state in states_of(layer)]
    held = [*target.non_trainable_variables, *states]
    kept = [(variable, np.array(host(variable.value))) for variable in held]
    with ExitStack() as stack:
        stack.enter_context(generators_kept())
        if keras.backend.backend() == "torch":
            import torch

            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        try:
            for state in states:  # of stateful layers; those that a model hands on itself are seen and noted
                assign(state, np.zeros(state.shape))
            yield
        finally:
            for variable, old in kept:
                if not np.array_equal(host(variable.value), old):
                    assign(variable, old)


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Compile nothing meanwhile, so that every call is seen."""
    if keras.backend.backend() == "jax":
        import jax

        with jax.disable_jit():
            yield
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        eager = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(eager)
    else:
        yield
