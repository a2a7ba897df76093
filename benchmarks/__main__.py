"""``python -m benchmarks [NAME …] [--list]``: runs benchmarks by name, or the quick ones.

Every module or package in here that has a ``main`` is one.  Options after a single NAME go to it:
``python -m benchmarks training --task adding``.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from critinit.errors import CritinitError

__all__ = ["found", "main"]

QUICK = ("grid", "startup", "commands", "apply_cost", "step_limits", "tied_cost", "training")
"""What runs when nothing is named, in this order, of those that are there: ten minutes or so in all."""


def found() -> dict[str, str]:
    """Name -> summary of every benchmark; their sources are read, not imported."""
    summaries = {}
    folder = Path(__file__).parent
    for file in sorted([*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            name = file.parent.name if file.stem == "__init__" else file.stem
            summaries[name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return summaries


def main(arguments: Sequence[str]) -> int:
    """Run what is named; the exit status: 0, 1 after a failed benchmark (the others still run), 2 for wrong usage."""
    known = found()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run critinit's benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--list", action="store_true", help="name the benchmarks; * marks the ones run by default")
    own = list(arguments)
    alone = own[:1] and own[0] in known and own[1:2] and own[1].startswith("-")
    passed = own[1:] if alone else []  # options after a single name are that benchmark's
    options = parser.parse_args(own[:1] if alone else own)
    if options.list:
        for name, summary in known.items():
            print(f"{'*' if name in QUICK else ' '} {name:18}{summary}")
        return 0
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"NAME: found {', '.join(unknown)}; allowed: {', '.join(known)}")
    status = 0
    for name in options.names or [name for name in QUICK if name in known]:
        print(f"== {name}: {known[name]}", flush=True)
        start = time.perf_counter()
        try:
            status = max(status, _run(name, known[name], passed) or 0)
        except CritinitError as error:
            status = max(status, 1)
            print(f"{name}: {error}", file=sys.stderr)
        print(f"   ({time.perf_counter() - start:.0f} s)\n", flush=True)
    return status


def _run(name: str, summary: str, passed: Sequence[str]) -> int | None:
    """What the benchmark's ``main`` returns: an exit status, or nothing."""
    function = importlib.import_module(f"benchmarks.{name}").main
    if "arguments" in inspect.signature(function).parameters:
        return function(passed)
    argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=summary).parse_args(passed)  # it has none
    return function()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
