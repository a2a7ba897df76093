"""The table of commands."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Abort

from critinit_cli import codes
from critinit_cli.commands import (
    analyze,
    check,
    compare,
    diagnose,
    materialize,
    plot,
    predict,
    schema,
    simulate,
    spec,
    validate,
)
from critinit_cli.usage import Command

__all__ = ["Abort", "ClickException", "app"]

# typer carries click within itself or beside it, depending on its version; this is its base error in both
ClickException: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="critinit",
    help="Compute initial weights for recurrent networks that have to remember over many steps.",
    epilog="\b\nExample:\n  critinit spec --cell gru --T 784 > spec.json",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from critinit._version import __version__
        from critinit_cli.output import emit

        emit(f"critinit {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> int:
    if context.invoked_subcommand is None:
        from critinit_cli.output import emit

        emit(context.get_help() + "\n")
        return codes.USAGE
    return codes.GOOD


for _module in (spec, validate, predict, analyze, simulate, compare, plot, materialize, check, diagnose, schema):
    app.command(_module.NAME, epilog=_module.EXAMPLES, cls=Command)(_module.command)
