"""What is public says so, and explains itself."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

import critinit
from critinit.errors import MissingExtraError
from tests.structure.reading import PACKAGES, Module, modules

CORE = modules("critinit")
PUBLIC = [m for m in CORE if m.is_public]
FRAMEWORK_FREE = [*CORE, *modules("critinit_cli")]


@pytest.mark.parametrize(
    "module",
    [m for package in PACKAGES for m in modules(package) if not m.name.endswith("__main__")],
    ids=str,
)
def test_every_module_says_what_it_is_and_what_is_public(module: Module) -> None:
    assert ast.get_docstring(module.tree), f"{module.path} has no docstring"
    assigned = {
        target.id
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assign)
        for item in node.targets
        for target in (item.elts if isinstance(item, ast.Tuple) else [item])
        if isinstance(target, ast.Name)
    }
    statements = [n for n in module.tree.body if not isinstance(n, (ast.Expr, ast.ImportFrom, ast.Import))]
    is_public = module.is_public and (bool(statements) or module.exported is not None)
    if is_public:
        assert "__all__" in assigned, f"{module.path} has no __all__"
    if module.exported is not None:
        assert sorted(module.exported) == sorted(set(module.exported))


@pytest.mark.parametrize("module", [m for m in CORE if m.exported is not None], ids=str)
def test_what_is_public_is_there(module: Module) -> None:
    loaded = load(module)
    assert [name for name in module.exported or () if not hasattr(loaded, name)] == []


def test_the_stub_of_the_package_names_what_it_has() -> None:
    (package,) = [m for m in CORE if m.name == "critinit"]
    tree = ast.parse(package.path.with_suffix(".pyi").read_text(encoding="utf-8"))
    named = [alias.asname or "" for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert all(named), "a stub says `import x as x`"
    assert len(named) == len(set(named))
    assert sorted(named) == sorted(critinit.__all__)
    assert sorted(dir(critinit)) == sorted(named)
    for name in named:
        assert getattr(critinit, name) is not None
    assert isinstance(critinit.__version__, str)
    with pytest.raises(AttributeError, match="module 'critinit' has no attribute 'no_such_name'"):
        _ = critinit.no_such_name  # type: ignore[attr-defined]


def load(module: Module) -> ModuleType:
    """Import a module, or skip the test where a library that it needs is not installed."""
    try:
        return importlib.import_module(module.name)
    except (MissingExtraError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] in PACKAGES:
            raise
        pytest.skip(str(error))


def members(module: Module) -> Iterator[tuple[str, object]]:
    """The public functions and classes that a module defines."""
    loaded = load(module)
    for name in module.exported or ():
        item = getattr(loaded, name)
        if (inspect.isfunction(item) or inspect.isclass(item)) and item.__module__ == module.name:
            yield name, item


def methods(kind: type) -> Iterator[tuple[str, object]]:
    """The public methods and properties that a class itself defines."""
    for name, item in vars(kind).items():
        if not name.startswith("_") and (inspect.isfunction(item) or isinstance(item, (property, classmethod))):
            yield name, item


@pytest.mark.parametrize("module", [m for m in PUBLIC if m.exported], ids=str)
def test_every_public_name_explains_itself_in_a_sentence(module: Module) -> None:
    wrong = []
    for name, item in members(module):
        found = [(name, item)]
        if inspect.isclass(item):
            found += [(f"{name}.{method}", of) for method, of in methods(item)]
        for place, documented in found:
            text = (inspect.getdoc(getattr(item, place.rpartition(".")[2], documented)) or "").strip()
            first = text.partition("\n\n")[0]
            if not text:
                wrong.append(f"{module.name}.{place}: no docstring")
            elif not re.search(r"[.:]$", first.strip()):
                wrong.append(f"{module.name}.{place}: its first paragraph is no sentence: {first!r}")
            elif text.startswith(f"{getattr(item, '__name__', '')}("):
                wrong.append(f"{module.name}.{place}: no docstring of its own")
    assert wrong == []


@pytest.mark.parametrize("module", FRAMEWORK_FREE, ids=str)
def test_examples_run(module: Module) -> None:
    """Every ``>>>`` in a docstring says what it says."""
    if ">>>" not in module.text:
        return
    if module.name.startswith("critinit.plotting"):
        pytest.importorskip("matplotlib")
    failed, tried = doctest.testmod(load(module))
    assert tried > 0
    assert failed == 0


def test_there_are_examples() -> None:
    assert sum(module.text.count(">>> ") for module in FRAMEWORK_FREE) > 20


def constants(module: Module) -> Iterator[tuple[int, str, bool]]:
    """Line and name of each number that a module names, and whether a comment or a text explains it."""
    lines = module.text.splitlines()
    body = module.tree.body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        name = getattr(target, "id", "")
        if not re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name) or not is_number(node.value):
            continue
        documented = isinstance(after, ast.Expr) and isinstance(getattr(after.value, "value", None), str)
        end = node.end_lineno or node.lineno
        commented = "  # " in lines[end - 1] or lines[node.lineno - 2].lstrip().startswith("#")
        yield node.lineno, name, documented or commented


def is_number(node: ast.expr) -> bool:
    """Whether an expression is a number, or arithmetic of numbers."""
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    if isinstance(node, ast.BinOp):
        return is_number(node.left) and is_number(node.right)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


EXPLAINED_IN_A_TABLE = {"critinit_cli.codes"}
"""Modules whose docstring is a table of their numbers."""


@pytest.mark.parametrize(
    "module",
    [m for package in PACKAGES for m in modules(package) if m.name not in EXPLAINED_IN_A_TABLE],
    ids=str,
)
def test_every_number_with_a_name_has_a_reason(module: Module) -> None:
    assert [f"{module.path}:{line} {name}" for line, name, is_explained in constants(module) if not is_explained] == []
