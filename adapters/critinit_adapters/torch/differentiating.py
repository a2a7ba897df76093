"""PyTorch as a library of arrays with derivatives (``critinit.foreign``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from critinit.foreign import Library

__all__ = ["TorchLibrary"]

_NAMES = {"equal": "eq", "not_equal": "ne"}
"""NumPy's names of functions that torch has under others."""


class TorchLibrary(Library):
    """Tensors of one type on one device.

    Args:
        device: The device.
        dtype: The type.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype

    def array(self, values: Any) -> Any:
        """Return numbers as a tensor."""
        if isinstance(values, torch.Tensor):
            return values
        return torch.as_tensor(np.asarray(values), device=self.device).to(self.dtype)

    def call(self, name: str, *arrays: Any) -> Any:
        """Return what a function of torch makes of tensors."""
        return getattr(torch, _NAMES.get(name, name))(*arrays)

    def filled(self, like: Any, number: float) -> Any:
        """Return a tensor with one number everywhere."""
        return torch.full_like(like, number)

    def orthonormalize(self, columns: Any) -> tuple[Any, Any]:
        """Return Q and ln|R_ii|."""
        q, r = torch.linalg.qr(columns)
        return q, r.diagonal(dim1=-2, dim2=-1).abs().log()

    def joined(self, arrays: Sequence[Any]) -> Any:
        """Return tensors side by side."""
        return torch.cat(list(arrays), dim=-1)

    def moved(self, array: Any, source: int, to: int) -> Any:
        """Return a view with one axis moved."""
        return array.movedim(source, to)

    def constant(self, array: Any) -> Any:
        """Return a detached tensor."""
        return array.detach()

    def mean(self, array: Any, axes: tuple[int, ...] | None = None) -> Any:
        """Return the mean."""
        return array.mean() if axes is None else array.mean(dim=axes)

    def scan(self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any) -> tuple[Any, Any]:
        """Run step by step."""
        outputs = []
        for fed in zip(*(tensor.unbind(0) for tensor in inputs.values()), strict=True):
            carry, output = step(carry, dict(zip(inputs, fed, strict=True)))
            outputs.append(output)
        return carry, torch.stack(outputs)

    def differentiate(
        self, function: Callable[..., tuple[Any, Any]]
    ) -> Callable[..., tuple[float, NDArray[np.float64], dict[str, NDArray[np.float64]]]]:
        """Return value and gradient by reverse mode."""

        def run(
            leaves: dict[str, NDArray[np.float64]], *constants: Any
        ) -> tuple[float, NDArray[np.float64], dict[str, NDArray[np.float64]]]:
            tensors = {name: self.array(values).requires_grad_() for name, values in leaves.items()}
            with torch.enable_grad():
                value, other = function(tensors, *map(self.array, constants))
                slopes = torch.autograd.grad(value, list(tensors.values()), allow_unused=True)
            found = {
                name: np.zeros(tensor.shape) if slope is None else _host(slope)
                for (name, tensor), slope in zip(tensors.items(), slopes, strict=True)
            }
            return value.item(), _host(other), found

        return run


def _host(tensor: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().double().cpu().numpy())
