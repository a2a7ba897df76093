"""The errors that critinit raises on purpose.

``CritinitError``
    ``SpecError``        a spec is not valid: ``problems`` lists field path, what was found, what is allowed
    ``ArgumentError``    an argument of a call is out of its range
    ``CellError``        what was to be a cell is none: names file, class and field
    ``FileError``        a file cannot be read or written
    ``DataError``        a data file does not hold what can be measured
    ``ApplyError``       a spec cannot be applied to this model; the model was left as it was
    ``WeightsError``     a file of weights is damaged, of an unknown kind, or holds nothing that a spec describes
    ``MissingExtraError``  an optional dependency is not installed; the message holds the command that installs it

Every message is complete on its own and fits on one line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = [
    "ApplyError",
    "ArgumentError",
    "CellError",
    "CritinitError",
    "DataError",
    "FileError",
    "MissingExtraError",
    "Problem",
    "SpecError",
    "WeightsError",
]


class CritinitError(Exception):
    """Base of every error that critinit raises on purpose.  They can be pickled, and so come out of worker processes."""

    def __reduce__(self) -> tuple[Callable[..., CritinitError], tuple[object, ...]]:
        return _again, (type(self), self.args, self.__dict__.copy())


def _again(kind: type[CritinitError], arguments: tuple[object, ...], state: dict[str, object]) -> CritinitError:
    """An error as it was, without the ``__init__`` that made its message."""
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class Problem(NamedTuple):
    """One thing that is wrong with a spec: where it stands, what was found and what is allowed."""

    path: str
    found: str
    allowed: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        found = f"found {self.found}; " if self.found else ""
        return f"{where}{found}{self.allowed}"


class SpecError(CritinitError):
    """A spec is not valid.

    ``problems`` holds all that was found; the message shows the first and names the fields of the others.
    """

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__(self._message())

    def _message(self) -> str:
        first, *rest = self.problems
        prefix = f"{self.source}: " if self.source else ""
        more = ""
        if rest:
            named = ", ".join(problem.path or "the file" for problem in rest[:3])
            more = f" (and {len(rest)} more: {named}{', …' if len(rest) > 3 else ''})"
        return f"{prefix}{first}{more}"

    def from_source(self, source: str) -> SpecError:
        """The same error, naming the file it comes from."""
        return SpecError(self.problems, source)


class ArgumentError(CritinitError):
    """An argument is out of its range."""


class CellError(CritinitError):
    """What was to be a cell is none: it lacks a function, one is not elementwise, or its file does not run."""


class FileError(CritinitError):
    """A file cannot be read or written; a file that was to be written is as it was before."""

    def __init__(self, source: str, problem: Problem) -> None:
        self.source = source
        self.problem = problem
        super().__init__(f"{source}: {problem}")


class DataError(CritinitError):
    """Data do not hold what can be measured: a number that is not finite, text, another shape."""


class ApplyError(CritinitError):
    """A spec cannot be applied to this model; nothing of the model was changed."""


class WeightsError(CritinitError):
    """A file of weights is damaged, of an unknown kind, or holds nothing that the spec can be compared with."""


class MissingExtraError(CritinitError):
    """An optional dependency is missing."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed; install it with: pip install 'critinit[{extra}]'")
