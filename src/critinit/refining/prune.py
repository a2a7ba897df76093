"""``critinit.prune``: masks for a recurrent network's kernels, before it trains.

A score says of each entry θ of a kernel what it is worth; the entries with the smallest scores of all chosen layers
together become 0.

"jacobian" (Zhang & Stadie 2020, "One-Shot Pruning of Recurrent Neural Networks by Jacobian Spectrum Evaluation",
arXiv:1912.00120) scores by the change of the recurrent Jacobian, over that of the states on noise,

    score(θ) = |θ ∂χ/∂θ| / |∂ρ/∂θ|,        χ = Σ_t ‖J_t 1‖₂,        ρ = Σ h_5.

χ is the mean over 64 sequences of the sum over the last 4 steps, J_t the Jacobian of a step of the state and 1 a vector
of ones.  The state before each of these steps depends on θ as well, so what writes into the state counts also where the
inputs end in silence.  ρ is the sum over the units' states after 5 steps on normal inputs of deviation .1, from 100
states of mean 1 and deviation .1: the expected magnitude of a gradient, by which the paper divides.  The batch, the
last 4 steps and J 1 are of the paper; the noise is that of the first author's published experiments.  These leave the
factor θ away; with it, which is the paper's first-order change of χ, more was learned (``docs/refine.md``).  A θ that
changes no state on noise has the score 0.

"snip" (Lee, Ajanthan & Torr 2019, arXiv:1810.02340): |θ ∂L/∂θ| of the loss.  "magnitude": |θ|.  "random": a random
number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray

from critinit.cells import find_cell
from critinit.errors import ApplyError, ArgumentError
from critinit.foreign import Foreign, Library
from critinit.inputs.network import Runner
from critinit.refining.layers import Array, HeldLayer, Weights, growth, last_states, weights_of
from critinit.refining.refine import (
    Loss,
    RefiningAdapter,
    check_arguments,
    chosen_layers,
    refining_adapter,
    sequences_of,
)
from critinit.showing import Shown, Table, aligned
from critinit.tensors.application import ADAPTERS, Adapter
from critinit.tensors.blocks import Index

__all__ = ["Method", "Pruned", "PrunedPart", "jacobian_slopes", "keep_pruned", "prune", "state_slopes"]

Method = Literal["jacobian", "snip", "magnitude", "random"]
Model = TypeVar("Model")
Optimizer = TypeVar("Optimizer")
_KERNELS = ("recurrent", "input", "projection")
_STEPS, _SEQUENCES = 4, 64
"""The paper's: the last steps of a sequence that count, and the sequences of a batch."""
_NOISE_STEPS, _NOISE_SEQUENCES, _NOISE = 5, 100, 0.1
"""The steps, the sequences and the standard deviation of the noise that the states' change is measured on."""


class PruningAdapter(RefiningAdapter, Protocol):
    """An adapter that can write masks."""

    def mask(self, target: Any, masks: Mapping[str, NDArray[np.bool_]], options: Mapping[str, Any]) -> tuple[Any, Any]:
        """Write masks by tensors' names as the framework's own pruning; return the model and the framework's masks."""
        ...


@dataclass(frozen=True, slots=True)
class PrunedPart:
    """What became of one gate's kernel.

    Attributes:
        tensor: The tensor's name in the model.
        layer: The layer in its network.
        direction: 0 for forward, 1 for backward.
        gate: The gate; empty for a projection.
        part: "recurrent", "input" or "projection".
        entries: How many entries it has.
        kept: How many of them stay.
    """

    tensor: str
    layer: int
    direction: int
    gate: str
    part: str
    entries: int
    kept: int


@dataclass(frozen=True, slots=True)
class Pruned(Shown, Generic[Model]):
    """What ``prune`` returns: the pruned model and its masks.

    Attributes:
        model: The very object that was given where the framework's models are mutable, and a new tree where they are
            not.
        masks: What stays, as the framework has it: tensors by name, or a tree like that of what trains, with True for
            all that is not pruned.
        kept: What stays, by the pruned tensors' names, as NumPy's arrays.
        method: How entries were scored.
        sparsity: The share of entries that are 0 now.
        rows: What became of each gate's kernel.
    """

    model: Model
    masks: Any
    kept: Mapping[str, NDArray[np.bool_]]
    method: str
    sparsity: float
    rows: tuple[PrunedPart, ...]

    def __repr__(self) -> str:
        return f"Pruned({type(self.model).__name__}, {self.method}, sparsity={self.sparsity:.4g})"

    def __str__(self) -> str:
        (table,) = self._tables()
        return "\n".join([*aligned([table.columns, *table.rows]), *table.below])

    def _tables(self) -> Iterator[Table]:
        head = ("tensor", "layer", "dir", "gate", "part", "entries", "kept", "share")
        rows = tuple(
            (r.tensor, str(r.layer), str(r.direction), r.gate, r.part, str(r.entries), str(r.kept), _share(r))
            for r in self.rows
        )
        yield Table("pruned kernels", head, rows, (f"method: {self.method}; {self.sparsity:.2%} of all entries are 0",))


def _share(row: PrunedPart) -> str:
    return f"{row.kept / row.entries:.1%}" if row.entries else ""


def prune(
    model: Model,
    batch: Any,
    sparsity: float,
    method: Method = "jacobian",
    *,
    loss: Loss | None = None,
    include: str | Sequence[str] | None = None,
    seed: int = 0,
    call: Callable[..., object] | None = None,
    framework: str | Adapter | None = None,
    **options: Any,
) -> Pruned[Model]:
    """Prune the kernels of a model's recurrent layers, before it trains, as the framework itself prunes.

    The entries with the smallest scores become 0.  Where the framework has pruning of its own, its hooks keep them so;
    where models are trained by transformations of gradients, ``critinit.keep_pruned`` makes one that does.  Biases
    stay.

    Nothing is written before all scores are there and finite.

    Args:
        model: As of ``critinit.refine``.
        batch: What the model is called with; the paper takes 64 sequences, and more are not used.
        sparsity: The share of the entries of all kernels that become 0, from 0 to below 1.
        method: "jacobian" by the norms of the steps' Jacobians, "snip" by the loss, "magnitude" or "random".
        loss: For "snip": as of ``critinit.refine``.
        include: Shell-style patterns of paths that narrow what is pruned, as of ``critinit.apply``.
        seed: Of "random", and of the targets of the default loss.
        call: How to run the model, as of ``critinit.measure``.
        framework: The framework's name or an adapter.
        **options: The adapter's own options.

    Returns:
        The model, the masks, and what stays of each gate's kernel.

    Raises:
        ApplyError: The model holds nothing that can be pruned, or a score is not finite; it is as it was.
        ArgumentError: An argument is out of its range, or the batch does not reach a layer.

    Example:
        pruned = critinit.prune(model, batch, sparsity=0.9)
        print(pruned)
    """
    check_arguments(seed, call=call)
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0.0 <= sparsity < 1.0:
        raise ArgumentError("sparsity", found=repr(sparsity), allowed="a number from 0 to below 1")
    if method not in get_args(Method):
        raise ArgumentError("method", found=repr(method), allowed=", ".join(get_args(Method)))
    if loss is not None and not (callable(loss) and method == "snip"):
        raise ArgumentError("loss", found=repr(loss), allowed="a function of the model and the batch, for snip")
    adapter = cast(PruningAdapter, refining_adapter(model, framework, options, "prune"))
    layers = chosen_layers(adapter, model, include, options)
    frozen = next((held for _, held, _ in _kernels(layers) if held.frozen), None)
    if frozen is not None:
        hint = "let it train first, or leave its network out with include="
        raise ApplyError(frozen.name, found=frozen.frozen, allowed="kernels that train", hint=hint)
    scores = _scores(adapter, model, batch, layers, method, loss, seed, call, options)
    wrong = next((name for name, score in scores.items() if not np.isfinite(score).all()), None)
    if wrong is not None:
        raise ApplyError(wrong, found="a score that is not finite", hint="nothing was changed")
    if not any(scores[held.name][block.index].any() for _, held, block in _kernels(layers)):
        hint = "do the batch and the loss depend on the kernels? nothing was changed"
        raise ApplyError("target", found=f"scores by {method} that are all 0", hint=hint)
    masks = _masks(layers, scores, sparsity)
    _check_masks(layers, scores, masks, method, sparsity)
    changed, own = adapter.mask(model, masks, options)
    rows = tuple(
        PrunedPart(
            held.name, layer.layer, layer.direction, block.gate, str(block.part), int(kept.size), int(kept.sum())
        )
        for layer, held, block in _kernels(layers)
        for kept in (masks[held.name][block.index],)
    )
    entries, kept = sum(row.entries for row in rows), sum(row.kept for row in rows)
    return Pruned(changed, own, masks, method, 1.0 - kept / entries, rows)


def keep_pruned(optimizer: Optimizer, pruned: Pruned[Any]) -> Optimizer:
    """Make an optimizer leave pruned entries at 0.

    Args:
        optimizer: The optimizer; of one that is a transformation of gradients a new one is returned, of others the one
            that is given, as the model's own hooks keep its masks.
        pruned: What ``critinit.prune`` returned.

    Returns:
        The optimizer to train with.

    Raises:
        ArgumentError: It is of no framework that is imported, or trains none of the pruned tensors.

    Example:
        optimizer = critinit.keep_pruned(optimizer, pruned)
    """
    if not isinstance(pruned, Pruned):
        raise ArgumentError("pruned", found=type(pruned).__name__, allowed="what critinit.prune returned")
    imported: Iterator[Any] = (ADAPTERS.find(name) for name in ADAPTERS.names() if name in sys.modules)
    for adapter in imported:
        if hasattr(adapter, "keep_pruned") and adapter.takes_optimizer(optimizer):
            kept: Optimizer = adapter.keep_pruned(optimizer, pruned.kept)
            return kept
    found = f"a {type(optimizer).__module__}.{type(optimizer).__qualname__}"
    raise ArgumentError("optimizer", found=found, allowed="an optimizer of a framework that is imported")


def _kernels(layers: Sequence[HeldLayer]) -> Iterator[tuple[HeldLayer, Any, Any]]:
    for layer in layers:
        for held in layer.tensors:
            yield from ((layer, held, block) for block in held.blocks if block.part in _KERNELS)


def _masks(layers: Sequence[HeldLayer], scores: Mapping[str, Array], sparsity: float) -> dict[str, NDArray[np.bool_]]:
    """What stays of each tensor: all of its other numbers, and the kernels' entries with the largest scores.

    Among equal scores those that come first go first, so that the number of zeros is exact.
    """
    places: list[tuple[str, Index]] = [(held.name, block.index) for _, held, block in _kernels(layers)]
    together = np.concatenate([scores[name][index].ravel() for name, index in places])
    stays = np.ones(together.size, dtype=bool)
    stays[np.argsort(together, kind="stable")[: round(sparsity * together.size)]] = False
    masks = {name: np.ones(scores[name].shape, dtype=bool) for name, _ in places}
    start = 0
    for name, index in places:
        region = masks[name][index]
        masks[name][index] = stays[start : start + region.size].reshape(region.shape)
        start += region.size
    return masks


def _check_masks(
    layers: Sequence[HeldLayer],
    scores: Mapping[str, Array],
    masks: Mapping[str, NDArray[np.bool_]],
    method: Method,
    sparsity: float,
) -> None:
    """Refuse masks that leave nothing at all, or nothing of a layer's kernels of which the Jacobian says nothing.

    The Jacobian of a cell that is linear by parts does not move with the input kernel, nor does one without inputs, but
    without that kernel a layer is blind.  A loss that does not move with a kernel does not need it.
    """
    if not any(masks[held.name][block.index].any() for _, held, block in _kernels(layers)):
        count = sum(masks[held.name][block.index].size for _, held, block in _kernels(layers))
        allowed = f"less, so that at least one of the {count} entries stays"
        raise ArgumentError("sparsity", found=repr(sparsity), allowed=allowed)
    for layer in layers if method == "jacobian" else ():
        for part in _KERNELS:
            own = [(held, block.index) for _, held, block in _kernels([layer]) if block.part == part]
            gone = not any(masks[held.name][index].any() or scores[held.name][index].any() for held, index in own)
            if gone and any(held.values[index].any() for held, index in own):
                found = f"scores by {method} that are all 0 for the {part} kernels, so that all of them would go"
                hint = "nothing was changed; give inputs that are not 0, or take another method="
                raise ApplyError(str(layer), found=found, allowed="scores that tell entries apart", hint=hint)


def _scores(
    adapter: PruningAdapter,
    model: Any,
    batch: Any,
    layers: Sequence[HeldLayer],
    method: Method,
    loss: Loss | None,
    seed: int,
    call: Callable[..., object] | None,
    options: Mapping[str, Any],
) -> dict[str, Array]:
    """The score of every entry, by the tensor's name."""
    values = {held.name: held.values for layer in layers for held in layer.tensors}
    if method == "magnitude":
        return {name: np.abs(value) for name, value in values.items()}
    if method == "random":
        rng = np.random.default_rng(seed)
        return {name: rng.random(value.shape) for name, value in values.items()}
    run = Runner(batch, call)
    if method == "snip":
        objective, trained = adapter.objective(model, loss, batch, run, seed, options)
        _, slopes = objective.gradient(trained)
        return {name: np.abs(values[name] * slopes[name]) for name in trained if name in values}
    library = adapter.library(model)
    scores: dict[str, Array] = {}
    for layer in layers:
        sequences = sequences_of(adapter, model, run, layer, options)[:_SEQUENCES]
        if not sequences:
            hint = "call= says how to run the model so that it is reached; include= names the networks to prune"
            raise ArgumentError("batch", found=f"one that does not reach {layer}", hint=hint)
        slopes, expected = jacobian_slopes(layer, sequences, library), state_slopes(layer, library, seed)
        for held in layer.tensors:
            change, usual = np.abs(held.values * slopes[held.name]), np.abs(expected[held.name])
            scores[held.name] = np.divide(change, usual, out=np.zeros_like(usual), where=usual != 0.0)
    return scores


def jacobian_slopes(layer: HeldLayer, sequences: Sequence[NDArray[Any]], library: Library) -> dict[str, Array]:
    """Return ∂χ/∂θ for the numbers of a layer's tensors, χ the sum of ‖J_t 1‖₂ over the last 4 steps.

    Args:
        layer: The layer.
        sequences: What it reads, (steps, I) each; those shorter than the median are left out, and longer ones lose
            their first steps, to be of one length.
        library: What differentiates.
    """
    length = sorted(map(len, sequences))[len(sequences) // 2]
    long = (sequence for sequence in sequences if len(sequence) >= length)
    x = np.stack([sequence[len(sequence) - length :] for sequence in long], axis=1).astype(float)

    def chi(weights: Weights, x: Any) -> Any:
        return growth(find_cell(layer.cell), weights, x, min(_STEPS, length), library)

    return _slopes(layer, library, chi, x)


def state_slopes(layer: HeldLayer, library: Library, seed: int) -> dict[str, Array]:
    """Return ∂ρ/∂θ for the numbers of a layer's tensors, ρ the sum of the states after 5 steps on noise.

    Args:
        layer: The layer.
        library: What differentiates.
        seed: Of the noise.
    """
    own = weights_of({h.name: h.blocks for h in layer.tensors}, {h.name: h.values for h in layer.tensors})
    units, coordinates = next(iter(own.recurrent.values())).shape
    inputs = next(iter(own.input.values())).shape[1]
    rng = np.random.default_rng(seed)
    x = _NOISE * rng.standard_normal((_NOISE_STEPS, _NOISE_SEQUENCES, inputs))
    h, s = (1.0 + _NOISE * rng.standard_normal((_NOISE_SEQUENCES, size)) for size in (coordinates, units))

    def rho(weights: Weights, x: Any, h: Any, s: Any) -> Any:
        return library.mean(last_states(find_cell(layer.cell), weights, x, h, s, library)) * h.shape[0] * h.shape[1]

    return _slopes(layer, library, rho, x, h, s)


def _slopes(layer: HeldLayer, library: Library, value: Callable[..., Any], *constants: Array) -> dict[str, Array]:
    """The gradient of ``value(weights, *constants)`` by the layer's tensors."""
    blocks = {held.name: held.blocks for held in layer.tensors}

    def of_leaves(leaves: Mapping[str, Any], *given: Any) -> tuple[Any, Any]:
        found = value(weights_of(blocks, {name: Foreign(leaf, library) for name, leaf in leaves.items()}), *given)
        return found, found

    values = {held.name: np.array(held.values, dtype=float) for held in layer.tensors}
    return library.differentiate(of_leaves)(values, *constants)[2]
