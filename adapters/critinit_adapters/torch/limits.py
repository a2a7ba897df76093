"""Limits on the steps of ``torch.optim`` optimizers, kept by the two hooks that an optimizer calls around its step.

Before a step the limited regions are copied, where the limit is smaller than the rate of the parameter's group; after
it, the step there is shortened to limit/rate of its length.  The hooks read the rate at each step, so schedulers need
nothing.  They belong to the optimizer object, and a ``state_dict`` has none.  PyTorch leaves hooks out of copies and
pickles of an optimizer; these are added to what it puts there, so copies keep the limits for the copied parameters.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any
from weakref import ref

import torch
from torch.optim import Optimizer

from critinit.errors import ArgumentError
from critinit.tensors.application import StepLimit
from critinit.tensors.blocks import Index
from critinit.tensors.limiting import Limited, not_found
from critinit_adapters.torch.sharded import local, local_regions

__all__ = ["limit_steps", "step_groups"]

_REFUSED = {
    "LBFGS": "it searches along a line, and a step that is shortened in a part is no point of that line",
    "Rprop": "its rate is only that of the first step; it then adapts one for each number",
    "ASGD": "it keeps an average of the weights, which would be that of steps without limits",
}
"""The optimizers of torch whose steps cannot be limited, and why."""
_ESTIMATED = "it finds the size of its steps itself, and its rate is only a factor to it"
"""Of Prodigy and D-Adaptation, whose classes begin so."""
_SCHEDULE_FREE = "it keeps a second copy of the weights, which would move without limits"


def limit_steps(
    optimizer: Optimizer, limits: Sequence[StepLimit], tensors: Mapping[str, torch.Tensor], *, required: bool = True
) -> Optimizer:
    """Give an optimizer the hooks that keep limits; limits that it has already are replaced.

    Args:
        optimizer: The optimizer.
        limits: The limits.
        tensors: The model's tensors by their names.
        required: Whether an optimizer that trains none of the limited tensors is an error; else it may get them later.

    Returns:
        The same optimizer.

    Raises:
        ArgumentError: The optimizer cannot keep limits, or trains none of the limited tensors, or a limited tensor is
            no longer the model's.
    """
    tensors = _pruned(tensors)
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, Optimizer):  # a wrapper, which calls the inner one's step
        limit_steps(inner, limits, tensors, required=required)
        return optimizer
    regions = _regions(limits, tensors)
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    trains = bool(trained & regions.keys())
    if required and limits and not trains:
        raise not_found(limits, [name for name, tensor in tensors.items() if id(tensor) in trained])
    refused = _refusal(optimizer)
    if trains:
        _check_names(limits, tensors)
        if refused is not None:
            raise refused
    if refused is not None or not regions:
        return optimizer
    hooks = hooks_of(optimizer)
    if hooks is None:
        hooks = _Hooks()
        optimizer.register_step_pre_hook(_Hook(hooks, "before"))
        optimizer.register_step_post_hook(_Hook(hooks, "after"))
        optimizer.__getstate__ = _State(optimizer)
    hooks.regions.update(regions)
    return optimizer


def hooks_of(optimizer: Optimizer) -> _Hooks | None:
    """Return the hooks that keep an optimizer's limits, or None."""
    # private: PyTorch shows no hooks; run with torch 2.6.0 and 2.13.0
    hooks = optimizer._optimizer_step_pre_hooks.values()
    return next((hook.hooks for hook in hooks if isinstance(hook, _Hook)), None)


def step_groups(
    applied: Limited, learning_rate: float, *, model: torch.nn.Module | None = None
) -> list[dict[str, Any]]:
    """Return a model's parameters as groups for ``torch.optim``, each with its own learning rate and no hooks.

    For specs whose limits are of whole tensors, such as one limit for a part of all gates.  A scheduler that multiplies
    the rates multiplies those of the limited groups too.

    Args:
        applied: What ``critinit.apply``, ``critinit.initialize`` or ``critinit.step_limits`` returned.
        learning_rate: The rate of the other parameters.
        model: The model whose parameters are to be trained, where it is not ``applied.model`` but holds it or is a
            copy of it.

    Returns:
        One group of what no limit binds, with no rate of its own (the optimizer's counts), and one for each smaller
        limit.

    Raises:
        ArgumentError: A limit is of a part of a tensor.

    Example:
        optimizer = torch.optim.Adam(step_groups(applied, 0.01), lr=0.01)
    """
    whole = applied.model if model is None else model
    own, trained = (dict(m.named_parameters(remove_duplicate=False)) for m in (applied.model, whole))
    if not set(map(id, own.values())) & set(map(id, trained.values())):
        own = trained  # a copy
    rates = {id(own[name]): limit for name, limit in _whole(applied.limits, own) if limit < learning_rate}
    groups: dict[float | None, list[torch.nn.Parameter]] = {None: []}
    for parameter in whole.parameters():
        groups.setdefault(rates.get(id(parameter)), []).append(parameter)
    own_rate = {rate: {} if rate is None else {"lr": rate} for rate in groups}
    return [{"params": parameters, **own_rate[rate]} for rate, parameters in groups.items() if parameters]


def _whole(limits: Sequence[StepLimit], tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, float]]:
    """Each limited tensor with its one limit; raises where a part of it has another limit or none."""
    numbers: dict[str, Counter[float]] = {}
    for limit in limits:
        if limit.tensor not in tensors:
            raise not_found(limits, list(tensors))
        size = prod(_shape(tensors[limit.tensor].shape, limit.index))
        numbers.setdefault(limit.tensor, Counter())[limit.limit] += size
    for name, sizes in numbers.items():
        if len(sizes) > 1 or sizes.total() != tensors[name].numel():
            found = f"limits of parts of {name}"
            hint = "call critinit.limit_steps(optimizer, applied), which can limit parts"
            raise ArgumentError("applied", found=found, allowed="one limit for each limited tensor", hint=hint)
        yield name, next(iter(sizes))


def _pruned(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, a pruned one by the name that it had: torch's pruning keeps what is trained as ``NAME_orig``."""
    names = (name.removesuffix("_orig") for name in tensors if name.endswith("_orig"))
    before = {name: tensors[f"{name}_orig"] for name in names if f"{name}_mask" in tensors}
    return {**tensors, **before}


def _check_names(limits: Sequence[StepLimit], tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse a model in which a limited tensor is now computed from others, as its steps would have no limit."""
    lost = [name for name in dict.fromkeys(limit.tensor for limit in limits) if _is_computed(name, tensors)]
    if lost:
        found = f"none with the name{'s'[: len(lost) > 1]} {', '.join(lost)}, which a limit is for"
        hint = "the model changed since the spec was applied, by a parametrization perhaps; undo that"
        raise ArgumentError("model", found=found, allowed="a model that has every limited tensor", hint=hint)


def _is_computed(name: str, tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a model has other tensors in the place of one: those of a parametrization, or ``NAME_g`` and the like."""
    module, dot, own = name.rpartition(".")
    others = f"{module}{dot}parametrizations.{own}.", f"{name}_"
    return name not in tensors and any(tensor.startswith(others) for tensor in tensors)


def _refusal(optimizer: Optimizer) -> ArgumentError | None:
    """Why the steps of an optimizer cannot be limited, if they cannot."""
    names = [kind.__name__ for kind in type(optimizer).__mro__]
    reason = next((_REFUSED[name] for name in names if name in _REFUSED), "")
    if not reason and callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
        reason = _SCHEDULE_FREE
    if not reason and any(group.get("lr") is None for group in optimizer.param_groups):
        reason = "its groups state no learning rate: make it with lr=, if it takes one"
    if not reason and any(name.startswith(("Prodigy", "DAdapt")) for name in names):
        reason = _ESTIMATED
    if not reason:
        return None
    allowed = "an optimizer whose steps are proportional to its rate, such as Adam or SGD"
    return ArgumentError("optimizer", found=type(optimizer).__name__, allowed=allowed, hint=reason)


def _regions(
    limits: Sequence[StepLimit], tensors: Mapping[str, torch.Tensor]
) -> dict[int, tuple[torch.Tensor, list[tuple[Index, float]]]]:
    """By the parameter's id, the parameter (so that its id stays its own) and the limits of its local regions."""
    found: dict[int, tuple[torch.Tensor, list[tuple[Index, float]]]] = {}
    for limit in limits:
        tensor = tensors.get(limit.tensor)
        if tensor is not None:
            _shape(tensor.shape, limit.index, limit.tensor)
            _, own = found.setdefault(id(tensor), (tensor, []))
            own += [(region, limit.limit) for region in local_regions(tensor, limit.index)]
    return found


def _shape(shape: Sequence[int], index: Index, name: str = "") -> list[int]:
    """The shape of a region, a dropped axis as 1; raises where the tensor has no such region."""
    axes = [*index, *[slice(None)] * (len(shape) - len(index))]
    if len(axes) == len(shape) and all(_fits(axis, size) for axis, size in zip(axes, shape, strict=True)):
        pairs = zip(axes, shape, strict=True)
        return [len(range(size)[axis]) if isinstance(axis, slice) else 1 for axis, size in pairs]
    hint = "limits are for the tensors as they were when the spec was applied; FSDP with flat parameters has others"
    raise ArgumentError(
        name, found=f"a tensor of shape {tuple(shape)}", allowed=f"one with the region {index}", hint=hint
    )


def _fits(axis: slice | int, size: int) -> bool:
    return (axis.stop or 0) <= size if isinstance(axis, slice) else axis < size


class _Hooks:
    """The hooks of one optimizer, and the copies that they need between them."""

    def __init__(self) -> None:
        self.regions: dict[int, tuple[torch.Tensor, list[tuple[Index, float]]]] = {}
        self._kept: dict[tuple[int, int], torch.Tensor] = {}
        self._pending: list[tuple[torch.Tensor, torch.Tensor, Any]] = []

    def __getstate__(self) -> Any:
        return list(self.regions.values())  # ids are those of this process, and of these parameters

    def __setstate__(self, regions: Any) -> None:
        self.__init__()  # type: ignore[misc]
        self.regions = {id(own[0]): own for own in regions}

    @torch.no_grad()
    def before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Copy what is about to take too large a step."""
        self._pending = []
        for group in optimizer.param_groups:
            rate = group["lr"]
            on_device = isinstance(rate, torch.Tensor) and rate.device.type != "cpu"
            rate = rate if on_device else float(rate)  # a rate on a device is never waited for
            for parameter in group["params"]:
                if id(parameter) not in self.regions:
                    continue
                values = local(parameter)
                for number, (index, limit) in enumerate(self.regions[id(parameter)][1]):
                    if on_device or limit < rate:
                        region = values[index]
                        share = torch.clamp(limit / rate, max=1.0) if on_device else limit / rate
                        self._pending.append((region, self._copy((id(parameter), number), region), share))

    @torch.no_grad()
    def after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Shorten the steps."""
        for region, old, share in self._pending:
            if isinstance(share, torch.Tensor):
                share = share.to(region.device, region.dtype)
            torch.lerp(old, region, share, out=region)
        self._pending = []

    def _copy(self, key: tuple[int, int], region: torch.Tensor) -> torch.Tensor:
        kept = self._kept.get(key)
        if kept is None or (kept.shape, kept.dtype, kept.device) != (region.shape, region.dtype, region.device):
            kept = self._kept[key] = torch.empty_like(region)
        return kept.copy_(region)


class _Hook:
    """One of the hooks as PyTorch calls it; a compiled step calls it as it is."""

    def __init__(self, hooks: _Hooks, name: str) -> None:
        self.hooks, self._name = hooks, name
        self._call = torch.compiler.disable(getattr(hooks, name))

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._call(optimizer, args, kwargs)

    def __reduce__(self) -> Any:
        return _Hook, (self.hooks, self._name)


class _State:
    """What a copy or a pickle of an optimizer is made from: what PyTorch says, and the hooks that keep limits."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = ref(optimizer)  # which holds this

    def __call__(self) -> dict[str, Any]:
        optimizer = self._owner()
        kind: Any = type(optimizer)
        state = dict(kind.__getstate__(optimizer))
        for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
            own = next(hook for hook in getattr(optimizer, name).values() if isinstance(hook, _Hook))
            # PyTorch numbers hooks anew in each process, so a number might be given twice
            state[name] = OrderedDict([(_OURS, own)])
        return {**state, "__getstate__": self}

    def __deepcopy__(self, memo: dict[int, Any]) -> _State:
        owner = self._owner()
        return _State(memo.get(id(owner), owner))

    def __reduce__(self) -> Any:
        return _State, (self._owner(),)

    def _owner(self) -> Optimizer:
        owner = self._optimizer()
        if owner is None:
            raise ReferenceError("the optimizer is gone")
        return owner


_OURS = "critinit"
"""The key of the hooks in a copy."""
