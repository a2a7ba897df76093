"""What frameworks draw where nobody asks for anything else: hints for ``check``, and whether weights were trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from critinit.tensors.layouts import Hints
from critinit_adapters.shared.stacked import alone

if TYPE_CHECKING:
    from critinit_adapters.shared.adapter import BaseAdapter
    from critinit_adapters.shared.planning import Write

__all__ = ["TRUNCATED", "UNIFORM_BY_UNITS", "Default", "changed_tensors", "trained_note"]

_WORDS = "U(-1/sqrt(H), 1/sqrt(H)), the default of torch and Equinox"
_ROUNDING = 1.02
"""By how much numbers may lie beyond the ends of their range: rounding to bfloat16 moves them by 0.4 %."""
TRUNCATED = 2.0 / 0.87962566103423978
"""The largest entry of a normal distribution cut at two standard deviations, in standard deviations of what is left."""


def _bound(hidden: int, fan_in: int, columns: int) -> float:
    return 1.0 / math.sqrt(hidden)


UNIFORM_BY_UNITS = Hints(default_input=_WORDS, default_recurrent=_WORDS, default_bound=_bound)
"""PyTorch's default of every kernel, which Equinox has too."""


class Default(NamedTuple):
    """The range of what a framework draws by default.

    Attributes:
        centre: Its middle.
        reach: How far from it numbers may be; 0 for a constant.
    """

    centre: float
    reach: float

    def allows(self, low: float, high: float) -> bool:
        """Return whether numbers between ``low`` and ``high`` can be of it."""
        reach = self.reach * _ROUNDING
        return low >= self.centre - reach and high <= self.centre + reach


def changed_tensors(adapter: BaseAdapter, writes: Sequence[Write]) -> Iterator[str]:
    """Yield the names of tensors that hold something else than the framework's default, before they are written."""
    for write in writes:
        own, axes = alone(write.tensor), len(write.tensor.member)
        blocks = write.tensor.blocks  # whole gates: a group's part of one is no kernel that a framework draws
        defaults = [(block, adapter.default_of(own, replace(block, index=block.index[axes:]))) for block in blocks]
        known = [(block, default) for block, default in defaults if default is not None]
        try:
            present: Any = adapter.present(write.tensor) if known else None
            extents = [(default, adapter.extent(present[block.index])) for block, default in known]
        except Exception:  # what cannot be read cannot be written either, and is refused there
            continue
        if not all(default.allows(*extent) for default, extent in extents):
            yield write.tensor.name


def trained_note(framework: str, changed: Sequence[str]) -> tuple[str, ...]:
    """Return the report's word on tensors that were no longer as the framework makes them, if there are any."""
    if not changed:
        return ()
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return (
        f"{changed[0]}{more} did not hold what {framework} draws by default; if these weights were trained or loaded, "
        "they are replaced now: apply a spec before you train or load",
    )
