"""The protocol of a measurement: how long a network is run, which inputs it gets, and when a number is complete.

The tied theory and ``critinit.simulation`` both follow a perturbation in time.  They follow the same protocol, so their
numbers can be compared.  These are settings only: each of the two turns what it recorded into numbers by code of its
own, so that an error in one cannot hide in the other.

    1. Run from rest until the second moment of the state is stationary (``critinit.theory.settling``, ``DRIFT``),
       which it is not before the shortest time constant of its units (``shortest_time``).  Units that remember for
       longer than such a run get what earlier inputs would have left (``pilot_steps``).
    2. Perturb the memory, and follow the perturbation for ``follow_steps`` steps.
    3. Fit its growth to the steps in which at least ``CARRIED`` of the units carry it.  Where these are few, perturb
       again and again, until ``REPEATS`` times the steps of point 2 are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from critinit.cells import Cell
from critinit.errors import ArgumentError
from critinit.spec import Gates, InitSpec, Layer

__all__ = [
    "CARRIED",
    "DRIFT",
    "DRIFTING",
    "DRIFT_NOISES",
    "ENDLESS",
    "FEW_CARRY",
    "FEW_FEATURES",
    "FILLING",
    "GROWING",
    "LEAST_STEPS",
    "LONGEST_BURN_IN",
    "LONGEST_UNIT_TIME",
    "MANY_FEATURES",
    "OUTGROWN",
    "REPEATS",
    "SAME_INPUTS",
    "STEADY",
    "Inputs",
    "features_of",
    "features_of_layers",
    "features_read",
    "fills",
    "follow_steps",
    "has_spread",
    "is_outlasted",
    "keep_variance",
    "layers_below",
    "least_burn_in",
    "longest_burn_in",
    "longest_time",
    "pairs_units",
    "pilot_steps",
    "result_notes",
    "shortest_time",
    "shows_features",
    "steps_to_follow",
    "unfilled",
]

LEAST_STEPS = 10
"""Steps: over fewer, the slope of the second half is not fitted but guessed."""
_FOLLOW = (300, 2000)
"""Steps: a shorter perturbation has not reached its late growth, a longer one costs more than it shows."""
_FOLLOW_SPREAD = 10_000
"""Steps: where units have time constants of their own there is no late growth that could be continued."""
_PILOT = 300
"""Steps from rest that show how much a unit keeps and writes: its write's power is then known to 8 %."""
LONGEST_BURN_IN = 3000
"""Steps: a state that drifts for longer is measured as it is, and a note says so; twice the steps before the first look
where that is more, as one look in twenty fails by chance, and 4 × the followed steps, but of pairs of units, which fill
for several times T."""
DRIFT = 0.01
"""Relative: a second moment that changes by less between two looks counts as stationary."""
DRIFT_NOISES = 2.0
"""Times its own noise that a second moment may change by all the same: one look in twenty goes beyond by chance."""
CARRIED = 0.01
"""Share of the units: a perturbation that fewer carry sits on rare histories, which no usual network samples."""
_FEW_UNITS = 3
"""Units: what so few carry differs by orders from network to network, and more units leave more."""
FEW_CARRY = f"fewer than {_FEW_UNITS} units carry what is left"
"""In the note of such a retention."""
REPEATS = 2
"""Steps of repeated perturbations, in units of the steps that the first one was followed."""
LONGEST_UNIT_TIME = 1e12
"""Steps: a measured mean of keep is known to 1e-12 at best, so a longer 1/(1 − E keep) would be rounding."""
SAME_INPUTS = "chi: of two copies with the same inputs; their correlation below 1 enters the untied theory only"
"""The note of tied numbers where the copies' inputs differ."""
DRIFTING = "second_moment: the state was still drifting when the perturbation began"
"""The note of a second moment that is not that of a stationary state."""
ENDLESS = "second_moment: unbounded, the state grows without end; the number is where the theory stopped"
"""The note of a theory that finds no stationary state."""
MANY_FEATURES = "for inputs of infinitely many features, which the tied numbers are not"
"""The note of untied numbers beside tied ones that are for few features."""
OUTGROWN = "nothing bounds it: use smaller recurrent variances, or gates that are bounded"
"""The way out where a state has no numbers."""
GROWING = 2.0
"""Times: a second moment that is so much larger in the second half of the followed steps has no steady value yet."""
FILLING = (
    "second_moment, retention, chi_over_T: pairs of units that a rotation couples were still filling after 3,000 steps "
    "from rest; the fuller they are the less they keep, so a steady state keeps less"
)
"""The note of numbers of pairs of units that have not reached a steady state."""
FEW_FEATURES = 100
"""Features up to which a spec that says how many its network reads is taken at its word: with more, the second moment
of ``critical`` is within 4 % of that for infinitely many."""
_SLOWER = 0.2
"""By how much longer than a third of the longest burn-in, relative, a time constant matters."""
_SPREAD_VARIANCE = 0.25
"""Variance of a keep gate's normal bias from which on units that keep it differ in time constant by seven times and
more (between two deviations below and above the mean)."""
_SEEN_TIME = 1e9
"""Steps: memories longer than any run are all alike to it."""


@dataclass(frozen=True)
class Inputs:
    """The course of the inputs in time.

    Attributes:
        constant: One input that stays, instead of one drawn anew at every step.
        off_after: So many steps after the perturbation the inputs fall from power ``input.variance`` to that of
            padding; before the perturbation they are always on.  None: they never fall.

    Raises:
        ArgumentError: ``off_after`` is negative.

    Example:
        >>> Inputs(off_after=10).scale(10, on=4.0, padding=1.0)
        1.0
    """

    constant: bool = False
    off_after: int | None = None

    def __post_init__(self) -> None:
        if self.off_after is not None and self.off_after < 0:
            raise ArgumentError("off_after", found=str(self.off_after), allowed="0 or more steps")

    def scale(self, t: int, on: float, padding: float) -> float:
        """Return the root of the inputs' power at one step.

        Args:
            t: Steps after the perturbation; negative before it.
            on: Power of informative inputs.
            padding: Power of padding.
        """
        off = self.off_after is not None and t >= self.off_after
        return math.sqrt(padding if off else on)


STEADY = Inputs()
"""Inputs that are drawn anew at every step, for ever."""


def layers_below(spec: InitSpec, index: int) -> tuple[Layer, ...]:
    """Return the layers whose states reach a layer, lowest first; none where it has inputs of its own.

    The first layer has, and every further layer whose ``input.autocorrelation`` is stated.

    Args:
        spec: The spec.
        index: The layer's number, from 0.

    Example:
        >>> from critinit import generate
        >>> len(layers_below(generate("gru", 50, layers=2), 1))
        1
    """
    if index == 0 or spec.layers[index].input.autocorrelation is not None:
        return ()
    return (*layers_below(spec, index - 1), spec.layers[index - 1])


def features_of(spec: InitSpec) -> int | None:
    """Return how many features a spec says that its network reads, where these are few; else None.

    It says so where its ``generated`` has an ``input_size``.  More than ``FEW_FEATURES`` count as infinitely many.

    Args:
        spec: The spec.

    Example:
        >>> from critinit import generate
        >>> [features_of(generate("gru", 50, input_size=size)) for size in (3, 300)]
        [3, None]
    """
    size = None if spec.generated is None else spec.generated.arguments.get("input_size")
    return size if isinstance(size, int) and 1 <= size <= FEW_FEATURES else None


def shows_features(cell: Cell) -> bool:
    """Return whether a sample of units shows what few features do in an infinitely wide network.

    It does not where a cell keeps nothing and nothing bounds its state, such as relu_rnn: a sample of such units is a
    network of as few, whose growth is another one in every network.

    Args:
        cell: The cell.
    """
    return not cell.is_of_one_step or cell.bounded


def features_read(spec: InitSpec, index: int, features: int | None) -> int | None:
    """Return of how many features the inputs are that reach a layer; None: of infinitely many.

    Args:
        spec: The spec.
        index: The layer's number, from 0.
        features: Those that the first layer reads.  A further layer whose ``input.autocorrelation`` is stated, and
            those above it, are not reached by them.
    """
    return features if len(layers_below(spec, index)) == index else None


def features_of_layers(spec: InitSpec, features: int | None) -> list[int | None]:
    """Return ``features_read`` of every layer.

    Args:
        spec: The spec.
        features: Those that the first layer reads.
    """
    return [features_read(spec, index, features) for index in range(len(spec.layers))]


def follow_steps(T: int, *, spread: bool = False) -> int:
    """Return how many steps a perturbation is followed by default.

    It is T, but at least 300 and at most 2000; where units have time constants of their own at most 10,000.
    """
    return min(max(T, _FOLLOW[0]), _FOLLOW_SPREAD if spread else _FOLLOW[1])


def longest_burn_in(layer: Layer, first: int, steps: int) -> int:
    """Return the steps from rest after which a state is measured although it drifts.

    Args:
        layer: The layer.
        first: Steps before the first look.
        steps: Steps that the perturbation will be followed.
    """
    return max(2 * first, LONGEST_BURN_IN, 0 if _has_pairs(layer) else 4 * steps)


def least_burn_in(cell: Cell, layer: Layer, steps: int) -> float:
    """Return the steps from rest before which no state counts as stationary.

    They are the shortest time constant of the units.  Pairs of units fill for some four times the steps that they are
    meant to remember; where that is beyond the longest burn-in all are measured right after it, at one age.

    Args:
        cell: The cell.
        layer: The layer.
        steps: Steps that the perturbation will be followed.
    """
    return max(shortest_time(cell, layer), LONGEST_BURN_IN if _still_fills(layer, steps) else 0)


def _has_pairs(layer: Layer) -> bool:
    return any(pairs_units(group.gates) for group in layer.groups)


def _still_fills(layer: Layer, steps: int) -> bool:
    return _has_pairs(layer) and 4 * steps > LONGEST_BURN_IN


def fills(notes: Sequence[str]) -> bool:
    """Return whether notes, of one group of units or of all, say that the numbers are of pairs that were filling."""
    return any(note.startswith(FILLING) for note in notes)


def pilot_steps(cell: Cell, layer: Layer) -> int:
    """Return the steps from rest after which units get what earlier inputs would have left; 0 where none is missing.

    A unit that keeps k of its memory and writes w has the stationary variance v = E w²/(1 − E k²), of which it lacks
    v·(E k²)ᵗ when it began t steps ago.  So after t steps a Gaussian number of that variance is added to its memory.
    It matters where a time constant is longer than half of the longest burn-in, after which 2 % or more of v are
    missing.  The mean of what is written is not added, as too few steps show it.

    Args:
        cell: The cell.
        layer: The layer.
    """
    if cell.keep_gate is None or cell.keeps_normalized:
        return 0
    longest = max(longest_time(cell, group.gates) for group in layer.groups)
    return _PILOT if longest > 0.5 * LONGEST_BURN_IN else 0


def pairs_units(gates: Gates) -> bool:
    """Return whether units are coupled in pairs, whose state lasts for as long as it does not saturate."""
    return any(gate.recurrent.pairs_units and not gate.recurrent.is_zero for gate in gates.values())


def longest_time(cell: Cell, gates: Gates) -> float:
    """Return the longest time constant 1 + e^b, in steps, that the keep gate's bias gives a unit; 1 without a gate."""
    return max(_times(cell, gates))


def unfilled(cell: Cell, layer: Layer) -> list[str]:
    """Return the note, where it applies, that slow units had not filled, of inputs of few features.

    All gates of a unit read the same features, so what it writes has a mean, which its memory takes its time constant
    to fill with.

    Args:
        cell: The cell.
        layer: The layer.
    """
    slow = LONGEST_BURN_IN // 3
    if _has_pairs(layer) or max(longest_time(cell, group.gates) for group in layer.groups) <= slow * (1.0 + _SLOWER):
        return []
    name = "second_moment, cell_second_moment" if cell.has_readout else "second_moment"
    return [f"{name}: units that keep for more than {slow:,} steps were still filling, {LONGEST_BURN_IN:,} from rest"]


def shortest_time(cell: Cell, layer: Layer) -> float:
    """Return the shortest time constant that the keep gate's bias gives a unit: no state is stationary before.

    Of several groups of units it is that of the group whose shortest is the longest.
    """
    return max(min(_times(cell, group.gates)) for group in layer.groups)


def _times(cell: Cell, gates: Gates) -> tuple[float, float]:
    if cell.keep_gate is None:
        return 1.0, 1.0
    sign, bias = gates.followed(cell.keep_gate)
    low, high = (1.0 + math.exp(min(sign * end, math.log(_SEEN_TIME))) for end in bias.extremes)
    return low, high


def has_spread(cell: Cell, layer: Layer, *, tied: bool) -> bool:
    """Return whether units, or directions of the state, keep with time constants of their own for good.

    Then the asymptotic χ belongs to the slowest of them alone, after all the others have forgotten, and neither a
    network nor a population of a few thousand units shows it: only the growth over T steps can be sampled.  Units do so
    where the keep gate's bias is spread; directions where units keep a constant share f beside a kernel that stays, as
    leaky units do: an eigenvector of W of eigenvalue z keeps f + (1 − f)·z.  Pairs of units that a rotation couples do,
    as each saturates by a state of its own, which lasts.

    Args:
        cell: The cell.
        layer: The layer.
        tied: Whether the weights stay.
    """
    if tied and any(pairs_units(group.gates) for group in layer.groups):
        return True
    if cell.keep_gate is None:
        return tied and not cell.keeps_nothing
    keep = cell.keep_gate
    return any(group.gates.followed(keep)[1].classes(2) is not None for group in layer.groups)


def steps_to_follow(cell: Cell, layer: Layer, T: int, *, tied: bool) -> int:
    """Return for how many steps a perturbation of a layer is followed by default (``follow_steps``).

    Args:
        cell: The cell.
        layer: The layer.
        T: Steps of the retention.
        tied: Whether the weights stay, and with them normal biases.
    """
    lasts = tied and keep_variance(cell, layer) >= _SPREAD_VARIANCE
    return follow_steps(T, spread=lasts or has_spread(cell, layer, tied=tied))


def keep_variance(cell: Cell, layer: Layer) -> float:
    """Return the variance of the keep gate's bias that the untied theory draws anew, and that stays in networks.

    Args:
        cell: The cell.
        layer: The layer.
    """
    if cell.keep_gate is None:
        return 0.0
    return max(group.gates.followed(cell.keep_gate)[1].redrawn_variance for group in layer.groups)


def is_outlasted(cell: Cell, layer: Layer, chi: float, longest: float) -> bool:
    """Return whether a unit whose own bias stays with it keeps more by itself than the growth that was sampled.

    Then that growth is the one of all units while they last, and not the asymptotic one, which is the slowest unit's.

    Args:
        cell: The cell.
        layer: The layer.
        chi: The sampled growth of the squared distance per step, of weights that stay.
        longest: The longest time constant of a unit, in steps.
    """
    return keep_variance(cell, layer) > 0.0 and chi < (1.0 - 1.0 / longest) ** 2


def result_notes(
    layer: Layer,
    *,
    T: int,
    steps: int,
    informative: int,
    settled: bool,
    chaotic: bool,
    spread: bool,
    carried: float,
) -> list[str]:
    """Return the notes that a result needs, in plain words.

    Args:
        layer: The layer.
        T: Steps at which the retention is stated.
        steps: Steps that the perturbation was followed.
        informative: Steps that the growth was fitted to.
        settled: Whether the state was stationary.
        chaotic: Whether perturbations certainly grow.
        spread: Whether units keep with time constants of their own.
        carried: How many units carried the perturbation at the last step.
    """
    notes = []
    if _still_fills(layer, steps):
        notes.append(FILLING)
    elif not settled:
        notes.append(DRIFTING)
    if spread:
        notes.append("chi: not sampled, as it belongs to the few slowest units or directions")
    elif informative < steps:
        notes.append(
            f"chi: growth until step {informative}, from where fewer than 1 % of the units carry the perturbation"
        )
    if carried < _FEW_UNITS:
        why = (
            "how slow the slowest of these units are; of more units some are slower, and keep more"
            if spread
            else "what chance did to these units; a wider network has some that kept more"
        )
        notes.append(f"retention, chi_over_T: after {steps} steps {FEW_CARRY}, so it depends on {why}")
    if steps < T:
        notes.append(f"retention, chi_over_T: followed for {steps} steps, continued to T = {T} at the late growth")
    if chaotic:
        notes.append("chaotic: at the network's own steady state perturbations grow (chi > 1)")
    return notes
