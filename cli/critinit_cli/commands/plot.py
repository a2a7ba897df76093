"""``critinit plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from critinit_cli import options
from critinit_cli.options import integer
from critinit_cli.output import complain, emit
from critinit_cli.progress import progress_bars
from critinit_cli.usage import named_as_options

if TYPE_CHECKING:
    from critinit.plotting import Study

__all__ = ["EXAMPLES", "KINDS", "NAME", "command"]

NAME = "plot"
EXAMPLES = """\b
Examples:
  critinit plot spec.json -o phase.png
  critinit plot spec.json --x layers.0.gates.update.bias.mean=0:8 --y layers.0.gates.candidate.recurrent.variance -o phase.svg
  critinit plot spec.json --kind distance --dark -o distance.svg
  critinit plot spec.json --all -o report
"""

KINDS = ("phase", "singular-values", "distance", "time-constants", "compare")
"""For help and completion, which must not wait for imports; a test holds it to ``critinit.plotting``."""

PAGE = "index.html"

Kind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help=f"One of {', '.join(KINDS)} [default: phase].",
        autocompletion=lambda incomplete: [kind for kind in KINDS if kind.startswith(incomplete)],
    ),
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="The picture, .png or .svg; with --all the folder.",
        show_default=False,
    ),
]
All = Annotated[bool, typer.Option("--all", help=f"Write every picture, and what it means, as one page: {PAGE}.")]
Dark = Annotated[bool, typer.Option("--dark", help="For a dark page. The page of --all has both.")]
Hyperparameter = Annotated[
    str | None,
    typer.Option(
        metavar="PATH[=LOW:HIGH]",
        help="phase: a value of the spec, as in --set of critinit spec, and its range.",
    ),
]
Points = Annotated[
    int | None, typer.Option("--points", metavar="N", help="phase: points along either axis.", parser=integer)
]
LayerIndex = Annotated[int, typer.Option("--layer", metavar="L", help="Which layer, from 0.", parser=integer)]
Width = Annotated[int, typer.Option("--width", metavar="N", help="Units of the simulated networks.", parser=integer)]
Networks = Annotated[int, typer.Option("--networks", metavar="K", help="Networks drawn.", parser=integer)]
Seed = Annotated[int, typer.Option("--seed", metavar="S", help="Seed of all that is drawn.", parser=integer)]


def command(
    file: options.File,
    output: Output,
    kind: Kind = None,
    all: All = False,
    x: Hyperparameter = None,
    y: Hyperparameter = None,
    points: Points = None,
    layer: LayerIndex = 0,
    width: Width = 200,
    networks: Networks = 4,
    seed: Seed = 0,
    dark: Dark = False,
    cell_file: options.CellFile = None,
) -> int:
    """Draw what theory and simulated networks say of a spec.

    A phase diagram over any two hyperparameters, the Jacobian's singular values, the distance of two copies over
    time, the time constants of the units, or every scheme side by side.
    """
    from critinit import files
    from critinit.errors import ArgumentError
    from critinit.plotting import Study
    from critinit_cli.reading import read_spec

    if kind is not None and all:
        raise ArgumentError("--kind: allowed: without --all, which draws every kind")
    kind = kind or "phase"
    if kind not in KINDS:
        raise ArgumentError(f"--kind: found {kind!r}; allowed: {', '.join(KINDS)}")
    ending = Path(output).suffix.lower().removeprefix(".")
    if not all and ending not in ("png", "svg"):
        raise ArgumentError(f"--output: found {output!r}; allowed: a name that ends in .png or .svg")
    for name, value in (("x", x), ("y", y), ("points", points)):
        if value is not None and kind != "phase" and not all:
            raise ArgumentError(f"--{name}: allowed: with --kind phase, whose axes it is about")
    _check(width, networks, seed)
    _needs_matplotlib()
    spec = read_spec(file, cell_file)
    files.writable(output, folder=all)  # before minutes of computing
    phase = {"x": _range("x", x), "y": _range("y", y), "points": points}
    with named_as_options(), progress_bars() as start:
        bars: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = start(what)
            if bars[what] is not None:
                bars[what](done, total)

        study = Study(spec, layer=layer, width=width, networks=networks, seed=seed, progress=progress)
        if all:
            return _report(study, phase, output)
        return _picture(study, kind, phase, output, ending, dark)


def _picture(study: Study, kind: str, phase: dict[str, Any], output: str, ending: str, dark: bool) -> int:
    from critinit import files, plotting

    chosen = plotting.KINDS[kind]
    found = chosen.compute(study, **(phase if kind == "phase" else {}))
    files.write(output, plotting.render(plotting.picture(chosen, found, dark=dark), ending))
    return 0


def _report(study: Study, phase: dict[str, Any], folder: str) -> int:
    """Write the page; pictures that the cell cannot have are said and left out."""
    from critinit import files, plotting
    from critinit.errors import ArgumentError
    from critinit_cli.report import Picture, page

    pictures, left_out = [], []
    for name, kind in plotting.KINDS.items():
        try:
            found = kind.compute(study, **(phase if name == "phase" else {}))
        except ArgumentError as error:
            if name == "phase" and (phase["x"] or phase["y"]):
                raise
            left_out.append(f"{kind.title}: left out; {str(error).partition(': ')[2]}.")
            continue
        light, dark = (plotting.render(plotting.picture(kind, found, dark=dark), "svg") for dark in (False, True))
        pictures.append(Picture(name, kind.title, light, dark, kind.words, found.summary()))
    columns = {"untied": study.numbers("untied"), "tied": study.numbers("tied")}
    text = page(study.spec, study.index, columns, pictures, left_out)
    path = Path(folder)
    files.make_folder(folder)
    emit(text, str(path / PAGE))
    for line in left_out:
        complain("note", line)
    emit(f"{path / PAGE}\n")
    return 0


def _range(name: str, text: str | None) -> Any:
    """PATH, or PATH=LOW:HIGH, as the plotting functions take it."""
    from critinit.errors import ArgumentError

    if text is None or "=" not in text:
        return text
    path, _, values = text.partition("=")
    try:
        low, high = (float(value) for value in values.split(":"))
    except ValueError:
        raise ArgumentError(f"--{name}: found {values!r}; allowed: LOW:HIGH, two numbers") from None
    return path, low, high


def _check(width: int, networks: int, seed: int) -> None:
    from critinit.errors import ArgumentError

    if width < 5:
        raise ArgumentError(f"--width: found {width}; allowed: at least 5")
    if networks < 1:
        raise ArgumentError(f"--networks: found {networks}; allowed: at least 1")
    if not 0 <= seed < 2**63:
        raise ArgumentError(f"--seed: found {seed}; allowed: 0 to {2**63 - 1}")


def _needs_matplotlib() -> None:
    """Say that the extra is missing before anything is computed."""
    from importlib.util import find_spec

    from critinit.errors import MissingExtraError

    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot")
