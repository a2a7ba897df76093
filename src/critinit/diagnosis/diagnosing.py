"""``critinit.diagnose``: a real network on real inputs, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.diagnosis.compared import is_alike, is_equal, weights_that_moved
from critinit.diagnosis.course import Run
from critinit.diagnosis.findings import findings_of
from critinit.diagnosis.numbers import LEAST_STEPS, layer_numbers
from critinit.diagnosis.result import Diagnosis, LayerDiagnosis, place_name
from critinit.diagnosis.stated import weights_that_differ
from critinit.errors import ApplyError, ArgumentError, DataError
from critinit.inputs.network import traced_run
from critinit.inputs.traced import Arrival, Reached
from critinit.spec import InitSpec, Numbers, checked_spec
from critinit.tensors.application import Adapter
from critinit.tensors.recurrence import LayerWeights
from critinit.tensors.sampling import check_seed
from critinit.tensors.stacking import Stack, stacks
from critinit.theory.protocol import FEW_FEATURES, has_spread, shows_features

__all__ = ["EXPONENTS", "Place", "Settings", "diagnose", "diagnose_layers", "paired", "some_of"]

EXPONENTS = 4
"""Perturbations, gradients and Lyapunov exponents of a layer, by default."""
_BY_NUMBERS = (
    "only recurrent layers are diagnosed; one of your own by its numbers: hand its kernels and biases, and what "
    "arrives at it, to critinit.diagnosis.files.diagnose_file"
)
_SHARE, _FEWEST, _MOST = 16, 2, 8
"""One sixteenth of the batch's sequences is followed, two at least and eight at most, so that the whole costs about as
much as one or two training steps."""
_TOGETHER = 2**18
"""Numbers that are copied to look at them together, 1 MB as a rule."""
_NUMBERS = 2**23
"""Numbers of a course, steps · sequences · units, beyond which fewer sequences are followed: 64 MB an array, of which
there are about eight."""


class Place(NamedTuple):
    """A layer in one direction, with what it reads.

    Attributes:
        network: The network's path.
        layer: Its number in the network.
        direction: 0 forward, 1 backward.
        cell: The cell's name, for the reader.
        weights: Its weights.
        sequences: What it reads, in the order in which it reads.
        spec_layer: The spec's layer that it took; None where that is not clear, or there is no spec.
        earlier: Its weights at an earlier time, or None.
        outputs: What the layer gave for each of the sequences, likewise; empty where that is not known.
    """

    network: str
    layer: int
    direction: int
    cell: str
    weights: LayerWeights
    sequences: Sequence[NDArray[Any]]
    spec_layer: int | None
    earlier: LayerWeights | None = None
    outputs: Sequence[Callable[[], NDArray[Any]]] = ()

    @property
    def name(self) -> str:
        """Where it is, in words."""
        return place_name(self.network, self.layer, self.direction)


class Settings(NamedTuple):
    """How much is measured.

    Attributes:
        sequences: How many sequences are followed; None: one in sixteen, two to eight.
        exponents: How many perturbations, gradients and Lyapunov exponents.
        seed: Of the directions.
    """

    sequences: int | None = None
    exponents: int = EXPONENTS
    seed: int = 0

    def checked(self) -> Settings:
        """Return them.

        Raises:
            ArgumentError: One is out of its range.
        """
        for name, number in (("sequences", self.sequences), ("exponents", self.exponents)):
            if number is None and name == "sequences":
                continue
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ArgumentError(name, found=repr(number), allowed="an integer of at least 1")
        check_seed(self.seed)
        return self


def diagnose(
    model: Any,
    batch: Any,
    spec: InitSpec | None = None,
    *,
    reference: Any = None,
    sequences: int | None = None,
    exponents: int = EXPONENTS,
    seed: int = 0,
    trust: bool = False,
    cell: str | None = None,
    call: Callable[..., object] | None = None,
    framework: str | Adapter | None = None,
    **options: Any,
) -> Diagnosis:
    """Measure what the recurrent layers of a model do with a batch, and say what is wrong with them.

    The model runs once, without gradients, to see what arrives at each recurrent layer.  Then each layer is run on some
    of these sequences from the zero state, in NumPy, with its real weights and exact derivatives: perturbations are
    carried forward, gradients back.  The model may be fresh or trained, and is left as it was: weights, flags, buffers,
    states, hooks and random generators.

    Args:
        model: A model of any framework that has an adapter; the tree of parameters where that is what ``apply`` takes.
        batch: What the model is called with: an array, a tuple or list of arguments, or a mapping of named arguments.
        spec: The spec that the weights started from.  Its predictions are shown beside the numbers, and its T is the
            lag that has to be remembered; without it that is the sequences' length.
        reference: The model at an earlier time, to compare the weights with: a copy of it from before the training, or
            one with an earlier checkpoint.  Swapped gates and multiplied kernels of trained models are found by it.
        sequences: How many of the batch's sequences are followed, of the longer half of them.  None: one in sixteen,
            but two to eight.
        exponents: How many perturbations and gradients each sequence has, and how many Lyapunov exponents are stated.
        seed: The seed of their directions.
        trust: Whether to take a class that overrides the step of the framework's layer for that layer.
        cell: The cell, where a tree of weights is alike for two cells (rnn and relu_rnn) and there is no spec.
        call: How to run the model, where not by calling it, as for ``critinit.measure``.
        framework: The framework's name, where the target could be of several, or an adapter.
        **options: The adapter's own options, as of ``critinit.apply``.

    Returns:
        Numbers and a verdict for every layer and direction; it prints as tables.

    Raises:
        ApplyError: The networks are ones whose step is not known (quantized, scripted, with parametrized weights).
        ArgumentError: The model fails on the batch, the batch reaches no recurrent network, the reference is another
            model, or an argument is out of its range.
        DataError: What arrives is not finite, or has fewer than three steps.

    Example:
        found = critinit.diagnose(model, tokens)
        print(found.verdict)  # lstm, layer 0: forgets after 31 steps of 399: …
    """
    settings = Settings(sequences, exponents, seed).checked()
    if spec is not None:
        checked_spec(spec)
    traced, adapter = traced_run(
        model, batch, call=call, framework=framework, options=options, embeddings=False, otherwise=_BY_NUMBERS
    )
    read = getattr(adapter, "layers", None)
    if read is None:
        found = f"an adapter, {adapter.framework}, that cannot read weights"
        raise ArgumentError("framework", found=found, hint="critinit diagnose reads them from a file")
    cell = cell if spec is None else spec.cell
    layers: _Layers = read(model, options, trust=trust, cell=cell, survey=traced.survey)
    earlier: _Layers = {}
    if reference is not None:
        earlier = paired(layers, read(reference, options, trust=trust, cell=cell))
    networks = [network for network in traced.networks if network.arrivals and network.name in layers]
    taken, notes = _spec_layers(networks, layers, spec)
    places = [
        place._replace(earlier=earlier.get(place.network, {}).get((place.layer, place.direction)))
        for network in networks
        for place in _places(network, layers[network.name], taken.get(network.name))
    ]
    notes += [f"{network.name}: {network.refusal}" for network in traced.networks if network.refusal]
    silent = [network.name for network in traced.networks if not network.arrivals and not network.refusal]
    notes += [f"not reached by the batch: {', '.join(name or 'the model itself' for name in silent)}"] if silent else []
    begun = [n.name for n in networks if not all(arrival.from_rest for arrival in n.arrivals)]
    names = ", ".join(name or "the model itself" for name in begun)
    notes += [f"{names}: began at another state than zero, from which this starts all the same"] if names else []
    return diagnose_layers(places, spec, settings, notes, getattr(adapter, "run_layer", None))


def diagnose_layers(
    places: Sequence[Place],
    spec: InitSpec | None,
    settings: Settings,
    notes: Sequence[str] = (),
    run: Run | None = None,
) -> Diagnosis:
    """Measure layers.

    Args:
        places: The layers.
        spec: The spec, or None.
        settings: How much is measured.
        notes: What is to be said beside the numbers.
        run: What runs layers in less time than NumPy, if anything does.

    Raises:
        DataError: What a layer reads is not finite, or has fewer than three steps.
    """
    layers = []
    for place in places:
        where = f"what arrives at {place.name}"
        if not _are_finite(place.sequences):
            raise DataError(where, found="a number that is not finite", allowed="finite numbers")
        if not _are_finite(_numbers_of(place.weights)):
            raise DataError(place.name, found="weights that are not finite")
        T = None if spec is None else spec.T
        chosen = some_of(place.sequences, settings.sequences)
        used = [place.sequences[i] for i in chosen]
        if settings.sequences is None:
            used = used[: max(1, _NUMBERS // (max(map(len, used), default=1) * place.weights.units))]
        outputs = [place.outputs[i]() for i in chosen[: len(used)]] if place.outputs else None
        try:
            numbers = layer_numbers(
                place.weights, used, T=T, exponents=settings.exponents, seed=settings.seed, outputs=outputs, run=run
            )
        except DataError as error:
            raise error.replace(where=where) from None
        found = list(findings_of(place.weights.cell, numbers))
        if place.earlier is not None:
            found += weights_that_moved(place.weights, place.earlier)
        stated = exponent = None
        if spec is not None and place.spec_layer is not None:
            if not any(finding.kind == "differs" for finding in found):
                is_alone = place.earlier is None
                found += weights_that_differ(spec, place.spec_layer, place.direction, place.weights, is_alone=is_alone)
            predicted = spec.layers[place.spec_layer].predicted
            stated = next((one for one in (predicted.tied, predicted.untied) if isinstance(one, Numbers)), None)
            is_spread = has_spread(spec.find_cell(), spec.layers[place.spec_layer], tied=True)
            exponent = 0.5 * math.log(stated.chi) if stated is not None and stated.chi and not is_spread else None
        where_it_is = place.network, place.layer, place.direction, place.cell
        layers.append(LayerDiagnosis(*where_it_is, numbers, T, stated, exponent, tuple(found)))
    same = [one.name for one in places if one.earlier is not None and is_equal(one.weights, one.earlier)]
    notes = (
        [*notes, f"the reference has the same weights, with which a comparison says nothing: {', '.join(same)}"]
        if same
        else notes
    )
    compared = [layer for layer in layers if layer.predicted is not None]
    short = [layer for layer in compared if not layer.is_at_T]
    if spec is not None and short:
        steps = max(layer.numbers.retention_steps for layer in short)
        notes = [*notes, f"the spec is for T = {spec.T}; over {steps} steps no retention is predicted"]
    notes = [*notes, *_few_features([place for place, one in zip(places, layers, strict=True) if one.predicted])]
    return Diagnosis(tuple(layers), tuple(notes))


def _few_features(places: Sequence[Place]) -> Iterator[str]:
    """A note for each small number of features, on the networks that read so many and have a prediction beside them."""
    read = {
        place.network: place.weights.inputs
        for place in places
        if place.spec_layer == 0 and shows_features(place.weights.cell)
    }
    for few in sorted({count for count in read.values() if count <= FEW_FEATURES}):
        names = ", ".join(network or "the model itself" for network, count in read.items() if count == few)
        features = f"the {few} features" if few > 1 else "the one feature"
        yield (
            f"{names}: predicted is for inputs of many features; critinit analyze --features {few} predicts for "
            f"{features} that are read"
        )


_Layers = Mapping[str, Mapping[tuple[int, int], LayerWeights]]


def paired(layers: _Layers, earlier: _Layers) -> _Layers:
    """Return the layers of an earlier time by the networks' present names; where all names are others, by their order.

    Args:
        layers: The weights of each network by its name, and of each layer by its number and direction.
        earlier: The same at an earlier time.

    Raises:
        ArgumentError: A layer is missing, another one is in its place, or its weights are not finite.
    """
    allowed = "the same model at an earlier time, with its weights"
    if set(layers).isdisjoint(earlier) and len(layers) == len(earlier):
        earlier = dict(zip(layers, earlier.values(), strict=True))
    for network, own in layers.items():
        for place, weights in own.items():
            before = earlier.get(network, {}).get(place)
            name = place_name(network, *place)
            if before is None:
                raise ArgumentError("reference", found=f"a model without {name}", allowed=allowed)
            if not is_alike(weights, before):
                shown = f"{before.cell.name} of {before.units} units and {before.inputs} inputs in {name}"
                raise ArgumentError("reference", found=shown, allowed=allowed)
            if not _are_finite(_numbers_of(before)):
                raise ArgumentError("reference", found=f"weights that are not finite in {name}", allowed=allowed)
    return earlier


def _numbers_of(weights: LayerWeights) -> list[NDArray[Any]]:
    """All arrays of a layer."""
    tables = (weights.recurrent, weights.input, weights.bias, weights.inner_bias)
    found = [part for table in tables for part in table.values()]
    return found if weights.projection is None else [*found, weights.projection]


def _are_finite(arrays: Sequence[NDArray[Any]]) -> bool:
    """Whether all numbers are finite; small arrays are looked at together, as each call takes time."""
    if sum(x.size for x in arrays) <= _TOGETHER:
        arrays = [np.concatenate([np.ravel(x) for x in arrays])] if arrays else []
    return all(bool(np.isfinite(x).all()) for x in arrays)


def some_of(sequences: Sequence[NDArray[Any]], wanted: int | None) -> list[int]:
    """Return the numbers of some of the longer half of the sequences, spread evenly over it, the longest among them.

    Args:
        sequences: All of them.
        wanted: How many; None: one in sixteen, but two to eight.
    """
    enough = [i for i, x in enumerate(sequences) if len(x) >= LEAST_STEPS] or list(range(len(sequences)))
    ordered = sorted(enough, key=lambda i: -len(sequences[i]))
    count = wanted or min(max(len(ordered) // _SHARE, _FEWEST), _MOST)
    half = ordered[: max(count, (len(ordered) + 1) // 2)]
    between = max(len(half) - 1, 1) / max(min(count, len(half)) - 1, 1)
    return [half[round(i * between)] for i in range(min(count, len(half)))]


def _places(network: Reached, layers: Mapping[tuple[int, int], LayerWeights], first: int | None) -> Iterator[Place]:
    """The layers of a network in their directions."""
    for (layer, direction), weights in sorted(layers.items()):
        arrivals = [arrival for arrival in network.arrivals if arrival.layer == layer]
        read = [x for arrival in arrivals for x in _read(arrival, direction)]
        if not read:
            continue
        gave = [one for arrival in arrivals for one in _given(arrival, direction, weights.outputs)]
        if read[0].shape[1] != weights.inputs:
            found = f"inputs of {read[0].shape[1]} features, where its kernels read {weights.inputs}"
            raise ApplyError(network.name or "the model itself", found=found)
        number = None if first is None else first + layer
        outputs = gave if len(gave) == len(read) else ()
        yield Place(network.name, layer, direction, weights.cell.name, weights, read, number, outputs=outputs)


def _read(arrival: Arrival, direction: int) -> Iterator[NDArray[Any]]:
    """What a direction reads of each sequence, in its own order; steps that are left unread do not change a state."""
    for i, values in enumerate(arrival.values):
        yield _as_read(arrival, i, values, direction)


def _as_read(arrival: Arrival, i: int, values: NDArray[Any], direction: int) -> NDArray[Any]:
    """The steps of a sequence that are read, in a direction's order."""
    return (values if arrival.read is None else values[arrival.read[i]])[:: -1 if direction else 1]


def _given(arrival: Arrival, direction: int, size: int) -> Iterator[Callable[[], NDArray[Any]]]:
    """What a direction of a size gave for each sequence, where that is known."""
    outputs, own = arrival.outputs, slice(direction * size, (direction + 1) * size)
    if outputs is not None:
        for i in range(len(arrival.values)):
            yield lambda i=i: _as_read(arrival, i, outputs(i)[:, own], direction)  # type: ignore[misc]


def _spec_layers(
    networks: Sequence[Reached],
    layers: _Layers,
    spec: InitSpec | None,
) -> tuple[dict[str, int], list[str]]:
    """The number of the spec's layer that the first layer of each network took, and why there is none."""
    if spec is None:
        return {}, []
    ours = [network for network in networks if _is_for(spec, layers[network.name])]
    if not ours:
        cells = ", ".join(dict.fromkeys(network.cell for network in networks))
        raise ArgumentError(
            "spec", found=f"a spec for {spec.cell}", allowed=f"one for {cells}, which the batch reaches"
        )
    widths = []
    for network in ours:
        found = layers[network.name]
        widths.append(Stack(network.layers, found[0, 0].inputs, network.directions * found[0, 0].outputs))
    together = stacks(widths, len(spec.layers))
    if together is None:
        counts = ", ".join(f"{network.name or 'the model itself'} has {network.layers}" for network in ours)
        return {}, [
            f"the spec's {len(spec.layers)} layers are not compared, as it is not clear whose they are: {counts}"
        ]
    taken = {}
    for stack in together:
        start = 0
        for index in stack:
            taken[ours[index].name] = start
            start += ours[index].layers
    return taken, []


def _is_for(spec: InitSpec, layers: Mapping[tuple[int, int], LayerWeights]) -> bool:
    """Whether a spec's cell is that of a network; a projected layer also takes the spec of its cell without one."""
    weights = layers[0, 0]
    return spec.cell == weights.cell.name or (spec.find_cell().projects and weights.projection is not None)
