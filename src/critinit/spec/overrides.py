"""Changing values of a spec by path: ``layers.0.gates.update.bias.mean=3``.

A setting names a field, or a whole part as JSON; ``*`` stands for every layer or gate.  What follows from
other fields follows the change:

- the moments of spread and coupled biases are computed anew;
- the ``mean`` of a spread bias moves its ``max_time``; its ``variance`` cannot be set;
- another ``distribution`` of a bias keeps what the new one has in common with the old, its mean above all;
- ``input.null_variance`` follows ``input.variance`` while the two are equal, for unknown counts as equal.

The result says ``"scheme": "custom"``, has no target, and nothing is predicted of it yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

from pydantic import BaseModel

from critinit.errors import ArgumentError, SpecError
from critinit.spec.distributions import SPREAD_DENSITY, Kernel, spread_moments
from critinit.spec.model import Gate, InitSpec, Input
from critinit.spec.reading import decode, show, validate_object

__all__ = ["override"]

_LONGEST = 1e15
"""The largest time constant that a spec allows."""

_FIXED = {
    "schema_version": "it is the version of the format",
    "cell": "choose it with --cell",
    "scheme": "choose it with --scheme; a spec with set values says custom",
    "target": "it belongs to the scheme; a spec with set values has none",
    "predicted": "it is computed for what is written",
}

_BIAS_KEYS = {
    "constant": ("distribution", "mean", "variance"),
    "normal": ("distribution", "mean", "variance"),
    "coupled": ("distribution", "to", "sign", "mean", "variance"),
    **dict.fromkeys(SPREAD_DENSITY, ("distribution", "min_time", "max_time", "mean", "variance")),
}

# length of the path to a node -> its model: layers.0.gates.update, layers.0.gates.update.recurrent
_MODELS: dict[int, type[BaseModel]] = {4: Gate, 5: Kernel}


def override(spec: InitSpec, settings: Iterable[str]) -> InitSpec:
    """``spec`` with every ``PATH=VALUE`` of ``settings`` set, in their order; VALUE is JSON or else a string.

    Raises ``ArgumentError`` where a path or value cannot be set and ``SpecError`` where the outcome is no
    valid spec; both name the path, what was found and what is allowed.
    """
    data = spec.model_dump(mode="json")
    for layer in data["layers"]:
        for gate in layer["gates"].values():
            _forget_moments(gate["bias"])
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ArgumentError(f"{show(setting)}: found no '='; allowed: PATH=VALUE")
        value = _value(path, text)
        for node, key, where in _places(data, path):
            _set(data, node, key, where, value)
    data["scheme"] = "custom"
    data.pop("target", None)
    for layer in data["layers"] if isinstance(data["layers"], list) else ():
        if isinstance(layer, dict):
            layer.pop("predicted", None)
    return validate_object(data)


def _value(path: str, text: str) -> Any:
    try:
        return decode(text)
    except SpecError as error:
        if text.lstrip()[:1] in ("{", "["):
            problem = error.problems[0]
            raise ArgumentError(f"{path}: found {problem.found}; allowed: one JSON value") from None
        return text


def _places(data: Any, path: str) -> Iterator[tuple[Any, Any, list[str]]]:
    """Node, key and full path of every place that ``path`` names; raises ``ArgumentError`` where none is."""
    steps = path.split(".")
    fixed = "predicted" if steps[2:3] == ["predicted"] else steps[0]
    if fixed in _FIXED:
        raise ArgumentError(f"{path}: cannot be set; {_FIXED[fixed]}")
    # the list is complete before the first change
    yield from list(_walk(data, steps, []))


def _walk(node: Any, steps: list[str], done: list[str]) -> Iterator[tuple[Any, Any, list[str]]]:
    step, *rest = steps
    keys = _keys(node, done)
    if not keys:
        raise ArgumentError(f"{_path(*done, step)}: found no such field; {_path(*done)} has none below it")
    if step not in keys and not (step == "*" and _is_collection(node, done)):
        allowed = list(keys) if len(keys) <= 12 else [keys[0], "…", keys[-1]]
        raise ArgumentError(f"{_path(*done, step)}: found {show(step)}; allowed: {', '.join(allowed)}")
    for name in keys if step == "*" else (step,):
        key: Any = int(name) if isinstance(node, list) else name
        where = [*done, name]
        if not rest:
            yield node, key, where
        else:
            child = node[key] if isinstance(node, list) else node.get(key)
            yield from _walk(child, rest, where)


def _path(*steps: str) -> str:
    return ".".join(steps)


def _is_collection(node: Any, done: list[str]) -> bool:
    return isinstance(node, list) or done[2:] == ["gates"]


def _keys(node: Any, done: list[str]) -> tuple[str, ...]:
    """The keys that can be set in the node of the spec's JSON that stands at ``done``."""
    if isinstance(node, list):
        return tuple(str(n) for n in range(len(node)))
    if not isinstance(node, dict):
        return ()
    if done[4:] == ["bias"]:
        return _BIAS_KEYS.get(str(node.get("distribution")), tuple(node))
    model: type[BaseModel] | None = Input if done[2:] == ["input"] else _MODELS.get(len(done))
    if model is not None:
        return tuple(model.model_fields)
    return tuple(key for key in node if key not in _FIXED or done[2:] == ["gates"])


def _set(data: Any, node: Any, key: Any, where: list[str], value: Any) -> None:
    part = where[-2] if len(where) > 1 else ""
    if part == "bias":
        _set_bias(data, node, key, where, value)
        return
    if where[2:] == ["input", "variance"] and node.get("null_variance") == node.get("variance"):
        node["null_variance"] = value
    if part in ("input", "recurrent") and key == "distribution" and value == "zero":
        node["variance"] = 0.0
    node[key] = value


def _set_bias(data: Any, bias: dict[str, Any], key: str, where: list[str], value: Any) -> None:
    kind = str(bias.get("distribution"))
    path = _path(*where)
    if key in ("mean", "variance") and kind == "coupled":
        raise ArgumentError(f"{path}: follows the bias of {bias.get('to')}; set that one's")
    if key == "variance" and kind in SPREAD_DENSITY:
        raise ArgumentError(f"{path}: follows min_time and max_time of {kind}; set those")
    if key == "mean" and kind in SPREAD_DENSITY:
        bias["max_time"] = _longest_time(kind, bias.get("min_time"), value, path)
        bias["mean"] = value
        bias.pop("variance", None)
    elif key == "distribution":
        _change_distribution(data, bias, where, value)
    else:
        bias[key] = value
        _forget_moments(bias)


def _forget_moments(bias: dict[str, Any]) -> None:
    """Drop the moments that validation computes."""
    if str(bias.get("distribution")) in (*SPREAD_DENSITY, "coupled"):
        bias.pop("mean", None)
        bias.pop("variance", None)


def _change_distribution(data: Any, bias: dict[str, Any], where: list[str], value: Any) -> None:
    mean, variance = _current_moments(data, bias, where)
    known = _BIAS_KEYS.get(value, tuple(bias)) if isinstance(value, str) else tuple(bias)
    for key in [key for key in bias if key not in known]:
        del bias[key]
    bias["distribution"] = value
    if value in ("constant", "normal"):
        bias["mean"] = mean
        bias["variance"] = variance if value == "normal" else 0.0
    else:
        _forget_moments(bias)


def _current_moments(data: Any, bias: dict[str, Any], where: list[str]) -> tuple[Any, Any]:
    """Mean and variance of a bias, stated or computed; None where they cannot be."""
    kind = str(bias.get("distribution"))
    if kind == "coupled":
        other = data["layers"][int(where[1])]["gates"].get(str(bias.get("to")))
        followed = other.get("bias") if isinstance(other, dict) else None
        if not isinstance(followed, dict) or followed.get("distribution") == "coupled":
            return None, None
        mean, variance = _current_moments(data, followed, where)
        return (-mean if bias.get("sign") == -1 and type(mean) in (int, float) else mean), variance
    if kind in SPREAD_DENSITY:
        shortest, longest = bias.get("min_time"), bias.get("max_time")
        if not (_is_time(shortest) and _is_time(longest)):
            return None, None
        mean, variance = spread_moments(kind, float(shortest), float(longest))
        return float(f"{mean:.12g}"), float(f"{variance:.12g}")
    return bias.get("mean"), bias.get("variance", 0.0)


def _is_time(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(value) and 1.0 < value <= _LONGEST


def _longest_time(kind: str, shortest: Any, mean: Any, path: str) -> float:
    """The max_time that gives a spread bias from ``shortest`` on this mean: bisection in ln(max_time − 1)."""
    if type(mean) not in (int, float) or not math.isfinite(mean):
        raise ArgumentError(f"{path}: found {show(mean)}; allowed: a finite number")
    if not _is_time(shortest):
        raise ArgumentError(f"{path}: needs a min_time; found {show(shortest)}; allowed: more than 1")

    def mean_up_to(log_time: float) -> float:
        return spread_moments(kind, float(shortest), 1.0 + math.exp(log_time))[0]

    low, high = math.log(shortest - 1.0), math.log(_LONGEST - 1.0)
    least, most = mean_up_to(low), mean_up_to(high)
    if not least <= mean <= most:
        allowed = f"{least:.6g} to {most:.6g} for {kind} from min_time {shortest:.6g}"
        raise ArgumentError(f"{path}: found {show(mean)}; allowed: {allowed}")
    while high - low > 1e-15 * max(1.0, abs(low)):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if mean_up_to(middle) < mean else (low, middle)
    return min(1.0 + math.exp(0.5 * (low + high)), _LONGEST)
