"""The names that options take, from critinit's registries; a registry is imported when its names are asked for."""

from __future__ import annotations

__all__ = ["cells", "filled", "frameworks", "schemes"]


def cells() -> tuple[str, ...]:
    """Return the names of the known cells."""
    from critinit.cells import CELLS

    return CELLS.names()


def schemes() -> tuple[str, ...]:
    """Return the names of the known schemes."""
    from critinit.schemes import SCHEMES

    return SCHEMES.names()


def frameworks() -> tuple[str, ...]:
    """Return the names of the published layouts of frameworks."""
    from critinit.tensors.layouts import LAYOUTS

    return LAYOUTS.names()


_LISTS = {"{cells}": cells, "{schemes}": schemes, "{frameworks}": frameworks}
"""What stands in a help text for names -> the function that returns them."""


def filled(text: str) -> str:
    """Return a help text with the registered names in place of ``{cells}``, ``{schemes}`` and ``{frameworks}``."""
    for mark, names in _LISTS.items():
        if mark in text:
            text = text.replace(mark, ", ".join(names()))
    return text
