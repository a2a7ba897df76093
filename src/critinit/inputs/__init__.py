"""What the data say of a network's inputs: the numbers that a spec needs, measured in one pass over a file.

Notation: x_i(t, f) is coordinate f of sequence i at step t.  All correlations are about zero, as in the theory, whose
inputs enter the pre-activations through E x x' alone:

    R      second moment, E x²                         spec: input.variance
    C      E x_i(t, f) x_j(t, f) / R, i ≠ j             spec: input.correlation
    r(τ)   E x_i(t, f) x_i(t + τ, f) / R                (the theory takes it for 0; shown, not used)
    R₀     E x² over the padding that ends sequences   spec: input.null_variance, where the padding can be told

A file is read in blocks, whatever its size: ``arrays`` (npy, npz), ``delimited`` (csv), ``parquet``; ``moments`` adds
the blocks up; the blocks' size changes no number but by rounding.
"""

from __future__ import annotations

from critinit.inputs.measure import measure
from critinit.inputs.statistics import Columns, InputStatistics, Padding

__all__ = ["Columns", "InputStatistics", "Padding", "measure"]
