"""The numbers of a spec's layers as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from critinit_cli.tables import render

if TYPE_CHECKING:
    from critinit.spec import InitSpec, Numbers

__all__ = ["layers_as_text"]

_NO_READING = "no numbers: an identity kernel cannot be drawn anew at every step"


def layers_as_text(
    spec: InitSpec,
    columns: Mapping[str, Sequence[Numbers | None]],
    of: str = "",
    features: Sequence[int | None] | None = None,
) -> str:
    """Return a table for each layer, and the notes on its numbers.

    Args:
        spec: The spec.
        columns: The title of each column -> the numbers of every layer.
        of: What the numbers are of, for the tables' titles.
        features: Of how many features the inputs are for which they are, layer by layer; None: of many.
    """
    from critinit.spec.tables import heading, number_rows, of_features

    parts = []
    for index in range(len(spec.layers)):
        readings = {name: numbers[index] for name, numbers in columns.items()}
        read = None if features is None else features[index]
        title = heading(spec, index) + (f", {of}" if of else "") + of_features(read)
        parts.append(render(title, ("", *readings), number_rows(readings.values()), wrap=(0,)))
        for name, numbers in readings.items():
            notes = (_NO_READING,) if numbers is None else numbers.notes
            parts.extend(f"{name}: {note}\n" for note in notes)
    return "".join(parts)
