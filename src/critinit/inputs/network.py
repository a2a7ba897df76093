"""``critinit.measure``: what really arrives at the recurrent networks of a model, whatever comes before them.

A model runs once on a batch, and its adapter records the input of every recurrent layer.  Here the records become
statistics: what ``critinit.inputs.measure`` says of the steps that are no padding, and where the padding is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ApplyError, ArgumentError, CritinitError, DataError
from critinit.inputs.arrays import on_host
from critinit.inputs.arriving import LayerInputs, MeasuredInputs, NetworkInputs
from critinit.inputs.measure import measure as measure_arrays
from critinit.inputs.origins import origin_of
from critinit.inputs.stretches import Ending, Stretch, described, odd_ending, shared_endings
from critinit.inputs.traced import Arrival, Embedding, Reached, Traced
from critinit.tensors.application import Adapter, find_adapter

__all__ = ["Runner", "measure", "traced_run"]

Bools = NDArray[np.bool_]
_ARRAYS = (
    "of a recurrent module of your own measure the arrays that reach it with critinit.inputs.measure, and state what "
    "it finds in the spec"
)
_WORDS = 200
"""Letters of another library's message that are repeated."""


def measure(
    model: Any,
    batch: Any,
    *,
    mask: Any = None,
    call: Callable[..., object] | None = None,
    spectrum: bool = True,
    framework: str | Adapter | None = None,
    **options: Any,
) -> MeasuredInputs:
    """Run a model once on a batch and return what arrives at every recurrent network and layer in it.

    Whatever stands before a network (embeddings, convolutions, normalization, packing) has then had its say.  The model
    is left as it was: weights, flags, buffers, states, hooks and random generators.  No gradients are computed.

    Args:
        model: A model of any framework that has an adapter; the tree of parameters where that is what ``apply`` takes.
        batch: What the model is called with: an array, a tuple or list of arguments, or a mapping of named arguments.
        mask: Which steps of the batch are real, where padding is noise that cannot be recognized: booleans of shape
            (N, T), or N lengths.
        call: How to run the model, where not by calling it: a function of the model and the batch's arguments, such as
            the method ``apply`` that a tree of parameters belongs to.
        spectrum: Whether to measure the spectrum of what arrives at first layers, which the scheme ``memory`` reads.
        framework: The framework's name, where the target could be of several, or an adapter.
        **options: The adapter's own options, as of ``critinit.apply``.

    Returns:
        Second moment, correlation in time, padding and lengths by network and layer; it prints as a table.

    Raises:
        ApplyError: No adapter can run such a model, or its networks are ones that no spec can be for.
        ArgumentError: The model fails on the batch, the batch reaches no recurrent network, or the mask does not fit
            what arrives.
        DataError: What arrives is not finite, or nothing arrives.

    Example:
        found = critinit.measure(model, tokens)
        print(found)
        found["lstm"].second_moment
    """
    traced, _ = traced_run(model, batch, call=call, framework=framework, options=options)
    arrays = tuple(_arrays(batch))
    reached = [network for network in traced.networks if network.arrivals]
    unreached = tuple(network.name for network in traced.networks if not network.arrivals)
    notes = tuple(f"{network.name}: {network.refusal}" for network in traced.networks if network.refusal)
    networks = tuple(_network(network, traced.embeddings, arrays, mask, spectrum) for network in reached)
    tied = tuple(embedding.name for embedding in traced.embeddings if embedding.tied)
    return MeasuredInputs(networks, unreached, tied, notes)


def traced_run(
    model: Any,
    batch: Any,
    *,
    call: Callable[..., object] | None,
    framework: str | Adapter | None,
    options: Mapping[str, Any],
    embeddings: bool = True,
    otherwise: str = _ARRAYS,
) -> tuple[Traced, Adapter]:
    """Run a model once on a batch, and return what reached its recurrent networks, at least one of them, and its
    adapter.

    Args:
        model: As ``measure`` takes it, like all the following.
        batch: What the model is called with.
        call: How to run the model.
        framework: The framework's name, or an adapter.
        options: The adapter's own options.
        embeddings: Whether the embeddings are wanted, which can be large.
        otherwise: The way out where the model has no recurrent layer that is known.

    Raises:
        ApplyError: No adapter can run such a model, or its networks are ones that no spec can be for.
        ArgumentError: The model fails on the batch, or the batch reaches no recurrent network.
        DataError: The batch has no sequences.
    """
    adapter = find_adapter(model, framework, options)
    trace = getattr(adapter, "trace", None)
    if trace is None:
        found = f"an adapter, {adapter.framework}, that cannot run models"
        raise ArgumentError("framework", found=found, hint="measure arrays with critinit.inputs.measure")
    try:
        traced: Traced = trace(model, Runner(batch, call), options, embeddings=embeddings)
    except ApplyError as error:
        raise error if error.hint or error.where != "target" else error.replace(hint=otherwise) from error.__cause__
    if not any(network.arrivals for network in traced.networks):
        for network in traced.networks:
            if network.refusal is not None:
                _, found, allowed, hint = network.refusal
                raise ApplyError(network.name or "the model itself", found=found, allowed=allowed, hint=hint)
        names = ", ".join(network.name or "the model itself" for network in traced.networks)
        found = f"a batch that reaches none of these networks: {names}" if names else "a model without any"
        raise ArgumentError("batch", found=found, hint="call= says how to run the model so that they are reached")
    for network in traced.networks:
        if network.arrivals and not any(len(arrival.values) for arrival in network.arrivals):
            raise DataError("batch", found="one without sequences", allowed="one sequence or more")
    return traced, adapter


@dataclass(frozen=True, slots=True)
class Runner:
    """What runs a model on a batch.

    Attributes:
        batch: What the model is called with: an array, a tuple or list of arguments, or a mapping of named arguments.
        call: How to run the model, where not by calling it.
    """

    batch: Any
    call: Callable[..., object] | None

    def __call__(self, model: Any, natural: Callable[..., object] | None = None) -> object:
        """Run a model; an adapter may give the way of calling that is natural to it as ``natural``, with a ``hint``.

        Raises:
            ArgumentError: The model fails on the batch; its own error is the cause.
        """
        function = self.call or natural or _called
        batch = _copied(self.batch)
        try:
            if isinstance(batch, Mapping):
                return function(model, **batch)
            if isinstance(batch, (tuple, list)) and not hasattr(batch, "_fields"):
                return function(model, *batch)
            return function(model, batch)
        except CritinitError:
            raise
        except Exception as error:
            found = f"one on which the model fails: {type(error).__name__}: {_first_words(error)}"
            hint = getattr(function, "hint", None) or _way_out(self.batch, error)
            raise ArgumentError("batch", found=found, hint=hint) from error

    def on(self, batch: Any) -> Runner:
        """Return the same for another batch."""
        return Runner(batch, self.call)


def _copied(batch: Any) -> Any:
    """A batch whose arrays a model may change in place."""
    if type(batch) in (list, tuple):
        return type(batch)(map(_copied, batch))
    if type(batch) is dict:
        return {name: _copied(part) for name, part in batch.items()}
    if isinstance(batch, np.ndarray):
        return batch.copy()
    return batch.clone() if hasattr(type(batch), "clone") and hasattr(type(batch), "detach") else batch


def _way_out(batch: Any, error: Exception) -> str:
    """What to give instead of a batch on which a model fails."""
    usual = "give what the model is called with when it trains; call= says how to run it where that is special"
    holds = isinstance(batch, (Mapping, tuple, list))
    if not holds and hasattr(batch, "__iter__") and not hasattr(type(batch), "shape"):
        return f"this is a {type(batch).__name__}; give one batch of it, next(iter(...)), without the targets"
    if "numpy.ndarray" in str(error):
        return f"turn NumPy's arrays into the framework's tensors first; {usual}"
    if isinstance(batch, (tuple, list)) and len(batch) > 1:
        return f"{len(batch)} arguments were given, model(*batch); if some are targets, leave them out; {usual}"
    return usual


def _first_words(error: Exception) -> str:
    """The beginning of a message, without colours of a terminal and a word that only says where it was."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()]
    said = " ".join(line for line in lines if not line.startswith("Exception encountered when calling"))
    return shorten(said, _WORDS, placeholder=" ...") or "no words"


def _called(model: Any, *args: Any, **named: Any) -> object:
    if not callable(model):
        found = f"none, where the target is a {type(model).__name__} that cannot be called"
        hint = "such as the method apply of the model that a tree of parameters belongs to"
        raise ArgumentError("call", found=found, allowed="a function of the target and the batch", hint=hint)
    return model(*args, **named)


def _arrays(batch: Any) -> Iterator[NDArray[Any]]:
    """The arrays in a batch, on the host."""
    if isinstance(batch, Mapping):
        for part in batch.values():
            yield from _arrays(part)
    elif isinstance(batch, (tuple, list)):
        for part in batch:
            yield from _arrays(part)
    elif hasattr(batch, "__array__") or hasattr(batch, "detach"):
        try:
            array = on_host(batch)
        except (TypeError, ValueError, RuntimeError):  # sparse or nested
            return
        if array.dtype.kind in "biuf":
            yield array


def _network(
    network: Reached, embeddings: Sequence[Embedding], batch: Sequence[NDArray[Any]], mask: Any, spectrum: bool
) -> NetworkInputs:
    layers = tuple(_layer(network, number, mask, spectrum and number == 0) for number in range(network.layers))
    first = [arrival for arrival in network.arrivals if arrival.layer == 0]
    origin, embedding = origin_of(first, embeddings, batch)
    trains = embedding.trains if embedding else origin == "layers" and network.trains is not False
    return NetworkInputs(
        network.name,
        network.cell,
        network.hidden_size,
        network.directions,
        layers,
        origin,
        embedding.name if embedding else None,
        trains,
        _reach(first, network.directions, mask),
        _odd_ending(first, layers[0]) if mask is None else None,
        all(arrival.from_rest for arrival in first),
    )


def _odd_ending(arrivals: Sequence[Arrival], layer: LayerInputs) -> Ending | None:
    """The last steps of a pass if they may be padding that was not recognized."""
    if layer.right is not None or any(arrival.read is not None for arrival in arrivals):
        return None
    return next(filter(None, (odd_ending(arrival.values) for arrival in arrivals)), None)


def _layer(network: Reached, number: int, mask: Any, spectrum: bool) -> LayerInputs:
    """The passes of one layer, taken together."""
    real: list[NDArray[np.float32]] = []
    lengths: list[int] = []
    steps: list[int] = []
    before_and_after: tuple[list[tuple[Stretch | None, int]], ...] = ([], [])
    unread = total = 0
    for arrival in network.arrivals:
        if arrival.layer != number:
            continue
        x = arrival.values
        if not np.all(np.isfinite(x)):
            where = f"what arrives at {network.name or 'the model itself'}, layer {number}"
            raise DataError(where, found="a number that is not finite", allowed="finite numbers")
        kept = _real(arrival, mask, name=network.name)
        read = np.ones(x.shape[:2], dtype=np.bool_) if arrival.read is None else arrival.read
        before = ~np.logical_or.accumulate(kept, axis=1)
        total += read.size
        unread += int(np.sum(~read))
        for side, padded in zip(before_and_after, (before, ~kept & ~before), strict=True):
            side.append((described(x, padded & read), read.size))
        real += [part[is_real] for part, is_real in zip(x, kept, strict=True) if np.any(is_real)]
        lengths += [int(n) for n in np.sum(kept, axis=1)]
        steps += [x.shape[1]] * x.shape[0]
    if not real:
        raise DataError(
            f"what arrives at {network.name or 'the model itself'}", found="padding alone", allowed="real steps"
        )
    left, right = (_together(side, total) for side in before_and_after)
    return LayerInputs(
        number, measure_arrays(real, spectrum=spectrum), tuple(lengths), tuple(steps), left, right, unread / total
    )


def _together(parts: Sequence[tuple[Stretch | None, int]], total: int) -> Stretch | None:
    """The padding of several passes as one."""
    found = [(stretch, count) for stretch, count in parts if stretch is not None]
    if not found:
        return None
    share = sum(stretch.share * count for stretch, count in found)
    power = sum(stretch.power * stretch.share * count for stretch, count in found) / share
    kinds = {stretch.kind for stretch, _ in found}
    kind = kinds.pop() if len(kinds) == 1 else "noise"
    return Stretch(kind, sum(stretch.sequences for stretch, _ in found), share / total, power)


def _real(arrival: Arrival, mask: Any, name: str = "") -> Bools:
    """Which steps are no padding, (N, T)."""
    x = arrival.values
    if mask is not None:
        return _given(mask, x.shape[0], x.shape[1], name) & (True if arrival.read is None else arrival.read)
    if arrival.read is not None:
        return arrival.read
    steps = np.arange(x.shape[1])
    right = shared_endings(x)
    left = shared_endings(x[:, ::-1])
    return np.asarray((steps < right[:, None]) & (steps >= (x.shape[1] - left)[:, None]))


def _given(mask: Any, sequences: int, steps: int, name: str) -> Bools:
    """The caller's mask as booleans of shape (N, T)."""
    given = np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)
    if given.shape == (sequences,) and given.dtype.kind in "iu":
        return np.asarray(np.arange(steps) < given[:, None])
    if given.shape == (sequences, steps):
        return np.asarray(given, dtype=np.bool_)
    found = f"shape {given.shape}, where {sequences} sequences of {steps} steps arrive at {name or 'the model itself'}"
    raise ArgumentError("mask", found=found, allowed="booleans of shape (N, T), or N lengths")


def _reach(arrivals: Sequence[Arrival], directions: int, mask: Any) -> int:
    """The longest way from the first real step to the last step that is read."""
    longest = 1
    for arrival in arrivals:
        real = _real(arrival, mask)
        read = np.ones_like(real) if arrival.read is None else arrival.read
        for way in (slice(None), slice(None, None, -1))[:directions]:
            began = np.logical_or.accumulate(real[:, way], axis=1)
            longest = max(longest, int(np.max(np.sum(began & read[:, way], axis=1))))
    return longest
