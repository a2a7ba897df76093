"""What a mismatch looks like: the known mistakes, tried one by one on weights that do not match.

A hint says only what the numbers bear out: the same tests pass once the mistake is undone.  What is known of single
frameworks, their layouts say (``critinit.tensors.layouts.Hints``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from critinit.distributions import Kernel, KernelFamily, Observed, UniformKernel
from critinit.distributions.goodness import orthogonality_error, unit_uniform
from critinit.tensors.blocks import Block
from critinit.tensors.layouts import Form, Hints, Sizes, layouts
from critinit.tensors.sampling import Draw, Part
from critinit.weights.comparing import compare, passes
from critinit.weights.effective import Effective
from critinit.weights.finding import FoundLayer
from critinit.weights.trained import typical_move

__all__ = ["Mismatch", "hints_of"]

PARTS: tuple[Part, ...] = ("recurrent", "input", "bias")
NEARLY_ORTHOGONAL = 1e-3
"""The largest |W Wᵀ/gain² − I| of a matrix that is called orthogonal: far above single precision's rounding, far below
the 3/√columns or so of independent entries."""
_PIECES = 0.01
"""The least |W Wᵀ/gain² − I| of a gate's kernel that is a piece of a larger orthogonal matrix.  A gate's own orthogonal
matrix that is a little off has less, and such matrices make up one with orthonormal columns too."""


@dataclass(frozen=True)
class Mismatch:
    """One layer in one direction, some of whose parts differ.

    Attributes:
        layer: The layer.
        draws: What the spec asks for.
        read: The layer's numbers.
        wrong: The parts that differ, as (gate, part).
        threshold: The smallest p of a part that matches.
    """

    layer: FoundLayer
    draws: Mapping[tuple[str, Part], Draw]
    read: Effective
    wrong: frozenset[tuple[str, str]]
    threshold: float

    def fits(self, draw: Draw, observed: Observed) -> bool:
        """Return whether numbers pass the tests of a draw; a coupled bias is tested as one of its distribution."""
        return passes(compare(draw, observed), self.threshold)

    @property
    def own_hints(self) -> Hints:
        """What is known of the layer's framework."""
        return layouts()[self.layer.framework].hints

    def bias_block(self, gate: str) -> Block | None:
        """Return where the gate's bias stands, or None where the file has none."""
        blocks = [block for stored in self.layer.tensors.values() for block in stored.blocks]
        return next((block for block in blocks if (block.gate, block.part) == (gate, "bias")), None)


def hints_of(mismatch: Mismatch) -> Iterator[str]:
    """Return a line for every known mistake that explains some of the parts that differ."""
    damaged = mismatch.read.damaged()
    if damaged:
        yield f"numbers that are not finite in {', '.join(damaged)}"
        return
    move = typical_move(mismatch.draws, mismatch.read)
    defaults = [_default_biases(mismatch), *(_default(mismatch, *key) for key in mismatch.draws)]
    if move is not None and not any(defaults):
        yield (
            f"every part differs a little, by about {move:.1g}, and each unit by its own amount: this looks trained; "
            "check is for weights as they are before training"
        )
        return
    yield from _mistakes(mismatch)


def _mistakes(mismatch: Mismatch) -> Iterator[str]:
    """The mistakes of an initialization, in the order of how much they explain."""
    order = _order(mismatch)
    if order is not None:
        yield order
    if any(part == "recurrent" for _, part in mismatch.wrong):
        yield from _fused(mismatch)
    for gate, part in sorted(key for key in mismatch.draws if key in mismatch.wrong):
        if part == "bias" and order is None:
            yield from filter(None, [_bias(mismatch, mismatch.draws[gate, part])])
        elif part in ("recurrent", "input"):
            yield from filter(None, [_default(mismatch, gate, part) or _slip(mismatch, mismatch.draws[gate, part])])
    yield from filter(None, [_default_biases(mismatch)])
    if any(observed.values.any() for observed in mismatch.read.inside.values()):
        yield (
            "the candidate's second bias vector (inner bias) is scaled by the reset gate, so it is no part of the "
            "effective bias; a spec leaves it at 0"
        )


# ---- the order of the gates ------------------------------------------------------------------------------


def _order(mismatch: Mismatch) -> str | None:
    """Whether the gates fit in another order, all parts together or the parts that differ alone."""
    gates = list(dict.fromkeys(gate for gate, part in mismatch.draws if part == "recurrent"))
    wrong = [part for part in PARTS if any(other == part for _, other in mismatch.wrong)]
    for among in (PARTS, *((part,) for part in wrong)):
        order = _moved(mismatch, gates, among)
        if order is not None:
            moves = ", ".join(f"{gate} where {place} belongs" for place, gate in order.items() if gate != place)
            what = "the gates stand" if among == PARTS else f"the {among[0]} parts stand"
            return f"{what} in another order: {moves}{_whose(order, mismatch.layer.form)}"
    return None


def _moved(mismatch: Mismatch, gates: list[str], among: tuple[Part, ...]) -> dict[str, str] | None:
    """The order in which these parts fit, as place -> gate, with the fewest moves; None where they fit as they are."""
    draws, read = mismatch.draws, mismatch.read
    fits = {
        (place, gate): all(mismatch.fits(draws[gate, part], read.parts[place, part]) for part in among)
        for place in gates
        for gate in gates
    }
    orders = [dict(zip(gates, order, strict=True)) for order in permutations(gates)]
    fitting = [order for order in orders if all(fits[place, gate] for place, gate in order.items())]
    fewest = min(fitting, key=lambda order: sum(place != gate for place, gate in order.items()), default=None)
    return None if fewest is None or all(place == gate for place, gate in fewest.items()) else fewest


def _stored_order(form: Form) -> list[str]:
    """The gates of the fused recurrent kernel in the order in which they stand; empty where they are separate."""
    for stored in form.tensors(Sizes(1, 1)):
        gates = [block.gate for block in stored.blocks if block.part == "recurrent"]
        if len(gates) > 1:
            return gates
    return []


def _whose(order: Mapping[str, str], form: Form) -> str:
    """The frameworks in which the gates do stand in that order, if there are such."""
    stands = [order[gate] for gate in _stored_order(form)]
    owners = [
        layout.framework
        for layout in layouts().values()
        for other in layout.forms
        if stands and other.cell == form.cell and _stored_order(other) == stands
    ]
    return f"; that is the order of {', '.join(dict.fromkeys(owners))}" if owners else ""


# ---- biases ----------------------------------------------------------------------------------------------


def _bias(mismatch: Mismatch, draw: Draw) -> str | None:
    """What undoes the mistake in one gate's bias."""
    if not mismatch.read.tensors[draw.gate, "bias"]:
        return f"there is no bias tensor, as with bias=False; {draw.gate} needs one"
    return _two_vectors(mismatch, draw) or _changed_bias(mismatch, draw)


def _two_vectors(mismatch: Mismatch, draw: Draw) -> str | None:
    """Whether one of the two bias vectors alone is right."""
    second = mismatch.read.seconds.get(draw.gate)
    if second is None or not second.values.any():
        return None
    if mismatch.fits(draw, mismatch.read.firsts[draw.gate]):
        return "the first bias vector alone is as asked; the second is added to it and has to be 0"
    if mismatch.fits(draw, second):
        return "the second bias vector alone is as asked; the first is added to it and has to be 0"
    return None


def _changed_bias(mismatch: Mismatch, draw: Draw) -> str | None:
    """Whether a bias is negated, doubled, or off by one."""
    gate, observed, block = draw.gate, mismatch.read.parts[draw.gate, "bias"], mismatch.bias_block(draw.gate)
    b, hints = observed.values, mismatch.own_hints
    if mismatch.fits(draw, observed._replace(values=-b)):
        why = hints.negated_bias if block is not None and block.sign < 0 else ""
        return f"the bias of {gate} has the opposite sign{_because(why)}"
    if mismatch.fits(draw, observed._replace(values=b / 2)):
        return f"the bias of {gate} is twice what is asked"
    if mismatch.fits(draw, _shifted(observed, b - 1.0)):
        why = hints.bias_plus_one if block is not None and block.offset else ""
        return f"the bias of {gate} is 1 more than asked{_because(why)}"
    if mismatch.fits(draw, _shifted(observed, b + 1.0)):
        return f"the bias of {gate} is 1 less than asked"
    return None


def _because(why: str) -> str:
    return f"; {why}" if why else ""


def _shifted(observed: Observed, values: NDArray[np.float64]) -> Observed:
    """Numbers moved by 1, which costs as much of their precision as a stored number of that size would."""
    return Observed(values, observed.roundoff, observed.scale + 1.0)


# ---- kernels ---------------------------------------------------------------------------------------------


def _fused(mismatch: Mismatch) -> Iterator[str]:
    """Whether all gates' recurrent kernels make up one matrix with orthonormal columns, (nH × H)."""
    kernels = [mismatch.read.parts[gate, part].values for gate, part in mismatch.draws if part == "recurrent"]
    whole = np.concatenate(kernels)
    if len(kernels) < 2 or not whole.any():
        return
    pieces = min(orthogonality_error(_normalized(kernel)) for kernel in kernels)
    if orthogonality_error(_normalized(whole.T)) < NEARLY_ORTHOGONAL and pieces > _PIECES:
        yield (
            f"the fused recurrent matrix {whole.shape} is orthogonal as a whole, so no gate's is, and each has "
            f"1/{len(kernels)} of the variance; draw it gate by gate"
        )


def _normalized(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix whose rows have length 1 in the mean."""
    return rows / max(math.sqrt(float(np.einsum("ij,ij->", rows, rows)) / len(rows)), np.finfo(float).tiny)


def _default(mismatch: Mismatch, gate: str, part: Part) -> str | None:
    """Whether a kernel looks like a framework's default; that of the file's own framework is tried first."""
    if part not in ("recurrent", "input") or (gate, part) not in mismatch.wrong:
        return None
    draw, observed = mismatch.draws[gate, part], mismatch.read.parts[gate, part]
    hidden, fan_in = draw.shape
    columns = max(len(_stored_order(mismatch.layer.form)), 1) * hidden
    for hints in (mismatch.own_hints, *(layout.hints for layout in layouts().values())):
        words = hints.default_recurrent if part == "recurrent" else hints.default_input
        if not words or hints.default_bound is None:
            continue
        variance = fan_in * hints.default_bound(hidden, fan_in, columns) ** 2 / 3.0
        if mismatch.fits(replace(draw, distribution=UniformKernel(variance=variance)), observed):
            return f"the {part} kernels look like {words}: not initialized from the spec?"
    return None


def _default_biases(mismatch: Mismatch) -> str | None:
    """Whether a bias vector looks like a framework's default that is the same for biases and recurrent kernels."""
    read, hidden = mismatch.read, mismatch.layer.sizes.hidden
    columns = max(len(_stored_order(mismatch.layer.form)), 1) * hidden
    vectors = [*read.firsts.values(), *read.seconds.values(), *read.inside.values()]
    for hints in (mismatch.own_hints, *(layout.hints for layout in layouts().values())):
        if hints.default_recurrent and hints.default_bound is not None:
            bound = hints.default_bound(hidden, hidden, columns)
            tests = (unit_uniform(vector.values / bound, vector.roundoff) for vector in vectors)
            if any(passes(test, mismatch.threshold) for test in tests):
                return f"biases look like {hints.default_recurrent}: not initialized from the spec?"
    return None


def _slip(mismatch: Mismatch, draw: Draw) -> str | None:
    """Whether the kernel is as asked but for a slip of scale."""
    kernel, observed = draw.distribution, mismatch.read.parts[draw.gate, draw.part]
    if not isinstance(kernel, Kernel) or kernel.is_zero or not _has_scale(kernel):
        return None
    asked = kernel.variance
    slips = {
        "the spec's variance was taken for a standard deviation": asked**2,
        "the square root of the spec's variance was taken for the variance": math.sqrt(asked),
        "it was not divided by the fan-in": asked * draw.fan_in,
        "it was divided by the fan-in twice": asked / draw.fan_in,
    }
    for words, variance in slips.items():
        slipped = replace(draw, distribution=kernel.model_copy(update={"variance": variance}))
        if mismatch.fits(slipped, observed):
            return f"the variance of the {draw.part} kernel of {draw.gate} is {variance:.4g}: {words}"
    return None


def _has_scale(kernel: Kernel) -> bool:
    """Whether the variance is the kernel's own scale, and not computed from another key, and not that of a diagonal."""
    return "variance" not in kernel.derived and kernel.family is not KernelFamily.DIAGONAL
