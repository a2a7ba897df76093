"""A table that is open: its columns, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

__all__ = ["Opened"]


class Opened(NamedTuple):
    """A table of any format.

    Attributes:
        keys: How pyarrow calls the columns.
        names: Their names; None where they have none.
        types: Arrow's types of them; None where all are texts.
        batches: (keys, rows) -> batches of these columns, of about so many rows.
    """

    keys: Sequence[str]
    names: Sequence[str] | None
    types: Sequence[Any] | None
    batches: Callable[[Sequence[str], int], Iterator[Any]]
