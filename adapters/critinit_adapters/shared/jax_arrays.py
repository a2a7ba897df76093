"""What the adapters of the frameworks on JAX share: one array at a time, and trees of arrays.

A new array is made *like* the one that it replaces: same type, same device or sharding, committed or not as it was.
Where the old one is a NumPy array, so is the new one.  Only what draws from a key (``declared``) runs under ``jit``,
``vmap`` and ``scan``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from critinit.distributions import Kernel
from critinit.errors import ArgumentError, Problem
from critinit.tensors.blocks import Block, fill
from critinit.tensors.convolutions import Pairs
from critinit.tensors.sampling import SEEDS, Draw, check_seed
from critinit_adapters.shared.adapter import TreeAdapter
from critinit_adapters.shared.defaults import TRUNCATED, Default
from critinit_adapters.shared.jax_refining import JaxRefines
from critinit_adapters.shared.jax_running import JaxRuns
from critinit_adapters.shared.naming import path_name
from critinit_adapters.shared.optax_limits import OptaxLimits
from critinit_adapters.shared.own import by_path
from critinit_adapters.shared.planning import Write
from critinit_adapters.shared.stacked import STACKED
from critinit_adapters.shared.survey import LayerSlot, RecurrentModule, Tensor

__all__ = [
    "PAIRS",
    "JaxDrawing",
    "JaxTreeAdapter",
    "SeededByKeys",
    "both_directions",
    "declared",
    "draw_like",
    "embedding_tables",
    "is_array",
    "like",
    "paired",
    "path_name",
    "problem",
    "replace",
    "truncated_default",
]

FLOATS = ("float32", "bfloat16", "float16", "float64")
"""The types that weights can have."""
Sample = Callable[[np.random.Generator], NDArray[np.float64]]
"""What a distribution draws with NumPy."""
_OUTSIDE = "apply a spec outside jit, vmap and grad"
PAIRS = "a list of (forward path, backward path) of cells"
"""What the option ``bidirectional`` is."""


def problem(name: str, leaf: Any, ndim: int | None = None) -> Problem | None:
    """Return why a leaf cannot be replaced by drawn numbers, or None.

    Args:
        name: The leaf's name.
        leaf: The leaf.
        ndim: How many axes it should have; any number unless given.
    """
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return Problem(name, "an abstract array (from eval_shape)", "numbers", "initialize the model first")
    if isinstance(leaf, jax.core.Tracer):
        return Problem(name, "an array that is being traced", "numbers", _OUTSIDE)
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        return Problem(name, type(leaf).__name__, "a jax or numpy array")
    if str(leaf.dtype) not in FLOATS:
        return Problem(name, f"type {leaf.dtype}", ", ".join(FLOATS))
    if ndim is not None and leaf.ndim != ndim:
        return Problem(name, f"shape {leaf.shape}", f"{ndim} axes", STACKED)
    return None


def like(old: Any, values: NDArray[Any]) -> Any:
    """Return ``values`` cast once to the type of ``old`` and placed where it is; each device gets its own shard."""
    cast = _cast(values, old.dtype)
    if isinstance(old, np.ndarray):
        return cast
    if not old.committed:
        with jax.default_device(_device(old)):
            return jnp.asarray(cast)
    return jax.make_array_from_callback(cast.shape, old.sharding, lambda index: cast[index])


def seed_of(given: object) -> int | None:
    """Return the integer that a key's words spell, most significant first; None where ``given`` is no key.

    Raises:
        ArgumentError: The key is being traced, or there are several.
    """
    if not isinstance(given, (jax.Array, np.ndarray)):
        return None
    typed = jnp.issubdtype(given.dtype, jax.dtypes.prng_key)
    if not typed and not (given.dtype == np.uint32 and given.ndim > 0):
        return None
    allowed = "one key, such as jax.random.key(0)"
    if isinstance(given, jax.core.Tracer):
        raise ArgumentError("seed", found="a key that is being traced", allowed=allowed, hint=_OUTSIDE)
    if given.ndim != (0 if typed else 1):
        raise ArgumentError("seed", found=f"keys of shape {given.shape}", allowed=allowed)
    words = np.asarray(jax.random.key_data(given) if typed else given)
    return int.from_bytes(words.astype(">u4").tobytes(), "big")


class SeededByKeys:
    """The seeds of an adapter for a framework on JAX, which has no global seed: an integer, or a key."""

    def seed_of(self, given: object, target: Any) -> int:
        """Return the integer that is given, or that the key given stands for.

        Raises:
            ArgumentError: Neither is given.
        """
        if given is None:
            hint = "JAX has no global seed to follow: give seed=0, or a key, seed=jax.random.key(0)"
            raise ArgumentError("seed", found="none", allowed=f"{SEEDS}, or a key", hint=hint)
        number = seed_of(given)
        return check_seed(given) if number is None else number


class JaxDrawing:
    """A canonical matrix drawn by ``jax.random`` on the default device (see ``critinit.distributions.Drawing``).

    Args:
        shape: The matrix's shape.
        dtype: The type to draw in.
        key: The key.
        sampled: Returns what a function draws with NumPy.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, key: jax.Array, sampled: Callable[[Sample], Any]) -> None:
        self.rows, self.columns = shape
        self.dtype, self.key, self.sampled = dtype, key, sampled

    def zeros(self) -> jax.Array:
        """Return zeros."""
        return jnp.zeros((self.rows, self.columns), self.dtype)

    def identity(self, gain: float) -> jax.Array:
        """Return ``gain`` times the identity."""
        return gain * jnp.eye(self.rows, self.columns, dtype=self.dtype)

    def normal(self, deviation: float) -> jax.Array:
        """Return independent normal entries."""
        return deviation * jax.random.normal(self.key, (self.rows, self.columns), self.dtype)

    def uniform(self, bound: float) -> jax.Array:
        """Return independent uniform entries."""
        return jax.random.uniform(self.key, (self.rows, self.columns), self.dtype, -bound, bound)

    def orthogonal(self, gain: float) -> jax.Array:
        """Return rows of a Haar matrix, times ``gain``."""
        q, r = jnp.linalg.qr(jax.random.normal(self.key, (self.columns, self.rows), self.dtype))
        return gain * (q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(self.dtype)).T

    def numpy(self, sample: Sample) -> jax.Array:
        """Return what ``sample`` draws with NumPy."""
        return jnp.asarray(self.sampled(sample), self.dtype)


def draw_like(old: Any, write: Write) -> Any:
    """Return the tensor of ``write``, its kernels drawn by ``jax.random`` on the device of ``old``.

    In single precision at least; biases are the portable ones.  A sharded tensor is drawn whole on one device and then
    distributed, so that its numbers do not depend on the sharding.
    """
    with jax.default_device(None if isinstance(old, np.ndarray) else _device(old)):
        wide = jnp.float64 if old.dtype == np.float64 and jax.config.jax_enable_x64 else jnp.float32
        full = jnp.asarray(old, wide) if write.tensor.is_partial else jnp.zeros(write.tensor.shape, wide)
        for block, draw in write.draws:
            stored = 0.0 if draw is None else block.stored(_drawn(draw, wide))
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


def _drawn(draw: Draw, dtype: Any) -> jax.Array:
    """One canonical array, of ``draw.shape``, from its own stream."""
    if not isinstance(draw.distribution, Kernel):
        return jnp.asarray(draw.sample(), dtype)
    key = jax.random.wrap_key_data(np.array(draw.stream.words(), np.uint32), impl="threefry2x32")
    return draw.distribution.draw(JaxDrawing(draw.shape, dtype, key, lambda sample: sample(draw.stream.generator())))


# ---- declared with the model -----------------------------------------------------------------------------


def declared(
    pairs: Pairs, shape: Sequence[int], dtype: Any, key: jax.Array | None, bias_key: jax.Array | None = None
) -> jax.Array:
    """Return one tensor of a layer that is declared with a spec.

    Args:
        pairs: Every block of the tensor with its draw.
        shape: The tensor's shape.
        dtype: The tensor's type; drawn in single precision at least, and cast once.
        key: The key that the framework draws the tensor with; it may be traced.  None: portably, from the draws' own
            streams.
        bias_key: The key of biases, which all gates of a layer share, as one gate's can follow another's; by default
            ``key``, for layers whose biases are one tensor.
    """
    if key is None:
        return jnp.asarray(_cast(fill(tuple(shape), pairs), dtype))
    wide = jnp.promote_types(dtype, jnp.float32)
    full = jnp.zeros(tuple(shape), wide)
    for block, draw in pairs:
        if draw is not None:
            own = key if draw.part != "bias" or bias_key is None else bias_key
            full = full.at[block.index].set(block.stored(_drawn_from(own, draw, wide)))
    return full.astype(dtype)


def _drawn_from(key: jax.Array, draw: Draw, dtype: Any) -> jax.Array:
    """One canonical array, of ``draw.shape``, from the part of a key's stream that is its gate's."""
    key = jax.random.fold_in(key, draw.stream.place)

    def sampled(sample: Sample) -> jax.Array:
        def call(words: Any) -> NDArray[Any]:
            words = np.asarray(words)
            made = [sample(np.random.default_rng(one)) for one in words.reshape(-1, words.shape[-1])]
            return np.stack(made).reshape(*words.shape[:-1], *draw.shape).astype(dtype)

        # NumPy draws on the host, also where the key is traced; the members of a vmap in one call
        wanted = jax.ShapeDtypeStruct(draw.shape, dtype)
        return jax.pure_callback(call, wanted, jax.random.key_data(key), vmap_method="broadcast_all")

    if isinstance(draw.distribution, Kernel):
        return draw.distribution.draw(JaxDrawing(draw.shape, dtype, key, sampled))
    bias = draw.distribution
    if not bias.is_random:
        return jnp.asarray(draw.sign * bias.sample(np.random.default_rng, draw.shape[0]), dtype)
    return draw.sign * sampled(lambda generator: bias.sample(generator, draw.shape[0]))


# ---- trees -----------------------------------------------------------------------------------------------


class JaxTreeAdapter(SeededByKeys, OptaxLimits, JaxRefines, JaxRuns, TreeAdapter):
    """An adapter for trees of arrays, whose tensors' handles are the arrays and whose names are ``path_name``'s.

    Attributes:
        embeddings: How the names of embeddings' tables end, where that tells them.
    """

    embeddings: ClassVar[Sequence[str]] = ()

    def leaf(self, tensor: Tensor, values: NDArray[np.float64]) -> Any:
        """Return an array like the present one."""
        return like(tensor.handle, values)

    def native_leaf(self, write: Write) -> Any:
        """Return an array like the present one, drawn on its device."""
        return draw_like(write.tensor.handle, write)

    def rebuild(self, target: Any, leaves: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Return the tree with new leaves."""
        return replace(target, leaves)

    def tables(self, target: Any, options: Mapping[str, Any]) -> Sequence[tuple[Tensor, bool, bool]]:
        """Return the leaves that are called as embeddings' tables are."""
        found = [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(target)]
        return embedding_tables(found, self.embeddings)

    def tensors(self, target: Any, options: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the tree's arrays."""
        found = ((path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(target))
        return {name: Tensor(name, tuple(leaf.shape), leaf, (), key=name) for name, leaf in found if is_array(leaf)}

    def trained(self, target: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arrays of floating-point numbers; of a tree with a collection "params" those in it."""
        found = {name: tensor.handle for name, tensor in self.tensors(target, options).items()}
        inside = isinstance(target, Mapping) and isinstance(target.get("params"), Mapping)
        return {
            name: leaf
            for name, leaf in found.items()
            if problem(name, leaf) is None and (not inside or name.startswith("params/"))
        }

    def exchanged(self, target: Any, leaves: Mapping[str, Any]) -> Any:
        """Return a tree with other arrays."""
        return replace(target, leaves)

    def find(self, target: Any, path: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """Return the array at a path; in a box of metadata, the one that it holds."""
        return by_path(tensors, path) or by_path(tensors, f"{path}/value")

    def unwritable(self, tensor: Tensor) -> Problem | None:
        """Return why an array cannot be replaced."""
        return problem(tensor.name, tensor.handle)

    def from_numpy(self, values: NDArray[np.float64], like: Tensor) -> Any:
        """Return an array of that type."""
        return jnp.asarray(values, like.handle.dtype)


def is_array(leaf: Any) -> bool:
    """Return whether a leaf of a tree is an array, abstract or traced ones too."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def truncated_default(tensor: Tensor, block: Block, recurrent: float | None = None) -> Default | None:
    """Return the range of a truncated normal of variance 1/fan-in for kernels, and of 0 for biases.

    Args:
        tensor: The tensor, stored as (fan-in, units), or (*window, channels, units).
        block: The block.
        recurrent: The largest entry of recurrent kernels, where they are of another distribution.
    """
    if tensor.is_partial:
        return None
    if block.part in ("bias", "zero"):
        return Default(0.0, 0.0)
    own = TRUNCATED / math.sqrt(math.prod(tensor.shape[:-1]))
    return Default(0.0, own if recurrent is None or block.part == "input" else recurrent)


def replace(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """Return the tree with ``leaves`` (by path name) in their places; all other leaves are the same objects."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaves.get(path_name(path), leaf), tree)


def embedding_tables(leaves: Sequence[tuple[str, Any]], ends: Sequence[str]) -> list[tuple[Tensor, bool, bool]]:
    """Return the leaves with two axes whose names end so, as ``BaseAdapter.tables`` does; all count as trained."""
    named = ((name, leaf) for name, leaf in leaves if any(name == end or name.endswith(f"/{end}") for end in ends))
    return [
        (Tensor(name, tuple(leaf.shape), leaf, ()), True, False)
        for name, leaf in named
        if problem(name, leaf, 2) is None
    ]


def paired(modules: Sequence[RecurrentModule], pairs: Any) -> tuple[RecurrentModule, ...]:
    """Make one module with two directions of each (forward, backward) pair of paths.

    Trees of bare arrays do not say which two cells read the same inputs in opposite directions.

    Args:
        modules: The modules found.
        pairs: The pairs, or None.

    Raises:
        ArgumentError: Something is no pair of paths, or there is no cell at a path.
    """
    if pairs is None:
        return tuple(modules)
    if not isinstance(pairs, Sequence) or isinstance(pairs, str):
        raise ArgumentError("bidirectional", found=repr(pairs), allowed=PAIRS)
    by_name = {module.name: module for module in modules}
    joined: dict[str, RecurrentModule] = {}
    for pair in pairs:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ArgumentError("bidirectional", found=repr(pair), allowed=PAIRS)
        for path in pair:
            if path not in by_name or path in joined:
                allowed = f"each of the cells' paths once: {', '.join(map(repr, by_name))}"
                raise ArgumentError("bidirectional", found=repr(path), allowed=allowed)
        forward, backward = (by_name[path] for path in pair)
        joined[pair[0]] = joined[pair[1]] = both_directions(forward, backward, forward.name)
    backward_names = {pair[1] for pair in pairs}
    return tuple(joined.get(m.name, m) for m in modules if m.name not in backward_names)


def both_directions(forward: RecurrentModule, backward: RecurrentModule, name: str) -> RecurrentModule:
    """Return one module of two directions; with a refusal where the two are not alike."""
    refusal = forward.refusal or backward.refusal
    kinds = [(way.cell, way.hidden_size, way.layers, way.stacked) for way in (forward, backward)]
    if kinds[0] != kinds[1]:
        ways = [f"{way} is a {way.cell} of {way.hidden_size} units{_copies(way)}" for way in (forward, backward)]
        refusal = Problem("", f"two directions that differ: {', '.join(ways)}", "two that are alike")
    turned = (LayerSlot(slot.layer, 1, slot.input_size, slot.tensors) for slot in backward.slots)
    slots, also = (*forward.slots, *turned), forward.also
    stacked = forward.stacked
    return RecurrentModule(name, forward.cell, forward.hidden_size, slots, also=also, refusal=refusal, stacked=stacked)


def _copies(module: RecurrentModule) -> str:
    return f" in a stack of {' x '.join(map(str, module.stacked))}" if module.stacked else ""
