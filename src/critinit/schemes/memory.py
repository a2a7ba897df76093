"""Scheme ``memory``: at most half of the units a linear memory, the others ``critical`` or short, with limited steps.

**The memory group.**  The keep gate is shut and the other gates are open, so that the state goes round through the
candidate's recurrent kernel alone.  That kernel rotates pairs of units (``rotation``), times the gain at which the
loop's gain at rest is 1: dynamical isometry, as the paper means it.  Nothing but the saturation of tanh makes such a
memory forget, so the inputs are made so small that it costs 1/T a step: χ = e^(−1/T) for an orthogonal kernel whose
weights are drawn anew.  In a GRU the second moment is then 1/(2T), and ν²R = 1/(2T²).

**Angles.**  A pair keeps what its inputs have at the frequency of its angle.  White inputs have all frequencies.  Of
inputs whose correlation from step to step is a, the power spectrum is that of a wrapped Cauchy distribution around 0.
The angles are at its quantiles, and ν²R is divided by (1 + a²)/(1 − a²), by which such inputs add up to more.
Where their spectrum S was measured, of mean 1 over [0, π], the angles are at its quantiles, and ν²R is divided by the
mean of S²: the density of the angles times the power at each.
The group has half of the units, and at T below 40 a share of T/80: as a memory n units hold n numbers, so few steps
need few units.

**The other groups.**  The gated group follows ``critical``: its gates can learn what to keep.  The short group is for
what the last few steps decide, as in text: gate values uniform over units, so that half of them have a time constant
below 2; orthogonal kernels; and inputs at which tanh is nearly linear.  What the last steps say beyond those before
them is what is new in each input.  So the short group has 3/8 of all units times the share of the inputs' variance
that is new: exp(mean of ln S)/mean of S for a spectrum S (Kolmogorov 1941, Szegő), 1 − a² where only the correlation a
is known, and 1/2 where nothing is.

**Limits.**  An optimizer of Adam's kind moves every entry by about its rate η.  Entries that couple pairs of different
angles add up to nothing over time.  Those of a pair itself change the logarithm of its gain by about η, and T times
through the loop multiply that by T: the limit is κ/T, whatever the width.  A step on an input kernel changes what every
input writes, by up to M·√R·η for M coordinates; the limit is a tenth of √(ν²R).  The other groups bear .03.
"""

from __future__ import annotations

import math
from statistics import fmean, geometric_mean

from critinit.distributions.numbers import rounded
from critinit.errors import SchemeError
from critinit.roots import falling_root
from critinit.schemes._base import (
    LayerContext,
    Parts,
    Scheme,
    bias,
    gate,
    group,
    kernel,
    limited,
    needs_keep_gate,
    own_loop,
    spread_biases,
    steady,
)
from critinit.schemes.critical import spread_gates
from critinit.theory.untied.solution import Untied, solve_driven

__all__ = ["SCHEME"]

SHARE = 0.5
"""The memory group's largest share: what needs gates needs units that have them.  Measured: 3/8 and 5/8 are no better
on any real set, and with 3/8 permuted MNIST loses two points."""
FULL = 40
"""T from which the memory group has its largest share.  Measured: for T = 10 text ends at 2.32 and 2.21 bits with 1/8
of the units and at 2.43 and 2.36 for T = 100 with 1/2 (GRU, LSTM)."""
LEAK = 0.01
"""What the shut keep gate lets through over T steps, so that the loop's gain is that of the kernel."""
OPEN = 5.0
"""The other gates' bias: they stand at .993, and a shift of it by 1 moves them by less than .01."""
LOOP_STEP = 0.06
"""κ: T times the largest change of the logarithm of a pair's gain in one step of the optimizer."""
INPUT_STEP = 0.1
"""The largest change of what an input kernel writes in one step of the optimizer, as a share of it."""
OTHERS_LIMIT = 0.03
"""The learning rate that the other groups bear."""
SHORT_SHARE = 0.375
"""The short group's largest share.  Measured: with 3/8 characters take 80 to 100 steps, with 1/8 100 to 120; of small
smooth sets in which a class may show at any time less is learned with 3/8 or 1/8 than with none (OSULeaf .62, .65 and
.68).  With 1/2, which leaves no gated group, adding takes 200 steps and more (LSTM)."""
USUALLY_NEW = 0.5
"""How much of the inputs' variance counts as new where nothing is known of them."""
FAINTEST = 1e-4
"""Power below which a bin of a spectrum, of mean 1, counts as this: a single empty bin says little."""
SHORT_POWER = 0.1
"""ν²R of its input kernels (.01 was level or a little slower)."""
MOST_CONCENTRATED = 0.7
"""Of the angles, however smooth the inputs: in T steps angles nearer than 2π/T cannot be told apart.  Measured with 16
pairs at T = 100: the copying and the digits task take as many steps at .5 as at .7, and digits twice as many at .8."""
DENSEST = 3.125
"""How many times as dense as even ones angles that follow a spectrum may be at the least; more where T steps tell them
apart.  Where there is padding it is this, as not all T steps inform.  Measured with 16 pairs: digits, and then silence,
take 60 to 80 steps with it and 80 to 140 with 5.7; MNIST at T = 784, without silence, ends at .83 with 5.7 and at .87
without a bound."""
USUAL_UNITS = 64
"""Units where their number is not known."""
_LOWEST, _HIGHEST = 0.03, 1e2
"""The variance v of the candidate's pre-activation is sought from the first over T to the second."""
_STEP = 2.0
"""Of ln v, from the first to the next."""
_ACCURACY = 1e-8
"""Of its logarithm."""
_PARTS = ("recurrent", "input", "bias")


def _groups(layer: LayerContext) -> list[Parts]:
    cell = layer.cell
    needs_keep_gate("memory", cell)
    reasons = {
        "which normalizes over all units": cell.normalized,
        "whose recurrent kernels are not square, as they read a projection": cell.projects,
        "whose candidate is not linear near 0": cell.candidate_gate is None or not cell.is_odd or 0.0 in cell.breaks,
    }
    for reason, holds in reasons.items():
        if holds:
            hint = f"memory needs a loop of gain 1, and does not suit {cell.name}, {reason}"
            raise SchemeError("scheme", found="memory", hint=hint)
    memory, short = _share(layer), _sixteenths(SHORT_SHARE * _news(layer))
    groups = [
        group("memory", memory, _memory(layer, _power(layer), limits=True)),
        group("gated", 1.0 - memory - short, _limited(spread_gates(layer))),
    ]
    return [*groups, group("short", short, _limited(_short(layer)))] if short else groups


def _share(layer: LayerContext) -> float:
    """The memory group's share."""
    least = math.ceil(16.0 / (layer.hidden_size or 16)) / 16.0  # a unit
    return min(max(_sixteenths(SHARE * min(layer.T / FULL, 1.0)), least), SHARE)


def _sixteenths(share: float) -> float:
    return round(16.0 * share) / 16.0


def _news(layer: LayerContext) -> float:
    """How much of the inputs' variance is new at each step, from 0 to 1."""
    if layer.spectrum is not None:
        mean = fmean(layer.spectrum)
        return geometric_mean(max(power / mean, FAINTEST) for power in layer.spectrum)
    return USUALLY_NEW if layer.autocorrelation is None else 1.0 - layer.autocorrelation**2


def _short(layer: LayerContext) -> dict[str, Parts]:
    """The gates of the short group."""
    longest = float(max(layer.T, 3))
    spread = {"distribution": "uniform_gate", "min_time": longest / (longest - 1.0), "max_time": longest}
    biases, inputs = spread_biases("memory", layer.cell, spread), layer.input_variance_for(SHORT_POWER)
    return {
        name: gate(layer.orthogonal(), kernel("normal", inputs), biases.get(name, bias(0.0)))
        for name in layer.cell.gates
    }


def _limited(gates: dict[str, Parts]) -> dict[str, Parts]:
    return {name: {part: limited(parts[part], OTHERS_LIMIT) for part in _PARTS} for name, parts in gates.items()}


def _memory(layer: LayerContext, power: float, *, limits: bool = False) -> dict[str, Parts]:
    """The gates of the memory group, with ν²R = ``power`` at the candidate."""
    cell, step = layer.cell, INPUT_STEP * math.sqrt(power)
    closed = {str(cell.keep_gate): -math.log(layer.T / LEAK), str(cell.candidate_gate): 0.0}
    biases = dict.fromkeys(cell.gates, OPEN) | closed
    kept, passed = own_loop(cell, biases)
    loop = kernel("rotation", rounded(((1.0 - kept) / passed) ** 2), **_angles(layer))
    inputs = kernel("normal", layer.input_variance_for(power))
    gates = {}
    for name in cell.gates:
        parts = (loop, inputs) if name == cell.candidate_gate else (kernel("zero"), kernel("zero"))
        rest = bias(_digits(biases[name]))
        if limits:
            rate = _digits(step / math.sqrt(layer.input_variance or 1.0))
            parts = limited(parts[0], _digits(LOOP_STEP / layer.T)), limited(parts[1], rate, fan="in")
            rest = limited(rest, _digits(step))
        gates[name] = gate(*parts, rest)
    return gates


def _angles(layer: LayerContext) -> Parts:
    """What decides the angles: the spectrum of the inputs, as far as angles follow it, or a."""
    spectrum = _spectrum(layer)
    return {"concentration": _concentration(layer)} if spectrum is None else {"spectrum": spectrum}


def _concentration(layer: LayerContext) -> float:
    """a: the correlation of the inputs from step to step, as far as angles follow it; 0 where it is unknown."""
    return min(max(layer.autocorrelation or 0.0, 0.0), MOST_CONCENTRATED)


def _spectrum(layer: LayerContext) -> list[float] | None:
    """S: with as much white noise as makes it nowhere denser than angles may be; of mean 1."""
    if layer.spectrum is None:
        return None
    mean = math.fsum(layer.spectrum) / len(layer.spectrum)
    powers = [power / mean for power in layer.spectrum]
    most, densest = max(powers), _densest(layer)
    share = (most - densest) / (most - 1.0) if most > densest else 0.0
    return [rounded(power + share * (1.0 - power), 4) for power in powers]


def _densest(layer: LayerContext) -> float:
    """At which density neighbouring angles are 2π/T apart, ``DENSEST`` at the least."""
    pairs = 0.5 * _share(layer) * (layer.hidden_size or USUAL_UNITS)
    return DENSEST if layer.padding is not None else max(layer.T / (2.0 * pairs), DENSEST)


def _adding_up(layer: LayerContext) -> float:
    """By how much more than white inputs these add up to, in the mean over the angles."""
    spectrum, a = _spectrum(layer), _concentration(layer)
    if spectrum is None:
        return (1.0 + a * a) / (1.0 - a * a)
    return math.fsum(power * power for power in spectrum) / len(spectrum)


def _power(layer: LayerContext) -> float:
    """ν²R at which the saturation of tanh costs the memory group 1/T a step: χ = exp(−1/T).

    Nothing but the candidate is driven, so the state depends on the variance v of its pre-activation alone.  That is
    sought; the inputs give of it what the loop does not bring back.
    """

    def driven(x: float) -> tuple[Untied, float]:
        """The loop at v = eˣ/T, and ν²R."""
        v = math.exp(x) / layer.T
        found, back = solve_driven(steady(layer, _memory(layer, v)))
        return found, v - float(back)

    def excess(x: float) -> float:
        """ln of 1/T over what saturation costs: about −x, as the cost grows as v."""
        cost = -math.log(float(driven(x)[0].chi))
        return -math.log(cost * layer.T) if cost > 0.0 else math.inf

    low, high = math.log(_LOWEST), math.log(_HIGHEST * layer.T)
    if not excess(low) > 0.0 > excess(high):
        hint = f"no power of the inputs gives a loop of {layer.cell.name} a time scale of {layer.T} steps"
        raise SchemeError("scheme", found="memory", hint=hint)
    return _digits(driven(falling_root(excess, low, _STEP, _ACCURACY))[1] / _adding_up(layer))


def _digits(x: float) -> float:
    """Four digits, which all machines agree on, of a number that needs no more."""
    return float(f"{x:.4g}")


SCHEME = Scheme(
    "memory",
    "half a linear memory of rotations, the others critical or short, with limits on the learning rate",
    _groups,
    "unit_time_constant",
    reads_spectrum=True,
)
