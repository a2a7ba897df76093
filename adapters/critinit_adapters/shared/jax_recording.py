"""Recording inside of JAX's transformations.

As a rule a model runs compiled (``jax_compiling``).  Where that cannot be done, ``running`` switches compilation off,
so that loops (``scan``) run step by step in Python.  What remains are batches of ``vmap``: there a callback sees all
members at once.  It hands the input on, so the step after needs it, and the order is that of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from critinit_adapters.shared.jax_compiling import TracedRecorder, made, taken
from critinit_adapters.shared.preserving import generators_kept
from critinit_adapters.shared.recording import Place, Recorder

__all__ = ["host", "record_step", "recorded_step", "running", "scanned"]


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
    take = _Step(place, str(x.dtype))
    if isinstance(recorder, TracedRecorder):
        return x if recorder.is_muted(place) else taken(take, x, *(jnp.any(leaf != 0) for leaf in leaves))
    if not any(isinstance(part, jax.core.Tracer) for part in (x, *leaves)):
        take(recorder, x, *leaves)
        return x

    def record(values: Any, *parts: Any) -> NDArray[Any]:
        take(recorder, values, *parts)
        return np.asarray(values)

    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(record, shape, x, *leaves, vmap_method="broadcast_all")


def recorded_step(recorder: Recorder, place: Place, call: Callable[[Any], Any], x: Any, state: Any) -> Any:
    """Record one step of a cell and return what it gives.

    Args:
        recorder: Where to record.
        place: The cell's place.
        call: The cell, a function of its input.
        x: The input, of shape (…, F).
        state: The state before the step: a tree of arrays.
    """
    given = call(record_step(recorder, place, x, state))
    return made(given) if isinstance(recorder, TracedRecorder) else given


@dataclass(frozen=True)
class _Step:
    """Records one step on the host: its input, and the state before it or which of its parts are not zero."""

    place: Place
    dtype: str

    def __call__(self, recorder: Recorder, x: Any, *state: Any) -> None:
        recorder.step(self.place, host(x), _joined(state), self.dtype)

    def all_steps(self, recorder: Recorder, x: Any, *state: Any) -> None:
        """Record the steps of a scan, the first axis of what is given."""
        begun = np.zeros(len(x), np.bool_)
        for part in state:
            begun |= np.any(part, axis=tuple(range(1, np.ndim(part))))
        recorder.steps(self.place, host(x), begun, self.dtype)

    def whole_pass(self, recorder: Recorder, x: Any, *state: Any) -> None:
        """Record the steps of a layer, the first axis of x, which follow each other from a state on."""
        recorder.whole_pass(self.place, host(x), self.dtype, from_rest=not any(np.any(part) for part in state))


@dataclass(frozen=True)
class _Edge:
    """What comes before and after the steps of a layer, which are whole passes."""

    layer: int
    is_blind: ClassVar[bool] = True

    def __call__(self, recorder: Recorder, _: None, lengths: Any = None) -> None:
        if self.layer > 0:
            recorder.open_scan()
        else:
            recorder.close_scan(lengths)


def scanned(recorder: Recorder, call: Callable[[Any], Any], inputs: Any, lengths: Any) -> Any:
    """Return what a layer gives that runs a cell over sequences; the steps meanwhile are whole passes.

    Args:
        recorder: Where to record.
        call: The layer, a function of its inputs.
        inputs: An array.
        lengths: How long the sequences are; None: all alike.
    """
    if not isinstance(recorder, TracedRecorder):
        with recorder.scan(lengths):
            return call(inputs)
    found, structure = jax.tree.flatten(call(taken(_Edge(1), jnp.asarray(inputs))))
    found[0] = taken(_Edge(-1), found[0], *(() if lengths is None else (jnp.asarray(lengths),)))
    return jax.tree.unflatten(structure, found)


def host(values: Any) -> NDArray[np.float32]:
    """An array on the host, in single precision."""
    return np.asarray(values).astype(np.float32)


def _joined(parts: Any) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(1, np.float32), *(host(part).reshape(-1) for part in parts)])
