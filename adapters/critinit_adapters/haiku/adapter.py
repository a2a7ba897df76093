"""Haiku: LSTM, GRU and VanillaRNN in a tree of parameters, whose module paths and cells the caller names.

    i, g, f, o of the LSTM are input, cell, forget, output, in one matrix with rows [x; h]; the cell computes
    σ(f + 1), so its stored forget bias is the effective one less 1
    z, r, a of the GRU are update, reset, candidate;  the reset gate acts before the matmul, so it is critinit's
    ``gru_reset_before``;  h' = (1−z)∘h + z∘a: here 1−z keeps the old state, so all that feeds z is stored with its
    sign changed

A Haiku tree carries no class names: ``apply(spec, params, haiku={"net/lstm": "lstm", "gru": "gru"})``.  The
order of that mapping is the order of the layers.  ``bidirectional=[("fwd", "bwd")]`` pairs two of its paths.
``hk.VanillaRNN`` ("vanilla_rnn") is a ReLU network, critinit's ``relu_rnn``.

A GRU can also be declared with its spec, ``hk.GRU(64, **initializers(spec))``; ``hk.LSTM`` takes no initializers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import haiku as hk
import jax

from critinit.errors import ApplyError, ArgumentError
from critinit.spec import InitSpec
from critinit.tensors.blocks import Block
from critinit_adapters.haiku.layout import CELLS, GATES, NAMES, OPTIONAL, blocks
from critinit_adapters.haiku.tracing import record
from critinit_adapters.shared.declared import Place, check_cell, draws_in
from critinit_adapters.shared.defaults import Default
from critinit_adapters.shared.jax_arrays import (
    PAIRS,
    JaxTreeAdapter,
    declared,
    paired,
    path_name,
    problem,
    truncated_default,
)
from critinit_adapters.shared.recording import Recorder
from critinit_adapters.shared.stacked import leading
from critinit_adapters.shared.survey import LayerSlot, RecurrentModule, Survey, Tensor

__all__ = ["ADAPTER", "HaikuAdapter", "initializers"]

_NAMED = "a mapping of module paths to 'lstm', 'gru' or, for a spec of relu_rnn, 'vanilla_rnn'"
"""What the option ``haiku`` is."""


class HaikuAdapter(JaxTreeAdapter):
    """The adapter for the trees that ``hk.transform(...).init`` returns."""

    framework = "haiku"
    module = "haiku"
    cells = tuple(GATES)
    options = MappingProxyType({"haiku": _NAMED, "bidirectional": PAIRS})
    embeddings = ("embeddings",)

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether the option ``haiku`` is given, or the target may hold one of these."""
        return "haiku" in options or (isinstance(target, Mapping) and bool(_candidates(target)))

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        """Return the cells that the caller named."""
        if not isinstance(target, Mapping):
            raise ApplyError("target", found=type(target).__name__, allowed="the tree that init returns")
        named = _named(target, options.get("haiku"))
        modules = [_module(target, path, CELLS[kind]) for path, kind in named.items()]
        leaves = jax.tree_util.tree_leaves_with_path(target)
        found = paired(modules, options.get("bidirectional"))
        return Survey(found, tuple(path_name(p) for p, _ in leaves), is_ordered=True)

    def default_of(self, tensor: Tensor, block: Block) -> Default | None:
        """Return the range of the default: a truncated normal, and 0 for biases."""
        return truncated_default(tensor, block)

    def record(
        self, target: Any, survey: Survey, run: Callable[[Any], object], options: Mapping[str, Any]
    ) -> tuple[Recorder, Mapping[str, bool]]:
        """Run the model with its calls intercepted."""
        return record(target, survey, run), {}


ADAPTER = HaikuAdapter()


def _candidates(tree: Mapping[str, Any]) -> dict[str, str]:
    """Module paths that look like a cell of Haiku's, to be suggested: only the caller can know."""
    modules = {str(path): module for path, module in tree.items() if isinstance(module, Mapping)}
    grus = {path: "gru" for path, module in modules.items() if set(module) == set(NAMES[CELLS["gru"]])}
    linears = {path.removesuffix("/linear"): module for path, module in modules.items() if path.endswith("/linear")}
    plain = {path for path in linears if _is_square(modules.get(f"{path}/linear_1", {}))}
    lstms = {path: "lstm" for path, module in linears.items() if path not in plain and _has_gates(module)}
    return {**grus, **lstms, **dict.fromkeys(sorted(plain), "vanilla_rnn")}


def _is_square(linear: Mapping[str, Any]) -> bool:
    """Whether a linear layer's kernel could be that of the state of a ``VanillaRNN``."""
    shape: tuple[int, ...] = getattr(linear.get("w"), "shape", ())
    return len(shape) > 1 and shape[-2] == shape[-1]


def _has_gates(linear: Mapping[str, Any]) -> bool:
    """Whether a linear layer's kernel could be an LSTM's, of shape (I + H, 4H)."""
    shape: tuple[int, ...] = getattr(linear.get("w"), "shape", ())
    return len(shape) > 1 and shape[-1] % 4 == 0 and shape[-2] > shape[-1] // 4


def _named(target: Mapping[str, Any], named: Any) -> Mapping[str, str]:
    if named is None:
        allowed = f"{_NAMED}, such as haiku={_candidates(target) or {'lstm': 'lstm'}}"
        raise ArgumentError("haiku", found="nothing", allowed=allowed, hint="a Haiku tree carries no class names")
    if not isinstance(named, Mapping) or not named:
        raise ArgumentError("haiku", found=repr(named), allowed=_NAMED)
    for path, kind in named.items():
        if kind not in CELLS:
            raise ArgumentError("haiku", found=f"{kind!r} for {path!r}", allowed=_NAMED)
    return named


def _module(target: Mapping[str, Any], path: str, cell: str) -> RecurrentModule:
    needed = [name for name in NAMES[cell] if name not in OPTIONAL or _has(target, path, name)]
    leaves = [(name, _leaf(target, path, name)) for name in needed]
    axes = {name: 1 if name.endswith("b") else 2 for name, _ in leaves}
    stacked = leading((tuple(getattr(leaf, "shape", ())), axes[name]) for name, leaf in leaves)
    refusals = (problem(f"{path}/{name}", leaf, axes[name] + len(stacked)) for name, leaf in leaves)
    refusal = next((found for found in refusals if found is not None), None)
    if refusal is not None:
        return RecurrentModule(path, cell, 0, (), refusal=refusal)
    rows, columns = leaves[0][1].shape[-2:]
    hidden = columns // len(GATES[cell])
    inputs = rows - hidden if cell == "lstm" else rows
    tensors = tuple(
        Tensor(f"{path}/{name}", leaf.shape, leaf, blocks(name, cell, inputs, hidden), key=f"{path}/{name}")
        for name, leaf in leaves
    )
    return RecurrentModule(path, cell, hidden, (LayerSlot(0, 0, inputs, tensors),), stacked=stacked)


def _has(target: Mapping[str, Any], path: str, name: str) -> bool:
    module, _, last = f"{path}/{name}".rpartition("/")
    return last in (target.get(module) or {})


def _leaf(target: Mapping[str, Any], path: str, name: str) -> Any:
    *below, last = name.split("/")
    module = target.get("/".join((path, *below)))
    if not isinstance(module, Mapping) or last not in module:
        found = ", ".join(map(repr, target)) or "an empty tree"
        allowed = f"the path of a module that holds {name}; modules: {found}"
        raise ApplyError("haiku", found=repr(path), allowed=allowed)
    return module[last]


def initializers(
    spec: InitSpec, *, layer: int = 0, direction: int = 0, seed: int | None = None, module: int = 0
) -> dict[str, Callable[[Sequence[int], Any], jax.Array]]:
    """Return the arguments w_i_init, w_h_init, b_init that declare ``hk.GRU`` with one layer of a spec.

    Without a seed the weights are drawn from the key that ``init`` is given (``hk.next_rng_key``), so two keys and two
    layers get independent weights.  With a seed the numbers are those that ``critinit.apply`` writes with it in every
    framework; the key is not used, so say by ``direction`` and ``module`` which of them a layer is to have.

    Args:
        spec: The spec.
        layer: The spec's layer.
        direction: 0 for forward, 1 for backward; it counts where a seed is given.
        seed: The seed, or None to draw from Haiku's key.
        module: The number of the module in the model, where several take the whole spec; it counts where a seed is
            given.

    Raises:
        ArgumentError: The spec is for another cell, or an argument is out of range.

    Example:
        >>> import critinit
        >>> sorted(initializers(critinit.generate("gru_reset_before", T=100)))
        ['b_init', 'w_h_init', 'w_i_init']
    """
    cell = CELLS["gru"]
    place = Place(spec, layer, direction, seed, module)
    check_cell(spec, (cell,))

    def initializer(name: str) -> Callable[[Sequence[int], Any], jax.Array]:
        def draw(shape: Sequence[int], dtype: Any) -> jax.Array:
            hidden = int(shape[-1]) // len(GATES[cell])
            parts = blocks(name, cell, int(shape[0]), hidden)
            pairs = draws_in(place, name, shape, parts, int(shape[0]), hidden)
            return declared(pairs, shape, dtype, hk.next_rng_key() if place.seed is None else None)

        return draw

    return {f"{name}_init": initializer(name) for name in NAMES[cell]}
