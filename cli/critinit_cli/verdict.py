"""Whether a measurement bears a prediction out.

Every number is compared as ``critinit.theory.comparing`` says, each with its standard error: that of the measurement,
whose K networks estimate it with K − 1 degrees of freedom (Student's t), and the prediction's own.  A true prediction
is called missed in at most ``FALSE_ALARMS`` of all runs, for all numbers together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from critinit.spec import Numbers
    from critinit.theory.comparing import Comparison

    Readings = Mapping[str, Sequence[Numbers | None]]

__all__ = ["FALSE_ALARMS", "Compared", "compared"]

FALSE_ALARMS = 0.01
"""The share of runs in which a true prediction may be called missed."""


class Compared(NamedTuple):
    """A number that was measured, beside its prediction.

    Attributes:
        reading: ``untied`` or ``tied``.
        where: Its path: ``layers.0.tied.chi_over_T``.
        comparison: The two numbers, their difference and the limit.
    """

    reading: str
    where: str
    comparison: Comparison

    @property
    def holds(self) -> bool:
        """Whether the two are as near as they may be."""
        return self.comparison.agrees

    def __str__(self) -> str:
        from critinit.theory.comparing import percent

        found = self.comparison
        if not found.is_known:
            return f"{self.where}: {found.name}: too uncertain to be stated"
        error = f" ± {found.standard_error:.2g}" if found.standard_error else ""
        return (
            f"{self.where}: {found.name}: predicted {found.expected:.6g}; measured {found.found:.6g}{error}; "
            f"{percent(found.difference)} apart, limit {percent(found.limit)}"
        )


def compared(
    expected: Readings, found: Readings, T: int, *, networks: int, width: int, excess: Sequence[float] = ()
) -> list[Compared]:
    """Return every number that was measured and predicted, compared.

    Args:
        expected: What is predicted: reading of the weights -> the numbers of every layer.
        found: What was measured, likewise.
        T: Steps of the retention.
        networks: How many networks were measured.
        width: Units of each.
        excess: The share of second moments that this width adds where weights stay, of every layer; none: 0.
    """
    from scipy.special import stdtrit

    from critinit.theory.comparing import comparisons

    pairs = [
        (reading, index, wanted, got)
        for reading, layers in found.items()
        for index, (got, wanted) in enumerate(zip(layers, expected[reading], strict=True))
        if got is not None and wanted is not None
    ]
    count = sum(len(comparisons(wanted, got, T, errors=0.0)) for *_, wanted, got in pairs)
    errors = float(stdtrit(networks - 1, 1.0 - 0.5 * FALSE_ALARMS / max(count, 1)))

    def of_width(reading: str, index: int) -> dict[str, float]:
        """What the width of networks that keep their weights may change."""
        return {"width": width, "excess": excess[index] if excess else 0.0} if reading == "tied" else {}

    return [
        Compared(reading, f"layers.{index}.{reading}.{comparison.field}", comparison)
        for reading, index, wanted, got in pairs
        for comparison in comparisons(wanted, got, T, errors=errors, **of_width(reading, index))
    ]
