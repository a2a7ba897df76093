"""The command table."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Abort

from critinit_cli.commands import (
    analyze,
    check,
    compare,
    materialize,
    plot,
    schema,
    simulate,
    spec,
    validate,
)

__all__ = ["Abort", "ClickException", "app"]

# typer carries click within itself or beside it, depending on its version; this is its base error in both
ClickException: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="critinit",
    help="Critical initialization of recurrent networks: from a cell and a sequence length to a spec.",
    epilog="\b\nExample:\n  critinit spec --cell gru --T 784 > spec.json",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        from critinit_cli.output import emit

        try:
            emit(f"critinit {metadata.version('critinit')}\n")
        except metadata.PackageNotFoundError:
            emit("critinit, not installed\n")
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
        return 2
    return 0


for _module in (spec, validate, analyze, simulate, compare, plot, materialize, check, schema):
    app.command(_module.NAME, epilog=_module.EXAMPLES)(_module.command)
