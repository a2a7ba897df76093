"""JAX without a framework: a tree of arrays, or a single array, as ``jax.experimental.rnn`` has.

Such trees say nothing of what they hold, so ``where=`` says all.  A new tree is made, as for all trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from critinit.errors import ArgumentError
from critinit_adapters.shared.jax_arrays import JaxTreeAdapter
from critinit_adapters.shared.survey import Survey

__all__ = ["ADAPTER", "JaxAdapter"]


class JaxAdapter(JaxTreeAdapter):
    """The adapter for trees of arrays that no framework's adapter knows."""

    framework = "jax"
    module = "jax"
    cells = ()
    needs_where = True

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether the target is a tree that holds arrays."""
        return any(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree_util.tree_leaves(target))

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        """Say that nothing can be found without ``where``."""
        raise ArgumentError("where", found="nothing", allowed="where in this tree the gates lie (critinit.fused, ...)")


ADAPTER = JaxAdapter()
