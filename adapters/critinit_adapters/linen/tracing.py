"""What reaches the cells of a Linen model: ``nn.intercept_methods`` sees every call with its module's path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn

from critinit_adapters.shared.jax_compiling import recorded
from critinit_adapters.shared.jax_recording import recorded_step, running, scanned
from critinit_adapters.shared.recording import Place, Recorder, places
from critinit_adapters.shared.survey import Survey

__all__ = ["record"]


def record(target: Any, survey: Survey, run: Callable[[Any], object]) -> Recorder:
    """Run the model and return what was recorded.

    Args:
        target: The tree of parameters.
        survey: What was found in it.
        run: Runs the model with these parameters.
    """
    known = tuple((name, place) for place, names, _ in places(survey) for name in names)

    def trace(recorder: Recorder, tree: Any, run: Callable[[Any], object]) -> None:
        with nn.intercept_methods(_interceptor(recorder, known)):
            run(tree)

    done = recorded(run, target, ("linen", known), trace)
    if done is not None:
        return done[0]
    recorder = Recorder()
    with running():
        trace(recorder, target, run)
    return recorder


def _interceptor(recorder: Recorder, known: Sequence[tuple[str, Place]]) -> Callable[..., Any]:
    """What sees every call of a method."""

    def intercept(call: Any, args: Sequence[Any], kwargs: dict[str, Any], context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or not args:
            return call(*args, **kwargs)
        if isinstance(module, nn.RNN):
            lengths = kwargs.get("seq_lengths")
            return scanned(recorder, lambda x: call(x, *args[1:], **kwargs), args[0], lengths)
        place = _place(module, known) if isinstance(module, nn.RNNCellBase) and len(args) > 1 else None
        if place is None:
            return call(*args, **kwargs)
        state, x, *more = args
        return recorded_step(recorder, place, lambda x: call(state, x, *more, **kwargs), x, state)

    return intercept


def _place(module: nn.Module, known: Sequence[tuple[str, Place]]) -> Place | None:
    """The place of a cell, by its path; a tree of parameters may be without the collection's name.

    A cell that only runs another one, whose tensors are further down, has no place.
    """
    path = "/".join(module.path)
    starts = ("params/" + path + "/" * bool(path), path + "/" * bool(path))
    return next((place for start in starts for name, place in known if _is_own(name, start)), None)


def _is_own(name: str, start: str) -> bool:
    """Whether a tensor is one of a cell's, such as ``hn/kernel`` (and ``/value``, in a box), by where their paths
    start."""
    return name.startswith(start) and name.removesuffix("/value").count("/", len(start)) == 1
