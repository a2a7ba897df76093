"""The default: a spread of time constants beyond T, coupled gates that the input opens, recurrent variance near zero.

From four requirements on a good start, for sequences of T steps with inputs of power R (``docs/research/critical.md``
has the measurements that the constants marked "measured" rest on):

(a) *The signal is written.*  The candidate's pre-activation has variance 4: tanh is used, half of its outputs beyond
    ±.87.  A keep gate whose pre-activation has variance s² from the input leaks E(1−f) ≈ e^{s²/2}/τ while inputs come,
    so a unit of long τ opens to a signal; but only a share e^{−s²} of the steps does the writing, (E leak)²/E leak².
    s² = 2 (measured): e times wider open, one step in seven.  Growing s² with T, as where the slowest unit is to open
    with a fixed probability (s = ln T), leaves rare steps to overwrite all others; and it is steep: ∂ ln leak/∂x = s.
(b) *It survives.*  Units keep with b = ln(τ−1), τ log-uniform, because the lag is unknown, from 1.05 (renewed at every
    step) to the time that leaks 1/(4T) a step while inputs of full power reach the gate.  So nothing has to be known of
    the padding: silence or weaker noise leaks less, at most e times.  But noise that opens the gates writes too, over
    what was there.  Where its power R₀ is known, and it is not constant, it gives gates at most ν²R₀ = 1/2 (measured):
    the gates open 1.3 times as wide, and three steps in five do that, e^{−1/2}, so that no single one overwrites much.
(c) *The response to the parameters is bounded.*  A shift of the candidate's bias moves the memory by write/(1−keep) per
    unit: 1 for every T with coupled gates (the GRU has it built in; the LSTM's input bias is minus the forget bias).
    And an optimizer's first steps move every kernel entry by the learning rate whatever its gradient, so gates shift by
    rate·steps·Σ|message|: the factor 4 in (b) (measured) lets a slow unit's gate shift by ln 4 against it before it
    leaks 1/T.
(d) *It holds for tied weights.*  Recurrent variances near zero: their contribution over T steps is below 1 %, and at
    zero tied and untied weights are the same.

Other gates stay out of the way: the output gate open enough to read (bias 1, E o ≈ .7), the reset gate open (bias 5).
Where (a) and (c) conflict (c) wins: a state of slow units starts small, about √(1/2τ) for inputs that are independent
in time, and is not made larger by a wider write gate.

A normalized cell gets the gains at which it does all of this too (``critinit.schemes._base.normalized``).  The usual
gains of 1 would break (c) and (d): γ_h = 1 acts like a recurrent variance of 1/E h², and a memory normalized to 1 moves
1/(deviation of c) times as far.

Where no gate keeps the state see ``critinit.schemes._ungated``.
"""

from __future__ import annotations

import math

from critinit.distributions.numbers import LONGEST_TIME
from critinit.schemes._base import (
    LayerContext,
    Parts,
    Scheme,
    bias,
    gate,
    input_variance,
    keep_bias,
    kernel,
    near_zero,
    neutral_memory_gain,
    normalized,
    spread_biases,
)
from critinit.schemes._ungated import ungated_gates

__all__ = ["SCHEME", "spread_gates"]

SHORTEST = 1.05
"""Steps: a unit that is renewed at every step."""
CANDIDATE_VARIANCE = 4.0
"""Pre-activation variance of the candidate, requirement (a)."""
GATE_VARIANCE = 2.0
"""Pre-activation variance of the gates while inputs come, requirement (a)."""
NOISE_VARIANCE = 0.5
"""Pre-activation variance of the gates under padding that is noise, requirement (b)."""
SLACK = 4.0
"""By how much the slowest unit's leak stays below 1/T, requirement (c)."""
OPEN_OUTPUT = 1.0
"""The output gate's bias: E o is about .7."""
OPEN_RESET = 5.0
"""The reset gate's bias: E r is about .99."""


def _gate_variance(layer: LayerContext) -> float:
    """The gates' ν²: ν²R = 2, or ν²R₀ = 2 for padding of more power; ν²R₀ ≤ 1/2 for padding known to be noise."""
    full = input_variance(GATE_VARIANCE, layer.strongest_input)
    return min(full, input_variance(NOISE_VARIANCE, layer.noise)) if layer.noise > 0.0 else full


def _longest(layer: LayerContext) -> float:
    """The slowest unit's τ: it leaks 1/(4T) a step under inputs of full power (or padding, where that has more)."""
    driven = _gate_variance(layer) * layer.strongest_input + near_zero(layer.T)
    slowest = keep_bias(min(1.0 / (SLACK * layer.T), 0.5), driven)
    return float(f"{min(max(1.0 + math.exp(slowest), SHORTEST), LONGEST_TIME):.6g}")


def _gates(layer: LayerContext) -> dict[str, Parts]:
    if layer.cell.keep_gate is None:
        return ungated_gates("critical", layer)
    return normalized(layer, spread_gates) if layer.cell.normalized else spread_gates(layer)


def spread_gates(layer: LayerContext) -> dict[str, Parts]:
    """Return the gates of a cell that keeps, without normalization.

    Args:
        layer: What is known of the layer.
    """
    cell = layer.cell
    spread = {"distribution": "log_uniform_time", "min_time": SHORTEST, "max_time": _longest(layer)}
    biases = spread_biases("critical", cell, spread)
    if cell.read_gate is not None:
        biases[cell.read_gate] = bias(OPEN_OUTPUT)
    for scale in (*cell.before.values(), *cell.after.values()):
        biases.setdefault(scale.gate, bias(OPEN_RESET))
    inputs = dict.fromkeys(cell.gates, _gate_variance(layer))
    if cell.candidate_gate is not None:
        inputs[cell.candidate_gate] = layer.input_variance_for(CANDIDATE_VARIANCE)
    return {
        name: gate(kernel("normal", near_zero(layer.T)), kernel("normal", inputs[name]), biases.get(name, bias(0.0)))
        for name in cell.gates
    }


SCHEME = Scheme(
    "critical",
    "spread of time constants beyond T, coupled and input-driven gates (default)",
    _gates,
    "unit_time_constant",
    memory_gain=lambda layer: neutral_memory_gain(layer, _gates(layer)),
)
