"""The default: a spread of time constants beyond T, coupled gates that the input opens, recurrent variance near zero.

From four requirements on a good start, for sequences of T steps with inputs of power R (``docs/critical.md`` has the
measurements that the constants marked "measured" rest on):

(a) *The signal is written.*  The candidate's drive has variance 4: tanh is used, half of its outputs beyond ±.87.  A
    keep gate with drive s² leaks E(1−f) ≈ e^{s²/2}/τ while inputs come, so a unit of long τ opens to a signal; but only
    a share e^{−s²} of the steps does the writing, (E leak)²/E leak².  s² = 2 (measured): e times wider open, one step in
    seven.  Growing s² with T, as where the slowest unit is to open with a fixed probability (s = ln T), leaves rare
    steps to overwrite all others; and it is steep: ∂ ln leak/∂x = s.
(b) *It survives.*  Units keep with b = ln(τ−1), τ log-uniform, because the lag is unknown, from 1.05 (renewed at every
    step) to the time that leaks 1/(4T) a step while inputs of full power drive the gate.  So nothing has to be known of
    the padding: silence or weaker noise leaks less, at most e times.  But noise that opens the gates writes too, over
    what was there.  Where its power R₀ is known, and it is not constant, its drive ν²R₀ is at most 1/2 (measured): the
    gates open 1.3 times as wide, and three steps in five do that, e^{−1/2}, so that no single one overwrites much.
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

The vanilla RNN has no gates: there see ``critinit.schemes.isometry``.
"""

from __future__ import annotations

import math

from critinit.schemes._base import (
    Circumstances,
    Parts,
    Scheme,
    bias,
    drive,
    gate,
    keep_bias,
    kernel,
    near_zero,
    needs_keep_gate,
)
from critinit.schemes.isometry import rnn_gates

__all__ = ["SCHEME"]

SHORTEST = 1.05
CANDIDATE_DRIVE = 4.0
GATE_DRIVE = 2.0
NOISE_DRIVE = 0.5
SLACK = 4.0
OPEN_OUTPUT = 1.0
OPEN_RESET = 5.0
LONGEST = 1e15


def _gate_drive(at: Circumstances) -> float:
    """The gates' ν²: ν²R = 2, or ν²R₀ = 2 for null inputs of more power; ν²R₀ ≤ 1/2 for those that are known to be noise."""
    full = drive(GATE_DRIVE, _power(at))
    return min(full, drive(NOISE_DRIVE, at.noise)) if at.noise > 0.0 else full


def _power(at: Circumstances) -> float:
    return max(at.input_variance, at.null_variance)


def _longest(at: Circumstances) -> float:
    """The slowest unit's τ: it leaks 1/(4T) a step under inputs of full power (or null inputs, where they have more)."""
    slowest = keep_bias(min(1.0 / (SLACK * at.T), 0.5), _gate_drive(at) * _power(at) + near_zero(at.T))
    return float(f"{min(max(1.0 + math.exp(slowest), SHORTEST), LONGEST):.6g}")


def _gates(at: Circumstances) -> dict[str, Parts]:
    cell = at.cell
    if cell.is_plain:
        return rnn_gates(at)
    keep = needs_keep_gate("critical", cell)
    biases: dict[str, Parts] = {
        keep: {"distribution": "log_uniform_time", "min_time": SHORTEST, "max_time": _longest(at)}
    }
    if cell.write_gate not in (None, keep):
        biases[str(cell.write_gate)] = {"distribution": "coupled", "to": keep, "sign": -1}
    if cell.read_gate is not None:
        biases[cell.read_gate] = bias(OPEN_OUTPUT)
    for scale in (*cell.before.values(), *cell.after.values()):
        biases.setdefault(scale.gate, bias(OPEN_RESET))
    return {
        name: gate(
            kernel("normal", near_zero(at.T)),
            kernel("normal", at.drive(CANDIDATE_DRIVE) if name == cell.candidate_gate else _gate_drive(at)),
            biases.get(name, bias(0.0)),
        )
        for name in cell.gates
    }


SCHEME = Scheme(
    "critical",
    "spread of time constants beyond T, coupled and input-driven gates (default)",
    _gates,
    "unit_time_constant",
)
