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

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax

from critinit.errors import ApplyError
from critinit.tensors.blocks import Block
from critinit.tensors.stacking import natural_key
from critinit_adapters.equinox.layout import GATES, blocks, names
from critinit_adapters.equinox.tracing import natural, record, without_dropout
from critinit_adapters.shared.classes import looks_recurrent, overrides
from critinit_adapters.shared.defaults import Default
from critinit_adapters.shared.jax_arrays import PAIRS, JaxTreeAdapter, embedding_tables, paired, path_name, problem
from critinit_adapters.shared.recording import Recorder
from critinit_adapters.shared.stacked import leading
from critinit_adapters.shared.survey import LayerSlot, Lookalike, RecurrentModule, Survey, Tensor

__all__ = ["ADAPTER", "EquinoxAdapter"]

_COMPILED = type(eqx.filter_jit(abs))
"""What ``eqx.filter_jit`` returns; it keeps a module in pieces, so no cell can be found in it."""
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
        if isinstance(target, _COMPILED):
            hint = "give the model itself; call=lambda model, x: eqx.filter_jit(model)(x) runs it compiled"
            raise ApplyError("target", found="what eqx.filter_jit returns", allowed="a model", hint=hint)
        modules = [_module(name, cell) for name, cell in _cells(target)]
        arrays = (p for p, leaf in jax.tree_util.tree_leaves_with_path(target) if eqx.is_array_like(leaf))
        found = paired(modules, options.get("bidirectional"))
        return Survey(found, tuple(map(path_name, arrays)), lookalikes=tuple(_lookalikes(target)))

    def step(self, model: Any, x: Any, state: Any) -> Any:
        """Return what a cell gives for a batch; those of Equinox take one sequence at a time."""
        return jax.vmap(model)(x, state)

    def default_of(self, tensor: Tensor, block: Block) -> Default | None:
        """Return U(-1/√H, 1/√H), the default of every parameter."""
        if tensor.is_partial:
            return None
        return Default(0.0, block.holds(tensor.shape)[0] ** -0.5)

    def record(
        self, target: Any, survey: Survey, run: Callable[[Any], object], options: Mapping[str, Any]
    ) -> tuple[Recorder, Mapping[str, bool]]:
        """Run the model with a recording copy of each cell."""
        return record(target, survey, run), {}

    def exchanged(self, target: Any, leaves: Mapping[str, Any]) -> Any:
        """Return a tree with other arrays, its dropout off."""
        return without_dropout(super().exchanged(target, leaves))

    def run_naturally(self, run: Callable[..., object], model: Any) -> Any:
        """Return the output of a model of one sequence for a batch of them."""
        return run(model, natural)

    def tables(self, target: Any, options: Mapping[str, Any]) -> list[tuple[Tensor, bool, bool]]:
        """Return the weights of ``eqx.nn.Embedding``."""
        nodes = jax.tree_util.tree_leaves_with_path(target, is_leaf=lambda node: isinstance(node, eqx.nn.Embedding))
        found = [(path_name(path), node.weight) for path, node in nodes if isinstance(node, eqx.nn.Embedding)]
        return embedding_tables([(f"{name}/weight" if name else "weight", leaf) for name, leaf in found], ("weight",))


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


def _lookalikes(target: Any) -> Iterator[Lookalike]:
    """Modules that look recurrent, without those that hold a known cell."""
    if isinstance(target, tuple(_CELL_OF_CLASS)):
        return

    def below(node: Any, path: str) -> Iterator[tuple[str, Any]]:
        yield path, node
        if isinstance(node, tuple(_CELL_OF_CLASS)):
            return
        if isinstance(node, eqx.Module):
            children = [(field.name, getattr(node, field.name, None)) for field in fields(node)]
        elif isinstance(node, Mapping):
            children = [(str(key), child) for key, child in node.items()]
        else:
            items = enumerate(node) if isinstance(node, (list, tuple)) else ()
            children = [(str(number), child) for number, child in items]
        for key, child in children:
            yield from below(child, f"{path}/{key}" if path else key)

    for path, node in below(target, ""):
        kind = type(node).__name__
        step = None if type(node).__module__.startswith("equinox.") else type(node).__call__
        if isinstance(node, eqx.Module) and looks_recurrent(kind, step) and not any(True for _ in _cells(node)):
            yield Lookalike(path, kind, "a class that derives from neither of eqx.nn's GRUCell and LSTMCell")


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
    axes = {part: 2 if part.startswith("weight") else 1 for part, _ in leaves}
    stacked = leading((tensor.shape, axes[tensor.name.rpartition("/")[2]]) for tensor in tensors)
    refusals = (problem(t.name, t.handle, axes[t.name.rpartition("/")[2]] + len(stacked)) for t in tensors)
    refusal = next((found for found in refusals if found is not None), None)
    slots = () if refusal else (LayerSlot(0, 0, module.input_size, tensors),)
    own = overrides(module, tuple(_CELL_OF_CLASS), ("__call__",))
    return RecurrentModule(name, cell, module.hidden_size, slots, refusal=refusal, overrides=own, stacked=stacked)
