"""Recording inside of JAX's transformations.

``running`` switches compilation off, so that loops (``scan``) run step by step in Python.  What remains are batches of
``vmap``: there a callback sees all members at once.  It hands the input on, so the step after needs it, and the order
is that of the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from critinit_adapters.shared.preserving import generators_kept
from critinit_adapters.shared.recording import Place, Recorder

__all__ = ["host", "record_step", "running"]


@contextmanager
def running() -> Iterator[None]:
    """Run without compiling, and put global generators back."""
    with generators_kept(), jax.disable_jit():
        yield


def record_step(recorder: Recorder, place: Place, x: Any, state: Any) -> Any:
    """Record one step of a cell and return its input, which has to be used in its place.

    Args:
        recorder: Where to record.
        place: The cell's place.
        x: The input, of shape (…, F).
        state: The state before the step: a tree of arrays.
    """
    x = jnp.asarray(x)
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(state)]
    if not any(isinstance(part, jax.core.Tracer) for part in (x, *leaves)):
        recorder.step(place, host(x), _joined(leaves), str(x.dtype))
        return x

    def record(values: Any, *parts: Any) -> NDArray[Any]:
        recorder.step(place, host(values), _joined(parts), str(values.dtype))
        return np.asarray(values)

    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(record, shape, x, *leaves, vmap_method="broadcast_all")


def host(values: Any) -> NDArray[np.float32]:
    """An array on the host, in single precision."""
    return np.asarray(values).astype(np.float32)


def _joined(parts: Any) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(1, np.float32), *(host(part).reshape(-1) for part in parts)])
