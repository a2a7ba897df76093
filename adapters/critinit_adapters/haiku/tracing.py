"""What reaches the cells of a Haiku model: ``hk.intercept_methods`` sees every call with its module's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk

from critinit_adapters.shared.jax_compiling import recorded
from critinit_adapters.shared.jax_recording import record_step, running
from critinit_adapters.shared.recording import Recorder, places
from critinit_adapters.shared.survey import Survey

__all__ = ["record"]


def record(target: Any, survey: Survey, run: Callable[[Any], object]) -> Recorder:
    """Run the model and return what was recorded.

    Args:
        target: The tree of parameters.
        survey: What was found in it.
        run: Runs the model with these parameters.
    """
    known = {_module_name(name): place for place, names, _ in places(survey) for name in names}

    def trace(recorder: Recorder, tree: Any, run: Callable[[Any], object]) -> None:
        def intercept(call: Any, args: Sequence[Any], kwargs: dict[str, Any], context: Any) -> Any:
            place = known.get(getattr(context.module, "module_name", ""))
            if place is not None and context.method_name == "__call__" and len(args) > 1:
                args = (record_step(recorder, place, args[0], args[1]), *args[1:])
            return call(*args, **kwargs)

        with hk.intercept_methods(intercept):
            run(tree)

    done = recorded(run, target, ("haiku", tuple(known.items())), trace)
    if done is not None:
        return done[0]
    recorder = Recorder()
    with running():
        trace(recorder, target, run)
    return recorder


def _module_name(tensor: str) -> str:
    """The name of the cell that a tensor belongs to: ``net/lstm`` of ``net/lstm/linear/w``."""
    return tensor.rpartition("/")[0].removesuffix("/linear")
