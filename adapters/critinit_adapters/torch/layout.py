"""PyTorch: RNN, GRU, LSTM and their Cell classes; gates stacked along axis 0, each (H, fan_in).

    r, z, n of the GRU are reset, update, candidate;  i, f, g, o of the LSTM are input, forget, cell, output

Both bias vectors are added, so ``bias_ih`` takes the effective bias and ``bias_hh`` is 0; of the GRU's ``bias_hh``
b_hn sits inside r∘(·) and is no part of the effective bias.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from critinit.errors import MissingExtraError, WeightsError
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


@lru_cache
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


_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files begin that torch wrote before its version 1.6."""
_HAND_OVER = "critinit.check(spec, model.state_dict())"
_RUNS_CODE = {"builtins", "os", "posix", "nt", "sys", "subprocess", "shutil", "runpy", "importlib", "ctypes", "pty"}
"""Modules whose functions no checkpoint needs; a file that names one is refused."""


_LISTED = 3
"""Things that a message names at the most."""


class _Inert:
    """What stands for an object of a checkpoint that is no tensor: nothing of its own class is imported or run."""

    def __init__(self, *arguments: object, **options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass


def _inert(name: str) -> type[_Inert]:
    """A class of the given dotted name whose objects hold nothing."""
    module, _, kind = name.rpartition(".")
    return type(kind, (_Inert,), {"__module__": module, "__qualname__": kind})


def _read(path: str) -> Mapping[str, tuple[str, Any]]:
    """Type and numbers of the tensors of a file of ``torch.save``, by the keys that lead to them, joined with "."."""
    loaded = _loaded(path)
    if isinstance(loaded, _Inert):
        kind = f"{type(loaded).__module__}.{type(loaded).__qualname__}"
        raise _whole(f"a whole pickled model of class {kind}")
    found: dict[str, tuple[str, Any]] = {}
    objects: list[str] = []
    unread: list[str] = []

    def collect(value: Any, name: str) -> None:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point() and value.layout == torch.strided and not value.is_meta:
                dtype = str(value.dtype).removeprefix("torch.")
                wide = value.detach() if value.dtype in (torch.float64, torch.float32) else value.detach().float()
                found[name] = dtype, wide.numpy()
            else:
                kind = str(value.dtype if value.layout == torch.strided else value.layout)
                kind = "no numbers (meta)" if value.is_meta else kind
                unread.append(f"a tensor of {kind.replace('torch.', '')} at {name}")
        elif isinstance(value, _Inert):
            objects.append(f"{type(value).__module__}.{type(value).__qualname__} at {name}")
        elif isinstance(value, Mapping):
            for key, below in value.items():
                if name or not str(key).startswith("optim"):  # states of optimizers are called as weights are
                    collect(below, f"{name}.{key}" if name else str(key))

    import torch

    if not isinstance(loaded, Mapping):
        raise _whole(f"a {type(loaded).__name__}")
    collect(loaded, "")
    if not found:
        others, wanted = (unread, "no dense tensor of floating-point numbers") if unread else (objects, "no tensor")
        listed = ", ".join(others[:_LISTED]) + (", …" if len(others) > _LISTED else "")
        raise _whole(f"{wanted}, but {listed or 'other things'}")
    return found


def _loaded(path: str) -> Any:
    """What ``torch.load`` gives with ``weights_only``; objects that are no tensors are inert."""
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch, which alone reads this file,", "torch") from None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        others = []
    else:
        if any(name.endswith("constants.pkl") for name in names):
            hint = f"its tensors: critinit.check(spec, torch.jit.load({os.path.basename(path)!r}).state_dict())"
            raise WeightsError(found="a TorchScript archive, which holds code", allowed="tensors alone", hint=hint)
        others = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if running := [name for name in others if name.partition(".")[0] in _RUNS_CODE]:
        raise _whole(f"a file that torch refuses to read (it holds {running[0]})")
    try:
        with torch.serialization.safe_globals([_inert(name) for name in others]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except EOFError:
        hint = "it may be cut short: copy or save it again"
        raise WeightsError(found="a pickle that ends too early", allowed="a whole file", hint=hint) from None
    except pickle.UnpicklingError as error:
        held = re.search(r"GLOBAL (\S+)", str(error))  # the pickle's word for what is no tensor
        if held is None:
            raise
        raise _whole(f"a file that torch refuses to read (it holds {held[1]})") from None


def _whole(found: str) -> WeightsError:
    """The error for a file that holds other things than tensors."""
    hint = f"save tensors alone, torch.save(model.state_dict(), FILE), or hand them over in Python: {_HAND_OVER}"
    return WeightsError(found=found, allowed="tensors by name, as of a state_dict", hint=hint)


LAYOUT = Layout(
    framework="torch",
    forms=tuple(map(_form, GATES)),
    path=lambda form, layers, directions, layer, direction: "",
    split=_split,
    join=_join,
    model="nn.RNN, nn.GRU or nn.LSTM with num_layers and bidirectional",
    readers={"data.pkl": _read, _MAGIC: _read},
    unread={
        ".metadata": (
            "a distributed checkpoint, whose metadata are a pickle",
            "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(FOLDER, FILE) makes a file of it",
        )
    },
    hints=UNIFORM_BY_UNITS,
)
"""PyTorch's layout."""
