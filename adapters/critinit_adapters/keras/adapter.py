"""Keras 3, on its TensorFlow, JAX and torch backends: SimpleRNN, LSTM, GRU, their cells, RNN, Bidirectional, ConvLSTM.

    i, f, c, o of the LSTM are input, forget, cell, output
    z, r, h of the GRU are update, reset, candidate;  z keeps the old state;  the reset gate acts after the
    matmul, n = tanh(W_in x + b_in + r∘(W_hn h + b_hn)); with ``reset_after=False`` it acts before it, and the layer is
    critinit's ``gru_reset_before``

Kernels are (fan_in, H), gates side by side, the same on every backend.  The bias of ``gru`` has two rows that are
added: the first takes the effective bias, the second, with b_hn inside r∘(·), becomes 0.  Variables are written in
place by ``assign``.  A layer that has no weights yet is built when its input's width is known:
``apply(spec, keras.layers.GRU(64), input_size=10)``.

A model can also be declared with its spec: ``keras.layers.GRU(64, **initializers(spec))`` draws when it is built; with
``seed=`` the very numbers that ``critinit.apply`` would write.  The initializers are saved with the model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import layers, ops

# private: Keras exports ConvLSTM1D to 3D, and neither their base nor their cell; run with keras 3.15.1
from keras.src.layers.rnn.conv_lstm import ConvLSTM, ConvLSTMCell
from numpy.typing import NDArray

from critinit.distributions import Kernel
from critinit.errors import ApplyError, ArgumentError, CritinitError, Problem
from critinit.inputs.traced import Traced
from critinit.spec import InitSpec, parse
from critinit.tensors.application import ReportRow, Sampler, StepLimit
from critinit.tensors.blocks import Block, Shape, fill
from critinit.tensors.layouts import Sizes
from critinit.tensors.limiting import states_its_rate
from critinit.tensors.recurrence import LayerWeights
from critinit.tensors.sampling import Draw, check_seed
from critinit_adapters.keras.layout import GATES, TENSORS, blocks, shapes
from critinit_adapters.keras.limits import limit_steps
from critinit_adapters.keras.naming import named_variables, variable_names
from critinit_adapters.keras.tracing import called, record
from critinit_adapters.shared.activations import activation_problem, same_function
from critinit_adapters.shared.adapter import InPlaceAdapter, assemble
from critinit_adapters.shared.classes import looks_recurrent, overrides
from critinit_adapters.shared.declared import Place, check_cell, check_gates, draws_in
from critinit_adapters.shared.defaults import Default
from critinit_adapters.shared.own import by_path, walk
from critinit_adapters.shared.planning import Plan, Write
from critinit_adapters.shared.recording import Recorder
from critinit_adapters.shared.survey import LayerSlot, Lookalike, RecurrentModule, Survey, Tensor

__all__ = ["ADAPTER", "KerasAdapter", "KerasDrawing", "SpecInitializer", "initializers"]

_CELL_OF_CLASS = {layers.SimpleRNNCell: "rnn", layers.GRUCell: "gru", layers.LSTMCell: "lstm", ConvLSTMCell: "lstm"}
_CLASSES = tuple(_CELL_OF_CLASS)
_LAYERS = (
    layers.SimpleRNN,
    layers.GRU,
    layers.LSTM,
    layers.RNN,
    layers.Bidirectional,
    layers.StackedRNNCells,
    ConvLSTM,
    *_CLASSES,
)
"""The classes whose own way to run is known."""
_ACTIVATIONS = {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid}
_FLOATS = ("float32", "bfloat16", "float16", "float64")
_UNBUILT = Problem(
    "",
    "a layer that is not built yet and has no weights",
    hint="build the model first, by calling it on a batch, or, for a single layer, give its input's width: "
    "apply(..., input_size=...)",
)


_HALF_BUILT = Problem(
    "",
    "a layer without {lacking}: Keras failed to build it",
    hint="make the layer anew, and call it on a batch to see what Keras fails at",
)
_NOT_DRAWN = Problem(
    "",
    "a layer without a recurrent kernel: Keras failed to build it",
    hint="Keras draws no orthogonal kernel in 16 bits: give the layer recurrent_initializer='glorot_uniform', which "
    "the spec replaces, or dtype='mixed_bfloat16'",
)
_UNBUILT_CONVOLUTION = _UNBUILT._replace(hint="build the model first: give it a keras.Input, or call it once")


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable of a cell, which may not have been created yet."""

    cell: Any
    attribute: str

    @property
    def variable(self) -> Any:
        """The variable."""
        return getattr(self.cell, self.attribute)

    @property
    def dtype(self) -> str:
        """Its type."""
        return str(self.variable.dtype)


@dataclass(frozen=True, slots=True)
class _Known:
    """A variable that is there."""

    variable: Any

    @property
    def dtype(self) -> str:
        """Its type."""
        return str(self.variable.dtype)


class KerasAdapter(InPlaceAdapter):
    """The adapter for ``keras.layers.Layer``: models, layers and cells."""

    framework = "keras"
    module = "keras"
    cells = tuple(GATES)
    options = MappingProxyType({"input_size": "width of the input, for a layer that is not built yet"})

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether the target is a Keras model, layer or cell."""
        return isinstance(target, layers.Layer)

    def run_layer(
        self, weights: LayerWeights, external: Mapping[str, NDArray[Any]], made: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return the states of a layer, on JAX."""
        if keras.backend.backend() != "jax":
            return None
        from critinit_adapters.shared.jax_running import run_layer

        return run_layer(weights, external, made)

    def seed_of(self, given: object, target: Any) -> int:
        """Return the seed given, or the next number of the generator of ``keras.utils.set_random_seed``."""
        return check_seed(_next_seed() if given is None else given)

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        """Return the recurrent modules in a model."""
        if not isinstance(target, layers.Layer):
            raise ApplyError("target", found=type(target).__name__, allowed="a Keras model, layer or cell")
        names = variable_names(target.variables)
        modules = tuple(_modules(target, "", _input_size(options), names, set()))
        return Survey(modules, tuple(names.values()), lookalikes=tuple(_lookalikes(target, "", set())))

    def tensors(self, target: Any, options: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the target's variables."""
        if not isinstance(target, layers.Layer):
            raise ApplyError("target", found=type(target).__name__, allowed="a Keras model, layer or cell")
        return {name: _tensor(name, variable) for variable, name in named_variables(target.variables)}

    def find(self, target: Any, path: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """Return a variable by its name, or by the attributes and layers that lead to it: "cell.kernel"."""
        named = by_path(tensors, path)
        if named is not None:
            return named
        found = walk(target, path)
        return next((tensor for tensor in tensors.values() if tensor.identity == id(found)), None)

    def unwritable(self, tensor: Tensor) -> Problem | None:
        """Return that a variable is of a type that holds no weights."""
        dtype = tensor.handle.dtype
        return None if dtype in _FLOATS else Problem(tensor.name, f"type {dtype}", ", ".join(_FLOATS))

    def step(self, model: Any, x: Any, state: Any) -> Any:
        """Return what a Keras cell gives for a list of states."""
        return model(x, list(state) if isinstance(state, tuple) else [state])

    def from_numpy(self, values: NDArray[np.float64], like: Tensor) -> Any:
        """Return a tensor of the backend."""
        return ops.convert_to_tensor(values.astype("float32"), dtype=like.handle.dtype)

    def to_numpy(self, value: Any) -> NDArray[np.float64]:
        """Return a tensor in float64, on the host."""
        return _host(value).astype(np.float64)

    def layers(
        self, target: Any, options: Mapping[str, Any], **how: Any
    ) -> Mapping[str, Mapping[tuple[int, int], LayerWeights]]:
        """Return the weights, which are looked for again, as a run builds what was not built."""
        return super().layers(target, options, **{**how, "survey": None})

    def default_of(self, tensor: Tensor, block: Block) -> Default | None:
        """Return the range of Keras' default, where the layer has the default's initializer."""
        cell = getattr(tensor.handle, "cell", None)
        if cell is None or not cell.built:
            return None
        if block.part == "input" and isinstance(cell.kernel_initializer, keras.initializers.GlorotUniform):
            *window, channels, columns = tensor.shape
            return Default(0.0, math.sqrt(6.0 / (math.prod(window) * (channels + columns))))
        if block.part in ("bias", "zero") and isinstance(cell.bias_initializer, keras.initializers.Zeros):
            ones = block.gate == "forget" and getattr(cell, "unit_forget_bias", False)
            return Default(float(ones), 0.0)
        return None

    def prepare(self, target: Any, options: Mapping[str, Any]) -> None:
        """Build the target if it has no weights yet."""
        size = _input_size(options)
        if size is not None and not target.built:
            try:
                target.build((None, size) if isinstance(target, _SINGLE_STEP) else (None, None, size))
            except CritinitError:  # of an initializer of ours
                raise
            except Exception as error:
                raise _not_built(target, error) from error

    def execute(
        self, target: Any, plan: Plan, sampler: Sampler, options: Mapping[str, Any]
    ) -> tuple[Any, list[ReportRow]]:
        """Build the target if it has no weights yet, then write; a failure later leaves it built."""
        self.prepare(target, options)
        return super().execute(target, plan, sampler, options)

    def trace(
        self, target: Any, run: Callable[..., object], options: Mapping[str, Any], *, embeddings: bool = True
    ) -> Traced:
        """Run the model once more ahead of this where it has layers that are only built when it runs."""
        unbuilt = (_UNBUILT, _UNBUILT_CONVOLUTION)
        if not options and any(module.refusal in unbuilt for module in self.survey(target, options).modules):
            run(target, called)
        return super().trace(target, run, options, embeddings=embeddings)

    def record(
        self, target: Any, survey: Survey, run: Callable[..., object], options: Mapping[str, Any]
    ) -> tuple[Recorder, Mapping[str, bool]]:
        """Run the model with its layers' calls replaced."""
        return record(target, survey, run, _host, _assign)

    def tables(self, target: Any, options: Mapping[str, Any]) -> list[tuple[Tensor, bool, bool]]:
        """Return the weights of ``keras.layers.Embedding``."""
        names, found = variable_names(target.variables), []
        # private: see _sublayers
        for layer in target._flatten_layers():
            if isinstance(layer, layers.Embedding) and layer.built:
                variable = layer.embeddings
                handle = _Variable(layer, "embeddings")
                tensor = Tensor(names[id(variable)], tuple(variable.shape), handle, (), key=id(variable))
                found.append((tensor, bool(variable.trainable), False))
        return found

    def values(self, tensor: Tensor) -> NDArray[Any]:
        """Return the values in single precision."""
        return self.read(tensor).astype(np.float32)

    def read(self, tensor: Tensor) -> NDArray[Any]:
        """Return the values."""
        return _host(tensor.handle.variable.value)

    def restore(self, tensor: Tensor, values: NDArray[Any]) -> None:
        """Write the old values back."""
        _assign(tensor.handle.variable, values)

    def store(self, tensor: Tensor, values: NDArray[np.float64]) -> None:
        """Write values, cast once."""
        _assign(tensor.handle.variable, values)

    def store_native(self, write: Write) -> None:
        """Draw kernels by Keras on the variable's device; biases are the portable ones."""
        variable = write.tensor.handle.variable
        kernels = [
            (draw.distribution, draw) for _, draw in write.draws if draw and isinstance(draw.distribution, Kernel)
        ]
        by_blocks = write.tensor.is_partial or _convolves(write.tensor)
        if len(kernels) < len(write.draws) and not by_blocks:
            self.store(write.tensor, assemble(write))
        elif keras.backend.backend() == "jax":
            from critinit_adapters.shared.jax_arrays import draw_like

            variable.assign(draw_like(variable.value, write))
        elif by_blocks:
            values = self.read(write.tensor).astype(np.float64)
            for block, draw in write.draws:
                values[block.index] = 0.0 if draw is None else block.stored(self._drawn(draw, variable))
            self.store(write.tensor, values)
        else:
            # all gates of a kernel stand side by side, in the order of the blocks
            dtype = "float64" if variable.dtype == "float64" else "float32"
            drawn = [kernel.draw(KerasDrawing(draw, dtype)) for kernel, draw in kernels]
            variable.assign(ops.cast(ops.concatenate([ops.transpose(w) for w in drawn], axis=1), variable.dtype))

    def _drawn(self, draw: Draw, variable: Any) -> NDArray[np.float64]:
        """The canonical numbers of a draw, a kernel's from Keras on its device."""
        if not isinstance(draw.distribution, Kernel):
            return draw.sample()
        dtype = "float64" if variable.dtype == "float64" else "float32"
        return self.to_numpy(draw.distribution.draw(KerasDrawing(draw, dtype)))

    def view(self, tensor: Tensor) -> Any:
        """Return the values."""
        return self.read(tensor)

    def limits_of(self, made: Plan, model: Any) -> tuple[StepLimit, ...]:
        """Return the limits by the paths of the variables, which are known once they exist."""
        names = variable_names(model.variables)
        found: list[StepLimit] = []
        for write in made.writes:
            cell = getattr(write.tensor.handle, "cell", None)  # none of a variable that the user named
            if write.limits and cell is not None and not cell.built:
                raise ApplyError(write.tensor.name, found=_UNBUILT.found, hint="build the model first")
            found += (replace(limit, tensor=names[id(write.tensor.handle.variable)]) for limit in write.limits)
        return tuple(found)

    def takes_optimizer(self, optimizer: object) -> bool:
        """Return whether it is an optimizer of Keras."""
        return isinstance(optimizer, keras.optimizers.Optimizer)

    def limit_steps(self, optimizer: Any, limits: Sequence[StepLimit], model: Any, learning_rate: Any) -> Any:
        """Return a wrapper that keeps the limits."""
        states_its_rate(learning_rate)
        if not isinstance(model, layers.Layer):
            raise ArgumentError("model", found=type(model).__name__, allowed="a Keras model, layer or cell")
        return limit_steps(optimizer, limits, model)


ADAPTER = KerasAdapter()
_SINGLE_STEP = (*_CLASSES, layers.StackedRNNCells)


# ---- what is found ---------------------------------------------------------------------------------------


def _input_size(options: Mapping[str, Any]) -> int | None:
    size = options.get("input_size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ArgumentError("input_size", found=repr(size), allowed="a positive integer")
    return size


def _tensor(name: str, variable: Any) -> Tensor:
    frozen = "" if variable.trainable else "trainable=False"
    return Tensor(name, tuple(variable.shape), _Known(variable), (), key=id(variable), frozen=frozen)


def _modules(
    layer: Any, path: str, size: int | None, names: Mapping[int, str], seen: set[int]
) -> Iterator[RecurrentModule]:
    """The recurrent modules at and below ``layer``, in the order in which the layers were added."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    ways = [_cells_of(way) for way in _directions(layer)]
    if ways and all(way is not None for way in ways) and _alike([cell for way in ways for cell in way or ()]):
        yield replace(_module(path, [way or [] for way in ways], size, names), overrides=_overrides(layer))
        return
    below = ways[0] if len(ways) == 1 and ways[0] is not None else _sublayers(layer)
    for child in below:
        yield from _modules(child, _below(path, child), None, names, seen)


def _overrides(layer: Any) -> str:
    """What a recurrent layer, its directions or its cells compute in a way of their own."""
    ways = [way for way in _directions(layer) if not isinstance(way, _SINGLE_STEP)]
    cells = [cell for way in _directions(layer) for cell in _cells_of(way) or ()]
    found = (
        *(overrides(one, _LAYERS, ("call", "inner_loop", "__call__")) for one in dict.fromkeys([layer, *ways])),
        *(overrides(cell, _CLASSES, ("call", "__call__")) for cell in cells),
    )
    return next(filter(None, found), "")


def _lookalikes(layer: Any, path: str, seen: set[int]) -> Iterator[Lookalike]:
    """Layers that look recurrent and are none that the adapter knows, without those that hold a known one."""
    if id(layer) in seen or (_directions(layer) and all(_cells_of(way) for way in _directions(layer))):
        return
    seen.add(id(layer))
    below = [found for child in _sublayers(layer) for found in _lookalikes(child, _below(path, child), seen)]
    kind = type(layer).__name__
    step = None if type(layer).__module__.startswith("keras.") else type(layer).call
    looks = isinstance(layer, layers.RNN) or hasattr(layer, "state_size") or looks_recurrent(kind, step)
    if looks and not any(isinstance(one, (*_CLASSES, *_LAYERS)) for one in _within(layer)):
        cell = getattr(layer, "cell", None)
        reason = "a class that derives from none of Keras' LSTM, GRU and SimpleRNN layers and cells"
        if cell is not None:
            reason = f"its cell is a {type(cell).__name__}, none of Keras' LSTMCell, GRUCell and SimpleRNNCell"
        yield Lookalike(path, kind, reason, can_be_stated="Conv" not in type(cell).__name__ + kind)
    yield from below


def _within(layer: Any) -> Iterator[Any]:
    """All layers below a layer, without layers of unknown cells."""
    for child in _sublayers(layer):
        if isinstance(child, _CLASSES) or (isinstance(child, layers.RNN) and _cells_of(child)):
            yield child
        yield from _within(child)


def _below(path: str, child: Any) -> str:
    return f"{path}/{child.name}" if path else str(child.name)


def _directions(layer: Any) -> tuple[Any, ...]:
    if isinstance(layer, layers.Bidirectional):
        return layer.forward_layer, layer.backward_layer
    return (layer,) if isinstance(layer, (layers.RNN, *_SINGLE_STEP)) else ()


def _cells_of(layer: Any) -> list[Any] | None:
    """The cells that a layer runs one above the other, or None where one of them is not known."""
    cell = layer.cell if isinstance(layer, layers.RNN) else layer
    cells = list(cell.cells) if isinstance(cell, layers.StackedRNNCells) else [cell]
    return cells if all(isinstance(cell, _CLASSES) for cell in cells) else None


def _sublayers(layer: Any) -> list[Any]:
    # private: Keras has no public way to see the layers that are attributes of a layer; run with keras 3.15.1
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _kind(cell: Any) -> str:
    """critinit's name of a cell."""
    name = next(name for kind, name in _CELL_OF_CLASS.items() if isinstance(cell, kind))
    if name == "rnn" and same_function(cell.activation, keras.activations.relu, _evaluated):
        return "relu_rnn"
    return "gru_reset_before" if name == "gru" and not cell.reset_after else name


def _alike(cells: Sequence[Any]) -> bool:
    """Whether cells are layers of one module; those of a mixed stack are modules each."""
    return len({(_kind(cell), _units(cell), _window(cell)) for cell in cells}) == 1


def _units(cell: Any) -> int:
    """The number of units of a cell, the filters of a convolutional one."""
    return int(cell.filters if isinstance(cell, ConvLSTMCell) else cell.units)


def _window(cell: Any) -> Shape:
    """The window of a convolutional cell's kernels."""
    return tuple(cell.kernel_size) if isinstance(cell, ConvLSTMCell) else ()


def _convolves(tensor: Tensor) -> bool:
    """Whether a variable is the kernel of a convolution."""
    return len(tensor.shape) > 2 and bool(tensor.blocks)


def _module(path: str, ways: Sequence[Sequence[Any]], size: int | None, names: Mapping[int, str]) -> RecurrentModule:
    first = ways[0][0]
    slots: list[LayerSlot] = []
    refusal = None
    for direction, cells in enumerate(ways):
        width = size
        for layer, module in enumerate(cells):
            refusal = refusal or _refusal(module, width)
            if refusal is None:
                slots.append(_slot(module, layer, direction, width, names))
            width = None if width is None else _units(first)
    return RecurrentModule(path, _kind(first), _units(first), () if refusal else tuple(slots), refusal=refusal)


def _slot(module: Any, layer: int, direction: int, size: int | None, names: Mapping[int, str]) -> LayerSlot:
    cell, hidden, window = _kind(module), _units(module), _window(module)
    if module.built:
        size = module.kernel.shape[-2]
    tensors = []
    for attribute, shape in shapes(cell, Sizes(int(size or 0), hidden, window=window)).items():
        if attribute == "bias" and not module.use_bias:
            continue
        handle, parts = _Variable(module, attribute), blocks(attribute, cell, hidden, shape)
        if module.built:
            variable = handle.variable
            found = tuple(variable.shape)
            frozen = "" if variable.trainable else "trainable=False"
            tensors.append(Tensor(names[id(variable)], found, handle, parts, key=id(variable), frozen=frozen))
        else:
            name = f"{module.name}/{layer}/{direction}/{attribute}"
            tensors.append(Tensor(name, shape, handle, parts, key=(id(module), attribute)))
    return LayerSlot(layer, direction, int(size or 0), tuple(tensors), window)


def _refusal(module: Any, size: int | None) -> Problem | None:
    """Why this cell takes no spec, or None."""
    relu = {"activation": keras.activations.relu} if _kind(module) == "relu_rnn" else {}
    for field, allowed in {**_ACTIVATIONS, **relu}.items():
        problem = activation_problem(field, getattr(module, field, allowed), allowed, _evaluated)
        if problem is not None:
            return problem
    if not module.built:
        if isinstance(module, ConvLSTMCell):
            return _UNBUILT_CONVOLUTION
        return _UNBUILT if size is None else None
    lacking = [name for name in TENSORS if getattr(module, name, None) is None and (name != "bias" or module.use_bias)]
    if _not_drawn(module):
        return _NOT_DRAWN
    if lacking:
        return _HALF_BUILT._replace(found=_HALF_BUILT.found.format(lacking=lacking[0]))
    width = module.kernel.shape[-2]
    if size is not None and size != width:
        return Problem("input_size", str(size), str(width), "the layer is built already")
    if module.kernel.dtype not in _FLOATS:
        return Problem("kernel", f"type {module.kernel.dtype}", ", ".join(_FLOATS))
    return None


def _not_drawn(cell: Any) -> bool:
    """Whether a cell lacks its recurrent kernel because Keras draws no orthogonal one of its type."""
    orthogonal = isinstance(getattr(cell, "recurrent_initializer", None), keras.initializers.Orthogonal)
    lacks = getattr(cell, "recurrent_kernel", None) is None
    return lacks and orthogonal and str(cell.variable_dtype) in ("float16", "bfloat16")


def _not_built(target: Any, error: Exception) -> ApplyError:
    """The error for a layer that Keras fails to build, which says what it fails at."""
    cells = [cell for way in _directions(target) for cell in _cells_of(way) or ()]
    if any(map(_not_drawn, cells)):
        _, found, allowed, hint = _NOT_DRAWN
        return ApplyError("target", found=found, allowed=allowed, hint=hint)
    said = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    hint = "call the layer on a batch to see all of it"
    return ApplyError("target", found=f"a layer that Keras fails to build ({said})", hint=hint)


def _evaluated(function: Any, points: NDArray[np.float32]) -> NDArray[Any]:
    return _host(function(ops.convert_to_tensor(points)))


# ---- what is written -------------------------------------------------------------------------------------


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


class KerasDrawing:
    """A canonical matrix drawn by ``keras.random`` on the backend's device (see ``critinit.distributions.Drawing``).

    Args:
        draw: What is drawn.
        dtype: The type to draw in.
    """

    def __init__(self, draw: Draw, dtype: str) -> None:
        self.rows, self.columns = draw.shape
        self.stream, self.dtype = draw.stream, dtype

    def zeros(self) -> Any:
        """Return zeros."""
        return ops.zeros((self.rows, self.columns), self.dtype)

    def identity(self, gain: float) -> Any:
        """Return ``gain`` times the identity."""
        return gain * ops.eye(self.rows, self.columns, dtype=self.dtype)

    def normal(self, deviation: float) -> Any:
        """Return independent normal entries."""
        return keras.random.normal((self.rows, self.columns), 0.0, deviation, self.dtype, seed=self._generator())

    def uniform(self, bound: float) -> Any:
        """Return independent uniform entries."""
        return keras.random.uniform((self.rows, self.columns), -bound, bound, self.dtype, seed=self._generator())

    def orthogonal(self, gain: float) -> Any:
        """Return rows of a Haar matrix, times ``gain``."""
        q, r = ops.qr(keras.random.normal((self.columns, self.rows), dtype=self.dtype, seed=self._generator()))
        signs = ops.where(ops.diagonal(r) < 0, -1.0, 1.0)
        return gain * ops.transpose(q * ops.cast(signs, self.dtype))

    def numpy(self, sample: Callable[[np.random.Generator], NDArray[np.float64]]) -> Any:
        """Return what ``sample`` draws with the portable sampler's generator."""
        return ops.convert_to_tensor(sample(self.stream.generator()).astype(self.dtype))

    def _generator(self) -> Any:
        generator = keras.random.SeedGenerator(0)
        generator.state.assign(np.array(self.stream.words(), np.uint32))
        return generator


# ---- declared with the model -----------------------------------------------------------------------------


def _next_seed() -> int:
    """A seed from Python's global generator, from which Keras' own initializers take theirs."""
    return random.getrandbits(53)  # JSON in every program holds it exactly


@keras.saving.register_keras_serializable("critinit")
class SpecInitializer(keras.initializers.Initializer):
    """An initializer of Keras that draws one tensor of a layer from a spec, the same numbers on every backend.

    Without a seed each call draws anew from the generator of ``keras.utils.set_random_seed``, which Keras' own
    initializers follow, so layers, directions and copies get independent weights.

    With a seed the numbers are those that ``critinit.apply`` writes with it in every framework, the same in every call:
    say by ``direction`` and ``module`` which of them a layer is to have.  Keras copies the forward layer of a
    ``Bidirectional`` with its initializers, so with a seed give ``backward_layer=`` explicitly, with ``direction=1``.

    A model that was saved is loaded again once this class is imported.

    Args:
        spec: The spec, or its JSON value.
        tensor: "kernel", "recurrent_kernel" or "bias".
        layer: The spec's layer.
        direction: 0 for forward, 1 for the backward layer of a ``Bidirectional``; it counts where a seed is given.
        seed: The seed, or None.
        module: The number of the module in the model, where several take the whole spec; it counts where a seed is
            given.

    Raises:
        ArgumentError: The spec is for another cell, or an argument is out of range.
        SpecError: The JSON value is no valid spec.
    """

    def __init__(
        self,
        spec: InitSpec | Mapping[str, Any],
        tensor: str,
        layer: int = 0,
        direction: int = 0,
        seed: int | None = None,
        module: int = 0,
    ) -> None:
        read = parse(spec) if isinstance(spec, Mapping) else spec
        self.place = Place(read, layer, direction, seed, module)
        check_cell(read, tuple(GATES))
        if tensor not in TENSORS:
            raise ArgumentError("tensor", found=repr(tensor), allowed=", ".join(TENSORS))
        self.tensor = tensor

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return the tensor of ``shape``, cast once to ``dtype``.

        Raises:
            ApplyError: The shape is that of another layer.
        """
        self._check(shape)
        cell, seed = self.place.spec.cell, self.place.seed
        place = replace(self.place, seed=_next_seed() if seed is None else seed)
        hidden, sizes = int(shape[-1]) // len(GATES[cell]), tuple(map(int, shape))
        fan_in, window = (1, ()) if self.tensor == "bias" else (sizes[-2], sizes[:-2])
        found = blocks(self.tensor, cell, hidden, sizes)
        pairs = draws_in(place, self.tensor, sizes, found, fan_in, hidden, window=window)
        return ops.convert_to_tensor(fill(tuple(shape), pairs).astype(keras.backend.standardize_dtype(dtype)))

    def _check(self, shape: Sequence[int]) -> None:
        """Refuse what tells that the layer is of another cell, or was not declared by ``initializers`` alone."""
        spec = self.place.spec
        if self.tensor == "recurrent_kernel":
            check_gates(spec, self.tensor, shape, tuple(GATES))
        if self.tensor != "bias":
            return
        other = {("gru", 1): "gru_reset_before", ("gru_reset_before", 2): "gru"}.get((spec.cell, len(shape)))
        if other is not None:
            found, allowed = f"shape {tuple(shape)}, of a {other}", f"that of a {spec.cell}"
            hint = f"reset_after decides: write the spec for its cell, --cell {other}, or use initializers(spec)"
            raise ApplyError("bias", found=found, allowed=allowed, hint=hint)

    def get_config(self) -> dict[str, Any]:
        """Return what ``from_config`` needs: plain numbers and text."""
        place = self.place
        numbers = {"layer": place.layer, "direction": place.direction, "seed": place.seed, "module": place.module}
        return {"spec": place.spec.to_dict(), "tensor": self.tensor, **numbers}


class _Argument(int):
    """0 or 1 for an argument of a layer.

    Where a layer has no such argument, Keras prints the value in its error, and this value says why it is there.
    """

    reason = ""

    def __repr__(self) -> str:
        return self.reason


def _argument(value: bool, cell: str) -> _Argument:
    made = _Argument(value)
    made.reason = (
        f"{value} (the spec is for {cell} and this layer is not: write the spec for the layer's cell (--cell))"
    )
    return made


def initializers(
    spec: InitSpec, *, layer: int = 0, direction: int = 0, seed: int | None = None, module: int = 0
) -> dict[str, Any]:
    """Return the arguments that declare a Keras layer or cell with one layer of a spec.

    Besides the three initializers (``SpecInitializer`` says what they draw from): ``reset_after`` of a GRU, true for a
    spec of ``gru`` and false for ``gru_reset_before``, ``activation="relu"`` of a ReLU SimpleRNN, and
    ``unit_forget_bias=False`` of an LSTM, whose default would overwrite the forget bias.

    Args:
        spec: The spec.
        layer: The spec's layer.
        direction: 0 for forward, 1 for the backward layer of a ``Bidirectional``; it counts where a seed is given.
        seed: The seed; None: drawn from the generator of ``keras.utils.set_random_seed`` when the layer is built.
        module: The number of the module in the model, where several take the whole spec; it counts where a seed is
            given.

    Raises:
        ArgumentError: The spec is for another cell, or an argument is out of range.

    Example:
        >>> import critinit
        >>> sorted(initializers(critinit.generate("gru", T=100)))
        ['bias_initializer', 'kernel_initializer', 'recurrent_initializer', 'reset_after']
    """
    kernel, recurrent, bias = (SpecInitializer(spec, name, layer, direction, seed, module) for name in TENSORS)
    more: dict[str, dict[str, Any]] = {
        "relu_rnn": {"activation": "relu"},
        "gru": {"reset_after": _argument(True, spec.cell)},
        "gru_reset_before": {"reset_after": _argument(False, spec.cell)},
        "lstm": {"unit_forget_bias": _argument(False, spec.cell)},
    }
    arguments = {"kernel_initializer": kernel, "recurrent_initializer": recurrent, "bias_initializer": bias}
    return {**arguments, **more.get(spec.cell, {})}
