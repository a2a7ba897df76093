"""PyTorch: RNN, GRU, LSTM and their Cell classes; gates stacked along axis 0, each (H, fan_in).

    r, z, n of the GRU are reset, update, candidate;  i, f, g, o of the LSTM are input, forget, cell, output

Both bias vectors are added, so ``bias_ih`` takes the effective bias and ``bias_hh`` is 0; of the GRU's ``bias_hh``
b_hn sits inside r∘(·) and is no part of the effective bias.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from critinit.errors import MissingExtraError
from critinit.tensors.blocks import Block, fused, second_bias, whole_tensor
from critinit.tensors.layouts import Address, Form, Layout, Sizes, Stored
from critinit_adapters.shared.defaults import UNIFORM_BY_UNITS

__all__ = ["GATES", "LAYOUT", "PROJECTED", "STEMS", "blocks"]

GATES = {
    "rnn": ("hidden",),
    "gru": ("reset", "update", "candidate"),
    "lstm": ("input", "forget", "cell", "output"),
    "projection_lstm": ("input", "forget", "cell", "output"),
    "relu_rnn": ("hidden",),
}
"""The gates of each cell, in the order in which they are stacked."""
PROJECTED = {"lstm": "projection_lstm"}
"""With ``proj_size`` a cell is also the one whose specs state the projection."""
_KINDS = {"projection_lstm": "LSTM with proj_size", "relu_rnn": "RNN with nonlinearity='relu'"}
STEMS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
_NAME = re.compile(rf"(?:(?P<module>.+)[./])?(?P<stem>{'|'.join(STEMS)})(?:_l(?P<layer>\d+)(?P<reverse>_reverse)?)?")


def blocks(stem: str, cell: str, hidden: int) -> tuple[Block, ...]:
    """Return the blocks of one tensor.

    Args:
        stem: The tensor's name without layer and direction, one of ``STEMS``.
        cell: The cell.
        hidden: The number of units.
    """
    match stem:
        case "weight_ih":
            return fused(GATES[cell], "input", 0, hidden)
        case "weight_hh":
            return fused(GATES[cell], "recurrent", 0, hidden)
        case "bias_ih":
            return fused(GATES[cell], "bias", 0, hidden)
        case "bias_hh":
            return second_bias(GATES[cell], 0, hidden, inside="candidate")
        case _:
            return whole_tensor("", "projection")


def _form(cell: str) -> Form:
    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        rows, message = len(GATES[cell]) * sizes.hidden, sizes.projection or sizes.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, sizes.input),
            "weight_hh": (rows, message),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        if sizes.projection is not None:
            shapes["weight_hr"] = (sizes.projection, sizes.hidden)
        return tuple(
            Stored(stem, shape, blocks(stem, cell, sizes.hidden), optional=stem.startswith("bias"))
            for stem, shape in shapes.items()
        )

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
        if "weight_hr" in shapes:
            projection, hidden = shapes["weight_hr"]
            return Sizes(shapes["weight_ih"][1], hidden, projection)
        if cell in PROJECTED.values():
            return None
        return Sizes(shapes["weight_ih"][1], shapes["weight_hh"][1])

    names = STEMS if cell in (*PROJECTED, *PROJECTED.values()) else STEMS[:4]
    return Form(f"nn.{_KINDS.get(cell, cell.upper())}", cell, names, tensors, sizes)


def _split(name: str) -> Address | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return Address(match["module"] or "", int(match["layer"] or 0), int(bool(match["reverse"])), match["stem"])


def _join(address: Address) -> str:
    suffix = f"_l{address.layer}{'_reverse' * address.direction}"
    return ".".join(filter(None, (address.module, f"{address.tensor}{suffix}")))


def _read(path: str) -> Mapping[str, tuple[str, Any]]:
    """Type and numbers of the tensors of a file of ``torch.save``, by the keys that lead to them, joined with "."."""
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch, which alone reads this file,", "torch") from None
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    found: dict[str, tuple[str, Any]] = {}

    def collect(value: Any, name: str) -> None:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point() and value.layout == torch.strided:
                dtype = str(value.dtype).removeprefix("torch.")
                wide = value.detach() if value.dtype in (torch.float64, torch.float32) else value.detach().float()
                found[name] = dtype, wide.numpy()
        elif isinstance(value, Mapping):
            for key, below in value.items():
                collect(below, f"{name}.{key}" if name else str(key))

    collect(loaded, "")
    return found


LAYOUT = Layout(
    framework="torch",
    forms=tuple(map(_form, GATES)),
    path=lambda form, layers, directions, layer, direction: "",
    split=_split,
    join=_join,
    model="nn.RNN, nn.GRU or nn.LSTM with num_layers and bidirectional",
    readers={"data.pkl": _read},
    hints=UNIFORM_BY_UNITS,
)
"""PyTorch's layout."""
