"""How often ``critinit check`` is wrong: alarms on freshly initialized models, and planted mistakes that it misses.

``python -m benchmarks check_rates [--models N]`` initializes N models (default 200) of 128 units with ``apply``, by
each framework's own generators where it has them, over cells, schemes and frameworks.  It checks each, plants every
known mistake that fits into a copy of each, and checks those.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import cycle, islice, product
from typing import Any

import numpy as np
from scipy.stats import binom

from benchmarks._options import count
from critinit import apply, check, generate
from critinit.distributions import KernelFamily, haar
from critinit.spec import InitSpec
from critinit.tensors.blocks import Block
from critinit.weights.finding import FoundLayer, networks_of

__all__ = ["FAULTS", "initialized", "main", "planted"]

H, INPUT, T = 128, 16, 300
"""Units, coordinates of the input and steps: a common size, at which models take milliseconds."""
RATE = 1e-3
"""The false-alarm rate at which mistakes are looked for, the default of ``check``."""
SCHEMES = ("critical", "chrono", "orthogonal", "uniform_gate")
FRAMEWORKS = {
    "torch": "torch",
    "keras": "keras",
    "linen": "flax",
    "nnx": "flax",
    "equinox": "equinox",
    "haiku": "haiku",
}
KEEP = {"gru": "update", "gru_reset_before": "update", "lstm": "forget"}
OTHER = {"gru": "candidate", "gru_reset_before": "candidate", "lstm": "cell"}
Tensors = dict[str, np.ndarray]


@cache
def _spec(cell: str, scheme: str) -> InitSpec:
    return generate(cell, T, scheme=scheme)


def initialized(framework: str, cell: str, scheme: str, seed: int) -> tuple[InitSpec, Tensors]:
    """A fresh model of a framework, written by ``apply`` with the framework's generators, as flat arrays."""
    spec = _spec("gru_reset_before" if (framework, cell) == ("haiku", "gru") else cell, scheme)
    return spec, _MAKE[framework](spec, seed)


def _torch(spec: InitSpec, seed: int) -> Tensors:
    import torch

    model = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[spec.cell](INPUT, H)
    apply(spec, model, seed=seed, sampler="native")
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def _keras(spec: InitSpec, seed: int) -> Tensors:
    import keras

    layer = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[spec.cell](H)
    layer.build((None, None, INPUT))
    apply(spec, layer, seed=seed, sampler="native")
    return {variable.path: np.asarray(variable.value) for variable in layer.weights}


def _linen(spec: InitSpec, seed: int) -> Tensors:
    import jax
    from flax import linen

    cell = {"gru": linen.GRUCell, "lstm": linen.LSTMCell}[spec.cell](H)
    x = jax.numpy.zeros((1, INPUT))
    tree = cell.init(jax.random.key(0), cell.initialize_carry(jax.random.key(0), x.shape), x)
    return _leaves(apply(spec, tree, seed=seed, sampler="native").model)


def _nnx(spec: InitSpec, seed: int) -> Tensors:
    from flax import nnx

    cell = {"gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[spec.cell](INPUT, H, rngs=nnx.Rngs(0))
    apply(spec, cell, seed=seed, sampler="native")
    found = nnx.to_flat_state(nnx.state(cell, nnx.Param))
    return {"/".join(map(str, path)): np.asarray(variable.get_value()) for path, variable in found}


def _equinox(spec: InitSpec, seed: int) -> Tensors:
    import equinox as eqx
    import jax

    cell = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}[spec.cell](INPUT, H, key=jax.random.key(0))
    return _leaves(apply(spec, cell, seed=seed, sampler="native").model)


def _haiku(spec: InitSpec, seed: int) -> Tensors:
    import haiku as hk
    import jax

    module, kind = {"gru_reset_before": ("gru", hk.GRU), "lstm": ("lstm", hk.LSTM)}[spec.cell]

    def run(x: Any) -> Any:
        core = kind(H)
        return core(x, core.initial_state(1))[0]

    params = hk.transform(run).init(jax.random.key(0), jax.numpy.zeros((1, INPUT)))
    return _leaves(apply(spec, params, seed=seed, sampler="native", haiku={module: module}).model)


def _leaves(tree: Any) -> Tensors:
    import jax
    from critinit_adapters.shared.jax_arrays import path_name

    return {path_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


_MAKE: Mapping[str, Callable[[InitSpec, int], Tensors]] = {
    "torch": _torch,
    "keras": _keras,
    "linen": _linen,
    "nnx": _nnx,
    "equinox": _equinox,
    "haiku": _haiku,
}


# ---- mistakes --------------------------------------------------------------------------------------------


def _parts(layer: FoundLayer, part: str) -> Iterator[tuple[str, Block]]:
    for name, stored in layer.tensors.items():
        for block in stored.blocks:
            if block.part == part:
                yield name, block


def _fused(spec: InitSpec, layer: FoundLayer, tensors: Tensors, rng: np.random.Generator) -> bool:
    places = list(_parts(layer, "recurrent"))
    if any(gate.recurrent.family is not KernelFamily.HAAR for gate in spec.layers[0].gates.values()):
        return False
    pieces = np.split(haar(rng, H, len(places) * H).T, len(places))
    for (name, block), piece in zip(places, pieces, strict=True):
        tensors[name][block.index] = block.stored(piece)
    return True


def _second(spec: InitSpec, layer: FoundLayer, tensors: Tensors, rng: np.random.Generator) -> bool:
    seconds = {block.gate: (name, block) for name, block in _parts(layer, "zero") if block.gate}
    for name, block in _parts(layer, "bias"):
        if block.gate in seconds:
            where, region = seconds[block.gate]
            tensors[where][region.index] = tensors[name][block.index]
    return bool(seconds)


def _inner(spec: InitSpec, layer: FoundLayer, tensors: Tensors, rng: np.random.Generator) -> bool:
    places = [(name, block) for name, block in _parts(layer, "zero") if not block.gate]
    for name, block in places:
        tensors[name][block.index] = rng.uniform(-1, 1, H) / np.sqrt(H)
    return bool(places)


def _order(spec: InitSpec, layer: FoundLayer, tensors: Tensors, rng: np.random.Generator) -> bool:
    unlike = False
    for part in ("recurrent", "input", "bias"):
        (a, first), (b, other) = (
            next((name, block) for name, block in _parts(layer, part) if block.gate == gate)
            for gate in (KEEP[spec.cell], OTHER[spec.cell])
        )
        kept = tensors[a][first.index].copy()
        unlike |= part == "bias" and not np.array_equal(kept, tensors[b][other.index])
        tensors[a][first.index] = tensors[b][other.index]
        tensors[b][other.index] = kept
    return unlike  # two gates whose stored numbers have one distribution can change places


def _sign(spec: InitSpec, layer: FoundLayer, tensors: Tensors, rng: np.random.Generator) -> bool:
    changed = False
    for name, block in _parts(layer, "bias"):
        if block.gate == KEEP[spec.cell]:
            changed = bool(tensors[name][block.index].any())
            tensors[name][block.index] *= -1
    # a distribution symmetric about 0 has no sign, unless another gate is coupled to it
    symmetric = abs(spec.layers[0].gates[KEEP[spec.cell]].bias.mean or 0.0) < 1e-9
    return changed and (spec.cell == "lstm" or not symmetric)


def _one(spec: InitSpec, layer: FoundLayer, tensors: Tensors, rng: np.random.Generator) -> bool:
    for name, block in _parts(layer, "bias"):
        if block.gate == KEEP[spec.cell]:
            tensors[name][block.index] += 1
    return True


def _default(spec: InitSpec, layer: FoundLayer, tensors: Tensors, rng: np.random.Generator) -> bool:
    for name, array in tensors.items():
        tensors[name] = rng.uniform(-1, 1, array.shape).astype(array.dtype) / np.float32(np.sqrt(H))
    return True


FAULTS: Mapping[str, Callable[[InitSpec, FoundLayer, Tensors, np.random.Generator], bool]] = {
    "1 fused block orthogonal": _fused,
    "2 both bias vectors": _second,
    "3 candidate's second bias": _inner,
    "4 two gates exchanged": _order,
    "4 sign of the keep gate": _sign,
    "4 one added to the keep gate": _one,
    "5 left at U(-1/sqrt(H), 1/sqrt(H))": _default,
}


def planted(fault: str, spec: InitSpec, tensors: Tensors, seed: int) -> Tensors | None:
    """A copy of ``tensors`` with a mistake made, or None where it cannot be made there."""
    copy = {name: np.array(array) for name, array in tensors.items()}
    shapes = {name: array.shape for name, array in copy.items()}
    [[network]] = networks_of(shapes, spec, framework=None, modules=(), source="the model")
    made = FAULTS[fault](spec, network.layers[0], copy, np.random.default_rng(seed))
    return copy if made else None


def main(arguments: Sequence[str] = ()) -> None:
    """Print both rates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks check_rates")
    parser.add_argument("--models", type=count, default=200, help="freshly initialized models (default: 200)")
    models = parser.parse_args(list(arguments)).models
    installed = [name for name, module in FRAMEWORKS.items() if find_spec(module)]
    kinds = [(framework, cell, scheme) for scheme, cell, framework in product(SCHEMES, ("gru", "lstm"), installed)]
    alarms: Counter[str] = Counter()
    made: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for seed, (framework, cell, scheme) in enumerate(islice(cycle(kinds), models)):
        spec, tensors = initialized(framework, cell, scheme, seed)
        for rate in (RATE, 0.05):
            alarms[f"{rate:g}"] += not check(spec, tensors, false_alarm_rate=rate).matches
        for fault in FAULTS:
            wrong = planted(fault, spec, tensors, seed)
            if wrong is not None:
                made[fault] += 1
                missed[fault] += check(spec, wrong, false_alarm_rate=RATE).matches
    print(f"{models} models of {H} units ({', '.join(installed)}; gru, lstm; {', '.join(SCHEMES)})")
    print(f"{'false-alarm rate stated':38}{'alarms':>8}{'expected, at most':>20}{'99.9 % of runs, at most':>26}")
    for rate in (RATE, 0.05):
        print(f"{rate:<38g}{alarms[f'{rate:g}']:8d}{rate * models:20.1f}{int(binom.ppf(0.999, models, rate)):26d}")
    print(f"\n{f'mistake, at rate {RATE:g}':38}{'planted':>8}{'missed':>8}")
    for fault in FAULTS:
        print(f"{fault:38}{made[fault]:8d}{missed[fault]:8d}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
