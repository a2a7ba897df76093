"""Haiku: LSTM and GRU in a tree of parameters, whose module paths and cells the caller names.

    i, g, f, o of the LSTM are input, cell, forget, output, in one matrix with rows [x; h]; the cell computes
    σ(f + 1), so its stored forget bias is the effective one less 1
    z, r, a of the GRU are update, reset, candidate;  the reset gate acts before the matmul;
    h' = (1−z)∘h + z∘a: here 1−z keeps the old state, so all that feeds z is stored with its sign changed

A Haiku tree carries no class names: ``apply(spec, params, haiku={"net/lstm": "lstm", "gru": "gru"})``.  The
order of that mapping is the order of the layers.  ``bidirectional=[("fwd", "bwd")]`` pairs two of its paths.
``hk.VanillaRNN`` is a ReLU network and is refused.

A GRU can also be declared with its spec, ``hk.GRU(64, **initializers(spec))``; ``hk.LSTM`` takes no initializers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from numpy.typing import NDArray

from critinit.errors import ApplyError, ArgumentError
from critinit.spec import InitSpec
from critinit_adapters.shared.adapter import TreeAdapter
from critinit_adapters.shared.declared import Place, values
from critinit_adapters.shared.jax_arrays import draw_like, like, paired, path_name, problem, replace
from critinit_adapters.shared.survey import Network, Site, Survey, Tensor
from critinit_adapters.haiku.layout import GATES, NAMES, RESET, blocks
from critinit_adapters.shared.planning import Write

__all__ = ["ADAPTER", "HaikuAdapter", "initializers"]


class HaikuAdapter(TreeAdapter):
    """The adapter for the trees that ``hk.transform(...).init`` returns."""

    framework = "haiku"
    cells = tuple(GATES)
    options = MappingProxyType(
        {
            "haiku": "a mapping of module paths to 'lstm' or 'gru'",
            "bidirectional": "a list of (forward path, backward path) of them",
        }
    )

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        return "haiku" in options or (isinstance(target, Mapping) and bool(_candidates(target)))

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        if not isinstance(target, Mapping):
            raise ApplyError(f"target: found {type(target).__name__}; allowed: the tree that init returns")
        named = _named(target, options.get("haiku"))
        networks = [_network(target, path, cell) for path, cell in named.items()]
        leaves = jax.tree_util.tree_leaves_with_path(target)
        return Survey(paired(networks, options.get("bidirectional")), tuple(path_name(p) for p, _ in leaves))

    def leaf(self, tensor: Tensor, values: NDArray[Any]) -> Any:
        return like(tensor.handle, values)

    def native_leaf(self, write: Write) -> Any:
        return draw_like(write.tensor.handle, write)

    def rebuild(self, target: Any, leaves: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        return replace(target, leaves)


ADAPTER = HaikuAdapter()


def _candidates(tree: Mapping[str, Any]) -> dict[str, str]:
    """Module paths that look like a GRU or an LSTM, to be suggested: only the caller can know."""
    modules = {str(path): module for path, module in tree.items() if isinstance(module, Mapping)}
    grus = {path: "gru" for path, module in modules.items() if set(module) == set(NAMES["gru"])}
    linears = {path.removesuffix("/linear"): module for path, module in modules.items() if path.endswith("/linear")}
    return {**grus, **{path: "lstm" for path, module in linears.items() if _has_gates(module)}}


def _has_gates(linear: Mapping[str, Any]) -> bool:
    """Whether a linear layer's kernel could be an LSTM's, of shape (I + H, 4H)."""
    shape: tuple[int, ...] = getattr(linear.get("w"), "shape", ())
    return len(shape) == 2 and shape[1] % 4 == 0 and shape[0] > shape[1] // 4


def _named(target: Mapping[str, Any], named: Any) -> Mapping[str, str]:
    allowed = "allowed: a mapping of module paths to 'lstm' or 'gru'"
    if named is None:
        raise ArgumentError(
            f"haiku: missing, as a Haiku tree carries no class names; {allowed}, such as "
            f"haiku={_candidates(target) or {'lstm': 'lstm'}}"
        )
    if not isinstance(named, Mapping) or not named:
        raise ArgumentError(f"haiku: found {named!r}; {allowed}")
    for path, cell in named.items():
        if cell in ("rnn", "vanilla_rnn"):
            raise ApplyError(f"{path}: found hk.VanillaRNN, a ReLU network; the theory of the rnn cell is for tanh")
        if cell not in GATES:
            raise ArgumentError(f"haiku: found cell {cell!r} for {path!r}; {allowed}")
    return named


def _network(target: Mapping[str, Any], path: str, cell: str) -> Network:
    leaves = [(name, _leaf(target, path, cell, name)) for name in NAMES[cell]]
    refusals = (problem(f"{path}/{name}", leaf, 1 if name.endswith("b") else 2) for name, leaf in leaves)
    refusal = next((found for found in refusals if found is not None), None)
    if refusal is not None:
        return Network(path, cell, 0, (), RESET.get(cell), refusal=refusal)
    rows, columns = leaves[0][1].shape
    hidden = columns // len(GATES[cell])
    inputs = rows - hidden if cell == "lstm" else rows
    tensors = tuple(
        Tensor(f"{path}/{name}", leaf.shape, leaf, blocks(name, cell, inputs, hidden), key=f"{path}/{name}")
        for name, leaf in leaves
    )
    return Network(path, cell, hidden, (Site(0, 0, inputs, tensors),), RESET.get(cell))


def _leaf(target: Mapping[str, Any], path: str, cell: str, name: str) -> Any:
    *below, last = name.split("/")
    module = target.get("/".join((path, *below)))
    if not isinstance(module, Mapping) or last not in module:
        found = ", ".join(map(repr, target)) or "an empty tree"
        raise ApplyError(f"haiku: no {cell} at {path!r}, which would hold {name}; found modules: {found}")
    return module[last]


def initializers(
    spec: InitSpec, *, layer: int = 0, direction: int = 0, seed: int = 0, module: int = 0
) -> dict[str, Callable[[Sequence[int], Any], jax.Array]]:
    """The arguments w_i_init, w_h_init, b_init that declare ``hk.GRU`` with one layer of a spec.

    The numbers are those of ``critinit.apply`` with that seed; the key that Haiku draws with is not used.  Raises
    ``ArgumentError`` for a spec of another cell, or with its reset gate after the recurrent kernel.
    """
    if (spec.cell, spec.reset) != ("gru", "before"):
        found = spec.cell if spec.reset is None else f"{spec.cell} with reset {spec.reset}"
        raise ArgumentError(f"spec: found {found}; allowed: gru with reset before, which is what hk.GRU computes")
    place = Place(spec, layer, direction, seed, module)

    def initializer(name: str) -> Callable[[Sequence[int], Any], jax.Array]:
        def draw(shape: Sequence[int], dtype: Any) -> jax.Array:
            hidden = int(shape[-1]) // len(GATES["gru"])
            parts = blocks(name, "gru", int(shape[0]), hidden)
            return jnp.asarray(values(place, name, shape, parts, int(shape[0]), hidden).astype(dtype))

        return draw

    return {f"{name}_init": initializer(name) for name in NAMES["gru"]}
