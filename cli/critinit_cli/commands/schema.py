"""``critinit schema``."""

from __future__ import annotations

from critinit_cli import codes
from critinit_cli.options import CellFile, Output
from critinit_cli.output import emit

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "schema"
EXAMPLES = """\b
Examples:
  critinit schema -o initspec.v1.schema.json
"""


def command(output: Output = "-", cell_file: CellFile = None) -> int:
    """Print the JSON Schema of specs (draft 2020-12).

    It takes specs of critinit's own cells, and of those in the files that --cell-file names.
    """
    from critinit.spec.schema import schema_text
    from critinit_cli.reading import register_cells

    emit(schema_text(register_cells(cell_file)), output)
    return codes.GOOD
