"""Arrays as a stream of chunks: one array of sequences, or a list of arrays that are one sequence each.

An array of a file is mapped into memory, so that only the chunk in use is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.errors import ArgumentError, DataError
from critinit.foreign import check_numbers
from critinit.inputs.chunks import AXES, Chunk, Source, axes_of, chosen, ragged

__all__ = ["in_memory", "on_host", "one", "several", "unreadable"]

_LISTS = "sequences of unequal lengths may be a list of arrays of shape (T,) or (T, F)"
_STEP = 2**14
"""Numbers of one step in a chunk where steps lie outermost: a long enough stretch of the file, and little enough that
``moments`` can keep 256 steps of it (32 MB)."""


def in_memory(data: Any, layout: str | None, columns: Sequence[str] | None, *, apart: bool) -> Source:
    """Return an array, or a list of arrays that are one sequence each; ``apart`` has one sequence follow the other."""
    if isinstance(data, np.ma.MaskedArray):
        data = np.ma.filled(data.astype(float), np.nan)
    if isinstance(data, np.ndarray) and data.dtype.hasobject and data.ndim == 1:
        data = list(data)
    if getattr(data, "is_nested", False):
        data = data.unbind()
    if isinstance(data, (list, tuple)) and any(hasattr(part, "__array__") and np.ndim(part) for part in data):
        parts = {f"sequence {i}": on_host(part) for i, part in enumerate(data)}
        return several("the list of arrays", parts, layout, columns)
    try:
        array = on_host(data)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of unequal length, or memory of another device
        raise unreadable("the array", "array", error).replace(hint=_LISTS) from None
    if array.dtype.hasobject and not array.ndim:
        allowed = "an array, a list of arrays of shape (T,) or (T, F), or the path of a file"
        raise DataError("the data", found=f"a {type(data).__name__}", allowed=allowed)
    return one("the array", array, layout, columns, apart=apart)


def on_host(data: Any) -> NDArray[Any]:
    """Return an array of any framework as NumPy's; numbers of a type that NumPy has not, as bfloat16, as float32.

    Raises:
        ArgumentError: It is being traced.
        TypeError: There is no such array; a ValueError or RuntimeError too, as the framework says it.
    """
    check_numbers("the array", data)
    host = data.detach().cpu() if hasattr(data, "detach") else data
    try:
        array = np.asarray(host)
    except TypeError:
        if not hasattr(host, "float"):
            raise
        array = np.asarray(host.float())
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def unreadable(name: str, what: str, error: Exception) -> DataError:
    """Return the error for what a library cannot read, with what it says in one line."""
    why = str(error).partition("\n")[0]
    hint = "it may be cut short: copy or save it again"
    return DataError(found=f"no {what}, or a damaged one ({why})", allowed="real numbers", hint=hint, source=name)


def one(name: str, array: Array, layout: str | None, columns: Sequence[str] | None, *, apart: bool) -> Source:
    """Return one array as a source.

    Args:
        name: What messages call it.
        array: The array.
        layout: Its axes as they are stored; None for T, TF or NTF.
        columns: The features to measure, by their numbers; None: all.
        apart: Whether one sequence is to follow the other.
    """
    axes = axes_of(layout, _checked(name, array).ndim)
    part = _in_order(array, axes)
    features, names = _features(name, part.shape[2], columns)

    def chunks(limit: int) -> Iterator[Chunk]:
        together, length = _chunk_shape(part, limit, apart)
        for i in range(0, part.shape[0], together):
            for t in range(0, part.shape[1], length):
                values = part[i : i + together, t : t + length]
                yield Chunk(np.array(values[..., features], dtype=np.float64, order="C"), i, t)

    def place(i: int, t: int, f: int) -> str:
        at = {"N": i, "T": t, "F": f if names is None else int(names[f])}
        words = ", ".join(f"{AXES[letter]} {at[letter]}" for letter in axes)
        return f"element {[at[letter] for letter in axes]} ({words})"

    steps = part.shape[1] if part.shape[0] > 1 else None
    return Source(name, steps, _count(part, features), names, chunks, place, _may_be_ids(axes, [part], features))


def several(name: str, parts: Mapping[str, Array], layout: str | None, columns: Sequence[str] | None) -> Source:
    """Return arrays that are one sequence each, of shape (T,) or (T, F), as a source; ``parts`` has them by names."""
    arrays = [_checked(name, part, label, 2) for label, part in parts.items()]
    layouts = [axes_of(layout or "NTF"[: array.ndim + 1], array.ndim + 1) for array in arrays]
    if any(axes[0] != "N" for axes in layouts):
        raise ArgumentError("layout", found=repr(layout), allowed=f"for {name}: N first, such as NTF")
    sequences = [_in_order(array[None], axes)[0] for array, axes in zip(arrays, layouts, strict=True)]
    if len(widths := {sequence.shape[1] for sequence in sequences}) > 1:
        found = f"sequences of {min(widths)} to {max(widths)} features"
        raise DataError(found=found, allowed="as many in each", source=name)
    features, names = _features(name, sequences[0].shape[1], columns)
    lengths = np.array([len(sequence) for sequence in sequences])

    def read(wanted: NDArray[np.int64], begin: int, end: int) -> Array:
        return np.stack([sequences[i][begin:end, features] for i in wanted]).astype(np.float64)

    count = _count(sequences[0], features)
    order, chunks = ragged(lengths, count, read)
    labels = list(parts)

    def place(i: int, t: int, f: int) -> str:
        where = f"{labels[order[i]]}, step {t}"
        return where if count == 1 and names is None else f"{where}, feature {f if names is None else names[f]}"

    steps = int(lengths.max()) if len(lengths) > 1 else None
    return Source(name, steps, count, names, chunks, place, _may_be_ids(layouts[0], sequences, features))


def _features(name: str, count: int, columns: Sequence[str] | None) -> tuple[Any, tuple[str, ...] | None]:
    """What picks the features of an array's last axis, and their names where some are left out."""
    if columns is None:
        return slice(None), None
    labels = [str(n) for n in range(count)]
    picked = chosen(name, labels, columns)
    if not picked:
        raise DataError(found="no column", allowed="at least one", source=name)
    return picked, tuple(labels[n] for n in picked)


def _count(array: Array, features: Any) -> int:
    """How many features are picked."""
    return array.shape[-1] if isinstance(features, slice) else len(features)


def _may_be_ids(axes: str, arrays: Sequence[Array], features: Any) -> bool:
    """Whether the numbers may be ids of tokens."""
    alone = len(axes) < 3 or _count(arrays[0], features) == 1
    return alone and any(array.dtype != np.uint8 for array in arrays)


def _checked(name: str, array: Array, where: str = "", most: int = 3) -> Array:
    """The array, if it holds real numbers in at least one step."""
    if array.dtype.hasobject:
        hint = f"{_LISTS}; in a file numpy.savez(FILE, *sequences)"
        raise DataError(where, found="an array of Python objects", allowed="real numbers", hint=hint, source=name)
    if array.dtype.kind not in "biuf":
        hint = f"convert it, for example with array.astype(float); {_LISTS}"
        if array.dtype.kind == "V" and array.dtype.names is None:  # as of bfloat16
            hint = "NumPy keeps no type such as bfloat16 in a file; convert it before: array.astype('float32')"
        raise DataError(where, found=f"an array of {array.dtype}", allowed="real numbers", hint=hint, source=name)
    if not 1 <= array.ndim <= most or min(array.shape) < 1:
        allowed = f"1 to {most} dimensions, none of them empty"
        raise DataError(where, found=f"an array of shape {array.shape}", allowed=allowed, source=name)
    return array


def _in_order(array: Array, axes: str) -> Array:
    """A view of shape (sequences, steps, features)."""
    view = np.transpose(array, [axes.index(letter) for letter in AXES if letter in axes])
    return np.expand_dims(view, [n for n, letter in enumerate(AXES) if letter not in axes])


def _chunk_shape(part: Array, limit: int, apart: bool) -> tuple[int, int]:
    """How many sequences and steps a chunk has: what lies together in the file is read together."""
    sequences, steps, features = part.shape
    if apart:
        together = 1
    elif abs(part.strides[1]) > abs(part.strides[0]):  # steps lie outermost
        together = min(sequences, max(1, min(_STEP, limit) // features))
    else:
        together = max(1, limit // (steps * features))
    return together, max(1, limit // (min(together, sequences) * features))
