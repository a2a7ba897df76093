"""``critinit simulate``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from critinit_cli import options
from critinit_cli.options import integer
from critinit_cli.output import as_json, complain, emit
from critinit_cli.usage import named_as_options

if TYPE_CHECKING:
    from critinit.simulation import Measurement
    from critinit.spec import InitSpec

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "simulate"
EXAMPLES = """\b
Examples:
  critinit simulate spec.json --width 500
  critinit spec --cell gru --T 200 | critinit simulate - --width 1000 --steps 500 --weights tied --json
"""

Width = Annotated[
    int, typer.Option("--width", metavar="N", help="Units.", parser=integer, show_default=False)
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        metavar="S",
        help="How long a perturbation is followed; T where that is left out.",
        parser=integer,
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="S", help="Seed of all that is drawn.", parser=integer)]
Networks = Annotated[
    int,
    typer.Option(
        "--networks", metavar="K", help="Networks drawn; their spread is the error.", parser=integer
    ),
]

Measured = dict[str, "tuple[Measurement | None, ...]"]


def command(
    file: options.File,
    width: Width,
    steps: Steps = None,
    seed: Seed = 0,
    networks: Networks = 4,
    weights: options.Weights = "both",
    json: options.JSON = False,
) -> int:
    """Measure the theory's numbers on networks.

    Says whether the prediction holds: where chi and the second moments are within their errors of what the
    spec predicts; the exit code is 3 where they are not.
    """
    from critinit.theory.analysis import predict

    from critinit.errors import ArgumentError
    from critinit.simulation import simulate
    from critinit_cli.reading import read_spec
    from critinit_cli.verdict import misses

    if networks < 2:
        raise ArgumentError(
            f"--networks: found {networks}; allowed: at least 2, for their spread is the error"
        )
    if not 0 <= seed < 2**63:
        raise ArgumentError(f"--seed: found {seed}; allowed: 0 to {2**63 - 1}")
    spec = read_spec(file)
    readings = ("untied", "tied") if weights == "both" else (weights,)
    measured: Measured = {}
    with named_as_options(), _progress() as progress:
        for reading in readings:
            measured[reading] = simulate(
                spec,
                width=width,
                steps=steps,
                seeds=networks,
                weights=cast("Any", reading),
                seed=seed,
                progress=progress(reading),
            )
    missed = misses(predict(spec), measured)
    emit(as_json(_as_object(spec, measured, missed)) if json else _as_text(spec, measured, missed, width))
    for miss in missed:
        complain("missed", miss)
    return 3 if missed else 0


def _as_object(spec: InitSpec, measured: Measured, missed: list[str]) -> dict[str, Any]:
    layers = []
    for index in range(len(spec.layers)):
        layer: dict[str, Any] = {"untied": None, "tied": None, "lyapunov": {}}
        for reading, results in measured.items():
            result = results[index]
            if result is not None:
                layer[reading] = result.numbers.model_dump(mode="json")
                layer["lyapunov"][reading] = {
                    "exponents": result.lyapunov.tolist(),
                    "standard_error": result.lyapunov_error.tolist(),
                }
        layers.append(layer)
    return {"layers": layers, "prediction_holds": not missed, "misses": missed}


def _as_text(spec: InitSpec, measured: Measured, missed: list[str], width: int) -> str:
    from critinit_cli.numbers import layers_as_text

    def numbers(reading: str, index: int) -> Any:
        result = measured[reading][index] if reading in measured else None
        return None if result is None else result.numbers

    layers = [(numbers("untied", n), numbers("tied", n)) for n in range(len(spec.layers))]
    weights = "both" if len(measured) == 2 else next(iter(measured))
    verdict = "the prediction does not hold" if missed else "the prediction holds"
    return layers_as_text(spec, layers, weights) + f"measured on networks of {width} units: {verdict}\n"


@contextmanager
def _progress() -> Iterator[Callable[[str], Callable[[int, int], None] | None]]:
    """Progress bars on a terminal's stderr; nothing where stderr is none."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda reading: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:

        def start(reading: str) -> Callable[[int, int], None]:
            task = bars.add_task(f"{reading} weights", total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield start
