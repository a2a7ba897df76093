"""Names that a package imports only when they are used, read from the package's stub file ``__init__.pyi``.

A stub that says ``from critinit.schemes import generate as generate`` makes ``generate`` an attribute of the package
and is what type checkers and editors read, so each public name is written once.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["attach"]


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` for the package whose ``__init__.py`` is ``file``.

    Args:
        package: The package's name.
        file: The path of its ``__init__.py``; the stub stands beside it.

    Returns:
        The two functions and the list of names that the package's namespace takes.

    Example:
        __getattr__, __dir__, __all__ = attach(__name__, __file__)
    """
    tree = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, original = homes[name]
        return getattr(import_module(str(home)), original)

    return get, lambda: sorted(homes), sorted(homes)
