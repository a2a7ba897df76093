"""Flax Linen: SimpleCell, GRUCell, LSTMCell and OptimizedLSTMCell in a tree of parameters.

    r, z, n of the GRU are reset, update, candidate;  z keeps the old state;  the reset gate acts after the
    matmul: n = tanh(W_in x + b_in + r∘(W_hn h + b_hn))
    i, f, g, o of the LSTM are input, forget, cell, output; its biases stand on the recurrent side

A tree carries no class names, so a cell is known by the names of its children (GRUCell: ir, iz, in, hr, hz,
hn), and what is no parameter (the activation, SimpleCell's ``residual``) cannot be checked.  The two cells
of a ``Bidirectional`` are known by the paths forward_rnn and backward_rnn where Linen writes them; where it
writes GRUCell_0 and GRUCell_1, say ``bidirectional=[("params/GRUCell_0", "params/GRUCell_1")]``.  Networks
are in the natural order of their paths (layer_2 before layer_10), whatever the order of the dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
from flax.core import meta
from numpy.typing import NDArray

from critinit.errors import ApplyError
from critinit_adapters.adapter import TreeAdapter
from critinit_adapters.jax_arrays import (
    both_directions,
    draw_like,
    like,
    natural,
    paired,
    path_name,
    problem,
    replace,
)
from critinit_adapters.layout import Block, Network, Site, Survey, Tensor, whole, zeros
from critinit_adapters.planning import Write

__all__ = ["ADAPTER", "LinenAdapter"]

# Where each gate lives: cell -> child -> the blocks of its kernel and of its bias, each kernel (fan_in, H).
Child = Mapping[str, tuple[Block, ...]]


def _child(gate: str, part: Any, bias: tuple[Block, ...] | None = None) -> Child:
    kernel = {"kernel": whole(gate, part, transposed=True)}
    return kernel if bias is None else {**kernel, "bias": bias}


LAYOUT: Mapping[str, Mapping[str, Child]] = {
    "rnn": {
        "i": _child("hidden", "input", whole("hidden", "bias")),
        "h": _child("hidden", "recurrent"),
    },
    "gru": {
        "ir": _child("reset", "input", whole("reset", "bias")),
        "iz": _child("update", "input", whole("update", "bias")),
        "in": _child("candidate", "input", whole("candidate", "bias")),
        "hr": _child("reset", "recurrent"),
        "hz": _child("update", "recurrent"),
        "hn": _child("candidate", "recurrent", zeros()),  # inside r∘(·): no part of the effective bias
    },
    "lstm": {
        "ii": _child("input", "input"),
        "if": _child("forget", "input"),
        "ig": _child("cell", "input"),
        "io": _child("output", "input"),
        "hi": _child("input", "recurrent", whole("input", "bias")),
        "hf": _child("forget", "recurrent", whole("forget", "bias")),
        "hg": _child("cell", "recurrent", whole("cell", "bias")),
        "ho": _child("output", "recurrent", whole("output", "bias")),
    },
}
# Cells of Linen that no spec describes, known so that they can be named.
OTHERS = {"mgu": ("if", "in", "hf", "hn"), "conv_lstm": ("ih", "hh")}
RESET = {"gru": "after"}
DIRECTIONS = ("forward_rnn", "backward_rnn")


class LinenAdapter(TreeAdapter):
    """The adapter for trees of Linen parameters: dictionaries, also frozen ones, and boxed leaves."""

    framework = "linen"
    cells = tuple(LAYOUT)
    options = MappingProxyType({"bidirectional": "a list of (forward path, backward path) of cells"})

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        if not isinstance(target, Mapping) or "haiku" in options:
            return False
        return any(_cell_of(node) for _, node in _nodes(target, ()))

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        if not isinstance(target, Mapping):
            raise ApplyError(f"target: found {type(target).__name__}; allowed: the tree that Module.init returns")
        found = sorted(_networks(target, ()), key=lambda network: natural(network.name))
        leaves = jax.tree_util.tree_leaves_with_path(target)
        return Survey(paired(found, options.get("bidirectional")), tuple(path_name(p) for p, _ in leaves))

    def leaf(self, tensor: Tensor, values: NDArray[Any]) -> Any:
        return like(tensor.handle, values)

    def native_leaf(self, write: Write) -> Any:
        return draw_like(write.tensor.handle, write)

    def rebuild(self, target: Any, leaves: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        return replace(target, leaves)


ADAPTER = LinenAdapter()


def _nodes(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every mapping in the tree with its path, the tree itself first."""
    yield path, tree
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _nodes(value, (*path, str(key)))


def _cell_of(node: Mapping[str, Any]) -> str | None:
    """The cell whose children these are, or None."""
    if not all(isinstance(child, Mapping) and "kernel" in child for child in node.values()):
        return None
    known = {**{cell: tuple(children) for cell, children in LAYOUT.items()}, **OTHERS}
    return next((cell for cell, names in known.items() if set(node) == set(names)), None)


def _networks(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Network]:
    cell = _cell_of(node)
    if cell is not None:
        yield _network(cell, node, "/".join(path))
        return
    below = {key: list(_networks(child, (*path, str(key)))) for key, child in _children(node)}
    ways = [below.get(name, []) for name in DIRECTIONS]
    if all(len(way) == 1 for way in ways):
        yield both_directions(ways[0][0], ways[1][0], "/".join(path))
        below = {key: found for key, found in below.items() if key not in DIRECTIONS}
    for found in below.values():
        yield from found


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((key, child) for key, child in node.items() if isinstance(child, Mapping))


def _network(cell: str, node: Mapping[str, Any], name: str) -> Network:
    if cell not in LAYOUT:
        return Network(name, cell, 0, ())
    tensors = tuple(_tensors(LAYOUT[cell], node, f"{name}/" if name else ""))
    refusals = (problem(t.name, t.handle, 2 if t.blocks[0].transposed else 1) for t in tensors)
    refusal = next((found for found in refusals if found is not None), None)
    if refusal is not None:
        return Network(name, cell, 0, (), RESET.get(cell), refusal=refusal)
    inputs, hidden = next(t.shape for t in tensors if any(block.part == "input" for block in t.blocks))
    return Network(name, cell, hidden, (Site(0, 0, inputs, tensors),), RESET.get(cell))


def _tensors(children: Mapping[str, Child], node: Mapping[str, Any], prefix: str) -> Iterator[Tensor]:
    for child, parts in children.items():
        for part, blocks in parts.items():
            leaf = node[child].get(part)
            if leaf is not None:
                inner, end = _unboxed(leaf)
                name = f"{prefix}{child}/{part}{end}"
                yield Tensor(name, tuple(getattr(inner, "shape", ())), inner, blocks, key=name)


def _unboxed(leaf: Any) -> tuple[Any, str]:
    """The array in a box of metadata (``nn.with_partitioning``), and what its path gets in addition."""
    return (leaf.value, "/value") if isinstance(leaf, meta.Partitioned) else (leaf, "")
