"""What the adapters of JAX's frameworks share: one array at a time, and trees of arrays.

A new array is made *like* the one it replaces: same type, same device or sharding, committed or not as it
was; where the old one is a NumPy array, so is the new one.  Nothing here runs under ``jit``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from critinit.errors import ArgumentError
from critinit.tensors.sampling import Draw
from critinit.spec import Kernel
from critinit_adapters.shared.survey import Network, Site
from critinit_adapters.shared.planning import Write

__all__ = ["both_directions", "draw_like", "like", "paired", "path_name", "problem", "replace"]

Path = tuple[Any, ...]
FLOATS = ("float32", "bfloat16", "float16", "float64")


def problem(name: str, leaf: Any, ndim: int) -> str | None:
    """Why ``leaf`` cannot be replaced by drawn numbers, or None; ``ndim``: the axes it should have."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return f"{name} is abstract (from eval_shape) and holds no numbers; initialize the model first"
    if isinstance(leaf, jax.core.Tracer):
        return f"{name} is being traced; apply a spec outside jit, vmap and grad"
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        return f"{name}: found {type(leaf).__name__}; allowed: a jax or numpy array"
    if str(leaf.dtype) not in FLOATS:
        return f"{name}: found type {leaf.dtype}; allowed: {', '.join(FLOATS)}"
    if leaf.ndim != ndim:
        return (
            f"{name}: found shape {leaf.shape}; allowed: {ndim} axes (of weights stacked by vmap or scan, "
            "apply the spec to one slice after the other)"
        )
    return None


def like(old: Any, values: NDArray[Any]) -> Any:
    """``values`` cast once to the type of ``old`` and placed where it is; each device gets its own shard."""
    cast = _cast(values, old.dtype)
    if isinstance(old, np.ndarray):
        return cast
    if not old.committed:
        with jax.default_device(_device(old)):
            return jnp.asarray(cast)
    return jax.make_array_from_callback(cast.shape, old.sharding, lambda index: cast[index])


def draw_like(old: Any, write: Write) -> Any:
    """The tensor of ``write``, kernels drawn by ``jax.random`` on the device of ``old``.

    In single precision at least; biases are the portable ones.  A sharded tensor is drawn whole on one
    device and then distributed, so that its numbers do not depend on the sharding.
    """
    with jax.default_device(None if isinstance(old, np.ndarray) else _device(old)):
        wide = jnp.float64 if old.dtype == np.float64 and jax.config.jax_enable_x64 else jnp.float32
        full = jnp.zeros(write.tensor.shape, wide)
        for block, draw in write.draws:
            if draw is not None:
                drawn = _draw(draw, wide)
                stored = block.sign * (drawn.T if block.transposed else drawn) + block.offset
                full = full.at[block.index].set(stored)
        if isinstance(old, np.ndarray):
            return np.asarray(full).astype(old.dtype)
        full = full.astype(old.dtype)
    return jax.device_put(full, old.sharding) if old.committed else full


def _cast(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # what a type cannot hold is found, and named, when it is measured
        return np.asarray(values).astype(dtype)


def _device(array: jax.Array) -> jax.Device:
    return min(array.sharding.addressable_devices, key=lambda device: device.id)


def _draw(draw: Draw, dtype: Any) -> jax.Array:
    """One canonical array, of ``draw.shape``."""
    if not isinstance(draw.law, Kernel):
        return jnp.asarray(draw.sample(), dtype)
    key = jax.random.wrap_key_data(np.array(draw.stream.words(), np.uint32), impl="threefry2x32")
    scale = math.sqrt(draw.law.variance)
    match draw.law.distribution:
        case "zero":
            return jnp.zeros(draw.shape, dtype)
        case "identity":
            return scale * jnp.eye(draw.shape[0], draw.shape[1], dtype=dtype)
        case "normal":
            return scale / math.sqrt(draw.fan_in) * jax.random.normal(key, draw.shape, dtype)
        case "uniform":
            bound = scale * math.sqrt(3.0 / draw.fan_in)
            return jax.random.uniform(key, draw.shape, dtype, -bound, bound)
        case _:
            q, r = jnp.linalg.qr(jax.random.normal(key, draw.shape[::-1], dtype))
            return scale * (q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(dtype)).T


# ---- trees -----------------------------------------------------------------------------------------------


def path_name(path: Path) -> str:
    """A tree's path as text: ``params/cell/hf/kernel``."""
    parts = (getattr(p, "key", getattr(p, "name", getattr(p, "idx", p))) for p in path)
    return "/".join(map(str, parts))


def replace(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """The tree with ``leaves`` (by path name) in their places; all other leaves are the same objects."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaves.get(path_name(path), leaf), tree)


def paired(networks: Sequence[Network], pairs: Any) -> tuple[Network, ...]:
    """Make one network with two directions of each (forward, backward) pair of paths in ``pairs``.

    Trees of bare arrays do not say which two cells read the same inputs in opposite directions.  Raises
    ``ArgumentError`` for what is no pair of paths, and for a path where there is no network.
    """
    if pairs is None:
        return tuple(networks)
    allowed = "allowed: a list of (forward path, backward path)"
    if not isinstance(pairs, Sequence) or isinstance(pairs, str):
        raise ArgumentError(f"bidirectional: found {pairs!r}; {allowed}")
    by_name = {network.name: network for network in networks}
    joined: dict[str, Network] = {}
    for pair in pairs:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ArgumentError(f"bidirectional: found {pair!r}; {allowed}")
        for path in pair:
            if path not in by_name or path in joined:
                found = ", ".join(map(repr, by_name))
                raise ArgumentError(f"bidirectional: found {path!r}; allowed: each of the cells' paths once: {found}")
        forward, backward = (by_name[path] for path in pair)
        joined[pair[0]] = joined[pair[1]] = both_directions(forward, backward, forward.name)
    backward_names = {pair[1] for pair in pairs}
    return tuple(joined.get(n.name, n) for n in networks if n.name not in backward_names)


def both_directions(forward: Network, backward: Network, name: str) -> Network:
    """One network of two directions; a refusal where the two are not alike."""
    refusal = forward.refusal or backward.refusal
    if (forward.cell, forward.reset, forward.hidden_size, forward.layers) != (
        backward.cell,
        backward.reset,
        backward.hidden_size,
        backward.layers,
    ):
        refusal = f"its two directions differ: {forward} is a {forward.cell}, {backward} a {backward.cell}"
    sites = (
        *forward.sites,
        *(Site(site.layer, 1, site.input_size, site.tensors) for site in backward.sites),
    )
    return Network(name, forward.cell, forward.hidden_size, sites, forward.reset, refusal=refusal)
