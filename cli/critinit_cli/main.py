"""The entry point: from arguments to an exit code, those of ``critinit_cli.codes``.

Whatever goes wrong is one line on stderr.  With ``CRITINIT_DEBUG=1`` a bug shows its traceback too.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from critinit_cli import codes, progress
from critinit_cli.threads import one_thread

__all__ = ["execute", "run"]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line as the process that ``critinit`` starts.

    Args:
        arguments: What stands after ``critinit``; that of this process unless given.

    Returns:
        The exit code.
    """
    if not sys.warnoptions:  # numerical warnings are for developers: python -W default shows them
        warnings.simplefilter("ignore")
    one_thread()
    progress.begin()
    try:
        # imported here so that an interrupt during the imports ends quietly too
        from critinit_cli import output

        output.prepare()
        code = execute(sys.argv[1:] if arguments is None else arguments)
        return output.finish(code)
    except KeyboardInterrupt:
        return codes.INTERRUPTED


def execute(arguments: Sequence[str]) -> int:
    """Run the command line within this process, and return the exit code."""
    from critinit_cli.app import app

    with _plugin_notes():
        try:
            code = app(args=list(arguments), prog_name="critinit", standalone_mode=False)
        except (Exception, SystemExit) as error:
            return _failed(error)
    return code if isinstance(code, int) else codes.GOOD


@contextmanager
def _plugin_notes() -> Iterator[None]:
    """Show as a note on stderr that something installed was skipped."""
    from critinit.errors import PluginWarning
    from critinit_cli.output import complain

    shown = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, PluginWarning):
            complain("note", str(message))
        else:
            shown(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", PluginWarning)
        warnings.showwarning = show
        yield


def _failed(error: BaseException) -> int:
    """Say on stderr what went wrong, and return the exit code."""
    from critinit import errors
    from critinit_cli.app import Abort, ClickException
    from critinit_cli.output import complain, refused
    from critinit_cli.usage import explain

    if isinstance(error, Abort):  # an interrupt, in older versions of typer
        return codes.INTERRUPTED
    if isinstance(error, SystemExit):
        # shell completion ends this way, and help whose reader has gone
        return codes.GOOD if isinstance(error.__context__, BrokenPipeError) or not error.code else codes.USAGE
    if isinstance(error, ClickException):
        complain("error", explain(error))
        return codes.USAGE
    if isinstance(error, errors.CritinitError):
        complain("error", str(error))
        invalid = isinstance(error, (errors.SpecError, errors.DataError, errors.WeightsError))
        return codes.INVALID if invalid else codes.USAGE
    if isinstance(error, OSError) and error.filename is None:  # help that cannot be written
        complain("error", str(refused(error)))
        return codes.USAGE
    if isinstance(error, MemoryError):
        complain("error", _without_memory(error))
        return codes.MEMORY
    return _bug(error)


def _without_memory(error: MemoryError) -> str:
    reason = f" ({error})" if str(error) else ""
    return f"memory: found too little{reason}; smaller --width, --hidden-size, --steps, --layers or T need less"


def _bug(error: BaseException) -> int:
    """Say what a bug is and how to report it."""
    from critinit_cli.output import complain

    if os.environ.get("CRITINIT_DEBUG"):
        import traceback

        traceback.print_exception(error)
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    complain("error", f"{reason}; this is a bug in critinit: please report it with CRITINIT_DEBUG=1's output")
    return codes.BUG
