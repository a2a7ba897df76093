"""Flax Linen: SimpleCell, GRUCell, LSTMCell and OptimizedLSTMCell in a tree of parameters.

    r, z, n of the GRU are reset, update, candidate;  z keeps the old state;  the reset gate acts after the
    matmul: n = tanh(W_in x + b_in + r∘(W_hn h + b_hn))
    i, f, g, o of the LSTM are input, forget, cell, output; its biases stand on the recurrent side

A tree carries no class names, so a cell is known by the names of its children (GRUCell: ir, iz, in, hr, hz,
hn), and what is no parameter (the activation, SimpleCell's ``residual``) cannot be checked.  The two cells
of a ``Bidirectional`` are known by the paths forward_rnn and backward_rnn where Linen writes them; where it
writes GRUCell_0 and GRUCell_1, say ``bidirectional=[("params/GRUCell_0", "params/GRUCell_1")]``.  Networks
are in the natural order of their paths (layer_2 before layer_10), whatever the order of the dictionaries.

A cell can also be declared with its spec: ``nn.GRUCell(64, **initializers(spec))``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import meta
from flax.linen import module as linen_module
from numpy.typing import NDArray

from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.stacking import natural
from critinit.spec import InitSpec
from critinit_adapters.shared.adapter import TreeAdapter
from critinit_adapters.shared.declared import Place, values
from critinit_adapters.shared.jax_arrays import (
    both_directions,
    draw_like,
    like,
    paired,
    path_name,
    problem,
    replace,
)
from critinit_adapters.shared.survey import Network, Site, Survey, Tensor
from critinit_adapters.linen.layout import RESET, TABLE, Child
from critinit_adapters.shared.planning import Write

__all__ = ["ADAPTER", "LinenAdapter", "initializers"]

# Cells of Linen that no spec describes, known so that they can be named.
OTHERS = {"mgu": ("if", "in", "hf", "hn"), "conv_lstm": ("ih", "hh")}
DIRECTIONS = ("forward_rnn", "backward_rnn")


class LinenAdapter(TreeAdapter):
    """The adapter for trees of Linen parameters: dictionaries, also frozen ones, and boxed leaves."""

    framework = "linen"
    cells = tuple(TABLE)
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
    for cell, children in TABLE.items():
        # with a parameter more, such as a bias on a recurrent child, it is some other module
        if set(node) == set(children) and all(set(node[name]) <= set(parts) for name, parts in children.items()):
            return cell
    return next((cell for cell, names in OTHERS.items() if set(node) == set(names)), None)


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
    if cell not in TABLE:
        return Network(name, cell, 0, ())
    tensors = tuple(_tensors(TABLE[cell], node, f"{name}/" if name else ""))
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


# ---- declared with the model -----------------------------------------------------------------------------


def initializers(
    spec: InitSpec, *, layer: int = 0, direction: int = 0, seed: int = 0, module: int = 0
) -> dict[str, Callable[..., jax.Array]]:
    """The arguments that declare a SimpleCell, GRUCell, LSTMCell or OptimizedLSTMCell with one layer of a spec.

    The numbers are those of ``critinit.apply`` with that seed; the key that Linen draws with is not used.  A cell has
    one initializer for the kernels of all gates, so the gate is read off the name of the child that is being
    initialized.  Raises ``ArgumentError`` for a spec of another cell, or of a GRU with its reset gate before the
    recurrent kernel.
    """
    if spec.cell not in TABLE or spec.reset != RESET.get(spec.cell):
        found = spec.cell if spec.reset is None else f"{spec.cell} with reset {spec.reset}"
        raise ArgumentError(f"spec: found {found}; allowed: rnn, gru with reset after, lstm")
    place = Place(spec, layer, direction, seed, module)

    def draw(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        name = _child_being_initialized()
        child = TABLE[spec.cell].get(name)
        if child is None:
            raise ArgumentError(f"spec: an initializer for {spec.cell} was called in {name!r}, no part of that cell")
        blocks = child["kernel" if len(shape) == 2 else "bias"]
        return jnp.asarray(values(place, name, shape, blocks, int(shape[0]), int(shape[-1])).astype(dtype))

    return dict.fromkeys(("kernel_init", "recurrent_kernel_init", "bias_init"), draw)


def _child_being_initialized() -> str:
    """The name of the module whose parameter Linen is making; it is handed to no initializer."""
    module = linen_module._context.module_stack[-1]
    return str(getattr(module, "name", ""))
