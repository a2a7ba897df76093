"""Cells that are not critinit's own: registered in Python, in a file that the user names, or in an installed package.

A spec names its cell and never a file, so reading one runs no code.  Code runs where the user asks for it: by naming
a file, by calling ``register``, or by installing a package with an entry point in the group ``critinit.cells`` (its
name that of the cell, its value the class), which is loaded when a spec has that cell.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from critinit.cells._base import Cell
from critinit.cells.checking import check_cell
from critinit.errors import CellError, FileError, Problem

__all__ = ["GROUP", "file_and_class", "from_file", "installed", "instance", "is_file"]

GROUP = "critinit.cells"
_MAX_BYTES = 2**20
_SUFFIX = ".py"


def is_file(name: str) -> bool:
    """Whether a cell is named by its file, ``cell.py`` or ``cell.py:Class``, and not by its name."""
    path, _ = file_and_class(name)
    return path.endswith(_SUFFIX) or os.sep in path or "/" in path


def file_and_class(name: str) -> tuple[str, str | None]:
    """``cell.py:Class`` as path and class; a path may have colons of its own."""
    path, colon, chosen = name.rpartition(":")
    return (path, chosen) if colon and path.endswith(_SUFFIX) else (name, None)


def instance(cell: Cell | type[Cell], source: str = "") -> Cell:
    """The cell of a class, or the cell itself, checked; raises ``CellError``."""
    where = f"{source}: " if source else ""
    if isinstance(cell, type):
        if not issubclass(cell, Cell):
            raise CellError(f"{where}found the class {cell.__name__}; allowed: a subclass of critinit.Cell")
        kind = cell
        try:
            cell = kind()
        except Exception as error:
            said = f"{type(error).__name__}: {str(error)[:160]}"
            raise CellError(f"{where}{kind.__name__}(): found {said}; allowed: a class without arguments") from None
    if not isinstance(cell, Cell):
        raise CellError(f"{where}found {type(cell).__name__}; allowed: a subclass of critinit.Cell")
    check_cell(cell, source)
    return cell


def from_file(name: str) -> Cell:
    """The cell in a Python file, named ``path.py`` or, where it has several, ``path.py:Class``.  RUNS THE FILE.

    What the file prints goes to standard error.  Raises ``FileError`` where it cannot be read, and ``CellError`` where
    it does not run, holds no cell or several, or one that is not valid.
    """
    path, chosen = file_and_class(name)
    module = _run(path)
    found = {
        key: item
        for key, item in vars(module).items()
        if isinstance(item, type) and issubclass(item, Cell) and item.__module__ == module.__name__
    }
    complete = {key: item for key, item in found.items() if hasattr(item, "name")}
    if chosen is not None:
        if chosen not in found:
            has = ", ".join(found) or "none"
            raise CellError(f"{path}: found no cell {chosen}; allowed: {has}")
        return instance(found[chosen], path)
    if not found:
        raise CellError(f"{path}: found no cell; allowed: one subclass of critinit.Cell")
    candidates = complete or found
    if len(candidates) > 1:
        names = ", ".join(candidates)
        raise CellError(f"{path}: found several cells ({names}); allowed: one, or {path}:{next(iter(candidates))}")
    return instance(next(iter(candidates.values())), path)


def _run(path: str) -> ModuleType:
    from critinit import files

    try:
        source = files.read(path, _MAX_BYTES)
    except FileError as error:
        raise FileError(error.source, error.problem._replace(allowed="allowed: a Python file with a cell")) from None
    except Exception:
        found = f"more than {_MAX_BYTES:,} bytes"
        raise FileError(path, Problem("", found, "allowed: a Python file with a cell")) from None
    module = ModuleType(f"critinit_cell_{Path(path).stem}")
    module.__file__ = path
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise CellError(f"{path}: {line}found {said}; allowed: Python") from None
    with _registered(module), contextlib.redirect_stdout(sys.stderr or open(os.devnull, "w")):
        try:
            exec(code, module.__dict__)
        except (Exception, SystemExit) as error:
            line = _line_in(path, error)
            said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise CellError(f"{path}: {line}found {said}; allowed: a file that runs by itself") from None
    return module


@contextlib.contextmanager
def _registered(module: ModuleType) -> Iterator[None]:
    """``module`` in ``sys.modules`` while it runs, and from then on where it did."""
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        yield
    except BaseException:
        if before is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = before
        raise


def _line_in(path: str, error: BaseException) -> str:
    """The last line of the file that the error passed through."""
    line, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = f"line {trace.tb_lineno}: "
        trace = trace.tb_next
    return line


def installed(name: str) -> Cell | None:
    """The cell of that name in an installed package, or None; only a package that has it is loaded."""
    from importlib import metadata

    points = list(metadata.entry_points(group=GROUP, name=name))
    if not points:
        return None
    source = f"cell {name} of {points[0].value}"
    try:
        loaded = points[0].load()
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise CellError(f"{source}: fails to load ({said})") from None
    cell = instance(loaded, source)
    if cell.name != name:
        raise CellError(f"{source}: found the name {cell.name!r}; allowed: that of its entry point")
    return cell
