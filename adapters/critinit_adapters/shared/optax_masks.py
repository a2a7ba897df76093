"""Masks on the updates of optax transformations: pruned entries stay 0, whatever the optimizer makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from critinit.errors import ArgumentError
from critinit_adapters.shared.naming import located, path_name

__all__ = ["keep_masks"]


def keep_masks(transformation: Any, masks: Mapping[str, NDArray[np.bool_]]) -> Any:
    """Return a transformation whose updates are 0 where a mask is False.

    Args:
        transformation: The whole optimizer.
        masks: What stays, by the tensors' names.

    Raises:
        ArgumentError: It is no transformation, or trains none of these tensors.
    """
    import optax

    if not isinstance(transformation, tuple):
        hint = "mask the transformation before it goes into it"
        allowed = "an optax.GradientTransformation"
        raise ArgumentError("optimizer", found=type(transformation).__name__, allowed=allowed, hint=hint)
    inner = optax.with_extra_args_support(transformation)

    def init(params: Any) -> Any:
        _own(params, masks)
        return inner.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        made, after = inner.update(updates, state, params, **extra)
        own = _own(made, masks)

        def masked(path: tuple[Any, ...], leaf: Any) -> Any:
            stays = own.get(path_name(path))
            return leaf if stays is None else jnp.where(stays, leaf, jnp.zeros((), leaf.dtype))

        return jax.tree_util.tree_map_with_path(masked, made), after

    return optax.GradientTransformationExtraArgs(init, update)


def _own(tree: Any, masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    """The masks by the names that their leaves have in a tree."""
    leaves = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    names = located(tuple(leaves), tuple(masks))
    if not names:
        found = f"an optimizer of {', '.join(list(leaves)[:4])}"
        raise ArgumentError("optimizer", found=found, allowed=f"one that trains {', '.join(list(masks)[:4])}")
    for tensor, name in names.items():
        if np.shape(leaves[name]) != masks[tensor].shape:
            found = f"a leaf of shape {np.shape(leaves[name])}"
            raise ArgumentError(tensor, found=found, allowed=f"shape {masks[tensor].shape}, as it was pruned")
    return {name: masks[tensor] for tensor, name in names.items()}
