"""``critinit plot``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from critinit_cli import codes, options
from critinit_cli.options import integer
from critinit_cli.output import complain, emit
from critinit_cli.progress import progress_bars

if TYPE_CHECKING:
    from critinit.plotting import Study
    from critinit.spec import InitSpec
    from critinit_cli.progress import Progress

__all__ = ["EXAMPLES", "KINDS", "NAME", "command"]

NAME = "plot"
EXAMPLES = """\b
Examples:
  critinit plot spec.json -o times.png
  critinit plot spec.json --x layers.0.gates.update.bias.mean=0:8 --y layers.0.input.variance -o phase.svg
  critinit plot spec.json --kind distance --dark -o distance.svg
  critinit plot spec.json --all -o report
"""

KINDS = ("time-constants", "phase", "singular-values", "distance", "compare")
"""For help and completion, which must not wait for imports; a test holds it to ``critinit.plotting``."""

_FILES = ("png", "svg", "pdf", "jpg", "jpeg", "html")
"""Endings of names that mean a file, not the folder of --all."""
PAGE = "index.html"
"""The file that --all writes in the folder."""

Kind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help=f"One of {', '.join(KINDS)} [default: phase with --x, --y or --points, else what says most of the spec].",
        autocompletion=options.completion(lambda: KINDS),
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
All = Annotated[bool, typer.Option("--all", help=f"Write every picture, and what it means, as one page, {PAGE}.")]
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

    A phase diagram over any two hyperparameters, the Jacobian's singular values, the distance of two perturbed copies
    over time, the time constants of the units, or every scheme side by side.
    """
    from critinit import files
    from critinit.plotting import Study
    from critinit_cli.reading import read_spec

    _check_numbers(width, networks, seed)
    ending = _ending(output, all)
    _check_kind(kind, all, {"x": x, "y": y, "points": points})
    _needs_matplotlib()
    spec = read_spec(file, cell_file)
    files.writable(output, folder=all)  # before minutes of computing
    phase = {"x": _range("x", x), "y": _range("y", y), "points": points}
    with progress_bars() as start:
        progress = _shown_with(start)
        study = Study(spec, layer=layer, width=width, networks=networks, seed=seed, progress=progress)
        if all:
            _write_page(study, phase, output)
        else:
            _write_picture(study, kind or _default_kind(spec, phase), phase, output, ending, dark)
    return codes.GOOD


def _check_kind(kind: str | None, all: bool, axes: Mapping[str, object]) -> None:
    """Raise ``ArgumentError`` where the options do not go together; ``axes``: those about the phase diagram."""
    from critinit.errors import ArgumentError

    if kind is None:
        return
    if all:
        raise ArgumentError("kind", found=kind, allowed="without --all, which draws every kind")
    if kind not in KINDS:
        raise ArgumentError("kind", found=repr(kind), allowed=", ".join(KINDS))
    for name, value in axes.items():
        if value is not None and kind != "phase":
            allowed = "with --kind phase, whose axes it is about"
            raise ArgumentError(name, found=f"{value} with --kind {kind}", allowed=allowed)


def _default_kind(spec: InitSpec, phase: Mapping[str, object]) -> str:
    """The kind of picture that is meant where none is named."""
    from critinit.plotting import default_kind

    return default_kind(spec) if all(value is None for value in phase.values()) else "phase"


def _ending(output: str, all: bool) -> str:
    """The ending of the picture's name; any where a folder is meant."""
    from critinit.errors import ArgumentError

    ending = Path(output).suffix.lower().removeprefix(".")
    if not all and ending not in ("png", "svg"):
        hint = "with --all it is a folder"
        raise ArgumentError("output", found=repr(output), allowed="a name that ends in .png or .svg", hint=hint)
    if all and ending in _FILES and not Path(output).is_dir():
        hint = f"--all writes a folder with a page, {PAGE}; for a single picture leave out --all"
        allowed = f"the name of a folder, such as {str(Path(output).with_suffix(''))!r}"
        raise ArgumentError("output", found=repr(output), allowed=allowed, hint=hint)
    return ending


def _shown_with(start: Callable[[str], Progress]) -> Callable[[str, int, int], None]:
    """A function that shows the progress of several computations, each with a bar of its own."""
    bars: dict[str, Progress] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = start(what)
        bars[what](done, total)

    return progress


def _write_picture(study: Study, kind: str, phase: dict[str, Any], output: str, ending: str, dark: bool) -> None:
    from critinit import files, plotting
    from critinit.errors import ArgumentError

    chosen = plotting.KINDS[kind]
    try:
        found = chosen.compute(study, **(phase if kind == "phase" else {}))
    except ArgumentError as error:
        suited = plotting.kinds_of(study.spec)
        if kind in suited:
            raise
        raise error.replace(hint=f"{error.hint}; kinds that show this spec: {', '.join(suited)}") from None
    files.write(output, plotting.render(plotting.picture(chosen, found, dark=dark), ending))


def _write_page(study: Study, phase: dict[str, Any], folder: str) -> None:
    """Write the page; pictures that the cell cannot have are left out, and a note names them."""
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
            left_out.append(f"{kind.title}: left out; {error.problem._replace(where='')}.")
            continue
        light, dark = (plotting.render(plotting.picture(kind, found, dark=dark), "svg") for dark in (False, True))
        pictures.append(Picture(name, kind.title, light, dark, kind.explanation, found.summary()))
    columns = {"untied": study.untied_numbers, "tied": study.tied_numbers}
    text = page(study.spec, study.index, columns, pictures, left_out)
    path = Path(folder)
    files.make_folder(folder)
    emit(text, str(path / PAGE))
    for line in left_out:
        complain("note", line)
    emit(f"{path / PAGE}\n")


def _range(name: str, text: str | None) -> Any:
    """PATH, or PATH=LOW:HIGH, as the plotting functions take it."""
    from critinit.errors import ArgumentError

    if text is None or "=" not in text:
        return text
    path, _, values = text.partition("=")
    try:
        low, high = (float(value) for value in values.split(":"))
    except ValueError:
        raise ArgumentError(name, found=repr(values), allowed="LOW:HIGH, two numbers") from None
    return path, low, high


def _check_numbers(width: int, networks: int, seed: int) -> None:
    """Raise ``ArgumentError`` for options out of their range."""
    from critinit.errors import ArgumentError

    if width < 5:
        raise ArgumentError("width", found=str(width), allowed="at least 5")
    if networks < 1:
        raise ArgumentError("networks", found=str(networks), allowed="at least 1")
    if not 0 <= seed < 2**63:
        raise ArgumentError("seed", found=str(seed), allowed=f"0 to {2**63 - 1}")


def _needs_matplotlib() -> None:
    """Raise ``MissingExtraError`` where matplotlib is missing, before anything is computed."""
    from importlib.util import find_spec

    from critinit.errors import MissingExtraError

    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot")
