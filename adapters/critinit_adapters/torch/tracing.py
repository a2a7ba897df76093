"""What reaches the recurrent layers of a PyTorch model, by forward hooks.

The model runs once without gradients: in evaluation mode, but for layers of batch normalization that are in training
mode, which normalize by the batch as in training.  Flags, buffers, hooks and generators are put back.  Layers above a
module's first one are run one by one with the module's own weights, as hooks see only the module's input.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from critinit_adapters.shared.preserving import generators_kept
from critinit_adapters.shared.recording import Place, Recorder, read_up_to

__all__ = ["record", "unchanged"]

_LAYERS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN_TANH": nn.RNN, "RNN_RELU": nn.RNN}
Path = Callable[[str], str]
_State = tuple[torch.Tensor, ...]


def record(
    target: nn.Module, names: set[str], path: Path, run: Callable[[Any], object]
) -> tuple[Recorder, dict[str, bool]]:
    """Run the model; return what was recorded, and by network whether a layer that trains ran before it.

    Args:
        target: The model.
        names: The paths of the modules to record.
        path: From a module's name in torch to its path.
        run: Runs the model that it is given.
    """
    recorder, trains = Recorder(), dict[str, bool]()
    trained: list[nn.Module] = []
    ended: dict[str, _State] = {}
    with ExitStack() as stack:
        stack.enter_context(unchanged(target))
        for name, module in target.named_modules():
            place = path(name)
            if place in names:
                hook = _hook(place, recorder, trains, trained, ended)
                stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
                if isinstance(module, nn.RNNBase):
                    stack.callback(module.register_forward_hook(_gave(place, recorder, ended)).remove)
            elif not _scripted(module) and any(p.requires_grad for p in module.parameters(recurse=False)):
                stack.callback(module.register_forward_pre_hook(lambda m, _: trained.append(m)).remove)
        run(target)
    return recorder, trains


def _hook(
    name: str, recorder: Recorder, trains: dict[str, bool], trained: list[nn.Module], ended: Mapping[str, _State]
) -> Callable[..., None]:
    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["input"]
        hx = args[1] if len(args) > 1 else kwargs.get("hx")
        trains.setdefault(name, bool(trained))
        if not isinstance(module, nn.RNNBase):
            state = hx[0] if isinstance(hx, tuple) else hx
            recorder.step(Place(name, 0, 0), _array(x), 0.0 if state is None else _array(state), _dtype(x))
            return
        # a piece of longer sequences; the backward direction of one would have to begin at the next one's end
        goes_on = not module.bidirectional and _is_state(hx, ended.get(name, ()))
        for layer in range(module.num_layers):
            values, read = _sequences(x, module.batch_first)
            state = _state(hx, layer, 2 if module.bidirectional else 1)
            from_rest = not _holds(state)
            recorder.sequence(
                Place(name, layer, 0), values, read, _dtype(x), from_rest=from_rest, goes_on=goes_on and not from_rest
            )
            if layer + 1 < module.num_layers:
                x = _one_layer(module, layer)(x, state)[0]
                recorder.gave(Place(name, layer, 0), _outputs(x, module.batch_first))

    return hook


def _gave(name: str, recorder: Recorder, ended: dict[str, _State]) -> Callable[..., None]:
    """The hook that takes in what the highest layer gives, and the state at which the module ends."""

    def hook(module: Any, args: Any, output: Any) -> None:
        ended[name] = _parts(output[1]) if isinstance(output, tuple) and len(output) == 2 else ()
        if isinstance(output, tuple) and isinstance(output[0], (torch.Tensor, PackedSequence)):
            recorder.gave(Place(name, module.num_layers - 1, 0), _outputs(output[0], module.batch_first))

    return hook


def _outputs(y: Any, batch_first: bool) -> Callable[[int], NDArray[np.float32]]:
    """What a layer gave for one of the sequences, which is brought to the host when it is asked for."""
    if isinstance(y, PackedSequence):
        y, batch_first = pad_packed_sequence(y, batch_first=True)[0], True
    if y.dim() == 2:
        return lambda i: _array(y)
    return lambda i: _array(y[i] if batch_first else y[:, i])


def _sequences(x: Any, batch_first: bool) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """An input as (N, T, F), and which steps are read."""
    if isinstance(x, PackedSequence):
        padded, lengths = pad_packed_sequence(x, batch_first=True)
        return _array(padded), read_up_to(lengths.numpy(), padded.shape[1])
    if x.dim() == 2:
        return _array(x)[None], None
    return _array(x if batch_first else x.transpose(0, 1)), None


def _array(x: torch.Tensor) -> NDArray[Any]:
    return np.asarray(x.detach().float().cpu().numpy())


def _dtype(x: Any) -> str:
    tensor = x.data if isinstance(x, PackedSequence) else x
    return str(tensor.dtype).removeprefix("torch.")


def _one_layer(module: Any, layer: int) -> nn.Module:
    """One layer of a module as a module, with the same parameters."""
    directions = 2 if module.bidirectional else 1
    size = module.input_size if layer == 0 else directions * (module.proj_size or module.hidden_size)
    more: dict[str, Any] = {"proj_size": module.proj_size} if module.mode == "LSTM" else {}
    more |= {"nonlinearity": "relu"} if module.mode == "RNN_RELU" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = _LAYERS[module.mode](
            size,
            module.hidden_size,
            bias=module.bias,
            batch_first=module.batch_first,
            bidirectional=module.bidirectional,
            device="meta",
            **more,
        )
    for name in [name for names in one._all_weights for name in names]:
        setattr(one, name, getattr(module, name.replace("_l0", f"_l{layer}")))
    return one.eval()


def _state(hx: Any, layer: int, directions: int) -> Any:
    """The initial state of one layer."""
    part = slice(layer * directions, (layer + 1) * directions)
    return None if hx is None else tuple(h[part] for h in hx) if isinstance(hx, tuple) else hx[part]


def _holds(state: Any) -> bool:
    """Whether an initial state is another than zero."""
    parts = state if isinstance(state, tuple) else (state,)
    return any(part is not None and bool(torch.any(part != 0)) for part in parts)


def _parts(state: Any) -> _State:
    """The tensors of a state, as it is now."""
    parts = state if isinstance(state, tuple) else (state,)
    return tuple(part.detach().clone() for part in parts if isinstance(part, torch.Tensor))


def _is_state(state: Any, ended: _State) -> bool:
    """Whether a module begins at the state at which it ended."""
    parts = state if isinstance(state, tuple) else (state,)
    return bool(ended) and len(parts) == len(ended) and all(map(_equal, parts, ended))


def _equal(one: Any, other: torch.Tensor) -> bool:
    alike = isinstance(one, torch.Tensor) and (one.dtype, one.device) == (other.dtype, other.device)
    return alike and torch.equal(one, other)


def _scripted(module: nn.Module) -> bool:
    """Whether a module is TorchScript's, which takes no hooks and no attributes."""
    return isinstance(module, torch.jit.ScriptModule)


@contextmanager
def unchanged(target: nn.Module) -> Iterator[None]:
    """Run without gradients, without compiling, and put back flags, buffers, attributes and generators."""
    held = [(m, dict(vars(m)), dict(m._buffers)) for m in target.modules() if not _scripted(m)]
    flags = [(module, module.training) for module in target.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in target.buffers()]
    with ExitStack() as stack:
        stack.enter_context(generators_kept())
        stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(warnings.catch_warnings())
        for text in (".*not part of single contiguous chunk of memory.*", ".*TF32 acceleration on top of oneDNN.*"):
            warnings.filterwarnings("ignore", text)
        try:
            for module, training in flags:
                module.training = training and isinstance(module, nn.modules.batchnorm._BatchNorm)
            yield
        finally:
            for module, attributes, own in held:  # a state that the model keeps from call to call is one of these
                for name in vars(module).keys() - attributes:
                    del vars(module)[name]
                vars(module).update(attributes)
                module._buffers.update(own)
            for module, training in flags:
                module.training = training
            for buffer, old in buffers:
                if not torch.equal(buffer, old):
                    buffer.copy_(old)
