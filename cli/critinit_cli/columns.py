"""The table of ``critinit compare``: its columns, and how to read each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from critinit_cli.tables import GLOSSARY, paragraph, render

if TYPE_CHECKING:
    from critinit.spec import InitSpec, Numbers

__all__ = ["comparison_table", "explanation", "introduction"]

_INTRODUCTION = (
    "Each row is one scheme, a rule that chooses the initial weights. The numbers are what theory predicts for the "
    "first layer before training. Padding means inputs without information; tied means that the network keeps its "
    "weights, as yours does. Read padding retention first: what gates alone keep of a difference over T steps. Where "
    "it is below {forgotten}, and chi over T, tied, is below {lost_chi}, which leaves {forgotten} too, training has "
    "nothing to start from. All columns are explained below the table."
)
_ABSENT, _NO_READING = "-", "none"
_SMALLEST = 1e-300
"""Smaller numbers have lost digits, or all, to underflow."""
_SIGNS = {
    _ABSENT: "the cell has no gate that keeps the state, so there is no such number",
    _NO_READING: "theory has no number at once: an identity kernel cannot be drawn anew, a memory that is kept "
    "normalized has no fast estimate or no steady state, the numbers overflow, or inputs are correlated in time, where "
    "critinit analyze samples the tied numbers",
}


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        heading: Its heading, in lines.
        number: From a spec to what stands in its row.
        meaning: What it is, which values are good or bad, and what to do.  Names in braces stand for what
            ``_limits`` says.
    """

    heading: str
    number: Callable[[InitSpec], str]
    meaning: str

    @property
    def name(self) -> str:
        """The heading in one line."""
        return self.heading.replace("\n", " ")


def introduction(T: int) -> str:
    """Return what stands before a table for sequences of T steps."""
    return paragraph(_INTRODUCTION.format(**_limits(T)))


def comparison_table(title: str, specs: Mapping[str, InitSpec]) -> str:
    """Return the table, and what its signs mean.

    Args:
        title: What stands above it.
        specs: The specs by their schemes' names.
    """
    rows = [(scheme, *(column.number(spec) for column in _COLUMNS)) for scheme, spec in specs.items()]
    cells = {cell for row in rows for cell in row}
    signs = [f"{sign}: {meaning}\n" for sign, meaning in _SIGNS.items() if sign in cells]
    warnings = {scheme: _warnings(spec) for scheme, spec in specs.items()}
    common = [note for note in next(iter(warnings.values())) if all(note in own for own in warnings.values())]
    notes = [paragraph(f"every scheme, tied: {note}") for note in common]
    notes += [
        paragraph(f"{name}, tied: {note}") for name, own in warnings.items() for note in own if note not in common
    ]
    return "".join((render(title, ("scheme", *(column.heading for column in _COLUMNS)), rows), *signs, *notes))


def _warnings(spec: InitSpec) -> list[str]:
    """Where the tied numbers are not what the last column's meaning says of them."""
    from critinit.spec import Numbers
    from critinit.theory.tied.estimate import NOTE

    numbers = spec.layers[0].predicted.tied
    return [note for note in numbers.notes if note != NOTE] if isinstance(numbers, Numbers) else []


def explanation(T: int) -> str:
    """Return how to read the columns of a table for sequences of T steps."""
    lines = [f"  {column.name}: {column.meaning.format(**_limits(T))}" for column in _COLUMNS]
    return "".join(("How to read the columns:\n", *(paragraph(line, indent="    ") for line in lines), GLOSSARY))


def _limits(T: int) -> dict[str, str]:
    """What counts as kept and as forgotten after T steps: as a retention, and as a growth rate per step."""
    from critinit.spec import FORGOTTEN, KEPT

    names = {"kept": KEPT, "forgotten": FORGOTTEN, "least_chi": KEPT ** (1.0 / T), "lost_chi": FORGOTTEN ** (1.0 / T)}
    return {name: f"{number:.5g}".replace("e-0", "e-") for name, number in names.items()}


def _required(name: str) -> Callable[[InitSpec], str]:
    """The number of that name among the requirements of a good start."""

    def number(spec: InitSpec) -> str:
        from critinit.theory.requirements import requirements

        if spec.find_cell().keep_gate is None:
            return _ABSENT
        found = getattr(requirements(spec), name)
        return f"< {_SMALLEST:g}" if found < _SMALLEST else f"{found:.3g}"

    return number


def _predicted(reading: str, show: Callable[[Numbers], str]) -> Callable[[InitSpec], str]:
    """A number that theory predicts, in one reading of the weights."""

    def number(spec: InitSpec) -> str:
        from critinit.spec import Numbers

        numbers = getattr(spec.layers[0].predicted, reading)
        return show(numbers) if isinstance(numbers, Numbers) else _NO_READING

    return number


_COLUMNS = (
    Column(
        "early-input\nresponse",
        _required("early_input_response"),
        "how much one step with information leaves in the state after T steps without, as a mean square. It is always "
        "small: compare it between rows whose response gain is near 1. Good: at least a hundredth of the largest of "
        "these numbers. Bad: below 1e-20; use a scheme with a larger number.",
    ),
    Column(
        "padding\nretention",
        _required("padding_retention"),
        "two copies of the network start in states that differ a little: the share of their squared distance that "
        "gates alone keep over T steps of padding. Recurrent kernels are left out. Good: {kept} to 1. Bad: below "
        "{forgotten}; use a scheme with a larger number, or a smaller T if your task needs no longer lag.",
    ),
    Column(
        "response\ngain",
        _required("response_gain"),
        "how far a small constant shift of a unit's input moves its memory in the end. Good: 1; less is harmless. Bad: "
        "more than 1 / learning rate, as the first training steps then change the state too much; use a scheme with 1, "
        "or a smaller learning rate.",
    ),
    Column(
        "chi over T,\nuntied",
        _predicted("untied", lambda numbers: f"{numbers.chi_over_T:.5g}"),
        "the factor by which a step with input multiplies the squared distance of the two copies, on average over T "
        "steps, if weights were drawn anew at every step: the published theory. Good: {least_chi} to 1, which leaves "
        "{kept} to 1 over T steps. Bad: below {lost_chi}, which leaves less than {forgotten}: the network forgets, and "
        "a larger bias of the keep gate helps. Above 1, gradients explode; smaller recurrent variances help.",
    ),
    Column(
        "chi over T,\ntied",
        _predicted("tied", lambda numbers: f"{numbers.chi_over_T:.5g}"),
        "the same if weights are kept, as in your network. Where the two differ, believe this one. It is exact where "
        "recurrent variances are near zero. Elsewhere it is a fast estimate; critinit analyze computes the full "
        "theory.",
    ),
    Column(
        "J\nmean",
        _predicted("tied", lambda numbers: f"{numbers.jacobian.mean_squared_singular_value:.4g}"),
        "the mean of the squared singular values of the one-step Jacobian J: what an average direction keeps in one "
        "step. Good: 0.5 to 1. Bad: above 1, as gradients grow; use smaller recurrent variances. Less is fine where "
        "many units forget quickly on purpose, as in critical.",
    ),
    Column(
        "J\nvariance",
        _predicted("tied", lambda numbers: f"{numbers.jacobian.variance:.3g}"),
        "the variance of the same: how unequal the directions are. Good: below 0.3. Bad: 1 and more; lower the "
        "recurrent variances, or clip gradients.",
    ),
)
