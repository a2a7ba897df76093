"""Masks on PyTorch's parameters, by ``torch.nn.utils.prune``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import prune

__all__ = ["write_masks"]


def write_masks(target: nn.Module, masks: Mapping[str, NDArray[np.bool_]], names: Mapping[str, str]) -> dict[str, Any]:
    """Prune parameters in place, all or none, and return the masks as tensors.

    Args:
        target: The model.
        masks: What stays, by the parameters' paths for users.
        names: From these paths to the parameters' names in the model.
    """
    made: dict[str, Any] = {}
    done: list[tuple[nn.Module, str]] = []
    try:
        for path, stays in masks.items():
            owner, _, name = names[path].rpartition(".")
            module = target.get_submodule(owner)
            weight: Any = getattr(module, name)
            mask = torch.from_numpy(stays).to(weight.device, weight.dtype)
            old = weight.detach().clone()
            prune.custom_from_mask(module, name, mask)
            done.append((module, name))
            with torch.no_grad():  # the tensor that stands in for the parameter until the next call; it can be copied
                setattr(module, name, old * mask)
            made[path] = getattr(module, f"{name}_mask")
    except BaseException:
        for module, name in done:
            weight = getattr(module, f"{name}_orig")
            values = weight.detach().clone()
            prune.remove(module, name)
            with torch.no_grad():
                getattr(module, name).copy_(values)
        raise
    return made
