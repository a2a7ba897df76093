"""``critinit schema``."""

from __future__ import annotations

from critinit_cli.options import Output
from critinit_cli.output import emit

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "schema"
EXAMPLES = """\b
Examples:
  critinit schema -o initspec.v1.schema.json
"""


def command(output: Output = "-") -> int:
    """Print the JSON Schema of specs (draft 2020-12)."""
    from critinit.spec.schema import schema_text

    emit(schema_text(), output)
    return 0
