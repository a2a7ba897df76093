"""Whether the untied and the tied theory agree on a layer, in a sentence that states what was compared."""

from __future__ import annotations

from critinit.spec import Numbers
from critinit.theory.comparing import Comparison, comparisons
from critinit.theory.protocol import MANY_FEATURES, SAME_INPUTS

__all__ = ["agreement"]

_ERRORS = 3.0
"""Standard errors of the tied number within which a difference may be chance."""
_UNDECIDED = (
    "Whether untied and tied theory agree cannot be decided: the tied numbers are sampled, and their errors are large."
)
_NOTHING = (
    "Untied and tied theory are not compared: the untied numbers are those of a steady state, the tied ones not yet."
)
_OTHER_COPIES = (
    "growth is not compared: untied it is that of two copies with different inputs, tied that of copies with the same"
)
_OTHER_INPUTS = (
    "Untied and tied theory are not compared: the untied numbers are for inputs of infinitely many features, the tied "
    "ones for as many as there are. Trust the tied numbers."
)
_ADVICE = "Trust the tied numbers: networks keep their weights."


def agreement(untied: Numbers | None, tied: Numbers, T: int) -> tuple[bool | None, str]:
    """Return whether the two theories agree on a layer, and a sentence with what was compared.

    Compared are the second moments, the growth over T steps, and the asymptotic growth where both theories have it, as
    ``critinit.theory.comparing`` says.  A number that is not larger than its standard error is not stated.

    Args:
        untied: The numbers of the untied theory; None where it has none.
        tied: The numbers of the tied theory, or its estimate.
        T: Steps of the retention.

    Returns:
        Whether they agree, None where the growth over T steps is sampled too coarsely to tell and where the two are for
        inputs of different numbers of features; and a sentence, with a
        line below it for every number that it rests on.

    Example:
        >>> from critinit import generate
        >>> spec = generate("gru", T=100, scheme="isometry")
        >>> numbers = spec.layers[0].predicted
        >>> agreement(numbers.untied, numbers.tied, spec.T)[0]
        True
    """
    if untied is not None and MANY_FEATURES in untied.notes:
        return None, _OTHER_INPUTS
    if untied is None:
        return False, "The untied theory has no numbers for identity kernels; the tied numbers are those of networks."
    compared = comparisons(untied, tied, T, errors=_ERRORS)
    if not compared:
        return None, _NOTHING
    other_copies = (SAME_INPUTS in untied.notes) != (SAME_INPUTS in tied.notes)
    more = [_OTHER_COPIES] if other_copies else []
    apart = [comparison for comparison in compared if not comparison.agrees and comparison.decides]
    undecided = [comparison for comparison in compared if not comparison.decides]
    if not apart and any(c.leaves_open or not c.agrees for c in undecided):
        return None, _said(_UNDECIDED, undecided, more)
    if not apart:
        of_what = " on the second moment" if other_copies else ""
        return True, _said(f"Untied and tied theory agree{of_what}.", compared, more)
    return False, _said(f"Untied and tied theory disagree. {_ADVICE}", apart, more)


def _said(verdict: str, rests_on: list[Comparison], more: list[str]) -> str:
    """The verdict, and the numbers below it; of one that is known no better than its error only the name."""
    lines = (str(one) if one.is_known else f"{one.name}: too uncertain to be stated" for one in rests_on)
    return "\n  ".join((verdict, *lines, *more))
