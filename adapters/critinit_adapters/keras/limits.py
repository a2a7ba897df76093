"""Limits on the steps of Keras optimizers, on every backend: an optimizer that wraps another one.

The inner optimizer makes its step; the wrapper then shortens the step in the limited regions.  It is saved and loaded
with the model, as ``keras.optimizers.LossScaleOptimizer`` is.  The inner optimizer makes the same steps from then on,
so a loop that calls it trains with the limits too; but they are saved with the wrapper alone.

JAX and TensorFlow compile a model's training step once, with the limits of that time.  So ``limit_steps`` finds the
models that hold the optimizer, gives them the wrapper and compiles their steps anew.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from critinit.errors import ArgumentError
from critinit.tensors.application import StepLimit
from critinit.tensors.limiting import not_found, of_other_tensors
from critinit_adapters.keras.naming import variable_names
from critinit_adapters.shared.naming import located

__all__ = ["LimitedOptimizer", "limit_steps"]


def limit_steps(optimizer: Any, limits: Sequence[StepLimit], model: Any) -> Any:
    """Return an optimizer that wraps the given one and keeps limits.

    Args:
        optimizer: The optimizer.  One that limits already gets the new limits for the tensors that they name.
        limits: The limits.
        model: The model, or the layer.

    Raises:
        ArgumentError: The optimizer cannot keep limits, or the model has none of the limited variables.
    """
    if not limits:
        return optimizer
    names = variable_names(model.variables)
    if not {limit.tensor for limit in limits} & set(names.values()):
        raise not_found(limits, list(names.values()))
    limited = _limiting(optimizer, limits, names)
    models = _holders(_innermost(limited))
    for holder in models:
        if holder.compiled and holder.optimizer is not None and _innermost(holder.optimizer) is _innermost(limited):
            holder.optimizer = _limiting(holder.optimizer, limits, names)
            # private: what a saved model keeps of compile(); run with keras 3.12.0 and 3.15.1
            holder._compile_config.config["optimizer"] = holder.optimizer
        if holder.train_function is not None:  # it has the steps as they were; fit may be in the middle of its own
            holder.make_train_function(force=True)
    if not models and keras.backend.backend() != "torch" and int(limited.iterations) > 0:
        warnings.warn(
            "the optimizer has made steps, but no Keras model holds it: if you compiled the training step yourself "
            "(jax.jit, tf.function), compile it again, or it goes on without these limits",
            stacklevel=4,
        )
    return limited


def _innermost(optimizer: Any) -> Any:
    """The optimizer that makes the steps, inside those that scale the loss or limit."""
    while isinstance(optimizer, (LimitedOptimizer, keras.optimizers.LossScaleOptimizer)):
        optimizer = optimizer.inner_optimizer
    return optimizer


def _holders(innermost: Any) -> list[Any]:
    """The living models that have the optimizer, bare or wrapped, in an attribute.

    An optimizer knows no model, and the given model may be a layer of the one that trains: Python's list of all
    objects tells.
    """
    return [
        model
        for model in gc.get_objects()
        if keras.Model in type(model).__mro__ and any(_innermost(held) is innermost for held in vars(model).values())
    ]


def _limiting(optimizer: Any, limits: Sequence[StepLimit], names: Mapping[int, str]) -> Any:
    """The optimizer with limits; ``names`` are those of the model's variables by their ids."""
    if isinstance(optimizer, LimitedOptimizer):
        optimizer.limit(limits, names)
        return optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer.inner_optimizer = _limiting(optimizer.inner_optimizer, limits, names)
        return optimizer
    wrapper = getattr(vars(optimizer).get("apply"), "__self__", None)
    if isinstance(wrapper, LimitedOptimizer):  # the inner one of it
        return _limiting(wrapper, limits, names)
    limited = LimitedOptimizer(optimizer, limits, names=names)
    try:
        if optimizer.built:
            limited.build(optimizer._trainable_variables)
    except ArgumentError:  # of other variables
        del optimizer.apply, optimizer.get_config
        raise
    return limited


@dataclass(frozen=True, slots=True)
class _Limited:
    """A variable, and the limit of each of its numbers (infinite: none) in a shape that spreads over it."""

    variable: Any
    limits: NDArray[np.float64]


@keras.saving.register_keras_serializable("critinit")
class LimitedOptimizer(keras.optimizers.Optimizer):
    """An optimizer that shortens another one's steps where the learning rate is limited.

    Args:
        inner_optimizer: The optimizer that makes the steps.
        limits: The limits, or what ``get_config`` wrote of them.
        name: Its name.
        names: The names of variables by their ids; of others the path is the name.

    Raises:
        ArgumentError: The inner optimizer cannot keep limits.
    """

    def __init__(
        self, inner_optimizer: Any, limits: Sequence[Any], name: str | None = None, *, names: Any = None
    ) -> None:
        reason = _refusal(inner_optimizer)
        if reason:
            allowed = "an optimizer whose steps are proportional to its rate, such as Adam or SGD"
            raise ArgumentError("optimizer", found=type(inner_optimizer).__name__, allowed=allowed, hint=reason)
        super().__init__(learning_rate=0.0, name=name or "limited_optimizer")
        self.inner_optimizer = inner_optimizer
        self.limits = tuple(_limit(limit) for limit in limits)
        self.names = dict(names or {})
        self._limited: tuple[_Limited, ...] = ()
        inner_optimizer.apply = self.apply
        inner_optimizer.get_config = partial(_config_without_limits, inner_optimizer)

    def limit(self, limits: Sequence[StepLimit], names: Mapping[int, str]) -> None:
        """Take limits in; they take the place of others for the tensors that they name.

        Args:
            limits: The limits.
            names: The names of variables by their ids.
        """
        self.limits = (*of_other_tensors(self.limits, limits), *limits)
        self.names = {**self.names, **names}
        if self.built:
            self._limited = tuple(self._find(self._trainable_variables))

    def build(self, variables: Sequence[Any]) -> None:
        """Make the inner optimizer's variables, and find what is limited."""
        if self.built:
            return
        self._limited = tuple(self._find(variables))
        if not self._limited:
            raise not_found(self.limits, [variable.path for variable in variables])
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        super().build(variables)

    def _find(self, variables: Sequence[Any]) -> list[_Limited]:
        own = variable_names(variables)
        self.names = {id(variable): self.names.get(id(variable), own[id(variable)]) for variable in variables}
        # a saved model's paths can begin otherwise than those of the loaded one
        tensors = tuple(dict.fromkeys(limit.tensor for limit in self.limits))
        place = located(tuple(self.names.values()), tensors)
        found = []
        for variable in variables:
            limits = [limit for limit in self.limits if place.get(limit.tensor) == self.names[id(variable)]]
            if limits:
                found.append(_Limited(variable, _spread(variable.shape, limits)))
        return found

    @property
    def variables(self) -> list[Any]:
        """The inner optimizer's variables: its own count and rate say nothing, and fit can go on with as many."""
        return list(self.inner_optimizer.variables)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Make the inner optimizer's step, then shorten it."""
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        elif not self.built:
            self.build(self.inner_optimizer._trainable_variables)
        rate = ops.copy(ops.convert_to_tensor(self.inner_optimizer.learning_rate))
        before = [ops.copy(ops.convert_to_tensor(limited.variable)) for limited in self._limited]
        inner = self.inner_optimizer
        type(inner).apply(inner, grads, trainable_variables)
        for limited, old in zip(self._limited, before, strict=True):
            variable = limited.variable
            new = ops.convert_to_tensor(variable)
            limits = ops.convert_to_tensor(limited.limits.astype(variable.dtype))
            share = limits / ops.cast(rate, variable.dtype)
            variable.assign(ops.where(share < 1, old + share * (new - old), new))

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        self.inner_optimizer.learning_rate = rate

    @property
    def iterations(self) -> Any:
        """The number of the inner optimizer's steps."""
        return self.inner_optimizer.iterations

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Tell the inner optimizer, which is the one that decays weights."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def scale_loss(self, loss: Any) -> Any:
        """Scale the loss as the inner optimizer asks."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Leave the end of a training to the inner optimizer."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """Return what a saved model keeps."""
        if self.built:  # the names as they are found again from the paths alone
            paths = variable_names(self._trainable_variables)
            renamed = {name: paths[number] for number, name in self.names.items() if number in paths}
        else:
            renamed = {}
        return {
            "name": self.name,
            "inner_optimizer": _serialized(self.inner_optimizer),
            "limits": [
                {
                    "tensor": renamed.get(limit.tensor, limit.tensor),
                    "index": [[a.start, a.stop] if isinstance(a, slice) else a for a in limit.index],
                    "limit": limit.limit,
                }
                for limit in self.limits
            ],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> LimitedOptimizer:
        """Return the optimizer that ``get_config`` describes."""
        own = dict(config)
        inner = keras.saving.deserialize_keras_object(own.pop("inner_optimizer"), custom_objects=custom_objects)
        return cls(inner, **own)


def _serialized(optimizer: Any) -> Any:
    """What a saved model keeps of the inner optimizer beside its wrapper."""
    telling = vars(optimizer).pop("get_config")
    try:
        return keras.saving.serialize_keras_object(optimizer)
    finally:
        vars(optimizer)["get_config"] = telling


def _config_without_limits(optimizer: Any) -> Any:
    """What a saved model keeps of the inner optimizer, where it is saved without its wrapper."""
    warnings.warn(
        "the limits of this optimizer are not saved with it: compile the model with what critinit.limit_steps returned",
        stacklevel=2,
    )
    return type(optimizer).get_config(optimizer)


def _refusal(optimizer: Any) -> str:
    """Why the steps of an optimizer cannot be limited, or nothing."""
    if isinstance(optimizer, keras.optimizers.Ftrl):
        return "it computes weights anew from its sums at every step, and takes no step from where they are"
    if optimizer.use_ema:
        return "use_ema keeps an average of the weights, which would be that of steps without limits"
    return ""


def _limit(given: Any) -> StepLimit:
    """A limit, from itself or from what a saved model keeps."""
    if isinstance(given, StepLimit):
        return given
    index = tuple(slice(*axis) if isinstance(axis, (list, tuple)) else int(axis) for axis in given["index"])
    return StepLimit(given["tensor"], index, given["limit"])


def _spread(shape: Sequence[int], limits: Sequence[StepLimit]) -> NDArray[np.float64]:
    """The limit of each number; an axis along which all are the same is cut to 1."""
    full = np.full(tuple(shape), np.inf)
    for limit in limits:
        full[limit.index] = limit.limit
    for axis in range(full.ndim):
        first = full.take([0], axis=axis)
        full = first if (full == first).all() else full
    return full
