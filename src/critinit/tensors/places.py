"""Where a module of one's own keeps the parts of its gates: the words of ``apply(..., where=...)``.

A *layer* is a mapping from gates to parts to places:

    {"forget": {"input": "f_x.weight", "recurrent": "f_h.weight", "bias": "f_x.bias", "second_bias": "f_h.bias"}, ...}

A place is a ``Slice``, or the path of a tensor that the part fills.  Beside its gates a layer can name a "projection",
"zero" (places of no gate that become 0) and "kept" (tensors whose other numbers stay as they are).  ``where`` is one
layer, or a list of layers, or of pairs (forward, backward).

``fused`` and ``separate`` write the usual layers; ``joined`` puts parts of a layer together.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, NamedTuple

from critinit.errors import ArgumentError, Problem
from critinit.tensors.blocks import Block, Shape
from critinit.tensors.sampling import Part

__all__ = ["Chunk", "Place", "Slice", "fused", "joined", "read_where", "separate"]

_PARTS = ("input", "recurrent", "bias", "second_bias")
_OTHERS = ("projection", "zero", "kept")
_WHERE = "a mapping of gates to {'input': ..., 'recurrent': ..., 'bias': ...}, or a list of these, one for each layer"
Layer = Mapping[str, Any]
Span = tuple[int, int] | None


class Chunk(NamedTuple):
    """One of several parts of equal size, side by side.

    Attributes:
        number: Its number, from 0.
        of: How many there are.
        axis: The axis along which they stand.
    """

    number: int
    of: int
    axis: int


@dataclass(frozen=True, slots=True)
class Slice:
    """A place in a tensor, which holds one part of one gate.

    What stands there is sign · (the part, transposed where so) + offset.  Parts are of shape (units, fan-in) for
    kernels and (units,) for biases.

    Args:
        tensor: The tensor's path in the module, such as "cell.gates.weight"; "" where the target is the tensor.
        at: Numbers along the first axes, which are dropped: (3,) is the fourth matrix of a stack.
        rows: Where it begins along the next axis, and the number after its end, as in Python; all unless given.
        columns: The same along the axis after it.
        shape: Of numbers in a row, the shape that they are read in, row by row.
        transposed: Whether a kernel is stored as (fan-in, units).
        sign: -1 where the module computes with the negative, such as a forget gate that is stored as 1 − f.
        offset: What the module subtracts itself: -1 where it adds 1 to its forget bias.
        chunk: Which of several equal parts of all this it is; ``fused`` fills it in.

    Raises:
        ArgumentError: An argument is not of this form.

    Example:
        >>> Slice("gates.weight", rows=(0, 64), columns=(0, 10)).tensor
        'gates.weight'
    """

    tensor: str
    at: tuple[int, ...] = ()
    rows: Span = None
    columns: Span = None
    shape: Shape | None = None
    transposed: bool = False
    sign: float = 1.0
    offset: float = 0.0
    chunk: Chunk | None = None

    def __post_init__(self) -> None:
        checks = {
            "tensor": (isinstance(self.tensor, str), "the path of a tensor"),
            "at": (_numbers(self.at), "a tuple of integers from 0"),
            "rows": (self.rows is None or _is_span(self.rows), "(begin, end), two integers"),
            "columns": (self.columns is None or _is_span(self.columns), "(begin, end), two integers"),
            "shape": (self.shape is None or _numbers(self.shape), "a tuple of integers"),
            "sign": (self.sign in (1, -1), "1 or -1"),
            "offset": (isinstance(self.offset, (int, float)) and abs(self.offset) < float("inf"), "a number"),
        }
        for name, (fits, allowed) in checks.items():
            if not fits:
                raise ArgumentError(f"Slice.{name}", found=repr(getattr(self, name)), allowed=allowed)

    def block(self, gate: str, part: Part | Literal["zero"], shape: Shape) -> Block | Problem:
        """Return the block of a tensor of a known shape, or what is wrong with it.

        Args:
            gate: The gate.
            part: The part.
            shape: The tensor's shape.
        """
        axes: list[int | range] = [range(size) for size in shape]
        found = f"a tensor of shape {tuple(shape)}"
        spans = [*((n, n + 1) for n in self.at), self.rows, self.columns]
        for axis, span in enumerate(spans):
            if span is None:
                continue
            if axis >= len(axes) or span[1] > len(range(shape[axis])):
                return Problem("", found, f"one that reaches to {span[1]} along axis {axis}", "see its Slice")
            axes[axis] = span[0] if axis < len(self.at) else range(*span)
        inner: Shape | None = None
        if self.shape is not None:
            free = [axis for axis in axes if isinstance(axis, range)]
            if len(free) != 1 or len(free[0]) != prod(self.shape):
                allowed = f"{prod(self.shape)} numbers along one axis, to be read in shape {self.shape}"
                return Problem("", found, allowed, "see its Slice")
            inner = self.shape
        if self.chunk is not None:
            chosen = _chosen(axes, inner, self.chunk, part == "bias" or part == "zero")
            if isinstance(chosen, str):
                return Problem("", found, chosen, f"the gates that stand side by side are {self.chunk.of}")
            axes, inner = chosen
        index = tuple(axis if isinstance(axis, int) else slice(axis.start, axis.stop) for axis in axes)
        wanted = 1 if part == "bias" else 2
        has = len(inner) if inner is not None else sum(isinstance(axis, slice) for axis in index)
        if part != "zero" and has != wanted:
            kind = "bias" if part == "bias" else "kernel"
            return Problem("", f"{found}, of which {has} axes are left", f"{wanted}, for a {kind}", "at= drops an axis")
        return Block(gate, part, index, self.transposed, float(self.sign), float(self.offset), inner)


def _numbers(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)


def _is_span(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and _numbers(value) and value[0] < value[1]


def _chosen(
    axes: list[int | range], inner: Shape | None, chunk: Chunk, is_bias: bool
) -> tuple[list[int | range], Shape | None] | str:
    """The axes of one chunk and the shape that it is read in, or what should have been there."""
    free = [n for n, axis in enumerate(axes) if isinstance(axis, range)]
    sizes = [len(axis) for axis in axes if isinstance(axis, range)] if inner is None else list(inner)
    along = 0 if is_bias else chunk.axis
    if along >= len(sizes):
        return f"{along + 1} axes or more"
    stacked = len(sizes) == (2 if is_bias else 3)
    if sizes[along] % chunk.of or (stacked and sizes[along] != chunk.of):
        return f"{chunk.of} equal parts along axis {along}" if not stacked else f"{chunk.of} along axis {along}"
    width = sizes[along] // chunk.of
    if inner is not None:  # numbers in a row: a chunk of the first axis is a part of the row
        if along:
            return "gates along the first axis of numbers in a row"
        (place,) = free
        row = axes[place]
        assert isinstance(row, range)
        each = len(row) // chunk.of
        axes[place] = range(row.start + chunk.number * each, row.start + (chunk.number + 1) * each)
        return axes, inner[1:] if stacked else (width, *inner[1:])
    place = free[along]
    axis = axes[place]
    assert isinstance(axis, range)
    start = axis.start + chunk.number * width
    axes[place] = start if stacked else range(start, start + width)
    return axes, None


# ---- helpers ---------------------------------------------------------------------------------------------


def fused(
    gates: Sequence[str | None],
    *,
    input: str | Slice | None = None,
    recurrent: str | Slice | None = None,
    bias: str | Slice | None = None,
    second_bias: str | Slice | None = None,
    axis: int = 0,
    transposed: bool | None = None,
    sign: Mapping[str, float] | None = None,
    offset: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Say where the gates of a layer are that keeps them side by side, in one tensor for each part.

    Args:
        gates: The gates in the order in which they stand; None for a chunk that no gate has and that is left alone.
        input: The tensor of the input kernels.
        recurrent: The tensor of the recurrent kernels.
        bias: The tensor of the biases, all of which a spec states once.
        second_bias: A second tensor of biases that the module adds; it becomes 0.
        axis: The axis along which gates stand in the kernels: 0 for (gates·units, fan-in), as ``Linear`` layers that
            compute W x have it, 1 for (fan-in, gates·units), as those that compute x W.
        transposed: Whether each gate's kernel is stored as (fan-in, units); where ``axis`` is 1 unless given.
        sign: -1 for gates that the module computes with the opposite sign.
        offset: What the module subtracts from the bias of a gate: ``{"forget": -1}`` where it adds 1 by itself.

    Returns:
        The layer, for ``where=``.

    Raises:
        ArgumentError: A gate is named twice, or ``sign`` or ``offset`` names another.

    Example:
        >>> layer = fused(["forget", "input"], input="W.weight", bias="W.bias")
        >>> place = layer["input"].get("bias")
        >>> place.tensor, place.chunk.number, place.chunk.of
        ('W.bias', 1, 2)
    """
    named = [gate for gate in gates if gate is not None]
    if isinstance(gates, str) or not named or len(set(named)) < len(named):
        raise ArgumentError("gates", found=repr(gates), allowed="a list of gates, each once")
    turned = axis == 1 if transposed is None else transposed
    parts = {"input": input, "recurrent": recurrent, "bias": bias, "second_bias": second_bias}

    def place(number: int, gate: str, part: str, base: str | Slice) -> Slice:
        whole = base if isinstance(base, Slice) else Slice(base)
        chunk = Chunk(number, len(gates), axis)
        return _signed(replace(whole, chunk=chunk), gate, part, turned, sign, offset)

    _check_names("sign", sign, named)
    _check_names("offset", offset, named)
    layer: dict[str, Any] = {
        gate: {part: place(number, gate, part, base) for part, base in parts.items() if base is not None}
        for number, gate in enumerate(gates)
        if gate is not None
    }
    if None in gates:
        tensors = (base.tensor if isinstance(base, Slice) else base for base in parts.values() if base is not None)
        layer["kept"] = list(dict.fromkeys(tensors))
    return layer


def separate(
    words: Mapping[str, str] | Sequence[str],
    *,
    input: str | Slice | None = None,
    recurrent: str | Slice | None = None,
    bias: str | Slice | None = None,
    second_bias: str | Slice | None = None,
    transposed: bool = False,
    sign: Mapping[str, float] | None = None,
    offset: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Say where the gates of a layer are that has tensors of its own for each gate.

    Args:
        words: What the module calls each gate; a list where it calls them as the cell does.
        input: The path of each gate's input kernel, with ``{}`` in the place of the gate's word.
        recurrent: The same of the recurrent kernels.
        bias: The same of the biases.
        second_bias: The same of further biases that the module adds; they become 0.
        transposed: Whether kernels are stored as (fan-in, units).
        sign: -1 for gates that the module computes with the opposite sign.
        offset: What the module subtracts from the bias of a gate: ``{"forget": -1}`` where it adds 1 by itself.

    Returns:
        The layer, for ``where=``.

    Raises:
        ArgumentError: ``sign`` or ``offset`` names another gate.

    Example:
        >>> layer = separate({"forget": "f", "input": "i"}, input="x_{}.weight", recurrent="h_{}.weight")
        >>> place = layer["forget"].get("recurrent")
        >>> place.tensor
        'h_f.weight'
    """
    named = words if isinstance(words, Mapping) else {gate: gate for gate in words}
    parts = {"input": input, "recurrent": recurrent, "bias": bias, "second_bias": second_bias}

    def place(gate: str, part: str, base: str | Slice) -> Slice:
        whole = base if isinstance(base, Slice) else Slice(base)
        own = replace(whole, tensor=whole.tensor.replace("{}", named[gate]))
        return _signed(own, gate, part, transposed, sign, offset)

    _check_names("sign", sign, named)
    _check_names("offset", offset, named)
    return {gate: {part: place(gate, part, base) for part, base in parts.items() if base is not None} for gate in named}


def joined(*layers: Layer) -> dict[str, Any]:
    """Join descriptions of one layer that name different parts of it, such as parts with the gates in another order.

    Args:
        layers: The layers.

    Returns:
        The layer, for ``where=``.

    Raises:
        ArgumentError: Two of them name the same part of a gate.

    Example:
        >>> both = joined(fused(["a", "b"], input="W"), fused(["b", "a"], recurrent="U"))
        >>> sorted(both["a"])
        ['input', 'recurrent']
    """
    whole: dict[str, Any] = {}
    for layer in layers:
        for key, found in layer.items():
            if isinstance(found, Mapping):
                twice = sorted(set(whole.get(key, {})) & set(found))
                if twice:
                    raise ArgumentError(key, found=f"two places for its {twice[0]}", allowed="one")
                whole[key] = {**whole.get(key, {}), **found}
            elif key in whole and isinstance(found, list):
                whole[key] = [*whole[key], *found]
            else:
                whole[key] = found
    return whole


def _signed(
    whole: Slice,
    gate: str,
    part: str,
    transposed: bool,
    sign: Mapping[str, float] | None,
    offset: Mapping[str, float] | None,
) -> Slice:
    """A place with the sign, and of a bias with the offset, of its gate; kernels transposed where so."""
    signed = replace(whole, sign=(sign or {}).get(gate, whole.sign))
    if part == "bias":
        return replace(signed, offset=(offset or {}).get(gate, whole.offset))
    return signed if part == "second_bias" else replace(signed, transposed=transposed or whole.transposed)


def _check_names(argument: str, named: Mapping[str, float] | None, gates: Sequence[str] | Mapping[str, str]) -> None:
    for gate in named or {}:
        if gate not in gates:
            raise ArgumentError(argument, found=repr(gate), allowed=", ".join(gates))


# ---- reading ---------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """One place that ``where`` names.

    Attributes:
        path: Where it is named: ``where['forget']['input']``.
        gate: The gate; empty for a projection, and for a place of no gate.
        part: The part; "zero" for what becomes 0, "kept" for a tensor whose other numbers stay.
        slice: The place.
    """

    path: str
    gate: str
    part: Part | Literal["zero", "kept"]
    slice: Slice


def read_where(where: Any, gates: Sequence[str], layers: int, *, projects: bool) -> tuple[tuple[Directions, ...], ...]:
    """Return all places by layer and direction, checked as far as it can be without the model.

    Args:
        where: The layer, or the list of layers or of pairs (forward, backward).
        gates: The gates of the spec's cell.
        layers: The spec's number of layers.
        projects: Whether the cell has a projection that every layer must name.

    Raises:
        ArgumentError: It is not of this form, a gate or a part is missing, or there is one that the cell does not have.
    """
    single = isinstance(where, Mapping)
    given = [where] if single else where
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise ArgumentError("where", found=f"{type(where).__name__}", allowed=_WHERE)
    if len(given) != layers:
        count = f"{len(given)} layer{'s' * (len(given) > 1)}"
        hint = f"write the spec with layers={len(given)} (--layers {len(given)}), or name the other layers"
        raise ArgumentError("where", found=count, allowed=f"{layers}, as the spec has", hint=hint)
    read = []
    for number, layer in enumerate(given):
        path = "where" if single else f"where[{number}]"
        ways = [(path, layer)] if isinstance(layer, Mapping) else _ways(path, layer)
        read.append(tuple(tuple(_places(own, way, gates, projects)) for own, way in ways))
    if len({len(ways) for ways in read}) > 1:
        raise ArgumentError("where", found="layers of one direction and of two", allowed="all alike")
    return tuple(read)


Directions = tuple[Place, ...]


def _ways(path: str, layer: Any) -> list[tuple[str, Layer]]:
    pair = isinstance(layer, Sequence) and not isinstance(layer, str) and len(layer) == 2
    if not pair or not all(isinstance(way, Mapping) for way in layer):
        allowed = "a mapping of gates to parts, or a pair of these for the forward and the backward direction"
        raise ArgumentError(path, found=repr(layer)[:80], allowed=allowed)
    return [(f"{path}[{way}]", found) for way, found in enumerate(layer)]


def _places(path: str, layer: Layer, gates: Sequence[str], projects: bool) -> Iterator[Place]:
    """The places of one layer in one direction."""
    for key in layer:
        if key not in (*gates, *_OTHERS):
            allowed = f"{', '.join(gates)}, and beside them {', '.join(_OTHERS)}"
            raise ArgumentError(path, found=repr(key), allowed=allowed, hint=_close(key, gates))
    for gate in gates:
        own = f"{path}[{gate!r}]"
        if gate not in layer:
            raise ArgumentError(path, found=f"no {gate!r}", allowed=f"a place for every gate: {', '.join(gates)}")
        parts = layer[gate]
        if not isinstance(parts, Mapping):
            raise ArgumentError(own, found=repr(parts)[:80], allowed=f"a mapping of {', '.join(_PARTS)} to places")
        for part in parts:
            if part not in _PARTS:
                raise ArgumentError(own, found=repr(part), allowed=", ".join(_PARTS), hint=_close(part, _PARTS))
        for part in _PARTS[:2]:
            if part not in parts:
                raise ArgumentError(own, found=f"no {part!r}", allowed="a place for every kernel: input, recurrent")
        for part, place in parts.items():
            place = _slice(f"{own}[{part!r}]", place)
            yield Place(f"{own}[{part!r}]", gate, "zero" if part == "second_bias" else part, place)
    if projects and "projection" not in layer:
        raise ArgumentError(path, found="no 'projection'", allowed="the place of the projection, which the cell has")
    if "projection" in layer:
        yield Place(f"{path}['projection']", "", "projection", _slice(f"{path}['projection']", layer["projection"]))
    for part in ("zero", "kept"):
        named = layer.get(part, ())
        for place in named if isinstance(named, (list, tuple)) else [named]:
            yield Place(f"{path}[{part!r}]", "", part, _slice(f"{path}[{part!r}]", place))  # type: ignore[arg-type]


def _slice(path: str, place: Any) -> Slice:
    if isinstance(place, str):
        return Slice(place)
    if not isinstance(place, Slice):
        raise ArgumentError(path, found=repr(place)[:80], allowed="the path of a tensor, or a critinit.Slice")
    return place


def _close(name: object, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(str(name), known, 1)
    return f"did you mean {found[0]!r}?" if found else ""
