"""``critinit diagnose``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from critinit_cli import codes, options
from critinit_cli.commands.check import Module, Weights
from critinit_cli.commands.spec import Array, Columns, Csv, Group, Layout, Time
from critinit_cli.output import as_json, complain, emit

if TYPE_CHECKING:
    from critinit.diagnosis.result import Diagnosis

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "diagnose"
EXAMPLES = """\b
Examples:
  critinit diagnose spec.json model.safetensors --data train.npy
  critinit diagnose spec.json last.pt --data train.npy --reference first.pt
  critinit diagnose spec.json last.ckpt --data sensors.csv --columns speed,angle --json
  critinit diagnose spec.json model.weights.h5 --module layers/gru --data train.npy --picture course.png
"""

Spec = Annotated[
    str,
    typer.Argument(metavar="SPEC", help="The spec that the weights started from; - is standard input.",
                   show_default=False),
]  # fmt: skip
Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="FILE",
        help="What the lowest recurrent layer reads: .npy, .npz, .safetensors, .csv, .parquet, .feather, .arrow.",
        show_default=False,
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="FILE",
        help="The weights of the same networks at an earlier time, to compare with: the start, or a checkpoint.",
    ),
]
Sequences = Annotated[
    int | None,
    typer.Option(
        "--sequences",
        metavar="N",
        help="How many sequences are followed [default: one in sixteen, two to eight].",
        parser=options.integer,
    ),
]
Exponents = Annotated[
    int,
    typer.Option(
        "--exponents",
        metavar="K",
        help="How many Lyapunov exponents are stated, and perturbations followed.",
        parser=options.integer,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="S", help="Seed of the perturbations' directions.", parser=options.integer)
]
Picture = Annotated[
    str | None,
    typer.Option("--picture", metavar="FILE", help="Also draw the courses, as .png or .svg; needs matplotlib."),
]


def command(
    spec: Spec,
    weights: Weights,
    data: Data,
    reference: Reference = None,
    framework: options.Framework = None,
    module: Module = None,
    layout: Layout = None,
    array: Array = None,
    columns: Columns = None,
    group: Group = None,
    time: Time = None,
    csv: Csv = None,
    sequences: Sequences = None,
    exponents: Exponents = 4,
    seed: Seed = 0,
    json: options.JSON = False,
    picture: Picture = None,
    cell_file: options.CellFile = None,
) -> int:
    """Say what the recurrent layers in a file of weights, fresh or trained, do with your data.

    How long they remember, whether gradients vanish or explode, whether they are chaotic, and what the spec predicted.
    The framework need not be installed. The exit code is 0 where nothing was found, 3 where something was, 1 where
    the spec, the weights or the data are not valid, 2 for options and files that cannot be read.
    """
    from critinit.diagnosis.files import diagnose_file
    from critinit.errors import DataError
    from critinit.inputs.sequences import read_sequences
    from critinit_cli.inputs import Reading
    from critinit_cli.reading import read_spec

    ending = None if picture is None else _ending(picture)
    reading = Reading(layout, array, columns, group, time, tuple(csv or ())).arguments()
    try:
        found = diagnose_file(
            read_spec(spec, cell_file),
            weights,
            read_sequences(data, **reading),
            reference=reference,
            framework=framework,
            module=module or (),
            sequences=sequences,
            exponents=exponents,
            seed=seed,
        )
    except DataError as error:  # of what a layer reads, it does not know the file
        raise error.replace(source=error.source or data) from None
    if picture is not None and ending is not None:
        _draw(found, picture, ending)
    emit(as_json(found.to_dict()) if json else _as_text(found))
    if not json:
        for note in found.notes:
            complain("note", note)
    return codes.GOOD if found.is_fine else codes.MISSED


def _ending(path: str) -> str:
    """The format of a picture; refuses another one before anything is computed."""
    from pathlib import Path

    from critinit.errors import ArgumentError
    from critinit.plotting.style import FORMATS

    ending = Path(path).suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        allowed = f"a file name that ends in {' or '.join(f'.{name}' for name in FORMATS)}"
        raise ArgumentError("picture", found=repr(path), allowed=allowed)
    return ending


def _draw(found: Diagnosis, path: str, ending: str) -> None:
    from critinit import files, plotting

    files.write(path, plotting.render(plotting.diagnosis(found), ending))


def _as_text(found: Diagnosis) -> str:
    """A table for each layer with the verdict on it, and the verdict on all."""
    from critinit_cli.tables import GLOSSARY, paragraph, render

    parts = []
    for layer, table in zip(found, found._tables(), strict=True):
        followed, *_ = table.below
        verdict = paragraph(f"verdict: {layer.verdict}")
        parts += [render(table.title, table.columns, table.rows), f"{followed}\n", verdict, "\n"]
    explained = GLOSSARY.replace("glossary.md", "diagnose.md")
    return "".join((*parts, explained, paragraph(f"verdict on all: {found.verdict}") if len(found) > 1 else ""))
