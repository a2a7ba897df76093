"""JAX as a library of arrays with derivatives, and the loss of a model as a function of its weights.

Both run compiled.  The library computes in double precision on the CPU, whatever JAX's own setting is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from critinit.errors import ArgumentError
from critinit.foreign import Library
from critinit_adapters.shared.naming import path_name
from critinit_adapters.shared.optax_masks import keep_masks
from critinit_adapters.shared.preserving import generators_kept
from critinit_adapters.shared.refining import RefinesModels, all_tensors, no_output, target_like

__all__ = ["JaxLibrary", "JaxObjective", "JaxRefines", "mask_tree"]

Array = NDArray[np.float64]


class JaxLibrary(Library):
    """JAX's arrays."""

    def array(self, values: Any) -> Any:
        """Return numbers as an array."""
        return values if isinstance(values, jax.Array) else jnp.asarray(values, jnp.float64)

    def call(self, name: str, *arrays: Any) -> Any:
        """Return what a function of ``jax.numpy`` makes of arrays."""
        return getattr(jnp, name)(*arrays)

    def filled(self, like: Any, number: float) -> Any:
        """Return an array with one number everywhere."""
        return jnp.full_like(like, number)

    def orthonormalize(self, columns: Any) -> tuple[Any, Any]:
        """Return Q and ln|R_ii|."""
        q, r = jnp.linalg.qr(columns)
        return q, jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1)))

    def joined(self, arrays: Sequence[Any]) -> Any:
        """Return arrays side by side."""
        return jnp.concatenate(list(arrays), axis=-1)

    def moved(self, array: Any, source: int, to: int) -> Any:
        """Return an array with one axis moved."""
        return jnp.moveaxis(array, source, to)

    def constant(self, array: Any) -> Any:
        """Return an array whose gradient is stopped."""
        return jax.lax.stop_gradient(array)

    def mean(self, array: Any, axes: tuple[int, ...] | None = None) -> Any:
        """Return the mean."""
        return jnp.mean(array, axis=axes)

    def scan(self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any) -> tuple[Any, Any]:
        """Run ``jax.lax.scan``."""
        return jax.lax.scan(step, carry, inputs)

    def differentiate(
        self, function: Callable[..., tuple[Any, Any]]
    ) -> Callable[..., tuple[float, Array, dict[str, Array]]]:
        """Return value and gradient, compiled."""
        compiled = jax.jit(jax.value_and_grad(function, has_aux=True))

        def run(leaves: dict[str, Array], *constants: Any) -> tuple[float, Array, dict[str, Array]]:
            with jax.enable_x64(True), _on_the_host():
                own = {name: jnp.asarray(values, jnp.float64) for name, values in leaves.items()}
                (value, other), slopes = compiled(own, *map(self.array, constants))
                return float(value), _host(other), {name: _host(slope) for name, slope in slopes.items()}

        return run


def _on_the_host() -> AbstractContextManager[Any]:
    """Compute on the processor, or where JAX does by default if it has none, as with ``JAX_PLATFORMS=cuda``."""
    try:
        return jax.default_device(jax.devices("cpu")[0])
    except RuntimeError:
        return nullcontext()


class JaxObjective:
    """A loss as a function of named arrays.

    Args:
        function: The loss of arrays by name.
        arrays: The arrays as they are, whose types the loss is computed in.
    """

    def __init__(self, function: Callable[[Mapping[str, Any]], Any], arrays: Mapping[str, Any]) -> None:
        self.types = {name: array.dtype for name, array in arrays.items()}

        def loss(leaves: Mapping[str, Any]) -> Any:
            found = jnp.asarray(function(leaves))
            if found.size != 1 or not jnp.issubdtype(found.dtype, jnp.floating):
                allowed = "a scalar of floating-point type"
                raise ArgumentError("loss", found=f"an array of shape {found.shape}, {found.dtype}", allowed=allowed)
            return found.reshape(())

        def quotient(leaves: Mapping[str, Any], epsilon: Any) -> Any:
            # forward over reverse: the Hessian's product with the gradient, which stands for a direction alone
            slopes = jax.grad(loss)(leaves)
            products = jax.grad(lambda own: 0.5 * sum(jnp.sum(g * g) for g in jax.grad(loss)(own).values()))(leaves)
            total = 0.0
            for name, g in slopes.items():
                sign = jnp.where(jax.lax.stop_gradient(g) >= 0, 1.0, -1.0).astype(g.dtype)
                total += jnp.sum(jnp.abs((g - products[name]) / (g + epsilon * sign) - 1.0))
            return total / sum(g.size for g in slopes.values())

        self._gradient = jax.jit(jax.value_and_grad(loss))
        self._quotient = jax.jit(jax.value_and_grad(quotient))

    def gradient(self, values: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
        """Return the loss and its gradient."""
        return self._run(self._gradient, values)

    def quotient(self, values: Mapping[str, Array], epsilon: float) -> tuple[float, dict[str, Array]]:
        """Return the gradient quotient (``critinit.refining.metainit``) and its gradient."""
        return self._run(self._quotient, values, epsilon)

    def _run(self, function: Any, values: Mapping[str, Array], *more: Any) -> tuple[float, dict[str, Array]]:
        leaves = {name: jnp.asarray(values[name], dtype) for name, dtype in self.types.items()}
        with generators_kept():
            value, slopes = function(leaves, *more)
        return float(value), {name: _host(slope) for name, slope in slopes.items()}


class JaxRefines(RefinesModels):
    """An adapter of a framework on JAX that can refine and prune; a mixin before ``BaseAdapter``."""

    def library(self, target: Any) -> JaxLibrary:
        """Return JAX."""
        return JaxLibrary()

    def objective(
        self,
        target: Any,
        loss: Callable[[Any, Any], Any] | None,
        batch: Any,
        run: Callable[..., object],
        seed: int,
        options: Mapping[str, Any],
    ) -> tuple[JaxObjective, Mapping[str, Array]]:
        """Return the loss as a function of the arrays that train."""
        trained = self.trained(target, options)

        def default(model: Any) -> Any:
            leaves = [leaf for leaf in jax.tree.leaves(self.run_naturally(run, model)) if _is_number(leaf)]
            if not leaves:
                raise no_output()
            output = leaves[0]
            return 0.5 * jnp.mean((output - jnp.asarray(target_like(output.shape, seed), output.dtype)) ** 2)

        def function(leaves: Mapping[str, Any]) -> Any:
            model = self.exchanged(target, leaves)
            return default(model) if loss is None else loss(model, batch)

        values = {name: np.asarray(array).astype(np.float64) for name, array in trained.items()}
        return JaxObjective(function, trained), values

    def mask(
        self: Any, target: Any, masks: Mapping[str, NDArray[np.bool_]], options: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """Multiply arrays by masks; return the masks as a tree like that of what trains."""
        named = all_tensors(self, target, options)
        values = {name: self.to_numpy(self.present(named[name])) * stays for name, stays in masks.items()}
        model = self.write(target, values, options)
        return model, self.mask_tree(model, masks)

    def mask_tree(self, model: Any, masks: Mapping[str, NDArray[np.bool_]]) -> Any:
        """Return a tree like the model with a mask for each array, True where nothing is pruned."""
        return mask_tree(model, masks)

    def keep_pruned(self, optimizer: Any, masks: Mapping[str, NDArray[np.bool_]]) -> Any:
        """Return a transformation that leaves pruned entries at 0."""
        return keep_masks(optimizer, masks)

    def run_naturally(self, run: Callable[..., object], model: Any) -> Any:
        """Return the output of a model on the batch."""
        return run(model)

    @abstractmethod
    def trained(self, target: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arrays of floating-point numbers that train, by name."""

    @abstractmethod
    def exchanged(self, target: Any, leaves: Mapping[str, Any]) -> Any:
        """Return a model like the target with other arrays, which may be traced; the target stays as it is."""


def mask_tree(tree: Any, masks: Mapping[str, NDArray[np.bool_]]) -> Any:
    """Masks by the names of a tree's leaves."""

    def mask(path: tuple[Any, ...], leaf: Any) -> Any:
        name = path_name(path)
        stays = next((masks[one] for one in (name, name.removesuffix("/value")) if one in masks), None)
        if stays is None:
            return np.ones(np.shape(leaf), bool) if hasattr(leaf, "dtype") else leaf
        return stays

    return jax.tree_util.tree_map_with_path(mask, tree)


def _is_number(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _host(array: Any) -> Array:
    return np.asarray(array).astype(np.float64)
