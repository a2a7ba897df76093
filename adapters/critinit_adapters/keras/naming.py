"""Names of Keras variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["variable_names"]


def variable_names(variables: Sequence[Any]) -> dict[int, str]:
    """Return a name for every variable by its id: its path, numbered where Keras gives two the same."""
    names: dict[int, str] = {}
    for variable in variables:
        taken, name, n = set(names.values()), variable.path, 2
        while name in taken:
            name, n = f"{variable.path}#{n}", n + 1
        names.setdefault(id(variable), name)
    return names
