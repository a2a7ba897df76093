"""Where the input of a network comes from: the batch itself, an embedding, or layers that compute it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from critinit.inputs.traced import Arrival, Embedding

__all__ = ["Origin", "origin_of"]

Origin = Literal["data", "embedding", "layers"]
"""The rows of the batch itself, rows of an embedding, or what layers compute."""


def origin_of(
    arrivals: Sequence[Arrival], embeddings: Sequence[Embedding], batch: Sequence[NDArray[Any]]
) -> tuple[Origin, Embedding | None]:
    """Return whose rows arrive, the batch's own, an embedding's or neither's, and the embedding.

    Args:
        arrivals: What reached a network's first layer.
        embeddings: The embeddings of the model.
        batch: The arrays that the model was called with.
    """
    width = arrivals[0].values.shape[2]
    for array in batch:
        rows = array.reshape(-1, 1) if width == 1 else array
        if rows.ndim and rows.shape[-1] == width and _all_among(arrivals, rows.reshape(-1, width)):
            return "data", None
    for embedding in embeddings:
        if embedding.rows.shape[-1] == width and _all_among(arrivals, embedding.rows):
            return "embedding", embedding
    return "layers", None


def _all_among(arrivals: Sequence[Arrival], rows: NDArray[Any]) -> bool:
    """Whether every row that arrives, but for rows of zeros, is one of ``rows`` in the precision of arrival."""
    for arrival in arrivals:
        found = arrival.values.reshape(-1, arrival.values.shape[2])
        known = _keys(_rounded(rows.astype(np.float32), arrival.dtype))
        if not np.all(np.isin(_keys(found[np.any(found, axis=1)]), known)):
            return False
    return True


def _keys(rows: NDArray[np.float32]) -> NDArray[Any]:
    """A row as one value that can be compared."""
    whole = np.ascontiguousarray(rows + np.float32(0.0))
    return whole.view(np.dtype((np.void, whole.shape[1] * whole.itemsize))).reshape(-1)


def _rounded(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """Values in single precision as they are after a cast to ``dtype``."""
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    if dtype == "bfloat16":  # the upper half of the bits, rounded to even
        bits = np.ascontiguousarray(values).view(np.uint32)
        return ((bits + (0x7FFF + ((bits >> 16) & 1))) & np.uint32(0xFFFF0000)).view(np.float32)
    return values
