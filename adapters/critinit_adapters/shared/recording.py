"""Recording what reaches the layers of a model while it runs.

A framework either hands over whole sequences or pieces of them (``sequence``) or, where a cell is called in a loop, one
step after the other (``step``).  Steps are joined into passes: a new pass begins with a state of zeros after one that
was not, with another number of sequences, and with every ``scan``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.inputs.traced import Arrival, Reached
from critinit_adapters.shared.survey import RecurrentModule, Survey

__all__ = ["Place", "Recorder", "patched", "places", "reached", "read_up_to"]

Bools = NDArray[np.bool_]
Outputs = Callable[[int], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Place:
    """A layer in one direction: the network's name, the layer's number and the direction."""

    network: str
    layer: int
    direction: int


def places(survey: Survey) -> Iterator[tuple[Place, tuple[str, ...], tuple[Any, ...]]]:
    """Yield every layer with the names and the handles of its tensors."""
    for module in survey.modules:
        for slot in module.slots:
            names = tuple(tensor.name for tensor in slot.tensors)
            handles = tuple(tensor.handle for tensor in slot.tensors)
            yield Place(module.name, slot.layer, slot.direction), names, handles


@dataclass(slots=True)
class _Pass:
    """The steps of one run over a batch."""

    steps: list[NDArray[Any]] = field(default_factory=list)
    joined: NDArray[Any] | None = None  # the steps, (T, N, F)
    pieces: list[NDArray[Any]] = field(default_factory=list)
    read: Bools | None = None
    dtype: str = "float32"
    was_zero: bool = True
    from_rest: bool = True
    closed: bool = False
    gave: list[Outputs] = field(default_factory=list)

    def values(self) -> NDArray[np.float32]:
        if self.joined is not None:
            return self.joined.swapaxes(0, 1).astype(np.float32, copy=False)
        joined = np.concatenate(self.pieces, axis=1) if self.pieces else np.stack(self.steps, axis=1)
        return joined.astype(np.float32)

    def count(self) -> int:
        """How many steps it has, where it has no sequences as a whole."""
        return len(self.steps) if self.joined is None else len(self.joined)

    def goes_on_with(self, array: NDArray[Any], read: Bools | None) -> bool:
        """Whether a piece can be the next one of this pass: it has as many sequences, and all is read."""
        last = self.pieces[-1] if self.pieces else None
        own = None if last is None else (len(last), *last.shape[2:])
        return own == (len(array), *array.shape[2:]) and read is None and self.read is None

    def outputs(self) -> Outputs | None:
        """What the layer gave for each sequence, where it was taken in for every piece."""
        if not self.gave or len(self.gave) != len(self.pieces):
            return None
        return lambda i: np.concatenate([gave(i) for gave in self.gave])


class Recorder:
    """What has reached each place so far."""

    def __init__(self) -> None:
        self._passes: dict[Place, list[_Pass]] = {}
        self._muted: list[Place] = []
        self._scans: list[dict[Place, int]] = []
        self._order: list[str] = []

    def sequence(
        self,
        place: Place,
        values: Any,
        read: Bools | None = None,
        dtype: str = "float32",
        *,
        from_rest: bool = True,
        goes_on: bool = False,
    ) -> None:
        """Take sequences in.

        Args:
            place: Their place.
            values: Their inputs, of shape (N, T, F).
            read: Which steps are read, (N, T); None: all.
            dtype: The inputs' type in the model.
            from_rest: Whether they begin at the zero state.
            goes_on: Whether they begin at the state at which the place's last ones ended, and so are pieces of the
                same sequences.
        """
        array = np.asarray(values, dtype=np.float32)
        passes = self._of(place)
        if goes_on and passes and passes[-1].goes_on_with(array, read):
            passes[-1].pieces.append(array)
        else:
            passes.append(_Pass(pieces=[array], read=read, dtype=dtype, from_rest=from_rest, closed=True))

    def gave(self, place: Place, outputs: Outputs) -> None:
        """Take in what a layer gave for the sequences that it was last handed; see ``Arrival``."""
        self._of(place)[-1].gave.append(outputs)

    def step(self, place: Place, values: Any, state: Any, dtype: str = "float32") -> None:
        """Take one step in: its input of shape (…, F), and the state before it."""
        if self.is_muted(place):
            return
        array = np.asarray(values, dtype=np.float32)
        array = array.reshape(-1, array.shape[-1])
        zero = not np.any(np.asarray(state, dtype=np.float32))
        passes = self._of(place)
        last = passes[-1] if passes else None
        if last is not None and not zero and len(last.steps) == 1 and not last.closed:
            # members of a vmap that begin alike: their first step was run once for all
            last.steps = [np.tile(last.steps[0], (max(len(array) // len(last.steps[0]), 1), 1))]
        if last is None or last.closed or last.steps[0].shape != array.shape or (zero and not last.was_zero):
            last = _Pass(dtype=dtype, from_rest=zero)
            passes.append(last)
        last.steps.append(array)
        last.was_zero = zero

    def steps(self, place: Place, values: Any, begun: Bools, dtype: str = "float32") -> None:
        """Take in steps that follow each other, each as ``step`` does, in much less time.

        Args:
            place: Their place.
            values: Their inputs, of shape (T, …, F).
            begun: Before which of them the state was another than zero, (T,).
            dtype: The inputs' type in the model.
        """
        if self.is_muted(place):
            return
        is_one = bool(np.all(begun[1:]))  # no pass begins after the first step
        for x, state in zip(values[: 2 if is_one else None], begun, strict=False):
            self.step(place, x, state, dtype)
        if is_one and len(begun) > 2:
            array = np.asarray(values[2:], dtype=np.float32)
            self._passes[place][-1].steps += list(array.reshape(len(array), -1, array.shape[-1]))

    def whole_pass(self, place: Place, values: Any, dtype: str = "float32", *, from_rest: bool = True) -> None:
        """Take in all steps of a pass, of shape (T, …, F); ``from_rest``: whether they begin at the zero state."""
        if len(values) and not self.is_muted(place):
            array = np.asarray(values, dtype=np.float32)
            joined = array.reshape(len(array), math.prod(array.shape[1:-1]), array.shape[-1])
            self._of(place).append(_Pass(joined=joined, dtype=dtype, from_rest=from_rest, closed=True))

    def is_muted(self, place: Place) -> bool:
        """Whether no steps of a place are recorded now."""
        return place in self._muted

    @contextmanager
    def without(self, place: Place) -> Iterator[None]:
        """Record no steps of a place meanwhile, whose sequences were recorded as a whole."""
        self._muted.append(place)
        try:
            yield
        finally:
            self._muted.remove(place)

    @contextmanager
    def scan(self, lengths: Any = None, read: Bools | None = None, steps: int | None = None) -> Iterator[None]:
        """The steps meanwhile are whole passes.

        Args:
            lengths: How long the sequences are, where that is known.
            read: Or which steps are read, (N, T).
            steps: How many steps a pass has; what comes before the last of them were trials.
        """
        self.open_scan()
        yield
        self.close_scan(lengths, read, steps)

    def open_scan(self) -> None:
        """Begin what ``scan`` says, which ``close_scan`` ends."""
        self._scans.append({place: len(passes) for place, passes in self._passes.items()})
        for passes in self._passes.values():
            passes[-1].closed = True

    def close_scan(self, lengths: Any = None, read: Bools | None = None, steps: int | None = None) -> None:
        """End what ``open_scan`` began; see ``scan``."""
        before = self._scans.pop()
        for place, passes in self._passes.items():
            for one in passes[before.get(place, 0) :]:
                one.closed = True
                if not one.pieces:
                    one.steps = one.steps[-steps:] if steps else one.steps
                    one.read = read if lengths is None else read_up_to(lengths, one.count())

    def _of(self, place: Place) -> list[_Pass]:
        if place.network not in self._order:
            self._order.append(place.network)
        return self._passes.setdefault(place, [])

    def networks(self, survey: Survey, trains: Mapping[str, bool] | None = None) -> tuple[Reached, ...]:
        """Return the networks with what reached them, in the order in which they were reached."""
        found = [reached(module, self._arrivals(module), (trains or {}).get(module.name)) for module in survey.modules]
        order = {name: index for index, name in enumerate(self._order)}
        return tuple(sorted(found, key=lambda network: order.get(network.name, len(order))))

    def _arrivals(self, module: RecurrentModule) -> Iterator[Arrival]:
        """The passes of each layer; both directions read the same, so the first that was run says it."""
        for layer in range(module.layers):
            ways = [self._passes.get(Place(module.name, layer, direction), []) for direction in (0, 1)]
            turned = not ways[0]
            for one in ways[1] if turned else ways[0]:
                values = one.values()
                flip = turned and not one.pieces  # steps of the backward direction came from the end
                values = values[:, ::-1] if flip else values
                yield Arrival(layer, values, one.read, one.dtype, one.from_rest, one.outputs())


def reached(module: RecurrentModule, arrivals: Iterator[Arrival], trains: bool | None) -> Reached:
    """Return a module with what reached it."""
    directions = 1 + max((slot.direction for slot in module.slots), default=0)
    return Reached(
        module.name,
        module.cell,
        module.hidden_size,
        module.layers,
        directions,
        tuple(arrivals),
        module.refusal,
        trains,
    )


def read_up_to(lengths: Any, steps: int) -> Bools:
    """Return which of the steps are read, (N, T), of sequences of known lengths."""
    return np.asarray(np.arange(steps) < np.asarray(lengths).reshape(-1)[:, None])


@contextmanager
def patched(replacements: Sequence[tuple[Any, str, Callable[[Any], Any]]]) -> Iterator[None]:
    """Replace attributes meanwhile, each by a function of the old one; put back what stood in the object itself."""
    with ExitStack() as stack:
        for owner, name, make in replacements:
            own = vars(owner).get(name, _ABSENT)
            new = make(getattr(owner, name))
            _set(owner, name, new)
            stack.callback(_put_back, owner, name, own)
        yield


_ABSENT: Hashable = object()


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, type):
        setattr(owner, name, value)
    else:
        vars(owner)[name] = value  # not through __setattr__, with which frameworks keep books


def _put_back(owner: Any, name: str, own: Any) -> None:
    if own is not _ABSENT:
        _set(owner, name, own)
    elif isinstance(owner, type):
        delattr(owner, name)
    else:
        vars(owner).pop(name, None)
