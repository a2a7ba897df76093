"""Kernels of convolutions: where their gates lie, and which of their taps a draw fills.

A kernel is stored as (*window, channels, units), with a *tap*, a matrix (channels, units), for every place of the
window.  A unit reads window·channels numbers: that is the fan-in, and the canonical form is (units, window·channels).

- Distributions of independent entries fill all taps: at every place whose window lies within the image, a layer of
  many channels is a dense layer of that fan-in.
- Those that are made for a square matrix (orthogonal, identity, …), and those that keep angles, stand at the centre
  tap, and all other taps are 0 (delta-orthogonal kernels, Xiao et al. 2018, arXiv:1806.05393).  Then W Wᵀ = gain²·I
  holds of the convolution too.  A window of even size has no centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from critinit.tensors.blocks import Block, Shape, fused, zeros
from critinit.tensors.sampling import Draw, Part

__all__ = ["Pairs", "centre_and_rest", "convolution", "on_taps"]

Pairs = tuple[tuple[Block, Draw | None], ...]
"""Every block of a tensor with its draw; None where the block becomes 0."""


def convolution(gates: Sequence[str], part: Part, window: Shape, channels: int, hidden: int) -> tuple[Block, ...]:
    """Return the blocks of a kernel (*window, channels, gates·units), the gates side by side along the last axis.

    Args:
        gates: The gates in their order.
        part: "input" or "recurrent".
        window: The window's size along each axis of the image; none for a dense kernel (channels, gates·units).
        channels: The number of channels that it reads.
        hidden: The number of units, the filters of each gate.
    """
    blocks = fused(gates, part, len(window) + 1, hidden, transposed=True)
    if not window:
        return blocks
    read, stored = (prod(window) * channels, hidden), (*window, channels, hidden)
    return tuple(replace(block, shape=read, stored_as=stored) for block in blocks)


def on_taps(block: Block, draw: Draw | None) -> Pairs:
    """Return what is written where a draw goes into a block: several blocks where it fills the centre tap alone."""
    if draw is None or not draw.window:
        return ((block, draw),)
    before, (channels, units) = block.index[: -len(draw.window) - 2], block.index[-2:]  # a place in a stack of kernels
    centre = tuple(size // 2 for size in draw.window)
    pairs: list[tuple[Block, Draw | None]] = []
    for tap in np.ndindex(*draw.window):
        index = (*before, *tap, channels, units)
        if tap == centre:
            pairs.append((replace(block, index=index, shape=None), draw))
        else:
            pairs += ((zero, None) for zero in zeros(*index))
    return tuple(pairs)


def centre_and_rest(canonical: Any, window: Shape) -> tuple[Any, Any]:
    """Return the centre tap (units, channels) of a kernel's canonical numbers, and all its other taps.

    Example:
        >>> centre_and_rest(np.arange(6.0).reshape(1, 6), (3,))
        (array([[2., 3.]]), array([[0., 1., 4., 5.]]))
    """
    taps = canonical.reshape(len(canonical), prod(window), -1)
    middle = prod(window) // 2
    return taps[:, middle], np.delete(taps, middle, axis=1).reshape(len(canonical), -1)
