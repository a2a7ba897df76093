"""``critinit validate``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from critinit_cli import github, options
from critinit_cli.lines import Lines
from critinit_cli.output import as_json, complain, emit

if TYPE_CHECKING:
    from critinit.errors import Problem

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "validate"
EXAMPLES = """\b
Examples:
  critinit validate spec.json
  critinit spec --cell gru --T 784 | critinit validate -
  critinit validate --json specs/*.json
"""

Files = Annotated[list[str], typer.Argument(metavar="FILE...", help="Specs; - is standard input.", show_default=False)]

_BAD_FIRST = (2, 1, 3, 0)


class _Verdict(NamedTuple):
    """What was found of one file: the exit code it asks for and why."""

    file: str
    code: int
    problems: tuple[Problem, ...] = ()
    deviations: tuple[Problem, ...] = ()
    words: str = ""

    def annotate(self) -> None:
        """Mark each thing that is wrong, where GitHub shows it."""
        text = _text(self.file)
        lines = None if text is None else Lines(text)
        marks = [(p.path, p.path or "InitSpec", str(p._replace(path=""))) for p in self.problems]
        marks += [(p.path, "the prediction does not hold", str(p)) for p in self.deviations]
        for path, title, message in marks:
            github.annotate(self.file, lines.of(path) if lines else None, title, message)

    def as_object(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "valid": self.code in (0, 3),
            "problems": [problem._asdict() for problem in self.problems],
            "deviations": [str(deviation) for deviation in self.deviations],
        }


def command(files: Files, json: options.JSON = False, cell_file: options.CellFile = None) -> int:
    """Check specs: structure, meaning, prediction.

    Each is checked in this order, and every file gets its line. Exit code 2 where one cannot be read, else 1
    where one is invalid, else 3 where one misses its target or its prediction. As a step of GitHub Actions it
    also annotates the files.
    """
    from critinit.errors import ArgumentError
    from critinit_cli.reading import register_cells

    if files.count("-") > 1:
        raise ArgumentError(f"FILE: found - {files.count('-')} times; allowed: once, as standard input ends")
    register_cells(cell_file)
    verdicts = []
    for file in files:
        verdict = _judge(file)
        verdicts.append(verdict)
        if verdict.code == 0 and not json:
            emit(f"{_printable(file)}: ok\n")
        elif verdict.code:
            complain("missed" if verdict.code == 3 else "error", verdict.words)
            if github.is_wanted():
                verdict.annotate()
    if json:
        emit(as_json([verdict.as_object() for verdict in verdicts]))
    return min((verdict.code for verdict in verdicts), key=_BAD_FIRST.index)


def _judge(file: str) -> _Verdict:
    from critinit.errors import FileError, SpecError
    from critinit.theory.analysis import deviations
    from critinit_cli.reading import read_spec

    try:
        spec = read_spec(file)
    except FileError as error:
        return _Verdict(file, 2, (error.problem,), words=str(error))
    except SpecError as error:
        return _Verdict(file, 1, error.problems, words=str(error))
    missed = tuple(deviations(spec))
    if not missed:
        return _Verdict(file, 0)
    more = f" (and {len(missed) - 1} more)" if len(missed) > 1 else ""
    return _Verdict(file, 3, deviations=missed, words=f"{file}: {missed[0]}{more}")


def _text(file: str) -> str | None:
    """What the file holds; None where it cannot be read, or not twice (a pipe)."""
    from critinit.errors import FileError, SpecError
    from critinit.files import read
    from critinit.spec.reading import MAX_BYTES

    try:
        return read(file, MAX_BYTES).decode() if os.path.isfile(file) else None
    except (FileError, SpecError, UnicodeDecodeError):
        return None


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
