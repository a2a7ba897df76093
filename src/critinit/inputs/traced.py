"""What an adapter hands over after one run of a model: what reached each recurrent network, and the embeddings.

An adapter's ``trace`` returns a ``Traced``.  All arrays are NumPy's; no framework is known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from critinit.errors import Problem

__all__ = ["Arrival", "Embedding", "Reached", "Traced"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """The input of one layer in one pass over a batch.

    Attributes:
        layer: The layer's number in its network, from 0.
        values: Of shape (N, T, F), in the order of time.
        read: Which steps the layer reads, (N, T); None where it reads all.  Packing and masks leave steps unread.
        dtype: The name of the type in which they arrived; it is the precision in which rows are compared.
        from_rest: Whether the layer began at the zero state.
        outputs: What the layer gave for the sequence of a number, (T, coordinates of all directions), in the order of
            time; None where that is not known.
    """

    layer: int
    values: NDArray[np.float32]
    read: NDArray[np.bool_] | None = None
    dtype: str = "float32"
    from_rest: bool = True
    outputs: Callable[[int], NDArray[np.float32]] | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """A recurrent network and what reached it.

    Attributes:
        name: Its path in the model; "" is the model itself.
        cell: critinit's name of its cell.
        hidden_size: Its number of units.
        layers: Its number of layers.
        directions: 1, or 2 where it also reads from the end.
        arrivals: What reached its layers, pass by pass; empty where the batch did not run it.
        refusal: Why it can take no spec, or None.
        trains: Whether a layer before it has weights that an optimizer changes; None where that is not known.
    """

    name: str
    cell: str
    hidden_size: int
    layers: int
    directions: int
    arrivals: tuple[Arrival, ...]
    refusal: Problem | None = None
    trains: bool | None = None


@dataclass(frozen=True, slots=True)
class Embedding:
    """A table whose rows stand for tokens.

    Attributes:
        name: Its tensor's name in the model.
        rows: The rows, of shape (tokens, F).
        trains: Whether an optimizer changes it.
        tied: Whether another layer uses the same tensor.
    """

    name: str
    rows: NDArray[np.float32]
    trains: bool
    tied: bool = False


@dataclass(frozen=True, slots=True)
class Traced:
    """A model after one run.

    Attributes:
        networks: The recurrent networks in the order in which the batch reached them; those that it did not reach last.
        embeddings: The embeddings.
        survey: What the adapter had found in the model before it ran, for the adapter's own use.
    """

    networks: tuple[Reached, ...]
    embeddings: tuple[Embedding, ...]
    survey: object = None
