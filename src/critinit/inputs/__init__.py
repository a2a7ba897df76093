"""Measuring a network's inputs: the numbers that a spec needs, in one pass over an array or a file.

Notation: x_i(t, f) is feature f of sequence i at step t.  All correlations are about zero, not about the mean, because
the theory knows inputs through E x x' alone:

    R      second moment, E x²                               spec: input.variance
    C      E x_i(t, f) x_j(t, f) / R for i ≠ j                spec: input.correlation
    r(τ)   E x_i(t, f) x_i(t + τ, f) / R                      shown only: the theory takes it for 0
    R₀     E x² over the padding at the end of sequences      spec: input.padding

Data are read in chunks:

    arrays, array_files    arrays in memory; npy, npz, safetensors
    tables                 tables, by what reads them: ``delimited`` (text, with ``text_options``), Parquet and Arrow
    table_cells            their columns as numbers
    long_tables, nested    tables whose rows have to be sorted, and those with lists in their cells (both by ``spool``)

``moments`` sums them up, ``labels`` finds columns that are no inputs, and ``statistics`` holds the result.  The size of
the chunks changes the numbers by rounding only.

``network`` measures what arrives at the recurrent networks of a model: an adapter runs it once and hands over what
reached them (``traced``); ``stretches`` finds the padding, ``origins`` where the input comes from, and ``arriving``
holds the result.  ``initializing`` goes on from there to written weights.
"""

from __future__ import annotations

from critinit.inputs.measure import measure
from critinit.inputs.statistics import Columns, ConstantStretches, InputStatistics

__all__ = ["Columns", "ConstantStretches", "InputStatistics", "measure"]
