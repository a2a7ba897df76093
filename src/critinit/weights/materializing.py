"""``materialize``: a spec's weights in the names and layout of a framework, without the framework.

The numbers are those of ``critinit.apply(spec, model, seed=seed)`` on a model of one network: drawn by
``critinit.tensors.sampling`` in float64, put in their places, cast once.  A file of them is loaded by the framework's
own means.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit import files
from critinit._version import __version__
from critinit.errors import ArgumentError, MissingExtraError
from critinit.spec import InitSpec
from critinit.tensors.blocks import fill
from critinit.tensors.grouping import pairs_of
from critinit.tensors.layouts import LAYOUTS, Address, Form, Layout, Sizes
from critinit.tensors.sampling import check_seed, draws_of

__all__ = ["DTYPES", "SAFETENSORS", "materialize", "save"]

DTYPES = ("float32", "float64", "float16")
SAFETENSORS = ".safetensors"
_MOST = 10**11
"""Numbers in the recurrent and input kernels of one gate together: 800 GB in float64.  More is a slip of the pen."""


def materialize(
    spec: InitSpec,
    framework: str,
    *,
    input_size: int,
    hidden_size: int,
    seed: int = 0,
    bidirectional: bool = False,
    dtype: str = "float32",
    ending: str = SAFETENSORS,
    window: Sequence[int] = (),
) -> dict[str, NDArray[Any]]:
    """Draw the weights that a spec describes, and return them in a framework's names and shapes.

    Layer 0 reads ``input_size`` coordinates, every further layer the states below it, both directions side by side.
    Cost: O(H³) for each orthogonal kernel, and the weights once in float64 and once in ``dtype``, tensor by tensor.

    Args:
        spec: The spec.
        framework: The name of a published layout (``critinit.tensors.layouts.layouts``), such as "canonical".
        input_size: The width of the input; of a convolutional layer its channels.
        hidden_size: The number of units of every layer; of a convolutional layer its filters.
        seed: The seed, an integer from 0.
        bidirectional: Whether every layer has two directions.
        dtype: float32, float64 or float16.
        ending: That of the file they are for, where a framework names tensors otherwise in files of its own.
        window: The window of a convolutional layer's kernels along each axis of the image, such as (3, 3); nothing for
            layers that convolve nothing.

    Returns:
        C-contiguous arrays by name.

    Raises:
        ArgumentError: There is no such framework, it has no such cell, a size, the seed or the type is out of range,
            a kernel cannot have its shape, or the type cannot hold the numbers.

    Example:
        >>> from critinit import generate
        >>> tensors = materialize(generate("rnn", T=20), "canonical", input_size=3, hidden_size=8)
        >>> {name: array.shape for name, array in tensors.items()}["layers.0.0.hidden.input"]
        (8, 3)
    """
    layout = _layout(framework, ending)
    sides = _window(window)
    form = _form(layout, spec, len(sides))
    seed = check_seed(seed)
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise ArgumentError(name, found=repr(size), allowed="an integer of at least 1")
    if dtype not in DTYPES:
        raise ArgumentError("dtype", found=repr(dtype), allowed=", ".join(DTYPES))
    directions = 2 if bidirectional else 1
    tensors: dict[str, NDArray[Any]] = {}
    for layer, sizes in enumerate(_all_sizes(spec, input_size, hidden_size, directions, sides)):
        for direction in range(directions):
            path = layout.path(form, len(spec.layers), directions, layer, direction)
            for name, values in _layer(spec, form, sizes, layer, direction, seed).items():
                full = layout.join(Address(path, layer, direction, name))
                tensors[full] = _cast(values, dtype, full)
    return tensors


def _window(given: object) -> tuple[int, ...]:
    """The window as a tuple of sizes."""
    allowed = "the window's size along each axis of the image, such as (3, 3)"
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ArgumentError("window", found=repr(given), allowed=allowed)
    if not all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size > 0 for size in given):
        raise ArgumentError("window", found=repr(given), allowed=allowed)
    return tuple(map(int, given))


def _all_sizes(
    spec: InitSpec, input_size: int, hidden: int, directions: int, window: tuple[int, ...]
) -> Iterator[Sizes]:
    """The widths of each layer."""
    reads = input_size
    for layer in spec.layers:
        if hidden * (reads + hidden) * prod(window) > _MOST:
            allowed = f"kernels of at most {_MOST} weights"
            raise ArgumentError("hidden_size", found=f"{hidden} for {reads} coordinates", allowed=allowed)
        projection = None if layer.projection is None else layer.projection.coordinates(hidden)
        yield Sizes(reads, hidden, projection, window)
        reads = (projection or hidden) * directions


def _cast(values: NDArray[np.float64], dtype: str, name: str) -> NDArray[Any]:
    """A tensor in the type asked for; refuses one that the type cannot hold."""
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(values.astype(dtype))
    if not np.isfinite(cast).all():
        raise ArgumentError("dtype", found=f"{dtype}, which cannot hold the numbers of {name}", allowed="a wider type")
    return cast


def _layout(framework: str, ending: str) -> Layout:
    """The layout of a framework's files with that ending."""
    layout = LAYOUTS.get(framework)
    endings = {SAFETENSORS: layout, **layout.formats}
    if ending not in endings:
        raise ArgumentError("ending", found=repr(ending), allowed=f"of {framework}: {', '.join(endings)}")
    return endings[ending]


def _form(layout: Layout, spec: InitSpec, rank: int) -> Form:
    """The form in which the layout stores the spec's cell."""
    form = layout.form(spec.cell, rank)
    if form is None and layout.form(spec.cell) is not None:
        ranks = [str(other.rank) for other in layout.forms if other.cell == spec.cell and other.rank]
        axes = "axis" if rank == 1 else "axes"
        found = f"a window of {rank} {axes}, and {layout.framework}, whose layers of {spec.cell} convolve "
        found += f"{', '.join(ranks)} axes" if ranks else "nothing"
        allowed = "no window" + f", or one of {', '.join(ranks)} axes" * bool(ranks)
        raise ArgumentError("window", found=found, allowed=allowed)
    if form is None:
        cells = ", ".join(dict.fromkeys(other.cell for other in layout.forms))
        found = f"{layout.framework}, which has no {spec.cell}"
        allowed = f"one with this cell; {layout.framework} has {cells}"
        raise ArgumentError("framework", found=found, allowed=allowed, hint="canonical has every cell")
    return form


def _layer(
    spec: InitSpec, form: Form, sizes: Sizes, layer: int, direction: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """The tensors of one layer in one direction, in float64, by their names in the form."""
    groups = draws_of(
        spec,
        layer,
        seed=seed,
        input_size=sizes.input,
        hidden_size=sizes.hidden,
        direction=direction,
        window=sizes.window,
    )
    draws = groups[0].draws
    for problem in filter(None, (draw.problem() for group in groups for draw in group.draws.values())):
        raise ArgumentError(problem.where, found=problem.found, allowed=problem.allowed, hint=problem.hint)
    stored = [
        tensor
        for tensor in form.tensors(sizes)
        if not tensor.read_only and all(b.part == "zero" or (b.gate, b.part) in draws for b in tensor.blocks)
    ]
    places = {(block.gate, block.part) for tensor in stored for block in tensor.blocks}
    for key, draw in draws.items():
        if key not in places and not all(group.draws[key].is_zero for group in groups):
            found = f"{form.name}, which has no place for {draw.path}"
            raise ArgumentError("framework", found=found, allowed="a layout that has one")
    return {tensor.name: fill(tensor.shape, pairs_of(tensor.blocks, tensor.shape, groups)) for tensor in stored}


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    *,
    spec: InitSpec,
    framework: str,
    seed: int,
) -> None:
    """Write tensors to a file, whole or not at all.

    The metadata (of HDF5: the file's attributes) have one key, ``critinit``: JSON of ``version``, ``framework``,
    ``seed`` and ``spec``.  The same arguments give the same bytes.

    Args:
        path: The file: HDF5 where it ends with .h5, else safetensors.
        tensors: The arrays by name.
        spec: The spec that they follow.
        framework: The layout that they have.
        seed: The seed that they were drawn with.

    Raises:
        FileError: The file cannot be written.
        MissingExtraError: The library that writes it is not installed.
    """
    origin = {"version": __version__, "framework": framework, "seed": int(seed), "spec": spec.to_dict()}
    whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    encode = _hdf5 if os.fspath(path).endswith(".h5") else _safetensors
    files.write(path, encode(whole, json.dumps(origin, allow_nan=False)))


def _safetensors(tensors: Mapping[str, NDArray[Any]], origin: str) -> bytes:
    """The bytes of a safetensors file."""
    try:
        from safetensors.numpy import save as encode
    except ImportError:
        raise MissingExtraError("safetensors", "weights") from None
    # one key of metadata, as safetensors writes several in a random order
    return bytes(encode(dict(tensors), metadata={"critinit": origin}))


def _hdf5(tensors: Mapping[str, NDArray[Any]], origin: str) -> bytes:
    """The bytes of an HDF5 file."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "weights") from None
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        file.attrs["critinit"] = origin
        for name, array in tensors.items():
            file.create_dataset(name, data=array)
    return data.getvalue()
