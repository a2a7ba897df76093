"""What arrives at the recurrent networks of a model, measured, and what of it is worth a word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from critinit.inputs.origins import Origin
from critinit.inputs.statistics import InputStatistics, PaddingFields
from critinit.inputs.stretches import Ending, Stretch
from critinit.showing import Shown, Table, aligned

__all__ = ["LayerInputs", "MeasuredInputs", "NetworkInputs"]

_UNEQUAL = 10.0
"""How many times a feature's root mean square may be larger or smaller than the median of all."""
_LARGE = 10.0
"""Mean square from which on an optimizer's steps on the input kernel count for more than three times as much."""
_SMALL = 0.01
"""F·√R, how many times its rate an optimizer's step on the input kernel moves a gate, below which that is little."""
_LONG = 10.0
"""Squared length of an embedding's rows from which on they are too long; at 32 training was slower (measured)."""
_NAMED = 3
"""How many features a warning names."""
_LEAST_LENGTH = 1.0
"""Squared length of an input vector that a spec states at least, where an optimizer changes what arrives (measured)."""


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """What arrives at one layer.

    Attributes:
        layer: Its number in the network, from 0.
        statistics: Moments, correlations and features of the steps that are no padding.
        lengths: Steps of each sequence without padding.
        steps: Steps of each sequence with padding.
        left: The padding before sequences; None where there is none, or it is not read.
        right: The padding after sequences, likewise.
        unread: Share of the steps that packing or a mask leaves unread.
    """

    layer: int
    statistics: InputStatistics
    lengths: tuple[int, ...]
    steps: tuple[int, ...]
    left: Stretch | None
    right: Stretch | None
    unread: float

    @property
    def length(self) -> int:
        """Steps of the longest sequence without padding."""
        return max(self.lengths)


@dataclass(frozen=True, slots=True)
class NetworkInputs:
    """What arrives at one recurrent network.

    Attributes:
        name: Its path in the model; "" is the model itself.
        cell: critinit's name of its cell.
        hidden_size: Its number of units.
        directions: 1, or 2 where it also reads from the end.
        layers: Its layers.  What a layer above the first one receives is what the present weights make below it.
        origin: "data" where the rows of the batch itself arrive, "embedding" where rows of an embedding do, and
            "layers" where layers before compute the input.
        embedding: The embedding's tensor, where ``origin`` is "embedding".
        trains: Whether an optimizer changes what arrives.
        reach: Steps that the network has to remember: from the first step that is no padding to the last that is read.
        ending: Last steps of another power than the rest, which may be padding that is noise; None without them.
        from_rest: Whether every pass began at the zero state; else passes may be pieces of longer sequences.
    """

    name: str
    cell: str
    hidden_size: int
    directions: int
    layers: tuple[LayerInputs, ...]
    origin: Origin
    embedding: str | None
    trains: bool
    reach: int
    ending: Ending | None = None
    from_rest: bool = True

    @property
    def second_moment(self) -> float:
        """R, the mean square of an input number, without padding."""
        return self.layers[0].statistics.second_moment

    @property
    def input_size(self) -> int:
        """F, the number of features."""
        return self.layers[0].statistics.shape[2]

    @property
    def input_variance(self) -> float:
        """R as a spec should state it, six digits: at least 1/F where an optimizer changes what arrives.

        A gate whose pre-activation is to have variance ν² gets kernel entries of variance ν²/(F R).  A step of size η
        on all F numbers that arrive moves the pre-activation by up to ν·√(F/R)·η; a step on the kernel moves it by up
        to F·√R·η, which is F·η for the inputs of power 1 that ``critical`` was tried with.  So the embedding's steps
        are of the kernel's own size down to F R = ν², of the order of 1, and larger by 1/√(F R) below.  At F R = 1 the
        kernel's entries are those for one-hot inputs.
        """
        found = self.layers[0].statistics.input_variance
        return max(found, float(f"{_LEAST_LENGTH / self.input_size:.6g}")) if self.trains else found

    @property
    def padding(self) -> PaddingFields | None:
        """What a spec's ``input.padding`` takes: the padding that is read after the information; None without it."""
        first = self.layers[0]
        after = [p for p in (first.right, first.left if self.directions == 2 else None) if p is not None]
        if not after:
            return None
        strongest = max(after, key=lambda padding: padding.power)
        constant = all(padding.kind != "noise" for padding in after)
        return {"variance": float(f"{strongest.power:.6g}"), "constant": constant}

    @property
    def note(self) -> str:
        """What feeds it and what a spec states of that, in words."""
        source = self.embedding or {"data": "the batch itself", "layers": "layers before it"}[self.origin]
        words = f"{self.name or 'the model itself'}: fed by {source}, mean square {self.second_moment:.4g}"
        if self.is_bounded:
            words += (
                f"; stated as {self.input_variance:.4g}, 1/{self.input_size}, because it is trained: a larger input "
                "kernel would turn the optimizer's steps on it into large swings"
            )
        if self.has_long_rows:
            words += (
                f"; its rows have a length of {(self.input_size * self.second_moment) ** 0.5:.3g}, and trained better "
                'at 1: initialize(..., embeddings="rescale")'
            )
        return words

    @property
    def has_long_rows(self) -> bool:
        """Whether a trained embedding feeds it whose rows are so long that they should be rescaled."""
        squared_length = self.input_size * self.second_moment
        return self.embedding is not None and self.trains and squared_length > _LONG * _LEAST_LENGTH

    @property
    def is_bounded(self) -> bool:
        """Whether more is stated than arrives."""
        return self.input_variance > self.layers[0].statistics.input_variance

    def warnings(self) -> tuple[str, ...]:
        """Return what should be changed before training, a line each."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[str]:
        name = f"{self.name!r}" if self.name else "the network"
        columns = self.layers[0].statistics.columns
        size = np.sqrt(columns.variance + np.square(columns.mean))
        way_out = (
            "standardize: subtract each feature's mean and divide by its standard deviation"
            if self.origin == "data"
            else "put a normalization layer before the network (LayerNorm, or BatchNorm over features)"
        )
        if self.second_moment == 0.0:
            yield (
                f"{name}: all inputs are zero, or too small for single precision (below 1e-45), so nothing can be "
                "learned from them; look at what comes before"
            )
            return
        if self.ending is not None:
            yield (
                f"{name}: the mean square of the last {self.ending.steps} steps is {self.ending.power:.3g}, that of "
                f"most steps {self.ending.usual:.3g}; if these are padding, say which steps are real: mask=, booleans "
                "of shape (N, T) or N lengths"
            )
        some = size > 0.0
        large = size > _UNEQUAL * np.quantile(size[some], 0.5, method="lower")
        if not np.all(some):
            yield f"{name}: {int(np.sum(~some))} of {size.size} features are always zero"
        typical = float(np.quantile(size[some], 0.5, method="lower"))
        small = some & (size * _UNEQUAL < typical)  # of a layer's outputs some are small, as a rule
        unequal = large | small if self.origin == "data" else large
        if np.any(unequal):
            index = np.flatnonzero(unequal)
            shown = ", ".join(f"{columns.names[i]} ({size[i]:.3g})" for i in index[:_NAMED])
            more = ", …" if len(index) > _NAMED else ""
            yield (
                f"{name}: FEATURES OF UNEQUAL SCALE: root mean square {typical:.3g} of most, but of feature "
                f"{shown}{more}; one input variance cannot serve all, and small features are hardly learned; {way_out}"
            )
        elif self.second_moment > _LARGE:
            yield (
                f"{name}: the inputs' mean square is {self.second_moment:.3g}, so an optimizer's steps on the input "
                f"kernel move the gates {np.sqrt(self.second_moment):.3g} times as far as with 1; {way_out}"
            )
        elif self.origin == "data" and (moved := self.input_size * np.sqrt(self.second_moment)) < _SMALL:
            yield (
                f"{name}: the inputs' mean square is {self.second_moment:.3g}, so an optimizer's steps on the input "
                f"kernel move the gates by {moved:.3g} of its rate at most, and hardly learn from them; {way_out}"
            )


@dataclass(frozen=True, slots=True)
class MeasuredInputs(Shown):
    """What arrives at every recurrent network of a model; iterating goes over the networks.

    Attributes:
        networks: The networks that the batch reached, in this order.
        unreached: The paths of those that it did not reach.
        tied: The embeddings that another layer uses too.
        notes: What else matters, in words.
    """

    networks: tuple[NetworkInputs, ...]
    unreached: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[NetworkInputs]:
        return iter(self.networks)

    def __len__(self) -> int:
        return len(self.networks)

    def __getitem__(self, name: str) -> NetworkInputs:
        """Return the network of that path.

        Raises:
            KeyError: There is none.
        """
        for network in self.networks:
            if network.name == name:
                return network
        raise KeyError(name)

    def __str__(self) -> str:
        (table,) = self._tables()
        return "\n".join([*aligned([table.columns, *table.rows]), *table.below])

    def _tables(self) -> Iterator[Table]:
        rows = [_row(network, layer) for network in self.networks for layer in network.layers]
        yield Table("inputs as they arrive", _HEAD, tuple(rows), tuple(self._below()))

    def _below(self) -> Iterator[str]:
        if self.unreached:
            yield f"not reached by the batch: {', '.join(name or 'the model itself' for name in self.unreached)}"
        yield from (f"note: {network.note}" for network in self.networks if network.is_bounded or network.has_long_rows)
        yield from (f"note: {note}" for note in self.notes)
        yield from (f"warning: {warning}" for network in self.networks for warning in network.warnings())


_HEAD = ("network", "layer", "from", "shape", "second moment", "in time", "length", "padding before", "after", "unread")


def _row(network: NetworkInputs, layer: LayerInputs) -> tuple[str, ...]:
    found = layer.statistics
    lag = next(iter(found.autocorrelation), None)
    shortest, longest = min(layer.lengths), max(layer.lengths)
    return (
        network.name or "(target)",
        str(layer.layer),
        (network.embedding or network.origin) if layer.layer == 0 else "the layer below",
        "×".join(map(str, (len(layer.lengths), max(layer.steps), found.shape[2]))),
        f"{found.second_moment:.4g}",
        "" if lag is None else f"{found.autocorrelation[lag]:.3f}",
        f"{longest}" if shortest == longest else f"{shortest} to {longest}",
        _padding(layer.left),
        _padding(layer.right),
        f"{100 * layer.unread:.1f} %" if layer.unread else "",
    )


def _padding(stretch: Stretch | None) -> str:
    if stretch is None:
        return ""
    power = "" if stretch.kind == "silent" else f" {stretch.power:.3g}"
    return f"{stretch.kind}{power}, {100 * stretch.share:.1f} %"
