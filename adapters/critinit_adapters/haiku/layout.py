"""Haiku: LSTM and GRU; kernels (fan_in, H), gates side by side.

    i, g, f, o of the LSTM are input, cell, forget, output, in one matrix with rows [x; h]; the cell computes
    σ(f + 1), so its stored forget bias is the effective one less 1
    z, r, a of the GRU are update, reset, candidate;  h' = (1−z)∘h + z∘a: here 1−z keeps the old state, so all that
    feeds z is stored with its sign changed

Names are the module's path and the parameter's name, joined with "/".
"""

from __future__ import annotations

from collections.abc import Mapping

from critinit.tensors.blocks import Block, fused
from critinit.tensors.layouts import Form, Layout, Sizes, Stored, below

__all__ = ["GATES", "LAYOUT", "NAMES", "OFFSET", "RESET", "SIGN", "blocks"]

# the order of the gates along the last axis
GATES = {"lstm": ("input", "cell", "forget", "output"), "gru": ("update", "reset", "candidate")}
SIGN = {"update": -1.0}
OFFSET = {"forget": -1.0}
RESET = {"gru": "before"}
NAMES = {"lstm": ("linear/w", "linear/b"), "gru": ("w_i", "w_h", "b")}


def blocks(name: str, cell: str, inputs: int, hidden: int) -> tuple[Block, ...]:
    """The blocks of one tensor; ``inputs`` counts only for ``linear/w``."""
    gates = GATES[cell]
    if name in ("linear/b", "b"):
        return fused(gates, "bias", 0, hidden, sign=SIGN, offset=OFFSET)
    if name == "linear/w":
        x, h = slice(0, inputs), slice(inputs, inputs + hidden)
        return (
            *fused(gates, "input", 1, hidden, transposed=True, within={0: x}),
            *fused(gates, "recurrent", 1, hidden, transposed=True, within={0: h}),
        )
    return fused(gates, "input" if name == "w_i" else "recurrent", 1, hidden, transposed=True, sign=SIGN)


def _form(cell: str) -> Form:
    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        columns = len(GATES[cell]) * sizes.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "linear/w": (sizes.input + sizes.hidden, columns),
            "linear/b": (columns,),
            "w_i": (sizes.input, columns),
            "w_h": (sizes.hidden, columns),
            "b": (columns,),
        }
        return tuple(Stored(n, shapes[n], blocks(n, cell, sizes.input, sizes.hidden)) for n in NAMES[cell])

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
        rows, columns = shapes[NAMES[cell][0]]
        hidden = columns // len(GATES[cell])
        inputs = rows - hidden if cell == "lstm" else rows
        return Sizes(inputs, hidden) if inputs > 0 else None

    # every Linear has w and b: only the module's path can say that one is an LSTM's
    path = r"lstm(_\d+)?$" if cell == "lstm" else ""
    return Form(f"hk.{cell.upper()}", cell, RESET.get(cell), NAMES[cell], tensors, sizes, path)


def _path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    number = f"_{layer}" if layer else ""
    way = f"{('forward', 'backward')[direction]}_" if directions == 2 else ""
    return f"{way}{form.cell}{number}"


_FORMS = tuple(map(_form, GATES))
LAYOUT = Layout(
    framework="haiku",
    forms=_FORMS,
    path=_path,
    split=below(_FORMS),
    model="hk.GRU(H) or hk.LSTM(H), the further ones numbered by Haiku; for two directions hk.GRU(H, "
    "name='forward_gru') and name='backward_gru', then 'forward_gru_1' and so on",
)
