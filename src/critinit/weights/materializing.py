"""``materialize``: a spec's weights in the names and layout of a framework, without the framework.

The numbers are those of ``critinit.apply(spec, model, seed=seed)`` on a model of one network: drawn by
``critinit.tensors.sampling`` in float64, put in their places, cast once.  A file of them is loaded by the framework's own means.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import critinit
from critinit import files
from critinit.errors import ArgumentError, MissingExtraError
from critinit.tensors.blocks import fill
from critinit.tensors.layouts import Address, Form, Layout, Sizes, layouts
from critinit.tensors.sampling import check_seed, draws_of
from critinit.spec import InitSpec

__all__ = ["DTYPES", "SAFETENSORS", "materialize", "save"]

DTYPES = ("float32", "float64", "float16")
SAFETENSORS = ".safetensors"
_MOST = 10**11


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
) -> dict[str, NDArray[Any]]:
    """The tensors of a model of the spec's layers, by name, C-contiguous.

    ``framework``: a published layout (torch, keras, linen, nnx, equinox, haiku, canonical).  Layer 0 reads
    ``input_size`` coordinates, every further layer the states below it, both directions side by side.  Cost: O(H³) per
    orthogonal kernel; the weights once in float64 and once in ``dtype``, tensor by tensor.  ``ending``: of the file
    they are for, where a framework names tensors otherwise in files of its own (".weights.h5" of keras).

    Raises ``ArgumentError`` for an unknown framework, a cell or reset variant that it does not have, sizes, seed or
    type out of range, or numbers that the type cannot hold.
    """
    layout = _layout(framework, ending)
    form = _form(layout, spec)
    seed = check_seed(seed)
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise ArgumentError(f"{name}: found {size!r}; allowed: an integer of at least 1")
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype: found {dtype!r}; allowed: {', '.join(DTYPES)}")
    directions = 2 if bidirectional else 1
    tensors: dict[str, NDArray[Any]] = {}
    for layer in range(len(spec.layers)):
        below = None if layer == 0 else _sizes(spec, layer - 1, 0, hidden_size)
        reads = input_size if below is None else (below.projection or hidden_size) * directions
        sizes = _sizes(spec, layer, reads, hidden_size)
        if hidden_size * (reads + hidden_size) > _MOST:
            raise ArgumentError(
                f"hidden_size: found {hidden_size} for {reads} coordinates; allowed: kernels of at most {_MOST} weights"
            )
        for direction in range(directions):
            path = layout.path(form, len(spec.layers), directions, layer, direction)
            for name, values in _site(spec, form, sizes, layer, direction, seed).items():
                with np.errstate(over="ignore"):
                    cast = np.ascontiguousarray(values.astype(dtype))
                full = layout.join(Address(path, layer, direction, name))
                if not np.isfinite(cast).all():
                    raise ArgumentError(f"dtype: {dtype} cannot hold the numbers of {full}; allowed: a wider type")
                tensors[full] = cast
    return tensors


def _sizes(spec: InitSpec, layer: int, reads: int, hidden: int) -> Sizes:
    projection = spec.layers[layer].projected
    return Sizes(reads, hidden, None if projection is None else projection.coordinates(hidden))


def _layout(framework: str, ending: str) -> Layout:
    known = layouts()
    if framework not in known:
        raise ArgumentError(f"framework: found {framework!r}; allowed: {', '.join(known)}")
    endings = {SAFETENSORS: known[framework], **known[framework].own}
    if ending not in endings:
        raise ArgumentError(f"ending: found {ending!r}; allowed for {framework}: {', '.join(endings)}")
    return endings[ending]


def _form(layout: Layout, spec: InitSpec) -> Form:
    form = layout.form(spec.cell, spec.reset)
    if form is None:
        reset = "" if spec.reset is None else f" with reset {spec.reset}"
        has = (f"{f.cell}{f' with reset {f.reset}' if f.reset else ''}" for f in layout.forms)
        allowed = ", ".join(dict.fromkeys(has))
        raise ArgumentError(f"framework: {layout.framework} has no {spec.cell}{reset}; it has {allowed}")
    return form


def _site(
    spec: InitSpec, form: Form, sizes: Sizes, layer: int, direction: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """The tensors of one layer in one direction, in float64, by their names in the form."""
    draws = draws_of(spec, layer, seed=seed, input_size=sizes.input, hidden_size=sizes.hidden, direction=direction)
    stored = [tensor for tensor in form.tensors(sizes) if not tensor.rare]
    places = {(block.gate, block.part) for tensor in stored for block in tensor.blocks}
    for key, draw in draws.items():
        if key not in places and not draw.is_zero:
            raise ArgumentError(f"framework: {form.name} has no place for {draw.path}")
    return {
        tensor.name: fill(
            tensor.shape,
            [(b, None if b.part == "zero" else draws[b.gate, b.part]) for b in tensor.blocks],
        )
        for tensor in stored
    }


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    *,
    spec: InitSpec,
    framework: str,
    seed: int,
) -> None:
    """Write tensors to ``path``, whole or not at all: HDF5 where it ends with .h5, else safetensors.

    The metadata (of HDF5: the file's attributes) have one key, ``critinit``: JSON of ``version``, ``framework``,
    ``seed`` and ``spec``.  The same arguments give the same bytes.  Raises ``FileError`` and ``MissingExtraError``.
    """
    origin = {
        "version": critinit.__version__,
        "framework": framework,
        "seed": int(seed),
        "spec": spec.model_dump(mode="json"),
    }
    whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    encode = _hdf5 if os.fspath(path).endswith(".h5") else _safetensors
    files.write(path, encode(whole, json.dumps(origin, allow_nan=False)))


def _safetensors(tensors: Mapping[str, NDArray[Any]], origin: str) -> bytes:
    try:
        from safetensors.numpy import save as encode
    except ImportError:
        raise MissingExtraError("safetensors", "weights") from None
    # one key of metadata, as safetensors writes several in a random order
    return bytes(encode(dict(tensors), metadata={"critinit": origin}))


def _hdf5(tensors: Mapping[str, NDArray[Any]], origin: str) -> bytes:
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
