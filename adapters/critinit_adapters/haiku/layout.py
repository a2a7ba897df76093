"""Haiku: LSTM, GRU and VanillaRNN; kernels (fan_in, H), gates side by side.

    i, g, f, o of the LSTM are input, cell, forget, output, in one matrix with rows [x; h]; the cell computes
    σ(f + 1), so its stored forget bias is the effective one less 1
    z, r, a of the GRU, which is critinit's ``gru_reset_before``, are update, reset, candidate;
    h' = (1−z)∘h + z∘a: here 1−z keeps the old state, so all that feeds z is stored with its sign changed
    VanillaRNN is a ReLU network, critinit's ``relu_rnn``; its two biases are added

Names are the module's path and the parameter's name, joined with "/".
"""

from __future__ import annotations

from collections.abc import Mapping

from critinit.tensors.blocks import Block, fused, second_bias, whole_tensor
from critinit.tensors.layouts import Form, Hints, Layout, Sizes, Stored, path_splitter

__all__ = ["CELLS", "GATES", "LAYOUT", "NAMES", "OPTIONAL", "blocks"]

CELLS = {"lstm": "lstm", "gru": "gru_reset_before", "vanilla_rnn": "relu_rnn"}
"""The cell by Haiku's name for it."""
GATES = {
    "lstm": ("input", "cell", "forget", "output"),
    "gru_reset_before": ("update", "reset", "candidate"),
    "relu_rnn": ("hidden",),
}
"""The gates of each cell, in their order along the last axis."""
NAMES = {
    "lstm": ("linear/w", "linear/b"),
    "gru_reset_before": ("w_i", "w_h", "b"),
    "relu_rnn": ("linear/w", "linear/b", "linear_1/w", "linear_1/b"),
}
"""The names of each cell's tensors."""
OPTIONAL = ("linear_1/b",)
"""What a cell may lack: the second bias of ``hk.VanillaRNN`` with ``double_bias=False``."""
_CLASSES = {"vanilla_rnn": "VanillaRNN"}
_SIGN = {"update": -1.0}
_OFFSET = {"forget": -1.0}


def blocks(name: str, cell: str, inputs: int, hidden: int) -> tuple[Block, ...]:
    """Return the blocks of one tensor.

    Args:
        name: The tensor's name, one of ``NAMES[cell]``.
        cell: The cell.
        inputs: The width of the input; it counts only for ``linear/w``.
        hidden: The number of units.
    """
    gates = GATES[cell]
    if cell == "relu_rnn":
        return _vanilla(name, hidden)
    if name in ("linear/b", "b"):
        return fused(gates, "bias", 0, hidden, sign=_SIGN, offset=_OFFSET)
    if name == "linear/w":
        x, h = slice(0, inputs), slice(inputs, inputs + hidden)
        return (
            *fused(gates, "input", 1, hidden, transposed=True, within={0: x}),
            *fused(gates, "recurrent", 1, hidden, transposed=True, within={0: h}),
        )
    return fused(gates, "input" if name == "w_i" else "recurrent", 1, hidden, transposed=True, sign=_SIGN)


def _vanilla(name: str, hidden: int) -> tuple[Block, ...]:
    """The blocks of one of the two Linear modules of ``hk.VanillaRNN``, whose biases are added."""
    match name:
        case "linear/b":
            return whole_tensor("hidden", "bias")
        case "linear_1/b":
            return second_bias(("hidden",), 0, hidden)
        case _:
            return whole_tensor("hidden", "input" if name == "linear/w" else "recurrent", transposed=True)


def _form(kind: str) -> Form:
    cell = CELLS[kind]

    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        columns = len(GATES[cell]) * sizes.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "linear/w": (sizes.input + sizes.hidden * (cell == "lstm"), columns),
            "linear/b": (columns,),
            "linear_1/w": (sizes.hidden, columns),
            "linear_1/b": (columns,),
            "w_i": (sizes.input, columns),
            "w_h": (sizes.hidden, columns),
            "b": (columns,),
        }
        return tuple(
            Stored(n, shapes[n], blocks(n, cell, sizes.input, sizes.hidden), optional=n in OPTIONAL)
            for n in NAMES[cell]
        )

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
        rows, columns = shapes[NAMES[cell][0]]
        hidden = columns // len(GATES[cell])
        inputs = rows - hidden if cell == "lstm" else rows
        return Sizes(inputs, hidden) if inputs > 0 else None

    # every Linear has w and b: only the module's path can say that one is an LSTM's or a VanillaRNN's
    path = rf"{kind}(_\d+)?$" if NAMES[cell][0] == "linear/w" else ""
    return Form(f"hk.{_CLASSES.get(kind, kind.upper())}", cell, NAMES[cell], tensors, sizes, path)


def _path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    name = next(kind for kind, cell in CELLS.items() if cell == form.cell)
    number = f"_{layer}" if layer else ""
    way = f"{('forward', 'backward')[direction]}_" if directions == 2 else ""
    return f"{way}{name}{number}"


_FORMS = tuple(map(_form, CELLS))
LAYOUT = Layout(
    framework="haiku",
    forms=_FORMS,
    path=_path,
    split=path_splitter(_FORMS),
    model="hk.GRU(H), hk.LSTM(H) or hk.VanillaRNN(H), the further ones numbered by Haiku; for two directions hk.GRU(H, "
    "name='forward_gru') and name='backward_gru', then 'forward_gru_1' and so on",
    hints=Hints(
        negated_bias="in Haiku's GRU 1 - z keeps the state, so it is stored negated",
        bias_plus_one="hk.LSTM adds 1 to it by itself, so it is stored less 1",
    ),
)
"""Haiku's layout."""
