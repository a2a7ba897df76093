"""Equinox: GRUCell and LSTMCell anywhere in a tree.

    the GRU's rows are reset, update, candidate;  the update gate keeps the old state;  the reset gate acts
    after the matmul, and ``bias_n`` inside it: n = tanh(W_in x + b_in + r∘(W_hn h + b_n))
    i, f, g, o of the LSTM are input, forget, cell, output

One matrix of each kind, gates stacked along axis 0, each (H, fan_in); a single bias.  Equinox has no class
for two directions: say ``bidirectional=[("forward", "backward")]`` with the cells' paths in the tree.  A
cell that stands in two places of a tree (without ``eqx.nn.Shared``) is two cells, as for every transformation
of JAX.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax

from critinit.tensors.stacking import natural_key
from critinit_adapters.equinox.layout import GATES, blocks, names
from critinit_adapters.shared.jax_arrays import PAIRS, JaxTreeAdapter, paired, path_name, problem
from critinit_adapters.shared.survey import LayerSlot, RecurrentModule, Survey, Tensor

__all__ = ["ADAPTER", "EquinoxAdapter"]

_CELL_OF_CLASS = {eqx.nn.GRUCell: "gru", eqx.nn.LSTMCell: "lstm"}


class EquinoxAdapter(JaxTreeAdapter):
    """The adapter for ``eqx.Module`` and for other trees that hold one of Equinox's cells."""

    framework = "equinox"
    module = "equinox"
    cells = tuple(GATES)
    options = MappingProxyType({"bidirectional": PAIRS})

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether the target is a module of Equinox, or holds one of its cells."""
        return isinstance(target, eqx.Module) or any(True for _ in _cells(target))

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        """Return the cells in a tree."""
        modules = [_module(name, cell) for name, cell in _cells(target)]
        arrays = (p for p, leaf in jax.tree_util.tree_leaves_with_path(target) if eqx.is_array_like(leaf))
        return Survey(paired(modules, options.get("bidirectional")), tuple(map(path_name, arrays)))


ADAPTER = EquinoxAdapter()


def _cells(target: Any) -> Iterator[tuple[str, Any]]:
    """The cells in the order of fields and lists, and in the natural order of keys, which JAX sorts as text."""
    kinds = tuple(_CELL_OF_CLASS)
    found = jax.tree_util.tree_leaves_with_path(target, is_leaf=lambda node: isinstance(node, kinds))
    cells = [(path, node) for path, node in found if isinstance(node, kinds)]
    place: dict[tuple[Any, ...], int] = {}
    for path, _ in cells:
        for end in range(1, len(path) + 1):
            place.setdefault(path[:end], len(place))

    def order(cell: tuple[tuple[Any, ...], Any]) -> list[list[tuple[int, int, str]]]:
        path, _ = cell
        return [
            natural_key(str(part.key)) if isinstance(part, jax.tree_util.DictKey) else [(0, place[path[: end + 1]], "")]
            for end, part in enumerate(path)
        ]

    return ((path_name(path), node) for path, node in sorted(cells, key=order))


def _module(name: str, module: Any) -> RecurrentModule:
    cell = next(cell for kind, cell in _CELL_OF_CLASS.items() if isinstance(module, kind))
    prefix = f"{name}/" if name else ""
    leaves = [(part, getattr(module, part)) for part in names(cell)]
    tensors = tuple(
        Tensor(
            f"{prefix}{part}",
            tuple(getattr(leaf, "shape", ())),
            leaf,
            blocks(part, cell, module.hidden_size),
            key=f"{prefix}{part}",
        )
        for part, leaf in leaves
        if leaf is not None
    )
    refusals = (problem(t.name, t.handle, 2 if "weight" in t.name else 1) for t in tensors)
    refusal = next((found for found in refusals if found is not None), None)
    slots = () if refusal else (LayerSlot(0, 0, module.input_size, tensors),)
    return RecurrentModule(name, cell, module.hidden_size, slots, refusal=refusal)
