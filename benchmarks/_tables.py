"""Tables of runs that several benchmarks keep: JSON lines, a line a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["keep", "records"]


def records(table: Path | None) -> list[dict[str, Any]]:
    """Return what a table holds; none where there is no file.  An unfinished last line is left out."""
    if table is None or not table.exists():
        return []
    return [json.loads(line) for line in table.read_text(encoding="utf-8").split("\n")[:-1]]


def keep(table: Path | None, made: Iterable[Mapping[str, Any]]) -> str:
    """Add lines to a table, where one is kept, and return them."""
    lines = "".join(json.dumps(record) + "\n" for record in made)
    if table is not None:
        with table.open("a", encoding="utf-8") as file:
            file.write(lines)
    return lines
