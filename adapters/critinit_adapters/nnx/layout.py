"""Flax NNX: SimpleCell, GRUCell, OptimizedLSTMCell and LSTMCell.

    r, z, n of the GRU are reset, update, candidate
    i, f, g, o of the LSTM are input, forget, cell, output; its biases stand on the recurrent side

Kernels are (fan_in, H), gates side by side or, in LSTMCell, one ``Linear`` each.  Names are the flattened path of the
state, joined with "/".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from critinit.tensors.blocks import Block, fused, whole_tensor, zeros
from critinit.tensors.layouts import Form, Layout, Sizes, Stored, path_splitter

__all__ = ["CELLS", "GATES", "LAYOUT", "blocks"]

CELLS = {"SimpleCell": "rnn", "GRUCell": "gru", "OptimizedLSTMCell": "lstm", "LSTMCell": "lstm"}
"""The cell by the class's name; with the activation relu a SimpleCell is a ``relu_rnn``."""
GATES = {
    "rnn": ("hidden",),
    "gru": ("reset", "update", "candidate"),
    "lstm": ("input", "forget", "cell", "output"),
    "relu_rnn": ("hidden",),
}
"""The gates of each cell, in their order along the last axis."""
_LINEARS = {"input": ("ii", "hi"), "forget": ("if_", "hf"), "cell": ("ig", "hg"), "output": ("io", "ho")}
"""The names that LSTMCell gives to each gate's two Linear modules."""


@lru_cache
def blocks(kind: str, hidden: int) -> Mapping[str, tuple[Block, ...]]:
    """Return the blocks of every parameter, by its path below the cell.

    Args:
        kind: The name of the cell's class.
        hidden: The number of units.
    """
    if kind == "LSTMCell":
        return {
            path: found
            for gate, (x, h) in _LINEARS.items()
            for path, found in (
                (f"{x}/kernel", whole_tensor(gate, "input", transposed=True)),
                (f"{h}/kernel", whole_tensor(gate, "recurrent", transposed=True)),
                (f"{h}/bias", whole_tensor(gate, "bias")),
            )
        }
    gates = GATES[CELLS[kind]]
    biased = "dense_h" if kind == "OptimizedLSTMCell" else "dense_i"
    table = {
        "dense_i/kernel": fused(gates, "input", 1, hidden, transposed=True),
        "dense_h/kernel": fused(gates, "recurrent", 1, hidden, transposed=True),
        f"{biased}/bias": fused(gates, "bias", 0, hidden),
    }
    # a bias inside r∘(·), which some versions of the GRU have, is no part of the effective bias
    return {**table, "hn_bias": zeros(inside="candidate")} if kind == "GRUCell" else table


def _form(kind: str, cell: str) -> Form:
    count = 1 if kind == "LSTMCell" else len(GATES[cell])
    first = "ii/kernel" if kind == "LSTMCell" else "dense_i/kernel"

    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        def shape(name: str, blocks: tuple[Block, ...]) -> tuple[int, ...]:
            if name == "hn_bias":
                return (sizes.hidden,)
            columns = count * sizes.hidden
            rows = sizes.input if blocks[0].part == "input" else sizes.hidden
            return (rows, columns) if blocks[0].transposed else (columns,)

        table = blocks(kind, sizes.hidden)
        return tuple(
            Stored(n, shape(n, b), b, optional=n.endswith("bias"), read_only=n == "hn_bias") for n, b in table.items()
        )

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
        rows, columns = shapes[first]
        return Sizes(rows, columns // count)

    name = f"{kind} with activation_fn=relu" if cell == "relu_rnn" else kind
    return Form(name, cell, tuple(blocks(kind, 1)), tensors, sizes)


def _path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    stack = f"layers/{layer}/" if layers > 1 else ""
    way = f"{('forward', 'backward')[direction]}_rnn/" if directions == 2 else ""
    return f"{stack}{way}cell"


_FORMS = tuple(_form(kind, cell) for kind, cell in (*CELLS.items(), ("SimpleCell", "relu_rnn")))
LAYOUT = Layout(
    framework="nnx",
    forms=_FORMS,
    path=_path,
    split=path_splitter(_FORMS),
    model="nnx.RNN(cell), nnx.Bidirectional(nnx.RNN(cell), nnx.RNN(cell)) for two directions, nnx.Sequential of them "
    "for several layers; the LSTM is OptimizedLSTMCell",
)
"""NNX' layout."""
