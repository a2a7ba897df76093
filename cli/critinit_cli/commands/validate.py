"""``critinit validate``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from critinit_cli import codes, github, options
from critinit_cli.lines import Lines
from critinit_cli.output import as_json, complain, emit, printable

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

_WORST_FIRST = (codes.USAGE, codes.INVALID, codes.MISSED, codes.GOOD)


class _Verdict(NamedTuple):
    """What was found of one file.

    Attributes:
        file: The file.
        code: The exit code that it asks for.
        problems: Why it is no valid spec, or cannot be read.
        deviations: Where the numbers that it states are not those of the theory, or a target is missed.
        error: The message of the error that stopped the reading.
    """

    file: str
    code: int
    problems: tuple[Problem, ...] = ()
    deviations: tuple[Problem, ...] = ()
    error: str = ""

    def say(self) -> None:
        """Write the file's lines on stderr."""
        if self.error:
            complain("error", self.error)
        for problem in _by_kind(self.file, self.deviations):
            complain("missed", f"{self.file}: {problem}")

    def annotate(self) -> None:
        """Mark each thing that is wrong, where GitHub shows it."""
        text = _text(self.file)
        lines = None if text is None else Lines(text)
        marks = [(p.where, p.where or "InitSpec", str(p._replace(where=""))) for p in self.problems]
        marks += [(p.where, "the prediction does not hold", str(p)) for p in _by_kind(self.file, self.deviations)]
        for where, title, message in marks:
            github.annotate(self.file, lines.of(where) if lines else None, title, message)

    def as_object(self) -> dict[str, Any]:
        """Return what ``--json`` says of the file."""
        return {
            "file": self.file,
            "valid": self.code in (codes.GOOD, codes.MISSED),
            "problems": [problem._asdict() for problem in self.problems],
            "deviations": [deviation._asdict() for deviation in self.deviations],
        }


def command(files: Files, json: options.JSON = False, cell_file: options.CellFile = None) -> int:
    """Check specs: structure, meaning, prediction.

    Each is checked in this order, and every file gets its line. The exit code is 2 where a file cannot be read, else 1
    where a spec is invalid, else 3 where one misses its target or its prediction. As a step of GitHub Actions the
    command also annotates the files.
    """
    from critinit.errors import ArgumentError
    from critinit_cli.reading import register_cells

    if files.count("-") > 1:
        hint = "standard input can be read once"
        raise ArgumentError("files", found=f"- {files.count('-')} times", allowed="once", hint=hint)
    register_cells(cell_file)
    verdicts = []
    for file in files:
        verdict = _judge(file)
        verdicts.append(verdict)
        if verdict.code == codes.GOOD and not json:
            emit(f"{printable(file)}: ok\n")
        verdict.say()
        if verdict.code != codes.GOOD and github.is_wanted():
            verdict.annotate()
    if json:
        emit(as_json([verdict.as_object() for verdict in verdicts]))
    return min((verdict.code for verdict in verdicts), key=_WORST_FIRST.index)


def _judge(file: str) -> _Verdict:
    from critinit.errors import FileError, SpecError
    from critinit.theory.analysis import deviations
    from critinit_cli.reading import read_spec

    try:
        spec = read_spec(file)
    except FileError as error:
        return _Verdict(file, codes.USAGE, (error.problem,), error=str(error))
    except SpecError as error:
        return _Verdict(file, codes.INVALID, error.problems, error=str(error))
    missed = tuple(deviations(spec))
    return _Verdict(file, codes.MISSED if missed else codes.GOOD, deviations=missed)


def _by_kind(file: str, deviations: Sequence[Problem]) -> list[Problem]:
    """One problem for each kind of deviation, which names the first, counts the others and states the way out."""
    targets = [problem for problem in deviations if problem.where.startswith("target")]
    predictions = [problem for problem in deviations if problem not in targets]
    return [_summary(file, kind) for kind in (predictions, targets) if kind]


def _summary(file: str, kind: Sequence[Problem]) -> Problem:
    """The first problem of a kind, with how many more there are, and the command that brings the numbers up to date."""
    hints = [kind[0].hint]
    if len(kind) > 1:
        hints.append(f"{len(kind) - 1} more numbers do not hold")
    if kind[0].where != "target":  # the command cannot make a spec reach its target
        output = "" if file == "-" else f" -o {shlex.quote(file)}"
        hints.append(f"critinit predict {shlex.quote(file)}{output} writes the numbers of the edited spec")
    return kind[0]._replace(hint="; ".join(filter(None, hints)))


def _text(file: str) -> str | None:
    """What the file holds; None where it cannot be read, or not twice (a pipe)."""
    from critinit.errors import FileError
    from critinit.files import read
    from critinit.spec.reading import MAX_BYTES

    try:
        return read(file, MAX_BYTES).decode() if os.path.isfile(file) else None
    except (FileError, UnicodeDecodeError):
        return None
