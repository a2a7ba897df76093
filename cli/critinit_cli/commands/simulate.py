"""``critinit simulate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from critinit_cli import codes, options
from critinit_cli.options import integer
from critinit_cli.output import as_json, complain, emit
from critinit_cli.progress import progress_bars

if TYPE_CHECKING:
    from critinit.simulation import Measurement
    from critinit.spec import InitSpec, Numbers
    from critinit_cli.progress import Progress
    from critinit_cli.verdict import Compared

    Readings = Mapping[str, Sequence[Numbers | None]]
    Measured = Mapping[str, tuple[Measurement | None, ...]]

__all__ = ["EXAMPLES", "NAME", "command"]

NAME = "simulate"
_NOT_COMPARED = "for inputs of infinitely many features, so it is not compared"
EXAMPLES = """\b
Examples:
  critinit simulate spec.json --width 500
  critinit spec --cell gru --T 200 | critinit simulate - --width 1000 --steps 500 --weights tied --json
"""

Width = Annotated[
    int,
    typer.Option(
        "--width", metavar="N", help="Units of each network, from 5 to 100,000.", parser=integer, show_default=False
    ),
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
    typer.Option("--networks", metavar="K", help="Networks drawn; the error is estimated from them.", parser=integer),
]


def command(
    file: options.File,
    width: Width,
    steps: Steps = None,
    seed: Seed = 0,
    networks: Networks = 6,
    features: options.Features = None,
    weights: options.Weights = "both",
    json: options.JSON = False,
    cell_file: options.CellFile = None,
) -> int:
    """Measure the theory's numbers on networks.

    Below the tables stands what was compared with the prediction: the growth over T steps, the growth after many
    steps where it can be measured, and the second moments, each with the difference and the limit. The last line says
    whether the prediction holds; the exit code is 3 where it does not. A number whose error is more than half of it
    decides nothing, and the last line says so where that is the growth over T steps.

    Compared is what the spec states. Where it has only the fast estimate for tied weights, as theory makes it, or
    nothing, the full tied theory is sampled, as analyze does; a note below the table says which it was. Of kernels of
    an exact spectral radius the prediction is for networks of this width.

    Inputs of a few numbers make another state than those of many, mostly a larger one. Where --features states how
    many there are, or the spec records it, the networks read as many, and are compared with the full tied theory for
    as many. The untied theory is for many, so untied numbers are not compared then.
    """
    from critinit.simulation import simulate
    from critinit.theory.analysis import features_counted
    from critinit.theory.protocol import features_of, features_of_layers
    from critinit_cli.reading import read_spec

    _check(networks, seed)
    spec = read_spec(file, cell_file)
    few = features_counted(spec, features)
    features = features_of(spec) if features is None else features
    with progress_bars() as bar:
        measured = {
            reading: simulate(
                spec,
                width=width,
                steps=steps,
                seeds=networks,
                weights=cast("Any", reading),
                seed=seed,
                features=features,
                progress=bar(f"{reading} weights"),
            )
            for reading in (("untied", "tied") if weights == "both" else (weights,))
        }
        found = {reading: [None if m is None else m.numbers for m in results] for reading, results in measured.items()}
        expected, compared = _judged(spec, found, networks, width, steps, few, bar("tied theory"))
    missed = [one for one in compared if not one.holds]
    if json:
        read = features_of_layers(spec, features)
        emit(as_json(_as_object(measured, expected, compared, read)))
    else:
        networks_read = "" if features is None else f" that read {features} feature{'s' * (features > 1)}"
        emit(_as_text(spec, found, expected, compared, f"{networks} networks of {width} units{networks_read}", few))
    for miss in missed:
        complain("missed", str(miss))
    return codes.MISSED if missed else codes.GOOD


def _check(networks: int, seed: int) -> None:
    """Raise ``ArgumentError`` for options out of their range."""
    from critinit.errors import ArgumentError

    if networks < 2:
        hint = "the error is estimated from the differences between networks"
        raise ArgumentError("networks", found=str(networks), allowed="at least 2", hint=hint)
    if not 0 <= seed < 2**63:
        raise ArgumentError("seed", found=str(seed), allowed=f"0 to {2**63 - 1}")


def _judged(
    spec: InitSpec,
    found: Readings,
    networks: int,
    width: int,
    steps: int | None,
    features: int | None,
    progress: Progress | None,
) -> tuple[dict[str, Sequence[Numbers | None]], list[Compared]]:
    """What is predicted for the readings that were measured, and every number compared with it.

    Untied numbers of layers that few features reach are not, for the untied theory is for many.

    Where kernels of this width differ from those of an infinitely wide network, the tied prediction is for this width
    (``at_width``); weights that are drawn anew have the variance of an infinitely wide one.
    """
    from critinit.theory.protocol import features_of_layers
    from critinit.theory.widths import at_width, excesses
    from critinit_cli.verdict import compared

    expected: dict[str, Sequence[Numbers | None]] = {}
    if "untied" in found:
        few = [read is not None for read in features_of_layers(spec, features)]
        expected["untied"] = [
            _noted(one, _NOT_COMPARED) if one and reached else one
            for one, reached in zip(_predicted_untied(spec), few, strict=True)
        ]
        comparable = [None if reached else one for one, reached in zip(found["untied"], few, strict=True)]
        found = {**found, "untied": comparable}
    if "tied" in found:
        expected["tied"] = _predicted_tied(at_width(spec, width, features), steps, features, progress)
    added = excesses(spec, expected["tied"], width, features) if "tied" in expected else ()
    return expected, compared(expected, found, spec.T, networks=networks, width=width, excess=added)


def _predicted_untied(spec: InitSpec) -> list[Numbers | None]:
    """What the spec says of every layer with untied weights, or the theory where the spec says nothing."""
    from critinit.spec import NotComputed
    from critinit.theory.analysis import untied_numbers

    stated = [(layer, layer.predicted.untied) for layer in spec.layers]
    return [untied_numbers(spec, layer) if isinstance(one, NotComputed) else one for layer, one in stated]


def _predicted_tied(
    spec: InitSpec, steps: int | None, features: int | None, progress: Progress | None
) -> list[Numbers | None]:
    """What the spec says of every layer with tied weights, or the full theory where it has no more than an estimate.

    Numbers that call themselves an estimate, and are not the one that theory makes, are somebody's own prediction; so
    are all that theory does not make, where it made the spec's for other inputs than these of few features.  The first
    note of each says which of the two it is.
    """
    from critinit.spec import Numbers
    from critinit.spec.tables import of_features
    from critinit.theory.analysis import deviations, tied_numbers
    from critinit.theory.protocol import features_of_layers
    from critinit.theory.tied.estimate import is_estimate

    few = features_of_layers(spec, features)
    stated = [layer.predicted.tied for layer in spec.layers]
    estimates = [
        isinstance(one, Numbers) and (reached is not None or is_estimate(one))
        for one, reached in zip(stated, few, strict=True)
    ]
    changed = " ".join(problem.where for problem in deviations(spec)) if any(estimates) else ""
    own = [
        one if isinstance(one, Numbers) and (not estimate or f"layers.{index}.predicted.tied" in changed) else None
        for index, (one, estimate) in enumerate(zip(stated, estimates, strict=True))
    ]
    full = tied_numbers(spec, features=features, steps=steps, progress=progress) if None in own else own
    return [
        _noted(one, "as the spec states")
        if one
        else found and _noted(found, f"by the full tied theory{of_features(reached)}")
        for one, found, reached in zip(own, full, few, strict=True)
    ]


def _noted(numbers: Numbers, note: str) -> Numbers:
    """The numbers with one more note, before the others."""
    return numbers.model_copy(update={"notes": (note, *numbers.notes)})


def _as_object(
    measured: Measured, expected: Readings, compared: Sequence[Compared], read: Sequence[int | None]
) -> dict[str, Any]:
    """The numbers in the form of ``analyze``; beside them the Lyapunov exponents and what was predicted."""
    layers = []
    for index, features in enumerate(read):
        layer: dict[str, Any] = {"features": features, "untied": None, "tied": None, "lyapunov": {}, "predicted": {}}
        for reading, results in measured.items():
            result, prediction = results[index], expected[reading][index]
            layer["predicted"][reading] = prediction and prediction.model_dump(mode="json")
            if result is not None:
                layer[reading] = result.numbers.model_dump(mode="json")
                layer["lyapunov"][reading] = {
                    "exponents": result.lyapunov.tolist(),
                    "standard_error": result.lyapunov_error.tolist(),
                }
        layers.append(layer)
    numbers = [
        {"reading": one.reading, "where": one.where, **one.comparison._asdict(), "holds": one.holds} for one in compared
    ]
    return {"layers": layers, "prediction_holds": _holds(compared), "compared": numbers}


def _holds(compared: Sequence[Compared]) -> bool | None:
    """Whether every prediction holds; None where the error of the growth over T steps is too large to tell, or where
    there is nothing to compare."""
    if not all(one.holds for one in compared):
        return False
    return None if not compared or any(one.comparison.leaves_open for one in compared) else True


def _remark(one: Compared) -> str:
    if not one.holds:
        return ": MISSED"
    return "" if one.comparison.decides else ": cannot be decided"


def _as_text(
    spec: InitSpec,
    found: Readings,
    expected: Readings,
    compared: Sequence[Compared],
    networks: str,
    features: int | None,
) -> str:
    from critinit.theory.protocol import features_of_layers
    from critinit_cli.numbers import layers_as_text
    from critinit_cli.tables import GLOSSARY

    read = features_of_layers(spec, features)

    tables = (
        layers_as_text(spec, {"measured": found[reading], "predicted": expected[reading]}, f"{reading} weights", read)
        for reading in found
    )
    lines = (f"{one}{_remark(one)}\n" for one in compared)
    decided = all(one.comparison.decides for one in compared)
    verdict = {
        True: "the prediction holds" if decided else "what can be decided of the prediction holds",
        False: "the prediction does not hold",
        None: "whether the prediction holds cannot be decided; take more networks, or wider ones"
        if compared
        else "nothing is compared",
    }[_holds(compared)]
    return "".join((*tables, GLOSSARY, *lines, f"measured on {networks}: {verdict}\n"))
