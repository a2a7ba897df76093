"""Flax Linen: SimpleCell, GRUCell, MGUCell, LSTMCell, OptimizedLSTMCell and ConvLSTMCell in a tree of parameters.

    r, z, n of the GRU are reset, update, candidate;  z keeps the old state;  the reset gate acts after the
    matmul: n = tanh(W_in x + b_in + r∘(W_hn h + b_hn))
    f, n of the MGUCell are update, candidate;  f keeps the old state;  without its reset gate it is critinit's ugrnn
    i, f, g, o of the LSTM are input, forget, cell, output; its biases stand on the recurrent side

A tree carries no classes, so a cell is known by the names of its children (GRUCell: ir, iz, in, hr, hz, hn), and what
is no parameter (the activation, SimpleCell's ``residual``) cannot be checked.  Where Linen names a module itself
(MyCell_0), the name is its class's: one that has a ``__call__`` of its own is not taken.  The two cells
of a ``Bidirectional`` are known by the paths forward_rnn and backward_rnn where Linen writes them; where it
writes GRUCell_0 and GRUCell_1, say ``bidirectional=[("params/GRUCell_0", "params/GRUCell_1")]``.  Cells
are in the natural order of their paths (layer_2 before layer_10), whatever the order of the dictionaries.

A cell can also be declared with its spec: ``nn.GRUCell(64, **initializers(spec))``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import meta
from flax.core.scope import LazyRng
from flax.linen import module as linen_module

from critinit.errors import ApplyError, ArgumentError, Problem
from critinit.spec import InitSpec
from critinit.tensors.blocks import Block
from critinit.tensors.stacking import natural_key
from critinit_adapters.linen.layout import CLASSES, TABLE, Child, convolutional, sizes_of_convolution
from critinit_adapters.linen.tracing import record
from critinit_adapters.shared.classes import looks_recurrent
from critinit_adapters.shared.declared import Place, check_cell, draws_in
from critinit_adapters.shared.defaults import Default
from critinit_adapters.shared.jax_arrays import (
    PAIRS,
    JaxTreeAdapter,
    both_directions,
    declared,
    paired,
    path_name,
    problem,
    truncated_default,
)
from critinit_adapters.shared.recording import Recorder
from critinit_adapters.shared.stacked import STACKED, leading
from critinit_adapters.shared.survey import LayerSlot, Lookalike, RecurrentModule, Survey, Tensor

__all__ = ["ADAPTER", "LinenAdapter", "initializers"]

_CONVOLUTION = "conv_lstm"
_OTHERS = {"mgu": ("if", "in", "hf", "hn"), _CONVOLUTION: ("ih", "hh")}
"""The children of Linen's further cells."""
_ADDS_ONE = Problem(
    "",
    "a ConvLSTMCell with use_bias=False, which adds 1 to what the forget gate reads all the same",
    "one with biases",
    "ConvLSTMCell(..., use_bias=True)",
)
_STACKED_WEIGHTS = Problem("", "a ConvLSTMCell whose kernels and biases differ in their sizes", "", STACKED)
_SCALED_BY_THE_KEEP_GATE = Problem(
    "",
    "an MGUCell with reset_gate=True, whose f both keeps h and scales W h (in critinit's mgu it is 1 - f that scales)",
    "an MGUCell with reset_gate=False, the cell ugrnn",
    "MGUCell(..., reset_gate=False) and --cell ugrnn, or a GRUCell and --cell gru",
)
_NUMBERED = re.compile(r"(?P<name>[A-Z]\w*)_\d+")
"""How Linen names a module that has no name: its class and a number."""
_TRANSFORMS = re.compile(r"^(Scan|Checkpoint|Remat|Vmap|Jit|Jvp|Vjp|Map\w*?Variables)+(?=[A-Z])")
"""What Linen's transformations put before a class's name."""
_DIRECTIONS = ("forward_rnn", "backward_rnn")


class LinenAdapter(JaxTreeAdapter):
    """The adapter for trees of Linen parameters: dictionaries, also frozen ones, and boxed leaves."""

    framework = "linen"
    module = "flax.linen"
    cells = tuple(TABLE)
    options = MappingProxyType({"bidirectional": PAIRS})
    embeddings = ("embedding", "embedding/value")

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether the target is a mapping that holds one of Linen's cells, or what ``init`` returns."""
        if not isinstance(target, Mapping) or "haiku" in options:
            return False
        return isinstance(target.get("params"), Mapping) or any(_cell_of(node) for _, node in _nodes(target, ()))

    def instead(self, target: object) -> str:
        """Return what to give instead of a module, which has no weights, or of a training state."""
        if isinstance(target, nn.Module):
            return "a module of Linen has no weights; give those that its init(key, x) returns"
        return "give its params" if isinstance(getattr(target, "params", None), Mapping) else ""

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        """Return the cells in a tree of parameters."""
        if not isinstance(target, Mapping):
            raise ApplyError("target", found=type(target).__name__, allowed="the tree that Module.init returns")
        found = sorted(_modules(target, ()), key=lambda module: natural_key(module.name))
        leaves = jax.tree_util.tree_leaves_with_path(target)
        names = tuple(path_name(path) for path, _ in leaves)
        alike = tuple(_lookalikes(target, [module.name for module in found]))
        return Survey(paired(found, options.get("bidirectional")), names, lookalikes=alike)

    def default_of(self, tensor: Tensor, block: Block) -> Default | None:
        """Return the range of the default: truncated normal, orthogonal (entries up to 1), 0; of an MGUCell 1 too."""
        if block.part == "bias" and tensor.name.removesuffix("/value").endswith("if/bias"):
            return Default(1.0, 0.0)
        return truncated_default(tensor, block, recurrent=1.0)

    def record(
        self, target: Any, survey: Survey, run: Callable[[Any], object], options: Mapping[str, Any]
    ) -> tuple[Recorder, Mapping[str, bool]]:
        """Run the model with its calls intercepted."""
        return record(target, survey, run), {}


ADAPTER = LinenAdapter()


def _lookalikes(tree: Mapping[str, Any], known: Sequence[str]) -> Iterator[Lookalike]:
    """Modules whose names look recurrent, without those that hold a known cell or belong to one."""
    for path, _ in _nodes(tree, ()):
        name = "/".join(path)
        related = any(f"{cell}/".startswith(f"{name}/") or name.startswith(f"{cell}/") for cell in known)
        if path and looks_recurrent(path[-1]) and not related:
            yield Lookalike(name, f"module {path[-1]}", "its parameters are not named as those of any cell of Linen's")


def _overrides(path: str, cell: str) -> str:
    """What the class of a cell computes in its own way, where Linen named the module after its class."""
    match = _NUMBERED.fullmatch(path.rpartition("/")[2])
    if match is None:
        return ""
    name = _TRANSFORMS.sub("", match["name"])
    ours: list[type] = [getattr(nn, known) for known in CLASSES[cell]]
    kinds = [kind for kind in _subclasses(nn.Module) if kind.__name__ == name]
    if name in CLASSES[cell] or any(_same_step(kind, ours) for kind in kinds):
        return ""
    return f"a {name}, which is none of Linen's cells or has a __call__ of its own"


def _same_step(kind: type, known: Sequence[type]) -> bool:
    """Whether a class derives its step from a known one."""
    definer = next((k for k in kind.__mro__ if "__call__" in vars(k)), None)
    return definer in known


def _subclasses(kind: type) -> Iterator[type]:
    derived: list[type] = kind.__subclasses__()
    for one in derived:
        yield one
        yield from _subclasses(one)


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
    other = next((cell for cell, names in _OTHERS.items() if set(node) == set(names)), None)
    if other == _CONVOLUTION and any(len(getattr(_unboxed(n["kernel"])[0], "shape", ())) < 3 for n in node.values()):
        return None  # two dense layers of these names
    return other


def _modules(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[RecurrentModule]:
    cell = _cell_of(node)
    if cell is not None:
        yield _module(cell, node, "/".join(path))
        return
    below = {key: list(_modules(child, (*path, str(key)))) for key, child in _children(node)}
    ways = [below.get(name, []) for name in _DIRECTIONS]
    if all(len(way) == 1 for way in ways):
        yield both_directions(ways[0][0], ways[1][0], "/".join(path))
        below = {key: found for key, found in below.items() if key not in _DIRECTIONS}
    for found in below.values():
        yield from found


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((key, child) for key, child in node.items() if isinstance(child, Mapping))


def _module(cell: str, node: Mapping[str, Any], name: str) -> RecurrentModule:
    if cell == "mgu":
        return RecurrentModule(name, cell, 0, (), also="ugrnn", refusal=_SCALED_BY_THE_KEEP_GATE)
    if cell == _CONVOLUTION:
        return _convolution(node, name)
    tensors = tuple(_tensors(TABLE[cell], node, f"{name}/" if name else ""))
    stacked = leading((tensor.shape, _axes(tensor)) for tensor in tensors)
    refusals = (problem(t.name, t.handle, _axes(t) + len(stacked)) for t in tensors)
    refusal = next((found for found in refusals if found is not None), None)
    if refusal is not None:
        return RecurrentModule(name, cell, 0, (), refusal=refusal)
    inputs, hidden = next(t.shape[-2:] for t in tensors if any(block.part == "input" for block in t.blocks))
    slots = (LayerSlot(0, 0, inputs, tensors),)
    also = "relu_rnn" if cell == "rnn" else None  # a tree does not say which activation a SimpleCell has
    return RecurrentModule(name, cell, hidden, slots, also=also, overrides=_overrides(name, cell), stacked=stacked)


def _axes(tensor: Tensor) -> int:
    return 2 if tensor.blocks[0].transposed else 1


def _convolution(node: Mapping[str, Any], name: str) -> RecurrentModule:
    """The module of a ConvLSTMCell."""
    leaves = {f"{child}/{part}": _unboxed(leaf) for child, parts in node.items() for part, leaf in parts.items()}
    refusal = next(filter(None, (problem(f"{name}/{key}", leaf) for key, (leaf, _) in leaves.items())), None)
    if refusal is None and not {"ih/bias", "hh/bias"} <= set(leaves):
        refusal = _ADDS_ONE
    stacked = () if refusal else tuple(leaves["ih/bias"][0].shape[:-1])
    own = {} if refusal else {key: leaf.shape[len(stacked) :] for key, (leaf, _) in leaves.items()}
    sizes = None if refusal else sizes_of_convolution(own)
    if sizes is None or any(leaf.shape[: len(stacked)] != stacked for leaf, _ in leaves.values()):
        return RecurrentModule(name, "lstm", 0, (), refusal=refusal or _STACKED_WEIGHTS)
    prefix = f"{name}/" if name else ""
    tensors = []
    for stored in convolutional(sizes):
        leaf, end = leaves[stored.name]
        path = f"{prefix}{stored.name}{end}"
        tensors.append(Tensor(path, tuple(leaf.shape), leaf, stored.blocks, key=path))
    slot = LayerSlot(0, 0, sizes.input, tuple(tensors), sizes.window)
    return RecurrentModule(name, "lstm", sizes.hidden, (slot,), overrides=_overrides(name, "lstm"), stacked=stacked)


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
    spec: InitSpec, *, layer: int = 0, direction: int = 0, seed: int | None = None, module: int = 0
) -> dict[str, Any]:
    """Return the arguments that declare one of Linen's cells with one layer of a spec.

    The cell is SimpleCell, GRUCell, LSTMCell or OptimizedLSTMCell, or MGUCell for a spec of ``ugrnn``, which gets
    ``reset_gate=False`` too.

    Without a seed the weights are drawn from the key that Linen hands each parameter, so two keys, two cells, two
    directions, the members of ``nn.vmap`` and the steps of an ``nn.scan`` over layers get independent weights.
    With a seed the numbers are those that ``critinit.apply`` writes with it in every framework; the key is not used,
    so say by ``direction`` and ``module`` which of them a cell is to have.  A cell has one initializer for the kernels
    of all gates, so the gate is read off the name of the child that is being initialized.  For ``relu_rnn`` the
    arguments include ``activation_fn``.

    Args:
        spec: The spec.
        layer: The spec's layer.
        direction: 0 for forward, 1 for backward; it counts where a seed is given.
        seed: The seed, or None to draw from Linen's key.
        module: The number of the module in the model, where several take the whole spec; it counts where a seed is
            given.

    Raises:
        ArgumentError: The spec is for another cell, or an argument is out of range.

    Example:
        >>> import critinit
        >>> sorted(initializers(critinit.generate("gru", T=100)))
        ['bias_init', 'kernel_init', 'recurrent_kernel_init']
    """
    place = Place(spec, layer, direction, seed, module)
    check_cell(spec, tuple(TABLE))

    def draw(key: Any, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        child = _being_initialized()
        name = str(getattr(child, "name", ""))
        parts = TABLE[spec.cell].get(name)
        if parts is None:
            raise _wrong_cell(spec, child, name)
        pairs = draws_in(
            place, name, shape, parts["kernel" if len(shape) == 2 else "bias"], int(shape[0]), int(shape[-1])
        )
        if place.seed is not None:
            return declared(pairs, shape, dtype, None)
        return declared(pairs, shape, dtype, key, _cell_key(child))

    kernels: dict[str, Callable[..., jax.Array]] = dict.fromkeys(("kernel_init", "recurrent_kernel_init"), draw)
    if spec.cell == "ugrnn":
        return {**kernels, "forget_bias_init": draw, "activation_bias_init": draw, "reset_gate": False}
    relu: dict[str, Callable[..., jax.Array]] = {"activation_fn": jax.nn.relu} if spec.cell == "relu_rnn" else {}
    return {**kernels, "bias_init": draw, **relu}


def _being_initialized() -> Any:
    """The module whose parameter Linen is making; it is handed to no initializer."""
    # private: Flax has no public way to ask; run with flax 0.12.8
    return linen_module._context.module_stack[-1]


def _cell_key(child: Any) -> Any:
    """The key of the cell that ``child`` is a part of; None where Linen only asks for shapes and hands out no keys."""
    # private: a scope's rngs and their type; run with flax 0.12.8
    scope = getattr(child.parent, "scope", None)
    rng = None if scope is None else scope.rngs.get("params")
    return rng.as_jax_rng() if isinstance(rng, LazyRng) else rng


def _wrong_cell(spec: InitSpec, child: Any, name: str) -> ArgumentError:
    """The error of a cell that has no part of that name."""
    owner = type(getattr(child, "parent", child)).__name__
    alike = [cell for cell, children in TABLE.items() if name in children]
    hint = f"write the spec for its cell: --cell {' or '.join(alike)}" if alike else "declare a cell with it"
    return ArgumentError(
        "spec", found=f"cell {spec.cell}", allowed=f"that of {owner}, whose part {name!r} is", hint=hint
    )
