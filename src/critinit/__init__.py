"""Critical initialization of recurrent networks.

``generate`` computes an ``InitSpec`` for a cell and a sequence length from mean field theory, ``analyze`` says what
theory knows of a spec, ``apply`` materializes it as weights in the framework of the given model, and ``simulate``
measures the same numbers on a network.  Importing ``critinit`` imports no framework, and what a name needs only when
the name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from critinit.application import Applied, Report, apply
    from critinit.cells import Cell, Scale, load_cell, register
    from critinit.checkpoints.checking import Checked, check
    from critinit.checkpoints.materializing import materialize
    from critinit.dual import sigmoid
    from critinit.errors import (
        ApplyError,
        ArgumentError,
        CellError,
        CritinitError,
        DataError,
        FileError,
        MissingExtraError,
        Problem,
        SpecError,
        WeightsError,
    )
    from critinit.files import load
    from critinit.schemes import generate
    from critinit.simulation import simulate
    from critinit.spec import InitSpec, Numbers, parse
    from critinit.theory.analysis import Analysis, analyze

__version__ = "0.1.0"

_HOME = {
    "Analysis": "critinit.theory.analysis",
    "Applied": "critinit.application",
    "ApplyError": "critinit.errors",
    "ArgumentError": "critinit.errors",
    "Cell": "critinit.cells",
    "CellError": "critinit.errors",
    "Checked": "critinit.checkpoints.checking",
    "CritinitError": "critinit.errors",
    "DataError": "critinit.errors",
    "FileError": "critinit.errors",
    "InitSpec": "critinit.spec",
    "MissingExtraError": "critinit.errors",
    "Numbers": "critinit.spec",
    "Problem": "critinit.errors",
    "Report": "critinit.application",
    "Scale": "critinit.cells",
    "SpecError": "critinit.errors",
    "WeightsError": "critinit.errors",
    "analyze": "critinit.theory.analysis",
    "apply": "critinit.application",
    "check": "critinit.checkpoints.checking",
    "generate": "critinit.schemes",
    "load": "critinit.files",
    "load_cell": "critinit.cells",
    "materialize": "critinit.checkpoints.materializing",
    "parse": "critinit.spec",
    "register": "critinit.cells",
    "sigmoid": "critinit.dual",
    "simulate": "critinit.simulation",
}

__all__ = [
    "Analysis",
    "Applied",
    "ApplyError",
    "ArgumentError",
    "Cell",
    "CellError",
    "Checked",
    "CritinitError",
    "DataError",
    "FileError",
    "InitSpec",
    "MissingExtraError",
    "Numbers",
    "Problem",
    "Report",
    "Scale",
    "SpecError",
    "WeightsError",
    "analyze",
    "apply",
    "check",
    "generate",
    "load",
    "load_cell",
    "materialize",
    "parse",
    "register",
    "sigmoid",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'critinit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
