"""The same numbers from files: a spec, weights and data.  No framework is needed, and none is known."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.cells import find_cell
from critinit.diagnosis.course import run_course
from critinit.diagnosis.diagnosing import EXPONENTS, Place, Settings, diagnose_layers, paired, some_of
from critinit.diagnosis.result import Diagnosis
from critinit.errors import ArgumentError, DataError, WeightsError
from critinit.spec import InitSpec, checked_spec
from critinit.tensors.recurrence import LayerWeights, layer_weights
from critinit.weights.finding import FoundLayer, FoundNetwork, networks_of
from critinit.weights.reading import Entry, entries_of, open_weights

__all__ = ["diagnose_file"]

_Weights = str | os.PathLike[str] | Mapping[str, Any]
_Layers = Mapping[tuple[int, int], LayerWeights]
"""The weights of a network by layer and direction."""
_Stack = Sequence[tuple[FoundNetwork, _Layers]]


def diagnose_file(
    spec: InitSpec,
    weights: _Weights,
    data: Sequence[NDArray[Any]],
    *,
    reference: _Weights | None = None,
    framework: str | None = None,
    module: Sequence[str] = (),
    sequences: int | None = None,
    exponents: int = EXPONENTS,
    seed: int = 0,
) -> Diagnosis:
    """Measure what the recurrent networks in a file of weights do with sequences, and say what is wrong with them.

    The data are what arrives at the lowest layer: what a model computes before it, such as an embedding, is not in the
    weights of its recurrent networks.  Each further layer reads what the layer below gives.

    Args:
        spec: The spec that the weights started from; its cell says which networks are meant.
        weights: The path of a file, or arrays by name, as ``critinit.check`` takes them.
        data: Sequences of shape (steps, features).
        reference: The weights of the same networks at an earlier time, a file or arrays too, to compare the weights
            with: those before the training, or an earlier checkpoint.
        framework: The name of the layout that the weights have, where names and shapes leave that open.
        module: Patterns of the networks' paths, in the order of the layers.
        sequences: How many of the sequences are followed; None: one in sixteen, but two to eight.
        exponents: How many perturbations and gradients each has, and how many Lyapunov exponents are stated.
        seed: The seed of their directions.

    Returns:
        Numbers and a verdict for every layer and direction.

    Raises:
        FileError: The file cannot be opened.
        WeightsError: It is damaged, of another kind, has no network of the spec's cell, or holds numbers that are not
            finite.
        ArgumentError: A choice is to be made, or an argument is out of its range.
            The reference is the file of the weights itself, or of another network.
        DataError: The data do not fit the weights, or are not finite.
        MissingExtraError: The library that reads the file is not installed.

    Example:
        >>> from critinit import generate, materialize
        >>> spec = generate("gru", T=20)
        >>> arrays = materialize(spec, "canonical", input_size=2, hidden_size=16, seed=1)
        >>> diagnose_file(spec, arrays, list(np.random.default_rng(0).standard_normal((4, 21, 2)))).verdict
        'fine'
    """
    settings = Settings(sequences, exponents, seed).checked()
    checked_spec(spec)
    read = _networks(spec, weights, framework, module, "the weights")
    earlier: Mapping[str, _Layers] = {}
    if reference is not None:
        if _is_same_file(weights, reference):
            found = f"{str(reference)!r}, the file of the weights themselves"
            raise ArgumentError("reference", found=found, allowed="a file that was saved earlier")
        before = _networks(spec, reference, framework, module, "the reference")
        earlier = paired(
            *({network.module: layers for stack in one for network, layers in stack} for one in (read, before))
        )
    chosen = [data[i] for i in some_of(data, settings.sequences)]
    places = [
        place._replace(earlier=earlier.get(place.network, {}).get((place.layer, place.direction)))
        for stack in read
        for place in _stack(stack, chosen)
    ]
    notes = [
        f"{above} was taken to read what {below} gives" for stack in read for (below, _), (above, _) in pairwise(stack)
    ]
    return diagnose_layers(places, spec, settings._replace(sequences=len(chosen)), notes)


def _networks(
    spec: InitSpec, weights: _Weights, framework: str | None, module: Sequence[str], name: str
) -> Sequence[_Stack]:
    """The networks of a file or of named arrays that a spec is for, with their weights; those of one stack together."""
    source = name if isinstance(weights, Mapping) else os.fspath(weights)
    opened = nullcontext(entries_of(weights)) if isinstance(weights, Mapping) else open_weights(source)
    with opened as entries:
        shapes = {name: entry.shape for name, entry in entries.items()}
        stacks = networks_of(shapes, spec, framework=framework, modules=tuple(module), source=source)
        return [[(network, _layers(network, entries, source)) for network in stack] for stack in stacks]


def _is_same_file(first: _Weights, second: _Weights) -> bool:
    paths = [one for one in (first, second) if not isinstance(one, Mapping)]
    return len(paths) == 2 and all(map(os.path.exists, paths)) and os.path.samefile(*paths)


def _layers(network: FoundNetwork, entries: Mapping[str, Entry], source: str) -> _Layers:
    """The weights of a network by layer and direction."""
    return {(layer.layer, layer.direction): _layer(layer, entries, source) for layer in network.layers}


def _layer(layer: FoundLayer, entries: Mapping[str, Entry], source: str) -> LayerWeights:
    if layer.sizes.window:
        found = f"a convolutional layer ({layer.kind})"
        raise WeightsError(layer.module, found=found, allowed="a layer that multiplies matrices", source=source)

    def stored() -> Iterator[tuple[Any, Any]]:
        for name, tensor in layer.tensors.items():
            values = entries[name].load()
            if not np.isfinite(values).all():
                raise WeightsError(name, found="numbers that are not finite", allowed="finite numbers", source=source)
            yield from ((block, values[block.index]) for block in tensor.blocks)

    return layer_weights(find_cell(layer.form.cell), stored())


def _stack(stack: _Stack, x: Sequence[NDArray[Any]]) -> Iterator[Place]:
    """The layers of networks that stand one above the other."""
    number = 0
    for network, layers in stack:
        for layer in range(network.depth):
            given = []
            for direction in range(network.directions):
                weights, way = layers[layer, direction], slice(None, None, -1 if direction else 1)
                if x[0].shape[1] != weights.inputs:
                    raise _misfit(network, number, x[0].shape[1], weights.inputs)
                read = [one[way] for one in x]
                yield Place(network.module, layer, direction, network.form.cell, weights, read, number)
                given.append([one[way] for one in _outputs(weights, read)])
            x = [np.concatenate(ways, axis=1) for ways in zip(*given, strict=True)]
            number += 1


def _outputs(weights: LayerWeights, sequences: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """What a layer gives, (steps, coordinates) for each sequence in the order given."""
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    with np.errstate(over="ignore", invalid="ignore"):
        course = run_course(weights, [sequences[i] for i in order])
    found = {i: course.h[course.starts[place] + 1 :, place] for place, i in enumerate(order)}
    return [found[i] for i in range(len(sequences))]


def _misfit(network: FoundNetwork, number: int, found: int, wanted: int) -> DataError:
    hint = "give what arrives there, as what the model computes before it is not in the recurrent weights; or name the "
    hint += "network that reads this: module= (--module)"
    if number:
        hint = "something stands between the layers: diagnose the model itself, critinit.diagnose(model, batch)"
    where = f"what layer {number} reads, at {network}"
    return DataError(where, found=f"{found} features", allowed=f"{wanted}, as its kernels read", hint=hint)
