"""Flax NNX: SimpleCell, GRUCell, LSTMCell and OptimizedLSTMCell in any module graph.

    r, z, n of the GRU are reset, update, candidate;  z keeps the old state;  the reset gate acts after the
    matmul: n = tanh(W_in x + b_in + r∘(W_hn h))
    i, f, g, o of the LSTM are input, forget, cell, output; its biases stand on the recurrent side

Kernels are (fan_in, H), gates side by side or, in LSTMCell, one ``Linear`` each.  Parameters are written in
place: their type, device, sharding and metadata stay.  Cells are in the natural order of their paths
(layers/2 before layers/10), which ``nnx.split`` and ``merge`` do not change.

A cell can also be declared with its spec: ``nnx.GRUCell(10, 64, **initializers(spec), rngs=rngs)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from critinit.errors import ApplyError, Problem
from critinit.spec import InitSpec
from critinit.tensors.blocks import Block, fused
from critinit.tensors.stacking import natural_key
from critinit_adapters.nnx.layout import CELLS, GATES, blocks
from critinit_adapters.nnx.tracing import record
from critinit_adapters.shared.activations import activation_problem, same_function
from critinit_adapters.shared.adapter import InPlaceAdapter
from critinit_adapters.shared.classes import looks_recurrent, overrides
from critinit_adapters.shared.declared import Place, check_cell, check_gates, draws_in
from critinit_adapters.shared.defaults import Default
from critinit_adapters.shared.jax_arrays import (
    SeededByKeys,
    both_directions,
    declared,
    draw_like,
    is_array,
    like,
    truncated_default,
)
from critinit_adapters.shared.jax_arrays import problem as leaf_problem
from critinit_adapters.shared.jax_refining import JaxRefines, mask_tree
from critinit_adapters.shared.jax_running import JaxRuns
from critinit_adapters.shared.naming import path_name
from critinit_adapters.shared.optax_limits import OptaxLimits
from critinit_adapters.shared.planning import Write
from critinit_adapters.shared.recording import Recorder
from critinit_adapters.shared.stacked import leading
from critinit_adapters.shared.survey import LayerSlot, Lookalike, RecurrentModule, Survey, Tensor

__all__ = ["ADAPTER", "NnxAdapter", "initializers"]

_KINDS: Mapping[str, type[nnx.Module]] = {kind: getattr(nnx, kind) for kind in CELLS}
_CLASSES = tuple(_KINDS.values())
_LSTM_CELL = "for nnx.LSTMCell take nnx.OptimizedLSTMCell, the same function; else write the spec for the cell (--cell)"
"""The way out where an lstm's initializer is called with a shape that is not all gates'."""


class NnxAdapter(SeededByKeys, OptaxLimits, JaxRefines, JaxRuns, InPlaceAdapter):
    """The adapter for ``nnx.Module``."""

    framework = "nnx"
    module = "flax.nnx"
    cells = tuple(GATES)

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether the target is a module of NNX."""
        return isinstance(target, nnx.Module)

    def instead(self, target: object) -> str:
        """Return what to give instead of a state, a graph or an optimizer."""
        return "give the module itself" if isinstance(target, (nnx.State, nnx.GraphDef, nnx.Optimizer)) else ""

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        """Return the cells in a module graph."""
        _check_target(target)
        nodes = {id(node): (path, node) for path, node in nnx.iter_graph(target)}
        parts = ((path, node) for path, node in nodes.values() if isinstance(node, (nnx.Module, nnx.Variable)))
        ordered = sorted(((_name(path), node) for path, node in parts), key=lambda n: natural_key(n[0]))
        variables = {name: id(node) for name, node in ordered if isinstance(node, nnx.Variable)}
        modules = [n for n in ordered if isinstance(n[1], nnx.Module)]
        shown = set(variables.values())
        for name, module in modules:  # a variable that several modules share, under each of its names
            own = ((key, node) for key, node in vars(module).items() if id(node) in shown)
            variables.update((f"{name}/{key}" if name else key, id(node)) for key, node in own)
        every = tuple(node for _, node in nodes.values())
        return Survey(tuple(_modules(modules)), tuple(variables), variables, tuple(_lookalikes(modules)), nodes=every)

    def tensors(self, target: Any, options: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the variables."""
        _check_target(target)
        found = ((_name(path), node) for path, node in nnx.iter_graph(target) if isinstance(node, nnx.Variable))
        arrays = ((name, node) for name, node in found if is_array(_get(node)))
        return {name: Tensor(name, tuple(_get(node).shape), node, ()) for name, node in arrays}

    def unwritable(self, tensor: Tensor) -> Problem | None:
        """Return why a variable's array cannot be replaced."""
        return leaf_problem(tensor.name, _get(tensor.handle))

    def step(self, model: Any, x: Any, state: Any) -> Any:
        """Return what a cell gives; those of Flax take (carry, x), the carry being h or (c, h)."""
        if isinstance(model, nnx.RNNCellBase):
            return model(state[::-1] if isinstance(state, tuple) else state, x)[0]
        return model(x, state)

    def from_numpy(self, values: NDArray[np.float64], like: Tensor) -> Any:
        """Return an array of that type."""
        return jnp.asarray(values, _get(like.handle).dtype)

    def default_of(self, tensor: Tensor, block: Block) -> Default | None:
        """Return the range of the default: truncated normal, orthogonal (entries up to 1), 0."""
        return truncated_default(tensor, block, recurrent=1.0)

    def record(
        self, target: Any, survey: Survey, run: Callable[[Any], object], options: Mapping[str, Any]
    ) -> tuple[Recorder, Mapping[str, bool]]:
        """Run the model with its cells' calls replaced."""
        return record(target, survey, run), {}

    def tables(self, target: Any, options: Mapping[str, Any]) -> list[tuple[Tensor, bool, bool]]:
        """Return the parameters of ``nnx.Embed``."""
        found = ((_name(path), node) for path, node in nnx.iter_graph(target) if isinstance(node, nnx.Embed))
        tables = ((f"{name}/embedding" if name else "embedding", node.embedding) for name, node in found)
        return [(Tensor(name, tuple(_get(v).shape), v, ()), isinstance(v, nnx.Param), False) for name, v in tables]

    def values(self, tensor: Tensor) -> NDArray[Any]:
        """Return the values in single precision."""
        return np.asarray(_get(tensor.handle)).astype(np.float32)

    def trained(self, target: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arrays of ``nnx.Param``."""
        named = ((name, tensor.handle) for name, tensor in self.tensors(target, options).items())
        found = ((name, _get(variable)) for name, variable in named if isinstance(variable, nnx.Param))
        return {name: array for name, array in found if leaf_problem(name, array) is None}

    def exchanged(self, target: Any, leaves: Mapping[str, Any]) -> Any:
        """Return a copy of the model with other arrays, its dropout off."""
        graph, state = nnx.split(target)

        def exchange(path: tuple[Any, ...], leaf: Any) -> Any:
            return leaves.get(path_name(path).removesuffix("/value"), leaf)

        # through JAX's trees, which make variables of the present trace
        model = nnx.merge(graph, jax.tree_util.tree_map_with_path(exchange, state))
        model.set_attributes(deterministic=True, raise_if_not_found=False)
        return model

    def mask_tree(self, model: Any, masks: Mapping[str, NDArray[np.bool_]]) -> Any:
        """Return masks as a state of ``nnx.Param``."""
        return mask_tree(nnx.state(model, nnx.Param), masks)

    def read(self, tensor: Tensor) -> NDArray[Any]:
        """Return the values."""
        return np.asarray(_get(tensor.handle))

    def restore(self, tensor: Tensor, values: NDArray[Any]) -> None:
        """Write the old values back."""
        _set(tensor.handle, like(_get(tensor.handle), values))

    def store(self, tensor: Tensor, values: NDArray[np.float64]) -> None:
        """Write values, cast once."""
        _set(tensor.handle, like(_get(tensor.handle), values))

    def store_native(self, write: Write) -> None:
        """Draw on the variable's device and write."""
        _set(write.tensor.handle, draw_like(_get(write.tensor.handle), write))

    def view(self, tensor: Tensor) -> Any:
        """Return the values."""
        return _get(tensor.handle)


ADAPTER = NnxAdapter()


def _check_target(target: object) -> None:
    if not isinstance(target, nnx.Module):
        raise ApplyError("target", found=f"a {type(target).__name__}", allowed="an nnx.Module")


def _lookalikes(modules: list[tuple[str, Any]]) -> Iterator[Lookalike]:
    """Modules that look recurrent, without those that hold a known cell or belong to one."""
    known = [name for name, module in modules if isinstance(module, _CLASSES)]
    for name, module in modules:
        kind = type(module).__name__
        step = None if type(module).__module__.startswith("flax.") else type(module).__call__
        if not looks_recurrent(kind, step) or any(_is_around(name, cell) or _is_around(cell, name) for cell in known):
            continue
        if not any(isinstance(node, _CLASSES) for _, node in nnx.iter_graph(module)):  # a shared one has another path
            reason = f"a class that derives from none of NNX' {', '.join(_KINDS)}"
            if isinstance(module, (nnx.RNN, nnx.Bidirectional)):
                reason = "it runs a cell that is not known"
            yield Lookalike(name, kind, reason)


def _is_around(outer: str, inner: str) -> bool:
    """Whether a module is another one, or holds it, by their paths."""
    return not outer or inner == outer or inner.startswith(f"{outer}/")


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))


def _get(variable: Any) -> Any:
    return variable.get_value() if hasattr(variable, "get_value") else variable.value


def _set(variable: Any, value: Any) -> None:
    if hasattr(variable, "set_value"):
        variable.set_value(value)
    else:
        variable.value = value


def _modules(modules: list[tuple[str, Any]]) -> Iterator[RecurrentModule]:
    """The cells among ``modules`` in their order, those of a ``Bidirectional`` as one."""
    taken: set[int] = set()
    for name, module in modules:
        ways = _directions(module)
        if ways is not None and not taken & {id(way) for way in ways}:
            prefix = f"{name}/" if name else ""
            forward = _module(f"{prefix}forward_rnn/cell", ways[0])
            backward = _module(f"{prefix}backward_rnn/cell", ways[1])
            taken |= {id(way) for way in ways}
            yield both_directions(forward, backward, name)
        elif isinstance(module, _CLASSES) and id(module) not in taken:
            yield _module(name, module)


def _directions(module: Any) -> tuple[Any, Any] | None:
    """The two cells of a Bidirectional, where both are known."""
    if not isinstance(module, nnx.Bidirectional):
        return None
    forward, backward = (getattr(way, "cell", None) for way in (module.forward_rnn, module.backward_rnn))
    return (forward, backward) if isinstance(forward, _CLASSES) and isinstance(backward, _CLASSES) else None


def _module(name: str, module: Any) -> RecurrentModule:
    kind = next(name for name, kind in _KINDS.items() if isinstance(module, kind))
    hidden, prefix = module.hidden_features, f"{name}/" if name else ""
    tensors = tuple(
        Tensor(f"{prefix}{path}", tuple(_get(variable).shape), variable, parts)
        for path, parts in blocks(kind, hidden).items()
        if (variable := _variable(module, path)) is not None
    )
    relu = kind == "SimpleCell" and same_function(module.activation_fn, jax.nn.relu, _evaluated)
    stacked = leading((tensor.shape, _axes(tensor)) for tensor in tensors)
    refusal = _refusal(module, tensors, jax.nn.relu if relu else jax.numpy.tanh, len(stacked))
    slots = () if refusal else (LayerSlot(0, 0, module.in_features, tensors),)
    own = overrides(module, _CLASSES, ("__call__",))
    cell = "relu_rnn" if relu else CELLS[kind]
    return RecurrentModule(name, cell, hidden, slots, refusal=refusal, overrides=own, stacked=stacked)


def _axes(tensor: Tensor) -> int:
    return 1 if tensor.name.endswith("bias") else 2


def _evaluated(function: Any, x: NDArray[np.float32]) -> Any:
    return function(x)


def _variable(module: Any, path: str) -> Any:
    for part in path.split("/"):
        module = getattr(module, part, None)
    return None if module is None or _get(module) is None else module


def _refusal(module: Any, tensors: tuple[Tensor, ...], activation: Any, more: int) -> Problem | None:
    """Why this cell takes no spec, or None."""
    if getattr(module, "residual", False):
        hint = "the old state is added before the activation, and no spec describes that"
        return Problem("residual", "True", "False", hint)
    for field, allowed in (("activation_fn", activation), ("gate_fn", jax.nn.sigmoid)):
        problem = activation_problem(field, getattr(module, field, allowed), allowed, _evaluated)
        if problem is not None:
            return problem
    found = (leaf_problem(t.name, _get(t.handle), _axes(t) + more) for t in tensors)
    return next((why for why in found if why is not None), None)


def initializers(
    spec: InitSpec, *, layer: int = 0, direction: int = 0, seed: int | None = None, module: int = 0
) -> dict[str, Callable[..., jax.Array]]:
    """Return the arguments that declare a SimpleCell, GRUCell or OptimizedLSTMCell with one layer of a spec.

    Without a seed the weights are drawn from the ``rngs`` that the cell is given, so two of these, two cells, two
    directions and the members of ``nnx.vmap`` get independent weights.  With a seed the numbers are those that
    ``critinit.apply`` writes with it in every framework; ``rngs`` are not used, so say by ``direction`` and ``module``
    which of them a cell is to have.  Not for ``LSTMCell``, which uses one initializer for all gates without saying for
    which it calls.  For ``relu_rnn`` the arguments include ``activation_fn``.

    Args:
        spec: The spec.
        layer: The spec's layer.
        direction: 0 for forward, 1 for backward; it counts where a seed is given.
        seed: The seed, or None to draw from ``rngs``.
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
    check_cell(spec, tuple(GATES))
    gates = GATES[spec.cell]

    def initializer(name: str, part: Any) -> Callable[[Any, Sequence[int], Any], jax.Array]:
        def draw(key: Any, shape: Sequence[int], dtype: Any = jnp.float32, **placing: Any) -> jax.Array:
            if part == "recurrent" and not (spec.cell == "lstm" and shape[0] == shape[1]):
                check_gates(spec, name, shape, tuple(GATES))
            hidden = int(shape[-1]) // len(gates)
            parts = fused(gates, part, len(shape) - 1, hidden, transposed=part != "bias")
            pairs = draws_in(
                place, name, shape, parts, int(shape[0]), hidden, _LSTM_CELL if spec.cell == "lstm" else ""
            )
            return declared(pairs, shape, dtype, key if place.seed is None else None)

        return draw

    arguments = {"kernel_init": "input", "recurrent_kernel_init": "recurrent", "bias_init": "bias"}
    relu: dict[str, Callable[..., jax.Array]] = {"activation_fn": jax.nn.relu} if spec.cell == "relu_rnn" else {}
    return {**{name: initializer(name, part) for name, part in arguments.items()}, **relu}
