"""The errors that critinit raises on purpose.

``CritinitError``
    ``SpecError``        a spec is not valid; ``problems`` lists all that is wrong with it
    ``ArgumentError``    an argument of a call is out of its range
        ``SchemeError``  a scheme does not suit the cell
    ``CellError``        a class is no valid cell
    ``PluginError``      what a file or a package should add to critinit is not what it should be
    ``FileError``        a file cannot be read or written
    ``DataError``        a data file does not hold numbers that can be measured
    ``ApplyError``       a spec cannot be applied to this model; the model was left as it was
    ``WeightsError``     a file of weights is damaged, of an unknown kind, or holds nothing that a spec describes
    ``MissingExtraError``  an optional dependency is not installed; the hint is the command that installs it

Every error has the fields ``where``, ``found``, ``allowed`` and ``hint``, any of which may be empty, and prints itself
from them on one line: ``where: found …; allowed: …; hint``.  Programs read the fields and never the message.

``PluginWarning`` is the warning that something installed or registered failed to load and was skipped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

__all__ = [
    "ApplyError",
    "ArgumentError",
    "CellError",
    "CritinitError",
    "DataError",
    "FileError",
    "MissingExtraError",
    "PluginError",
    "PluginWarning",
    "Problem",
    "SchemeError",
    "SpecError",
    "WeightsError",
]


class Problem(NamedTuple):
    """One thing that is wrong, in four parts: where, what was found, what is allowed, and the way out.

    Attributes:
        where: The argument, field path, file or module that it is about.
        found: What stands there.
        allowed: What may stand there.
        hint: The way out, or why it is not allowed.

    Example:
        >>> print(Problem("T", "0", "an integer from 1 to 1000000000"))
        T: found 0; allowed: an integer from 1 to 1000000000
    """

    where: str
    found: str = ""
    allowed: str = ""
    hint: str = ""

    def __str__(self) -> str:
        found = f"found {self.found}" if self.found else ""
        allowed = f"allowed: {self.allowed}" if self.allowed else ""
        said = "; ".join(filter(None, (found, allowed, self.hint)))
        return ": ".join(filter(None, (self.where, said)))


class CritinitError(Exception):
    """The base of every error that critinit raises on purpose.

    Args:
        where: The argument, field path or module that the error is about.
        found: What was found.
        allowed: What is allowed.
        hint: The way out, or the reason.
        source: The file that it is about, where there is one.

    Errors can be pickled, so they come out of worker processes whole.
    """

    def __init__(
        self, where: str = "", *, found: str = "", allowed: str = "", hint: str = "", source: str = ""
    ) -> None:
        super().__init__(where)
        self.problem = Problem(where, found, allowed, hint)
        self.source = source

    @property
    def where(self) -> str:
        """The argument, field path or module that the error is about."""
        return self.problem.where

    @property
    def found(self) -> str:
        """What was found."""
        return self.problem.found

    @property
    def allowed(self) -> str:
        """What is allowed."""
        return self.problem.allowed

    @property
    def hint(self) -> str:
        """The way out, or the reason."""
        return self.problem.hint

    def replace(self, *, where: str | None = None, hint: str | None = None, source: str | None = None) -> Self:
        """Return the same error with another place, hint or file."""
        error = copy.copy(self)
        error.problem = self.problem._replace(
            where=self.where if where is None else where, hint=self.hint if hint is None else hint
        )
        error.source = self.source if source is None else source
        return error

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.source, str(self.problem))))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[..., CritinitError], tuple[object, ...]]:
        return _again, (type(self), self.args, self.__dict__.copy())


def _again(kind: type[CritinitError], arguments: tuple[object, ...], state: dict[str, object]) -> CritinitError:
    """Return an error as it was, without its ``__init__``."""
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class SpecError(CritinitError):
    """A spec is not valid.

    Args:
        problems: All that is wrong with it; the message shows the first and names the places of the others.
        source: The file that the spec comes from.
    """

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        first = problems[0]
        super().__init__(first.where, found=first.found, allowed=first.allowed, hint=first.hint, source=source)
        self.problems = tuple(problems)

    def replace(self, *, where: str | None = None, hint: str | None = None, source: str | None = None) -> Self:
        """Return the same error with another place or hint of its first problem, or another file."""
        error = super().replace(where=where, hint=hint, source=source)
        error.problems = (error.problem, *self.problems[1:])
        return error

    def __str__(self) -> str:
        rest = self.problems[1:]
        named = ", ".join(problem.where or "the file" for problem in rest[:3])
        more = f" (and {len(rest)} more: {named}{', …' if len(rest) > 3 else ''})" if rest else ""
        return f"{super().__str__()}{more}"


class ArgumentError(CritinitError):
    """An argument is out of its range."""


class SchemeError(ArgumentError):
    """A scheme does not suit the cell; another scheme may."""


class CellError(CritinitError):
    """What should be a cell is not: it lacks a function, one is not elementwise, or its file does not run."""


class PluginError(CritinitError):
    """What a file or a package should add is missing, fails to run, or is not valid."""


class PluginWarning(UserWarning):
    """Something installed failed to load; it was skipped, and all else works."""


class FileError(CritinitError):
    """A file cannot be read or written; a file that should be written is as it was before."""


class DataError(CritinitError):
    """Data do not hold numbers that can be measured: a number that is not finite, text, another shape."""


class ApplyError(CritinitError):
    """A spec cannot be applied to this model; nothing of the model was changed."""


class WeightsError(CritinitError):
    """A file of weights is damaged, of an unknown kind, or holds nothing that the spec can be compared with."""


class MissingExtraError(CritinitError):
    """An optional dependency is missing.

    Args:
        what: What is not installed.
        extra: critinit's extra that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(hint=f"{what} is not installed; install it with: pip install 'critinit[{extra}]'")
