"""The default: a spread of time constants up to T, coupled gates, input-driven gates, recurrent variance near zero.

Each constant from a requirement on a good start, for sequences of T steps:

(a) *the signal is written.*  The candidate's drive has variance 4, so tanh is well used.  A gate's input drive opens a
    unit while a signal is there: the slowest unit, bias −ln(T−1), writes with probability Φ(−ln T/(ν√R)), which is the
    same for every T when ν√R = ln T.
(b) *it survives.*  Units keep with b = ln(τ−1), τ log-uniform from 1.05 (a unit that renews itself at every step) to
    the time that leaks 1/T a step.  Inputs that carry no information (power R₀) leak too, E(1−f) ≈ e^{ν²R₀/2}/τ: the
    gates' drive is held to ν²R₀ ≤ 1, and the longest τ is solved so that the slowest unit leaks 1/T under them.
(c) *the response to the parameters is bounded.*  A shift of the candidate's bias moves the memory by write/(1−keep) per
    unit: 1 for every T with coupled gates (the GRU has it built in; the LSTM's input bias is minus the forget bias).
(d) *it holds for tied weights.*  Recurrent variances near zero: their contribution over T steps is below 1 %, and at
    zero tied and untied weights are the same.

Other gates stay out of the way: the output gate open enough to read (bias 1, E o ≈ .7), the reset gate open (bias 5).
Where nothing is known of the padding R₀ = R, the safe choice; declaring silence lets the gates be driven by (ln T)²
instead of 1.  Where (a) and (b) conflict (noisy padding) (b) wins: the slowest units then write less.

The vanilla RNN has no gates: there see ``critinit.schemes.isometry``.  Measured so far: see the README's table.
"""

from __future__ import annotations

import math

from critinit.schemes._base import (
    Circumstances,
    Parts,
    Scheme,
    bias,
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
OPEN_OUTPUT = 1.0
OPEN_RESET = 5.0
LONGEST = 1e15


def gate_drive(at: Circumstances) -> float:
    """ν² of the gates' input kernels: (ln T)²/R, held to 1/R₀ by the null inputs."""
    wanted = at.drive(max(1.0, math.log(at.T)) ** 2)
    return min(wanted, 1.0 / at.null_variance) if at.null_variance > 0 else wanted


def _gates(at: Circumstances) -> dict[str, Parts]:
    cell = at.cell
    if cell.is_plain:
        return rnn_gates(at)
    keep = needs_keep_gate("critical", cell)
    drive, small = gate_drive(at), near_zero(at.T)
    slowest = keep_bias(min(1.0 / at.T, 0.5), drive * at.null_variance + small)
    longest = min(max(1.0 + math.exp(slowest), SHORTEST), LONGEST)
    biases: dict[str, Parts] = {
        keep: {
            "distribution": "log_uniform_time",
            "min_time": SHORTEST,
            "max_time": float(f"{longest:.6g}"),
        }
    }
    if cell.write_gate not in (None, keep):
        biases[str(cell.write_gate)] = {"distribution": "coupled", "to": keep, "sign": -1}
    if cell.read_gate is not None:
        biases[cell.read_gate] = bias(OPEN_OUTPUT)
    for scale in (*cell.before.values(), *cell.after.values()):
        biases.setdefault(scale.gate, bias(OPEN_RESET))
    return {
        name: gate(
            kernel("normal", small),
            kernel("normal", at.drive(CANDIDATE_DRIVE) if name == cell.candidate_gate else drive),
            biases.get(name, bias(0.0)),
        )
        for name in cell.gates
    }


SCHEME = Scheme(
    "critical",
    "spread of time constants up to T, coupled and input-driven gates (default)",
    _gates,
    "unit_time_constant",
)
