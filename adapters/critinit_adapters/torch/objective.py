"""A PyTorch model's loss as a function of its weights, with derivatives up to the third order.

The model's parameters are exchanged for the call alone (``torch.func.functional_call``).  cuDNN's and oneDNN's
recurrent layers have no second derivative, so they are off meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from critinit.errors import ApplyError, ArgumentError
from critinit_adapters.shared.refining import no_output, target_like
from critinit_adapters.torch.tracing import unchanged

__all__ = ["TorchObjective"]

Array = NDArray[np.float64]
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class _Called(nn.Module):
    """A loss as a module, so that its model's parameters can be exchanged."""

    def __init__(self, model: nn.Module, loss: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self) -> Any:
        return self._loss(self.model)


class TorchObjective:
    """The loss.

    Args:
        model: The model.
        names: From the name of each parameter that trains to its path for users.
        loss: ``loss(model, batch)``, or None for the distance of the output from normal numbers.
        batch: The batch.
        run: Runs the model on the batch.
        seed: Of the normal numbers.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Mapping[str, str],
        loss: Callable[[Any, Any], Any] | None,
        batch: Any,
        run: Callable[..., object],
        seed: int,
    ) -> None:
        self.model, self.names = model, names

        def default(called: Any) -> Any:
            output = _first(run(called))
            return 0.5 * (output - torch.as_tensor(target_like(output.shape, seed)).to(output)).square().mean()

        self._called = _Called(model, default if loss is None else lambda called: loss(called, batch))

    def gradient(self, values: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
        """Return the loss and its gradient."""
        with self._running():
            leaves = self._leaves(values)
            loss = self._loss(leaves)
            slopes = _slopes(loss, list(leaves.values()), graph=False)
        return loss.item(), self._host(leaves, slopes)

    def quotient(self, values: Mapping[str, Array], epsilon: float) -> tuple[float, dict[str, Array]]:
        """Return the gradient quotient (``critinit.refining.metainit``) and its gradient."""
        with self._running():
            leaves = self._leaves(values)
            own = list(leaves.values())
            slopes = _slopes(self._loss(leaves), own, graph=True)
            half = sum(0.5 * slope.square().sum() for slope in slopes)
            products = _slopes(half, own, graph=True)
            parts = [
                ((g - p) / (g + epsilon * torch.where(g.detach() >= 0, 1.0, -1.0)) - 1.0).abs().sum()
                for g, p in zip(slopes, products, strict=True)
            ]
            quotient: Any = sum(parts) / sum(leaf.numel() for leaf in own)
            third = _slopes(quotient, own, graph=False)
        return quotient.item(), self._host(leaves, third)

    @contextmanager
    def _running(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(unchanged(self.model))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            yield

    def _leaves(self, values: Mapping[str, Array]) -> dict[str, Any]:
        own = dict(self.model.named_parameters())
        return {
            name: torch.from_numpy(np.array(values[path])).to(own[name]).requires_grad_()
            for name, path in self.names.items()
        }

    def _loss(self, leaves: Mapping[str, Any]) -> Any:
        exchanged = {f"model.{name}": leaf for name, leaf in leaves.items()}
        loss = torch.func.functional_call(self._called, exchanged, ())
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or loss.dtype not in _FLOATS:
            found = f"a {type(loss).__name__}" + (f" of shape {tuple(loss.shape)}" if hasattr(loss, "shape") else "")
            raise ArgumentError("loss", found=found, allowed="a scalar tensor")
        if not loss.requires_grad:
            hint = "a detached or inference-mode output has none"
            raise ApplyError(
                "loss", found="a loss without a gradient", allowed="one that depends on weights", hint=hint
            )
        return loss.reshape(())

    def _host(self, leaves: Mapping[str, Any], slopes: Any) -> dict[str, Array]:
        arrays = (np.asarray(slope.detach().double().cpu().numpy()) for slope in slopes)
        return dict(zip((self.names[name] for name in leaves), arrays, strict=True))


def _slopes(value: Any, leaves: list[Any], *, graph: bool) -> list[Any]:
    """The gradient, 0 where a leaf plays no part."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(value, leaves, create_graph=graph, allow_unused=True)
    return [torch.zeros_like(leaf) if slope is None else slope for leaf, slope in zip(leaves, found, strict=True)]


def _first(output: Any) -> Any:
    """The first tensor of floating-point numbers in an output."""
    if isinstance(output, torch.Tensor):
        if output.dtype in _FLOATS:
            return output
    elif isinstance(output, Mapping):
        output = tuple(output.values())
    if hasattr(output, "data") and not isinstance(output, torch.Tensor):  # a packed sequence
        return output.data
    for part in output if isinstance(output, (tuple, list)) else ():
        try:
            return _first(part)
        except ArgumentError:
            continue
    raise no_output()
