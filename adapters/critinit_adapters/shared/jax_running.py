"""A layer that runs over a few sequences, compiled: for ``critinit.diagnose``, whose NumPy takes a call for each number
of operations that XLA does in one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from critinit.cells import Cell
from critinit.foreign import Foreign, raw
from critinit.tensors.recurrence import LayerWeights
from critinit_adapters.shared.jax_refining import JaxLibrary

__all__ = ["JaxRuns", "run_layer"]

Array = NDArray[Any]
_PARTS = 4
"""Numbers of steps are rounded up to one of so many between a power of two and the next, so that sequences of many
lengths need few programs, and run at most a quarter longer."""
_OPTIONS = {"xla_backend_optimization_level": 1}
"""For so few rows XLA's more thorough programs run up to twice as long, and take longer to compile (GRU and LSTM, 16 to
256 units, 2 and 8 sequences)."""


class JaxRuns:
    """An adapter of a framework on JAX whose layers run compiled; a mixin before ``BaseAdapter``."""

    def run_layer(
        self, weights: LayerWeights, external: Mapping[str, Array], made: NDArray[np.bool_]
    ) -> tuple[Array, Array] | None:
        """Return the states of a layer; see ``run_layer``."""
        return run_layer(weights, external, made)


def run_layer(
    weights: LayerWeights, external: Mapping[str, Array], made: NDArray[np.bool_]
) -> tuple[Array, Array] | None:
    """Return what the gates read and the memory after each step, (steps, sequences, …), in single precision.

    The program is compiled once for each cell and shape, and kept.

    Args:
        weights: The layer.
        external: U_k x + b_k by gate, (steps, sequences, units).
        made: Which steps each sequence makes, (steps, sequences); before them its state is zero.

    Returns:
        The states; None of a layer whose kernels do not all read h, of one in another precision, and where JAX may
        not compile or has no CPU.
    """
    kernels = weights.stacked_across
    if not weights.is_plain or kernels.dtype != np.float32 or jax.config.jax_disable_jit:
        return None
    steps = len(made)
    more = -steps % max(1, 2 ** (steps.bit_length() - 1) // _PARTS)
    padded = {gate: _padded(external[gate], more) for gate in weights.cell.gates}
    given = kernels, dict(weights.inner_bias), weights.projection, padded, _padded(made, more)
    try:
        with jax.default_device(jax.devices("cpu")[0]):
            h, s = _run(weights.cell, *given)
            return np.asarray(h)[:steps], np.asarray(s)[:steps]
    except Exception:  # no CPU among JAX's platforms, or whatever it is: NumPy shows it, or does without
        return None


def _padded(x: Array, more: int) -> Array:
    kind = x.dtype if x.dtype == np.bool_ else np.float32
    return np.concatenate([x, np.zeros((more, *x.shape[1:]))], dtype=kind, casting="unsafe")


class _Single(JaxLibrary):
    """JAX's arrays, in single precision."""

    def array(self, values: Any) -> Any:
        """Return numbers as an array."""
        return values if isinstance(values, jax.Array) else jnp.asarray(values, jnp.float32)


@partial(jax.jit, static_argnums=0, compiler_options=_OPTIONS)
def _run(
    cell: Cell,
    kernels: jax.Array,
    inner: dict[str, jax.Array],
    projection: jax.Array | None,
    external: dict[str, jax.Array],
    made: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The states after each step."""
    library, gates = _Single(), cell.gates
    separate = cell.has_readout and not cell.message_is_memory
    count, units = external[gates[0]].shape[1:]
    coordinates = len(kernels)

    def step(carry: tuple[jax.Array, jax.Array], fed: Any) -> tuple[Any, Any]:
        h, s = carry
        signals, is_made = fed
        products = dict(zip(gates, jnp.split(h @ kernels, len(gates), axis=1), strict=True))
        u = cell.pre_activations(
            Foreign(h, library),
            lambda gate, _: Foreign(products[gate] + inner.get(gate, 0.0), library),
            {gate: Foreign(x, library) for gate, x in signals.items()},
        )
        memory = cell.update(Foreign(s, library), u)
        shown = raw(cell.read(memory, u) if separate else memory)
        shown = shown if projection is None else shown @ projection.T
        now = tuple(jnp.where(is_made[:, None], x, 0.0) for x in (shown, raw(memory)))
        return now, now

    rest = jnp.zeros((count, coordinates), jnp.float32), jnp.zeros((count, units), jnp.float32)
    found: tuple[jax.Array, jax.Array] = jax.lax.scan(step, rest, (external, made))[1]
    return found
