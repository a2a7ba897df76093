"""The entry point: from arguments to an exit code.

    0    good
    1    the spec is invalid, or the data to be measured, or a file of weights
    2    usage: an option, a file that cannot be read or written
    3    valid, but the spec misses its own target or prediction, or the weights are not what it asks
    130  interrupted

Whatever goes wrong is one line on stderr.  ``CRITINIT_DEBUG=1`` shows the traceback of a bug.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

__all__ = ["execute", "run"]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; what ``critinit`` on the path calls."""
    if not sys.warnoptions:  # numerical warnings are for developers: python -W default shows them
        warnings.simplefilter("ignore")
    try:
        # imported here so that an interrupt during the imports ends quietly too
        from critinit_cli import output

        output.prepare()
        code = execute(sys.argv[1:] if arguments is None else arguments)
        return output.finish(code)
    except KeyboardInterrupt:
        return 130


def execute(arguments: Sequence[str]) -> int:
    """Run the command line within this process; returns the exit code."""
    from critinit import errors
    from critinit_cli.app import Abort, ClickException, app
    from critinit_cli.output import complain, refused
    from critinit_cli.usage import explain

    try:
        code = app(args=list(arguments), prog_name="critinit", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except ClickException as error:
        complain("error", explain(error))
        return 2
    except Abort:  # an interrupt, in older versions of typer
        return 130
    except (errors.SpecError, errors.DataError, errors.WeightsError) as error:
        complain("error", str(error))
        return 1
    except errors.CritinitError as error:
        complain("error", str(error))
        return 2
    except SystemExit as exit_:
        # shell completion ends this way, and help whose reader has gone
        return 0 if isinstance(exit_.__context__, BrokenPipeError) or not exit_.code else 2
    except (RecursionError, MemoryError) as error:
        complain("error", f"this is too large to compute here ({type(error).__name__})")
        return 2
    except Exception as error:
        if os.environ.get("CRITINIT_DEBUG"):
            raise
        if isinstance(error, OSError) and error.filename is None:  # help that cannot be written
            complain("error", str(refused(error)))
            return 2
        complain("error", f"{type(error).__name__}: {error} (a bug in critinit; CRITINIT_DEBUG=1 shows where)")
        return 2
