"""What a mismatch looks like: the known mistakes, tried one by one on weights that do not match.

A hint says only what the numbers bear out: the same tests pass once the mistake is undone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.weights.effective import Effective
from critinit.weights.finding import Network
from critinit.distributions.goodness import Observed, orthogonality_error, outcomes_of
from critinit.tensors.layouts import Sizes, layouts
from critinit.tensors.sampling import Draw
from critinit.spec import Kernel

__all__ = ["hints_of"]

Draws = Mapping[tuple[str, Any], Draw]
PARTS = ("recurrent", "input", "bias")


def hints_of(
    draws: Draws, read: Effective, wrong: set[tuple[str, str]], threshold: float, network: Network
) -> Iterator[str]:
    """A line for every known mistake that explains some of ``wrong``, the (gate, part) that differ."""
    damaged = [key for key, observed in read.parts.items() if not np.isfinite(observed.values).all()]
    names = dict.fromkeys(name for key in damaged for name in read.tensors[key])
    names |= {name: None for name, observed in read.inside.items() if not np.isfinite(observed.values).all()}
    if names:
        yield f"numbers that are not finite in {', '.join(names)}"
        return
    order = _order(draws, read, wrong, threshold, network)
    if order is not None:
        yield order
    if any(part == "recurrent" for _, part in wrong):
        yield from _fused(draws, read)
    for gate, part in sorted(wrong & set(draws)):
        if order is None and part == "bias":
            yield from _bias(draws[gate, part], read, threshold, network)
        elif part in ("recurrent", "input"):
            yield from _kernel(draws[gate, part], read.parts[gate, part], threshold, network)
    if read.inside and any(observed.values.any() for observed in read.inside.values()):
        yield (
            "the candidate's second bias vector (inner bias) is scaled by the reset gate, so it is no part of the "
            "effective bias; a spec leaves it at 0"
        )


def _fits(draw: Draw, observed: Observed, threshold: float) -> bool:
    tests = outcomes_of(replace(draw, coupled_to=None), observed)
    return all(test.p > 0 if test.exact else test.p >= threshold for test in tests)


def _shifted(observed: Observed, values: NDArray[np.float64]) -> Observed:
    return Observed(values, observed.roundoff, observed.scale + 1.0)


# ---- the order of the gates ------------------------------------------------------------------------------


def _order(
    draws: Draws, read: Effective, wrong: set[tuple[str, str]], threshold: float, network: Network
) -> str | None:
    """Whether the gates fit in another order, all parts together or the parts that differ alone."""
    gates = list(dict.fromkeys(gate for gate, part in draws if part == "recurrent"))
    parts = [part for part in PARTS if any(other == part for _, other in wrong)]
    for among in (PARTS, *((part,) for part in parts)):
        fits = {
            (place, law): all(_fits(draws[law, part], read.parts[place, part], threshold) for part in among)
            for place in gates
            for law in gates
        }
        orders = [dict(zip(gates, order, strict=True)) for order in permutations(gates)]
        moved = [o for o in orders if all(fits[place, law] for place, law in o.items())]
        if moved and not any(all(place == law for place, law in o.items()) for o in moved):
            order = min(moved, key=lambda o: sum(place != law for place, law in o.items()))
            places = ", ".join(f"{law} where {place} belongs" for place, law in order.items() if law != place)
            what = "the gates stand" if among == PARTS else f"the {among[0]} parts stand"
            return f"{what} in another order: {places}{_whose(order, network)}"
    return None


def _stored_order(network_form: Any) -> list[str]:
    """The gates of the fused recurrent kernel in the order in which they stand; empty where they are separate."""
    for stored in network_form.tensors(Sizes(1, 1)):
        gates = [block.gate for block in stored.blocks if block.part == "recurrent"]
        if len(gates) > 1:
            return gates
    return []


def _whose(order: Mapping[str, str], network: Network) -> str:
    """The framework in which they do stand in that order, if there is one."""
    stands = [order[gate] for gate in _stored_order(network.form)]
    owners = [
        layout.framework
        for layout in layouts().values()
        for form in layout.forms
        if stands and form.cell == network.form.cell and _stored_order(form) == stands
    ]
    return f"; that is the order of {', '.join(dict.fromkeys(owners))}" if owners else ""


# ---- biases ----------------------------------------------------------------------------------------------


def _bias(draw: Draw, read: Effective, threshold: float, network: Network) -> Iterator[str]:
    observed = read.parts[draw.gate, "bias"]
    b = observed.values
    second = read.seconds.get(draw.gate)
    if not read.tensors[draw.gate, "bias"]:
        yield f"there is no bias tensor, as with bias=False; {draw.gate} needs one"
    elif second is not None and second.any() and _fits(draw, observed._replace(values=b - second), threshold):
        yield "the first bias vector alone is as asked; the second is added to it and has to be 0"
    elif second is not None and second.any() and _fits(draw, observed._replace(values=second), threshold):
        yield "the second bias vector alone is as asked; the first is added to it and has to be 0"
    elif _fits(draw, observed._replace(values=-b), threshold):
        keeps = (
            "; in Haiku's GRU 1 - z keeps the state, so it is stored negated" if network.framework == "haiku" else ""
        )
        yield f"the bias of {draw.gate} has the opposite sign{keeps}"
    elif _fits(draw, observed._replace(values=b / 2), threshold):
        yield f"the bias of {draw.gate} is twice what is asked"
    elif _fits(draw, _shifted(observed, b - 1.0), threshold):
        adds = "; hk.LSTM adds 1 to it by itself, so it is stored less 1" if network.framework == "haiku" else ""
        yield f"the bias of {draw.gate} is 1 more than asked{adds}"
    elif _fits(draw, _shifted(observed, b + 1.0), threshold):
        yield f"the bias of {draw.gate} is 1 less than asked"


# ---- kernels ---------------------------------------------------------------------------------------------


def _fused(draws: Draws, read: Effective) -> Iterator[str]:
    """Whether all gates' recurrent kernels make up one matrix with orthonormal columns, (nH × H)."""
    kernels = [read.parts[gate, part].values for gate, part in draws if part == "recurrent"]
    whole = np.concatenate(kernels)
    if len(kernels) < 2 or not np.isfinite(whole).all() or not whole.any():
        return
    gain = math.sqrt(float(np.einsum("ij,ij->", whole, whole)) / whole.shape[1])
    if orthogonality_error(whole.T / gain) < 1e-3:
        yield (
            f"the fused recurrent matrix {whole.shape} is orthogonal as a whole, so no gate's is, and each has "
            f"1/{len(kernels)} of the variance; draw it gate by gate"
        )


def _kernel(draw: Draw, observed: Observed, threshold: float, network: Network) -> Iterator[str]:
    """Defaults of frameworks, and slips of scale."""
    hidden, fan_in = draw.shape
    x = observed.values
    if not np.isfinite(x).all() or not isinstance(draw.law, Kernel):
        return
    uniform = {
        "U(-1/sqrt(H), 1/sqrt(H)), the default of torch and Equinox": 1.0 / math.sqrt(hidden),
        "Glorot uniform on the fused kernel, the default of Keras": math.sqrt(
            6.0 / (fan_in + _columns(network, hidden))
        ),
    }
    for words, bound in uniform.items():
        if draw.part == "recurrent" and "Keras" in words:
            continue
        if _fits(_with(draw, "uniform", fan_in * bound**2 / 3.0), observed, threshold):
            yield f"the {draw.part} kernels look like {words}: not initialized from the spec?"
            return
    asked = draw.law.variance
    slips = {
        "the spec's variance was taken for a standard deviation": asked**2,
        "the square root of the spec's variance was taken for the variance": math.sqrt(asked),
        "it was not divided by the fan-in": asked * fan_in,
        "it was divided by the fan-in twice": asked / fan_in,
    }
    for words, variance in slips.items():
        known = draw.law.distribution in ("normal", "uniform", "orthogonal")
        if known and asked and _fits(_with(draw, draw.law.distribution, variance), observed, threshold):
            yield f"the variance of the {draw.part} kernel of {draw.gate} is {variance:.4g}: {words}"
            return


def _columns(network: Network, hidden: int) -> int:
    gates: Sequence[str] = _stored_order(network.form)
    return max(len(gates), 1) * hidden


def _with(draw: Draw, distribution: Any, variance: float) -> Draw:
    return replace(draw, law=Kernel(distribution=distribution, variance=variance))
