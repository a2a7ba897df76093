"""Keras 3, on its TensorFlow, JAX and torch backends: SimpleRNN, LSTM, GRU, their cells, RNN, Bidirectional.

    i, f, c, o of the LSTM are input, forget, cell, output
    z, r, h of the GRU are update, reset, candidate;  z keeps the old state;  the reset gate acts after the
    matmul, n = tanh(W_in x + b_in + r∘(W_hn h + b_hn)), or before it where ``reset_after=False``

Kernels are (fan_in, H), gates side by side, the same on every backend.  With ``reset_after`` the bias has
two rows that are added: the first takes the effective bias, the second, with b_hn inside r∘(·), becomes 0.
Variables are written in place by ``assign``.  A layer that has no weights yet is built when its input's
width is known: ``apply(spec, keras.layers.GRU(64), input_size=10)``.

A model can also be declared with its spec: ``keras.layers.GRU(64, **initializers(spec))`` gets, when it is
built, the very numbers that ``critinit.apply`` would write; saved with the model and loaded again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from critinit.tensors.application import Row, Sampler
from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.sampling import Draw
from critinit.spec import InitSpec, Kernel
from critinit.spec.reading import validate_object
from critinit_adapters.shared.adapter import InPlaceAdapter, assemble
from critinit_adapters.shared.declared import Place, values
from critinit_adapters.shared.survey import Network, Site, Survey, Tensor
from critinit_adapters.keras.layout import GATES, TENSORS, blocks
from critinit_adapters.shared.planning import Plan, Write

__all__ = ["ADAPTER", "KerasAdapter", "SpecInitializer", "initializers"]

CELL_OF_CLASS = {layers.SimpleRNNCell: "rnn", layers.GRUCell: "gru", layers.LSTMCell: "lstm"}
CELLS = tuple(CELL_OF_CLASS)
ACTIVATIONS = {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid}
FLOATS = ("float32", "bfloat16", "float16", "float64")
UNBUILT = (
    "is not built yet and has no weights; build the model first, or, for a single layer, give its input's "
    "width: apply(..., input_size=...)"
)


@dataclass(frozen=True, slots=True)
class _Slot:
    """A variable of a cell, which may not have been created yet."""

    cell: Any
    attribute: str

    @property
    def variable(self) -> Any:
        return getattr(self.cell, self.attribute)


class KerasAdapter(InPlaceAdapter):
    """The adapter for ``keras.layers.Layer``: models, layers and cells."""

    framework = "keras"
    cells = tuple(GATES)
    options = MappingProxyType({"input_size": "width of the input, for a layer that is not built yet"})

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        return isinstance(target, layers.Layer)

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        if not isinstance(target, layers.Layer):
            raise ApplyError(f"target: found {type(target).__name__}; allowed: a Keras model, layer or cell")
        names = _names(target.variables)
        networks = tuple(_networks(target, "", _input_size(options), names, set()))
        return Survey(networks, tuple(names.values()))

    def execute(self, target: Any, plan: Plan, sampler: Sampler, options: Mapping[str, Any]) -> tuple[Any, list[Row]]:
        """Build the target if it has no weights yet, then write; a failure later leaves it built."""
        size = _input_size(options)
        if size is not None and not target.built:
            target.build((None, size) if isinstance(target, _SINGLE_STEP) else (None, None, size))
        return super().execute(target, plan, sampler, options)

    def read(self, tensor: Tensor) -> NDArray[Any]:
        return _host(tensor.handle.variable.value)

    def restore(self, tensor: Tensor, values: NDArray[Any]) -> None:
        _assign(tensor.handle.variable, values)

    def store(self, tensor: Tensor, values: NDArray[np.float64]) -> None:
        _assign(tensor.handle.variable, values)

    def store_native(self, write: Write) -> None:
        variable = write.tensor.handle.variable
        if any(draw is None or not isinstance(draw.law, Kernel) for _, draw in write.draws):
            self.store(write.tensor, assemble(write))
        elif keras.backend.backend() == "jax":
            from critinit_adapters.shared.jax_arrays import draw_like

            variable.assign(draw_like(variable.value, write))
        else:
            # all gates of a kernel stand side by side, in the order of the blocks
            dtype = "float64" if variable.dtype == "float64" else "float32"
            drawn = [ops.transpose(_draw(draw, dtype)) for _, draw in write.draws if draw is not None]
            variable.assign(ops.cast(ops.concatenate(drawn, axis=1), variable.dtype))

    def view(self, tensor: Tensor) -> Any:
        return self.read(tensor)


ADAPTER = KerasAdapter()
_SINGLE_STEP = (*CELLS, layers.StackedRNNCells)


def _input_size(options: Mapping[str, Any]) -> int | None:
    size = options.get("input_size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ArgumentError(f"input_size: found {size!r}; allowed: a positive integer")
    return size


def _names(variables: Sequence[Any]) -> dict[int, str]:
    """A name for every variable: its path, numbered where Keras gives two the same."""
    names: dict[int, str] = {}
    for variable in variables:
        taken, name, n = set(names.values()), variable.path, 2
        while name in taken:
            name, n = f"{variable.path}#{n}", n + 1
        names.setdefault(id(variable), name)
    return names


def _networks(layer: Any, path: str, size: int | None, names: Mapping[int, str], seen: set[int]) -> Iterator[Network]:
    """The recurrent networks at and below ``layer``, in the order in which the layers were added."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    ways = [_cells_of(way) for way in _directions(layer)]
    if ways and all(way is not None for way in ways) and _alike([cell for way in ways for cell in way or ()]):
        yield _network(path, [way or [] for way in ways], size, names)
        return
    below = ways[0] if len(ways) == 1 and ways[0] is not None else _sublayers(layer)
    for child in below:
        name = f"{path}/{child.name}" if path else str(child.name)
        yield from _networks(child, name, None, names, seen)


def _directions(layer: Any) -> tuple[Any, ...]:
    if isinstance(layer, layers.Bidirectional):
        return layer.forward_layer, layer.backward_layer
    return (layer,) if isinstance(layer, (layers.RNN, *_SINGLE_STEP)) else ()


def _cells_of(layer: Any) -> list[Any] | None:
    """The cells that a layer runs one above the other, or None where one of them is not known."""
    cell = layer.cell if isinstance(layer, layers.RNN) else layer
    cells = list(cell.cells) if isinstance(cell, layers.StackedRNNCells) else [cell]
    return cells if all(isinstance(cell, CELLS) for cell in cells) else None


def _sublayers(layer: Any) -> list[Any]:
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _kind(cell: Any) -> str:
    return next(name for kind, name in CELL_OF_CLASS.items() if isinstance(cell, kind))


def _reset(cell: Any) -> str | None:
    if not isinstance(cell, layers.GRUCell):
        return None
    return "after" if cell.reset_after else "before"


def _alike(cells: Sequence[Any]) -> bool:
    """Whether cells are layers of one network; those of a mixed stack are networks each."""
    return len({(_kind(cell), _reset(cell), cell.units) for cell in cells}) == 1


def _network(path: str, ways: Sequence[Sequence[Any]], size: int | None, names: Mapping[int, str]) -> Network:
    first = ways[0][0]
    cell, hidden, reset = _kind(first), first.units, _reset(first)
    sites, refusal = [], None
    for direction, cells in enumerate(ways):
        width = size
        for layer, module in enumerate(cells):
            refusal = refusal or _refusal(module, width)
            if refusal is None:
                site = _site(module, layer, direction, width, names)
                sites.append(site)
            width = None if width is None else hidden
    return Network(path, cell, hidden, () if refusal else tuple(sites), reset, refusal=refusal)


def _site(module: Any, layer: int, direction: int, size: int | None, names: Mapping[int, str]) -> Site:
    cell, hidden, after = _kind(module), module.units, _reset(module) == "after"
    if module.built:
        size = module.kernel.shape[0]
    columns = len(GATES[cell]) * hidden
    shapes: dict[str, tuple[Any, ...]] = {"kernel": (size, columns), "recurrent_kernel": (hidden, columns)}
    if module.use_bias:
        shapes["bias"] = (2, columns) if after else (columns,)
    tensors = []
    for attribute, shape in shapes.items():
        slot, parts = _Slot(module, attribute), blocks(attribute, cell, hidden, after)
        if module.built:
            variable = slot.variable
            found = tuple(variable.shape)
            tensors.append(Tensor(names[id(variable)], found, slot, parts, key=id(variable)))
        else:
            name = f"{module.name}/{layer}/{direction}/{attribute}"
            tensors.append(Tensor(name, shape, slot, parts, key=(id(module), attribute)))
    return Site(layer, direction, int(size or 0), tuple(tensors))


def _refusal(module: Any, size: int | None) -> str | None:
    """Why this cell takes no spec, or None."""
    for field, allowed in ACTIVATIONS.items():
        found = getattr(module, field, allowed)
        if not _same(found, allowed):
            name = getattr(found, "__name__", type(found).__name__)
            return f"found {field} {name}; the theory is for {allowed.__name__}"
    if not module.built:
        return UNBUILT if size is None else None
    if size is not None and size != module.kernel.shape[0]:
        return f"input_size: found {size}; the layer is built already, for inputs of {module.kernel.shape[0]}"
    if module.kernel.dtype not in FLOATS:
        return f"kernel: found type {module.kernel.dtype}; allowed: {', '.join(FLOATS)}"
    return None


def _same(function: Any, other: Any) -> bool:
    """Whether two functions agree at a few points: ``keras.ops`` has a tanh of its own."""
    if function is other:
        return True
    points = ops.convert_to_tensor(np.linspace(-3.0, 3.0, 7, dtype=np.float32))
    try:
        return bool(np.allclose(_host(function(points)), _host(other(points)), atol=1e-6))
    except Exception:  # whatever a function of the user's raises
        return False


def _host(value: Any) -> NDArray[Any]:
    """A backend's tensor as an array, exactly; ``keras.ops.convert_to_numpy`` warns under NumPy 2."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _assign(variable: Any, values: NDArray[Any]) -> None:
    """Cast once and write, on the variable's own device."""
    if keras.backend.backend() == "jax":
        from critinit_adapters.shared.jax_arrays import like

        variable.assign(like(variable.value, values))
    else:
        with np.errstate(over="ignore"):  # found, and named, when it is measured
            variable.assign(values.astype(variable.dtype))


def _draw(draw: Draw, dtype: str) -> Any:
    """One canonical kernel, of ``draw.shape``, by ``keras.random`` on the backend's device."""
    assert isinstance(draw.law, Kernel)
    scale = math.sqrt(draw.law.variance)
    match draw.law.distribution:
        case "zero":
            return ops.zeros(draw.shape, dtype)
        case "identity":
            return scale * ops.eye(*draw.shape, dtype=dtype)
        case "normal":
            deviation = scale / math.sqrt(draw.fan_in)
            return keras.random.normal(draw.shape, 0.0, deviation, dtype, seed=_generator(draw))
        case "uniform":
            bound = scale * math.sqrt(3.0 / draw.fan_in)
            return keras.random.uniform(draw.shape, -bound, bound, dtype, seed=_generator(draw))
        case _:
            q, r = ops.qr(keras.random.normal(draw.shape[::-1], dtype=dtype, seed=_generator(draw)))
            signs = ops.where(ops.diagonal(r) < 0, -1.0, 1.0)
            return scale * ops.transpose(q * ops.cast(signs, dtype))


def _generator(draw: Draw) -> Any:
    generator = keras.random.SeedGenerator(0)
    generator.state.assign(np.array(draw.stream.words(), np.uint32))
    return generator


# ---- declared with the model -----------------------------------------------------------------------------


@keras.saving.register_keras_serializable("critinit")
class SpecInitializer(keras.initializers.Initializer):
    """One tensor of a layer: "kernel", "recurrent_kernel" or "bias", drawn portably from a spec.

    ``layer`` counts the spec's layers; ``direction`` is 1 for the backward layer of a ``Bidirectional``, which is
    to be given explicitly (``backward_layer=``), as Keras otherwise copies the forward one with its initializers;
    ``module`` tells several networks of one model apart.  Raises ``ArgumentError``.
    """

    def __init__(
        self,
        spec: InitSpec | Mapping[str, Any],
        tensor: str,
        layer: int = 0,
        direction: int = 0,
        seed: int = 0,
        module: int = 0,
    ) -> None:
        read = spec if isinstance(spec, InitSpec) else validate_object(spec)
        if read.cell not in GATES:
            raise ArgumentError(f"cell: keras has no layer for {read.cell}; allowed: {', '.join(GATES)}")
        if tensor not in TENSORS:
            raise ArgumentError(f"tensor: found {tensor!r}; allowed: {', '.join(TENSORS)}")
        self.place = Place(read, layer, direction, seed, module)
        self.tensor = tensor

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """The tensor of ``shape``, cast once to ``dtype``."""
        cell, after = self.place.spec.cell, len(shape) == 2
        hidden = int(shape[-1]) // len(GATES[cell])
        parts = blocks(self.tensor, cell, hidden, after)
        drawn = values(self.place, self.tensor, shape, parts, int(shape[0]), hidden)
        return ops.convert_to_tensor(drawn.astype(keras.backend.standardize_dtype(dtype)))

    def get_config(self) -> dict[str, Any]:
        """What ``from_config`` needs: plain numbers and text."""
        place = self.place
        numbers = {"layer": place.layer, "direction": place.direction, "seed": place.seed, "module": place.module}
        return {"spec": place.spec.model_dump(mode="json", exclude_none=True), "tensor": self.tensor, **numbers}


def initializers(
    spec: InitSpec, *, layer: int = 0, direction: int = 0, seed: int = 0, module: int = 0
) -> dict[str, Any]:
    """The arguments that declare a Keras layer or cell with one layer of a spec.

    Besides the three initializers: ``reset_after`` of a GRU, as the spec says, and ``unit_forget_bias=False`` of an
    LSTM, whose default would overwrite the forget bias.  Raises ``ArgumentError`` (see ``SpecInitializer``).
    """
    kernel, recurrent, bias = (SpecInitializer(spec, name, layer, direction, seed, module) for name in TENSORS)
    more = {"gru": {"reset_after": spec.reset == "after"}, "lstm": {"unit_forget_bias": False}}
    arguments = {"kernel_initializer": kernel, "recurrent_initializer": recurrent, "bias_initializer": bias}
    return {**arguments, **more.get(spec.cell, {})}
