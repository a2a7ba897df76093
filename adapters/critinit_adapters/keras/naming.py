"""Names of Keras variables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["named_variables", "variable_names"]


def named_variables(variables: Sequence[Any]) -> Iterator[tuple[Any, str]]:
    """Yield every variable once, with its name: its path, numbered where Keras gives two the same."""
    taken: dict[str, int] = {}
    for variable in variables:
        name, n = variable.path, 2
        while taken.get(name, id(variable)) != id(variable):
            name, n = f"{variable.path}#{n}", n + 1
        if name not in taken:
            yield variable, name
        taken[name] = id(variable)


def variable_names(variables: Sequence[Any]) -> dict[int, str]:
    """Return the name of every variable by its id."""
    return {id(variable): name for variable, name in named_variables(variables)}
