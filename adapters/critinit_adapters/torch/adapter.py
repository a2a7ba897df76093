"""PyTorch: RNN (tanh), GRU, LSTM and their Cell classes, in any module tree.

    r, z, n of the GRU are reset, update, candidate;  z keeps the old state;  the reset gate acts after the
    matmul: n = tanh(W_in x + b_in + r∘(W_hn h + b_hn))
    i, f, g, o of the LSTM are input, forget, cell, output;  with a projection h' = W_hr(o∘tanh c')

Both bias vectors are added, so ``bias_ih`` takes the effective bias and ``bias_hh`` becomes 0; with it b_hn, which sits
inside r∘(·) and is no part of the effective bias.  Parameters are written in place under ``no_grad``: their device,
type, sharding, ``requires_grad`` and cuDNN's flat buffer stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from critinit.distributions import Kernel
from critinit.errors import ApplyError, ArgumentError, Problem
from critinit.tensors.application import StepLimit
from critinit.tensors.blocks import Block
from critinit.tensors.limiting import states_its_rate
from critinit.tensors.sampling import Draw, check_seed
from critinit_adapters.shared.adapter import InPlaceAdapter
from critinit_adapters.shared.classes import looks_recurrent, overrides
from critinit_adapters.shared.defaults import Default
from critinit_adapters.shared.measuring import ROWS, Measured, rows_to_check
from critinit_adapters.shared.own import by_path, walk
from critinit_adapters.shared.planning import Write
from critinit_adapters.shared.recording import Recorder
from critinit_adapters.shared.refining import RefinesModels
from critinit_adapters.shared.survey import LayerSlot, Lookalike, RecurrentModule, Survey, Tensor
from critinit_adapters.torch.differentiating import TorchLibrary
from critinit_adapters.torch.layout import GATES, PROJECTED, STEMS, blocks
from critinit_adapters.torch.limits import limit_steps
from critinit_adapters.torch.masks import write_masks
from critinit_adapters.torch.objective import TorchObjective
from critinit_adapters.torch.sharded import is_sharded, local
from critinit_adapters.torch.tracing import record

__all__ = ["ADAPTER", "TorchAdapter", "TorchDrawing", "named_tensors"]

_CELL_OF_MODE = {"RNN_TANH": "rnn", "RNN_RELU": "relu_rnn", "GRU": "gru", "LSTM": "lstm"}
_CELL_OF_CLASS: Mapping[type[nn.Module], str] = {nn.RNNCell: "rnn", nn.GRUCell: "gru", nn.LSTMCell: "lstm"}
_KNOWN = (nn.RNN, nn.GRU, nn.LSTM, *_CELL_OF_CLASS)
_STEP = ("forward", "__call__")
"""The methods that make a layer's step."""
_ACCELERATE = "_hf_hook"
"""Where Hugging Face accelerate keeps what it runs around a module's own forward."""
_COMPUTED = "a parametrized tensor, computed from others"
_REMOVALS = {
    "WeightNorm": "torch.nn.utils.remove_weight_norm",
    "SpectralNorm": "torch.nn.utils.remove_spectral_norm",
    "pruning": "torch.nn.utils.prune.remove",
}
"""By the class of the hook, what undoes the older ways to compute a parameter."""
_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_QUANTIZED = "torch.ao.nn.quantized"
"""The package of layers whose weights are integers."""
_WRAPPERS = ("_orig_mod",)
"""What torch.compile adds to a path."""

# Private names of torch, run with torch 2.13.0: ``Module._parameters`` and ``_buffers`` (the only way to see a
# parameter that is None), ``RNNBase._all_weights`` (the names that its class defines) and ``UntypedStorage._cdata``
# (where a storage lies, also without memory of its own), and ``nn.modules.conv._ConvNd``, the base of all convolutions.


class TorchAdapter(RefinesModels, InPlaceAdapter):
    """The adapter for ``torch.nn.Module``."""

    framework = "torch"
    module = "torch"
    cells = tuple(GATES)

    def claims(self, target: object, options: Mapping[str, Any]) -> bool:
        """Return whether the target is a module of torch's own kind."""
        # Keras layers on its torch backend are torch modules too, laid out Keras' way
        keras = any(kind.__module__.partition(".")[0] == "keras" for kind in type(target).__mro__)
        return isinstance(target, nn.Module) and not keras

    def instead(self, target: object) -> str:
        """Return what to give instead of an optimizer, or of parameters."""
        listed = isinstance(target, (list, tuple)) and any(isinstance(one, torch.Tensor) for one in target)
        known = isinstance(target, (torch.optim.Optimizer, torch.Tensor)) or listed
        return "give the model itself, an nn.Module" if known else ""

    def seed_of(self, given: object, target: Any) -> int:
        """Return the seed given, or the next number of torch's generator on the CPU.

        All processes that share a model get that of the first of them, as their generators can differ.
        """
        return check_seed(_common(_next_seed(), target) if given is None else given)

    def survey(self, target: Any, options: Mapping[str, Any]) -> Survey:
        """Return the recurrent modules in a module tree."""
        _check_target(target)
        found = [(_recurrent(_path(name), module), module) for name, module in target.named_modules()]
        keys = {name: _key(tensor) for name, tensor in named_tensors(target)}
        known = {id(module) for recurrent, module in found if recurrent is not None}
        alike = tuple(_lookalikes(target, known))
        return Survey(tuple(one for one, _ in found if one is not None), tuple(keys), keys, alike)

    def tensors(self, target: Any, options: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return parameters and buffers."""
        _check_target(target)
        return {name: _tensor(name, tensor, ()) for name, tensor in named_tensors(target)}

    def find(self, target: Any, path: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """Return a parameter, a buffer or a tensor that is an attribute of a module."""
        named = by_path(tensors, path)
        if named is not None:
            return named
        found = walk(target, path)
        if not isinstance(found, torch.Tensor):
            return None
        same = next((tensor for tensor in tensors.values() if tensor.identity == _key(found)), None)
        return same or _tensor(path, found, ())

    def unwritable(self, tensor: Tensor) -> Problem | None:
        """Return why a tensor holds no numbers of its own."""
        handle = tensor.handle
        if handle.grad_fn is not None:
            found = "a tensor that is computed from others"
            return Problem(tensor.name, found, "a parameter", "name the parameter that it is computed from")
        return _tensor_problem(tensor.name, handle)

    def from_numpy(self, values: NDArray[np.float64], like: Tensor) -> Any:
        """Return a tensor of that type on that device."""
        own = local(like.handle)
        return torch.from_numpy(np.ascontiguousarray(values)).to(own.device, own.dtype)

    def to_numpy(self, value: Any) -> NDArray[np.float64]:
        """Return a tensor in float64, on the host, as a copy, so that writing the tensor does not change it."""
        if isinstance(value, torch.Tensor):
            value = value.detach().to(torch.float64, copy=True).cpu().numpy()
        return np.asarray(value)

    @contextmanager
    def running(self, model: Any) -> Iterator[None]:
        """Run in evaluation mode and without gradients; each module's own mode comes back."""
        modes = [(module, module.training) for module in model.modules()]
        try:
            model.eval()
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes:
                module.training = mode

    def extent(self, region: Any) -> tuple[float, float]:
        """Return the smallest and the largest number, found on the tensor's device."""
        low, high = torch.aminmax(region)
        return float(low), float(high)

    def default_of(self, tensor: Tensor, block: Block) -> Default | None:
        """Return U(-1/√H, 1/√H), which every parameter of a recurrent layer has; shards are not gathered for that."""
        if tensor.is_partial or is_sharded(tensor.handle):
            return None
        shape = block.holds(tensor.shape)
        return Default(0.0, (shape[1] if block.part == "projection" else shape[0]) ** -0.5)

    def record(
        self, target: Any, survey: Survey, run: Callable[[Any], object], options: Mapping[str, Any]
    ) -> tuple[Recorder, Mapping[str, bool]]:
        """Run the model with hooks at its recurrent modules."""
        return record(target, {module.name for module in survey.modules if module.slots}, _path, run)

    def tables(self, target: Any, options: Mapping[str, Any]) -> list[tuple[Tensor, bool, bool]]:
        """Return the weights of ``nn.Embedding``."""
        uses = Counter(_key(tensor) for _, tensor in named_tensors(target))
        found = []
        for name, module in target.named_modules():
            weight = module._parameters.get("weight") if isinstance(module, nn.Embedding) else None
            if weight is not None and not nn.parameter.is_lazy(weight) and not weight.is_meta:
                path = _path(f"{name}.weight" if name else "weight")
                tensor = Tensor(path, tuple(weight.shape), weight, (), key=_key(weight))
                found.append((tensor, weight.requires_grad, uses[_key(weight)] > 1))
        return found

    def values(self, tensor: Tensor) -> NDArray[Any]:
        """Return the values, whole, on the host."""
        return np.asarray(self.view(tensor).float().cpu().numpy())

    def read(self, tensor: Tensor) -> NDArray[Any]:
        """Return the bytes of this process's part."""
        values = local(tensor.handle.detach())
        return np.asarray(values.cpu().contiguous().view(torch.uint8).numpy())

    @torch.no_grad()
    def restore(self, tensor: Tensor, values: NDArray[Any]) -> None:
        """Write the old bytes back."""
        own = local(tensor.handle)
        own.copy_(torch.from_numpy(values).view(own.dtype))

    @torch.no_grad()
    def store(self, tensor: Tensor, values: NDArray[np.float64]) -> None:
        """Write values, cast once; into a sharded parameter this process's part."""
        _write(tensor.handle, torch.from_numpy(values).to(tensor.handle.dtype))

    @torch.no_grad()
    def store_portable(self, write: Write) -> None:
        """Draw and write one block after the other."""
        parameter = write.tensor.handle
        if is_sharded(parameter):
            super().store_portable(write)
            return
        for block, draw in write.draws:
            region = parameter[block.index]
            if draw is None:
                region.zero_()
            else:
                region.copy_(torch.from_numpy(block.stored(draw.sample())).to(region.dtype))

    @torch.no_grad()
    def store_native(self, write: Write) -> None:
        """Draw one block after the other in its place."""
        parameter = write.tensor.handle
        sharded = is_sharded(parameter)
        own = local(parameter)
        # every process draws the whole tensor from the same stream and keeps its shard
        full = own
        if sharded:
            full = (
                parameter.full_tensor() if write.tensor.is_partial else torch.empty_like(own).new_empty(parameter.shape)
            )
        haar = _Haar()
        for block, draw in write.draws:
            _fill(full[block.index], block, draw, haar)
        if sharded:
            _write(parameter, full)

    def view(self, tensor: Tensor) -> Any:
        """Return the values, whole."""
        values = tensor.handle.detach()
        return values.full_tensor() if is_sharded(values) else values

    def measure(self, stored: Any, block: Block, draw: Draw) -> Measured:
        """Measure on the tensor's device."""
        return _measure(block.canonical(stored) if _is_changed(block) else stored, draw)

    def library(self, target: Any) -> TorchLibrary:
        """Return torch on the model's device; in double precision on the CPU."""
        _check_derivatives()
        device = next((parameter.device for parameter in target.parameters()), torch.device("cpu"))
        return TorchLibrary(device, torch.float64 if device.type == "cpu" else torch.float32)

    def objective(
        self,
        target: Any,
        loss: Callable[[Any, Any], Any] | None,
        batch: Any,
        run: Callable[..., object],
        seed: int,
        options: Mapping[str, Any],
    ) -> tuple[TorchObjective, Mapping[str, NDArray[np.float64]]]:
        """Return the loss as a function of the parameters that train."""
        _check_derivatives()
        trained = {name: p for name, p in target.named_parameters() if p.requires_grad and p.dtype in _FLOATS}
        names = {name: _path(name) for name in trained}
        values = {names[name]: self.to_numpy(self.view(_tensor(name, p, ()))) for name, p in trained.items()}
        return TorchObjective(target, names, loss, batch, run, seed), values

    def mask(
        self, target: Any, masks: Mapping[str, NDArray[np.bool_]], options: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Prune by ``torch.nn.utils.prune``."""
        names = {_path(name): name for name, _ in target.named_parameters()}
        return target, write_masks(target, masks, names)

    def keep_pruned(self, optimizer: Any, masks: Mapping[str, NDArray[np.bool_]]) -> Any:
        """Return the optimizer: the model's own hooks hold the masks."""
        return optimizer

    def takes_optimizer(self, optimizer: object) -> bool:
        """Return whether it is a ``torch.optim.Optimizer``."""
        return isinstance(optimizer, torch.optim.Optimizer)

    def limit_steps(self, optimizer: Any, limits: Sequence[StepLimit], model: Any, learning_rate: Any) -> Any:
        """Return the same optimizer, with hooks."""
        states_its_rate(learning_rate)
        if not isinstance(model, nn.Module):
            raise ArgumentError("model", found=type(model).__name__, allowed="a torch.nn.Module")
        return limit_steps(optimizer, limits, dict(named_tensors(model)))


ADAPTER = TorchAdapter()


def _check_derivatives() -> None:
    """Refuse to go where PyTorch computes no derivatives, whatever is switched on."""
    if torch.is_inference_mode_enabled():
        found = "torch.inference_mode(), in which nothing has a derivative"
        raise ApplyError("target", found=found, allowed="a call outside of it")


# ---- seeds -----------------------------------------------------------------------------------------------

_SEEDS = 2**53
"""The first seed that is not taken from torch's generator: JSON in every program holds the others exactly."""
_PARALLEL = ("DistributedDataParallel", "FullyShardedDataParallel")
"""The wrappers of torch whose processes hold one model together."""


def _next_seed() -> int:
    return int(torch.randint(_SEEDS, (), device="cpu"))


def _common(seed: int, target: Any) -> int:
    """The first process's seed, in every process that holds a part or a copy of ``target``."""
    for group, device in _groups(target):
        import torch.distributed as dist

        shared = torch.tensor(seed, device=device)
        dist.broadcast(shared, dist.get_global_rank(group, 0), group=group)
        seed = int(shared)
    return seed


def _groups(target: Any) -> list[tuple[Any, Any]]:
    """The process groups that hold a model together, each with a device on which they talk."""
    found: dict[int, tuple[Any, Any]] = {}
    if not isinstance(target, nn.Module) or any(parameter.is_meta for parameter in target.parameters()):
        return []  # refused later
    for module in target.modules():
        if type(module).__name__ in _PARALLEL:
            group, device = cast(Any, module).process_group, next(module.parameters()).device
            found[id(group)] = group, device
    for parameter in filter(is_sharded, target.parameters()):
        mesh = cast(Any, parameter).device_mesh
        for axis in range(mesh.ndim):
            group = mesh.get_group(axis)
            found[id(group)] = group, local(parameter).device
    return list(found.values())


# ---- what is found ---------------------------------------------------------------------------------------


def _path(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def named_tensors(target: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters, then buffers, with their names.

    Of modules that stand in several places one name, of tensors that do all.
    """
    modules = [(f"{name}." if name else "", module) for name, module in target.named_modules()]
    for kind in ("_parameters", "_buffers"):
        for prefix, module in modules:
            own = ((name, tensor) for name, tensor in getattr(module, kind).items() if tensor is not None)
            yield from ((_path(prefix + name), tensor) for name, tensor in own)


def _key(tensor: torch.Tensor) -> Hashable:
    """The same for tensors that hold the same numbers: where they lie, as two objects can share memory."""
    try:
        own = local(tensor)
        return (own.untyped_storage()._cdata, own.storage_offset()) if own.numel() else id(tensor)
    except (RuntimeError, NotImplementedError, ValueError):  # without memory of its own, or lazy
        return id(tensor)


def _check_target(target: object) -> None:
    if not isinstance(target, nn.Module):
        raise ApplyError("target", found=f"a {type(target).__name__}", allowed="a torch.nn.Module")


def _recurrent(name: str, module: nn.Module) -> RecurrentModule | None:
    """What ``module`` is to the adapters, or None where it is no recurrent layer."""
    if isinstance(module, nn.RNNBase):
        cell = _CELL_OF_MODE.get(module.mode)
        layers, directions = module.num_layers, 2 if module.bidirectional else 1
        projection = module.proj_size or None
    else:
        cell = next((cell for kind, cell in _CELL_OF_CLASS.items() if isinstance(module, kind)), None)
        cell = "relu_rnn" if getattr(module, "nonlinearity", "tanh") == "relu" else cell
        layers, directions, projection = 1, 1, None
    if cell is None:
        return None
    hidden = int(cast(int, module.hidden_size))
    refusal = _refusal(module)
    slots = () if refusal else tuple(_slots(name, module, cell, hidden, layers, directions))
    projected = None if projection is None else PROJECTED.get(cell)
    own = overrides(module, _KNOWN, _STEP) if not hasattr(module, _ACCELERATE) else ""
    return RecurrentModule(name, cell, hidden, slots, projection, projected, refusal, own)


def _lookalikes(target: nn.Module, known: set[int]) -> Iterator[Lookalike]:
    """Modules that look recurrent, without those that hold a known one or belong to one."""
    inside = {id(part) for module in target.modules() if id(module) in known for part in module.modules()}
    for name, module in target.named_modules():
        kind = str(getattr(module, "original_name", type(module).__name__))
        step = None if type(module).__module__.startswith("torch.") else type(module).forward
        if id(module) in inside or not looks_recurrent(kind, step):
            continue
        if any(id(part) in inside for part in module.modules()):
            continue
        can = True
        if type(module).__module__.startswith(_QUANTIZED):
            can, reason = False, "its weights are quantized to integers: take the model as it was before"
        elif not any(True for _ in module.parameters()):
            can, reason = False, "it has no parameters that could be written"
        elif any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules()):
            can, reason = False, "it is made of convolutions: docs/own-modules.md#convolutions shows how to write it"
        elif isinstance(module, torch.jit.ScriptModule):
            reason = "a ScriptModule: what it computes cannot be seen"
        elif type(module).__module__.startswith("torch."):
            reason = f"a class of {type(module).__module__}, none of torch.nn's RNN, GRU, LSTM and their Cell classes"
        else:
            reason = "a class that derives from none of torch.nn's RNN, GRU, LSTM and their Cell classes"
        yield Lookalike(_path(name), kind, reason, can)


def _tensor(name: str, tensor: torch.Tensor, parts: tuple[Block, ...]) -> Tensor:
    is_frozen = isinstance(tensor, nn.Parameter) and not tensor.requires_grad
    frozen = "requires_grad=False" if is_frozen else ""
    return Tensor(name, tuple(tensor.shape), tensor, parts, key=_key(tensor), frozen=frozen)


def _slots(path: str, module: nn.Module, cell: str, hidden: int, layers: int, directions: int) -> Iterator[LayerSlot]:
    prefix = f"{path}." if path else ""
    for layer in range(layers):
        for direction in range(directions):
            suffix = f"_l{layer}{'_reverse' * direction}" if isinstance(module, nn.RNNBase) else ""
            found = [(stem, module._parameters.get(stem + suffix)) for stem in STEMS]
            tensors = tuple(
                _tensor(f"{prefix}{stem}{suffix}", parameter, blocks(stem, cell, hidden))
                for stem, parameter in found
                if parameter is not None
            )
            yield LayerSlot(layer, direction, tensors[0].shape[1], tensors)


def _names(module: nn.Module) -> list[str]:
    """The parameters that this module's class defines, wherever they live now."""
    if isinstance(module, nn.RNNBase):
        return [name for names in module._all_weights for name in names]
    return [*STEMS[:2], *(STEMS[2:4] if module.bias else ())]


def _refusal(module: nn.Module) -> Problem | None:
    """Why this module takes no spec, or None."""
    for name in _names(module):
        # a parametrization (also weight_norm's and pruning's older hooks) moves the parameter elsewhere
        if name not in module._parameters:
            return _moved(module, name)
        parameter = module._parameters[name]
        problem = None if parameter is None else _tensor_problem(name, parameter)  # None: bias=False
        if problem is not None:
            return problem
    return None


def _moved(module: nn.Module, name: str) -> Problem:
    """What to do where a name of the layer is no parameter."""
    if name in module._buffers:
        hint = f"make it one: module.{name} = torch.nn.Parameter(tensor), after del module.{name}"
        return Problem(name, "a buffer", "a parameter", hint)
    if nn.utils.parametrize.is_parametrized(module, name):
        remove = f"torch.nn.utils.parametrize.remove_parametrizations(module, {name!r})"
        return Problem(name, _COMPUTED, "a parameter", f"call {remove}, and parametrize it again afterwards")
    hooks = {getattr(hook, "name", getattr(hook, "_tensor_name", "")): hook for hook in _hooks(module)}
    removal = _REMOVALS.get(type(hooks.get(name)).__name__) or (
        _REMOVALS["pruning"] if hasattr(hooks.get(name), "apply_mask") else None
    )
    if removal is not None:
        hint = f"call {removal}(module, {name!r}), and do it again afterwards"
        return Problem(name, _COMPUTED, "a parameter", hint)
    found = "a tensor that is no parameter" if hasattr(module, name) else "none"
    raws = [raw for raw in module._parameters if name in raw] or ["the one that it is made from"]
    hint = f"say with where= in which tensors the gates lie ({', '.join(raws)} for {name}): critinit.fused"
    return Problem(name, found, "a parameter", hint)


def _hooks(module: nn.Module) -> list[Any]:
    return list(module._forward_pre_hooks.values())


def _tensor_problem(name: str, parameter: torch.Tensor) -> Problem | None:
    """Why no numbers can be written into a tensor, or None."""
    if nn.parameter.is_lazy(parameter):
        return Problem(name, "a parameter that has no shape yet", hint="run the model once first")
    if parameter.is_meta:
        found = "a parameter on the meta device, which holds no numbers"
        return Problem(name, found, hint="call to_empty(device=...) first")
    if parameter.dtype not in _FLOATS:
        return Problem(name, f"type {_type(parameter.dtype)}", ", ".join(map(_type, _FLOATS)))
    return None


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---- what is written -------------------------------------------------------------------------------------


def _write(parameter: torch.Tensor, full: torch.Tensor) -> None:
    """Copy ``full`` into the parameter; into a DTensor without communication, each process its own shard."""
    if not is_sharded(parameter):
        parameter.copy_(full)
        return
    from torch.distributed.tensor import DTensor, Replicate

    sharded = cast(DTensor, parameter)
    mesh, own = sharded.device_mesh, sharded.to_local()
    whole = DTensor.from_local(full.to(own.device), mesh, [Replicate()] * mesh.ndim, run_check=False)
    own.copy_(whole.redistribute(mesh, sharded.placements).to_local())


def _fill(region: torch.Tensor, block: Block, draw: Draw | None, haar: _Haar) -> None:
    """Draw into a view of a tensor, on its device, from a generator of its own."""
    if draw is None:
        region.zero_()
    elif isinstance(draw.distribution, Kernel):
        place = region.new_empty(draw.shape) if _is_changed(block) else region
        drawn = draw.distribution.draw(TorchDrawing(place, draw, haar))
        if drawn is not region:  # a kernel that goes on with what it drew, or that is stored in another way
            region.copy_(block.stored(drawn))
    else:
        region.copy_(torch.from_numpy(block.stored(draw.sample())))


def _is_changed(block: Block) -> bool:
    """Whether a block holds something else than the canonical numbers as they are."""
    return block.transposed or block.sign != 1.0 or block.offset != 0.0 or block.shape is not None


class TorchDrawing:
    """A matrix drawn in its place in a tensor, on the tensor's device (see ``critinit.distributions.Drawing``).

    Args:
        region: The place, of shape (rows, columns); every method fills and returns it.
        draw: What is drawn.
        haar: Work space for orthogonal matrices, which all gates of a tensor share.
    """

    def __init__(self, region: torch.Tensor, draw: Draw, haar: _Haar) -> None:
        self.region, self.stream, self.haar = region, draw.stream, haar
        self.rows, self.columns = draw.shape

    def zeros(self) -> torch.Tensor:
        """Fill with zeros."""
        return self.region.zero_()

    def identity(self, gain: float) -> torch.Tensor:
        """Fill with ``gain`` times the identity."""
        self.region.zero_().diagonal().fill_(gain)
        return self.region

    def normal(self, deviation: float) -> torch.Tensor:
        """Fill with independent normal entries."""
        return self.region.normal_(0.0, deviation, generator=self._generator())

    def uniform(self, bound: float) -> torch.Tensor:
        """Fill with independent uniform entries."""
        return self.region.uniform_(-bound, bound, generator=self._generator())

    def orthogonal(self, gain: float) -> torch.Tensor:
        """Fill with rows of a Haar matrix, times ``gain``."""
        return self.region.copy_(self.haar.rows(self.region, self._generator()).mul_(gain))

    def numpy(self, sample: Callable[[np.random.Generator], NDArray[np.float64]]) -> torch.Tensor:
        """Fill with what ``sample`` draws with the portable sampler's generator."""
        return self.region.copy_(torch.from_numpy(sample(self.stream.generator())))

    def _generator(self) -> torch.Generator:
        low, high = self.stream.words()
        return torch.Generator(device=self.region.device).manual_seed(low | high << 32)


class _Haar:
    """The first rows of Haar matrices by Householder QR, at least in single precision.

    ``torch.linalg.qr`` forms Q and R anew each time; here two work arrays serve all gates of a tensor.
    """

    def __init__(self) -> None:
        self._work: tuple[torch.Tensor, ...] = ()

    def rows(self, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return rows in ``like``'s shape (rows ≤ columns), in a work array: valid until the next call."""
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        if not self._work or self._work[0].shape != like.shape:
            self._work = tuple(torch.empty(like.shape, dtype=dtype, device=like.device) for _ in range(2))
        first, second = self._work
        first.normal_(generator=generator)
        tau = torch.empty(like.shape[0], dtype=dtype, device=like.device)
        # transposed, the rows become the columns in LAPACK's own order
        torch.geqrf(first.mT, out=(second.mT, tau))
        signs = torch.where(second.diagonal() < 0, -1.0, 1.0).to(dtype)
        torch.linalg.householder_product(second.mT, tau, out=first.mT)
        return first.mul_(signs[:, None])


def _measure(stored: torch.Tensor, draw: Draw) -> Measured:
    values = stored if stored.dtype in (torch.float32, torch.float64) else stored.float()
    if values.ndim == 2:  # a kernel, whose mean is small: no cancellation, and far cheaper than var_mean
        mean = float(values.mean())
        square = torch.linalg.vector_norm(values, dim=1).double().square().mean()
        variance = float(square) / values.shape[1] - mean**2
    else:
        variance, mean = map(float, torch.var_mean(values, correction=0))
    error = None
    if draw.gain:
        rows = rows_to_check(values.shape[0])
        some = values[rows].double()
        # a few columns of the Gram matrix at a time: no second copy of the kernel in double precision
        parts = [some @ part.double().mT for part in torch.split(values, 4 * ROWS)]
        gram = torch.cat(parts, dim=1) / draw.gain**2
        gram[range(len(rows)), rows] -= 1.0
        error = float(gram.abs().max())
    return Measured(mean, max(variance, 0.0) * draw.fan_in, error)
