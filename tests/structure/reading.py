"""The source as it is read from its files: modules, imports, names and texts, without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

__all__ = ["PACKAGES", "ROOT", "Module", "module_of", "modules"]

ROOT = Path(__file__).parents[2]
PACKAGES = {"critinit": ROOT / "src", "critinit_adapters": ROOT / "adapters", "critinit_cli": ROOT / "cli"}
"""Each package and the folder that it stands in."""


@dataclass(frozen=True)
class Module:
    """One Python file.

    Attributes:
        name: Its dotted name.
        path: Its path.
        is_package: Whether it is an ``__init__.py``.
    """

    name: str
    path: Path
    is_package: bool

    def __str__(self) -> str:
        return self.name

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def is_public(self) -> bool:
        """Whether no part of its name begins with an underscore."""
        return not any(part.startswith("_") for part in self.name.split("."))

    @cached_property
    def exported(self) -> list[str] | None:
        """Its ``__all__``; None where it has none, or one that is computed."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
                return [str(name) for name in ast.literal_eval(node.value)]
        return None

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of everything that is imported, within functions and for type checkers too.

        Of ``from a.b import c`` that is ``a.b.c`` where it is a module, else ``a.b``.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                for alias in node.names:
                    below = f"{base}.{alias.name}"
                    yield node.lineno, below if module_of(below) else base

    def _base(self, node: ast.ImportFrom) -> str:
        parts = self.name.split(".")
        above = parts[: len(parts) - node.level + self.is_package] if node.level else []
        return ".".join(filter(None, (*above, node.module)))


@lru_cache
def modules(package: str) -> tuple[Module, ...]:
    """Return every module of a package, by name."""
    found = []
    for path in sorted((PACKAGES[package] / package).rglob("*.py")):
        parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found.append(Module(".".join(parts[:-1] if is_package else parts), path, is_package))
    return tuple(found)


def module_of(name: str) -> Module | None:
    """Return the module of that dotted name, or None."""
    package = name.partition(".")[0]
    if package not in PACKAGES:
        return None
    return next((module for module in modules(package) if module.name == name), None)
