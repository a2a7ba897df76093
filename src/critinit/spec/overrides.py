"""Changing values of a spec by path: ``layers.0.gates.update.bias.mean=3``.

A setting names a field, or a whole part as JSON; ``*`` stands for every layer, group or gate, and a group of units may
be called by its name or its number.  What follows from other fields follows the change:

- the moments of spread and coupled biases, and the variance of a spectral radius, are computed anew;
- the ``mean`` of a spread bias moves its ``max_time``; its ``variance`` cannot be set;
- another ``distribution`` keeps what the new one has in common with the old, a bias's mean above all.

The result says ``"scheme": "custom"`` unless a setting names the scheme.  It has no target, nothing is predicted of it
yet, and it no longer says what generated it or, unless a setting describes it, which scheme that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from critinit.distributions import BIASES, KERNELS, Bias, Kernel
from critinit.distributions.numbers import LARGEST
from critinit.errors import ArgumentError, SpecError
from critinit.plugins import Registry
from critinit.spec.model import GAINS, Gate, Gates, InitSpec, Input, Padding, Projection
from critinit.spec.reading import decode, show, validate_object

__all__ = ["CUSTOM", "override"]

CUSTOM = "custom"
"""The scheme of a spec whose values were set."""

_FIXED = {
    "schema_version": "it is the version of the format",
    "cell": "choose it with --cell",
    "target": "it belongs to the scheme; a spec with set values has none",
    "predicted": "it is computed for what is written",
    "generated": "it records what made the spec",
    "groups": "it is a list; set the values in it",
}
_FREE = ("scheme", "description")
"""Texts that a setting may give to a spec, so that a scheme of one's own has a name."""
_OBJECTS: dict[str, type[BaseModel]] = {"input": Input, "padding": Padding, "projection": Projection}
"""The objects of a layer that a setting can name or look into."""
_LONG_LIST = 12
"""Keys that a message lists one by one."""


def override(spec: InitSpec, settings: Iterable[str]) -> InitSpec:
    """Return ``spec`` with every ``PATH=VALUE`` of ``settings`` set, in their order; VALUE is JSON or else a string.

    Args:
        spec: The spec.
        settings: For example ``layers.*.gates.update.bias.mean=3``.

    Raises:
        ArgumentError: A path or value cannot be set.
        SpecError: The outcome is no valid spec.

    Example:
        >>> from critinit import generate
        >>> changed = override(generate("gru", T=50, scheme="orthogonal"), ["layers.0.gates.update.bias.mean=3"])
        >>> changed.layers[0].gates["update"].bias.mean
        3.0
    """
    data = spec.to_dict()
    for part, node in _distributions(data):
        _forget_derived(part, node)
    given: dict[str, str] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ArgumentError(show(setting), found="no '='", allowed="PATH=VALUE")
        if path in _FREE:
            given[path] = text
            continue
        value = _value(path, text)
        for node, key, where in _places(data, path):
            _set(data, node, key, where, value)
    data |= {"scheme": CUSTOM, "description": None, "generated": None, "target": None} | given
    for layer in data["layers"] if isinstance(data["layers"], list) else ():
        if isinstance(layer, dict):
            layer.pop("predicted", None)
    return validate_object(data)


def _value(path: str, text: str) -> Any:
    try:
        return decode(text)
    except SpecError as error:
        if text.lstrip()[:1] in ("{", "["):
            raise ArgumentError(path, found=error.found, allowed="one JSON value") from None
        return text


def _gates(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The gates of every layer and group."""
    for layer in data["layers"]:
        for group in layer.get("groups", [layer]):
            yield group["gates"]


def _distributions(data: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every distribution with the part that it is of."""
    for gates in _gates(data):
        for gate in gates.values():
            yield from ((part, node) for part, node in gate.items() if isinstance(node, dict))


def _registry(part: str) -> Registry[type[Kernel]] | Registry[type[Bias]]:
    """The distributions that a part can have."""
    return BIASES if part == "bias" else KERNELS


# ---- places ----------------------------------------------------------------------------------------------


def _places(data: Any, path: str) -> Iterator[tuple[Any, Any, list[str]]]:
    """Node, key and full path of every place that ``path`` names; raises ``ArgumentError`` where none is."""
    steps = path.split(".")
    fixed = steps[2] if steps[2:] == ["groups"] or steps[2:3] == ["predicted"] else steps[0]
    if fixed in _FIXED:
        raise ArgumentError(path, hint=f"cannot be set; {_FIXED[fixed]}")
    # the list is complete before the first change
    yield from list(_walk(data, steps, []))


def _walk(node: Any, steps: list[str], done: list[str]) -> Iterator[tuple[Any, Any, list[str]]]:
    if done[-1:] == ["groups"] and isinstance(node, list):
        steps = _by_number(node, steps, done)
    step, *rest = steps
    keys = _keys(node, done)
    where = ".".join((*done, step))
    if not keys:
        none = "is null; set it as a whole" if node is None else "has none below it"
        raise ArgumentError(where, found="no such field", hint=f"{'.'.join(done)} {none}")
    if step not in keys and not (step == "*" and _is_collection(node, done)):
        allowed = list(keys) if len(keys) <= _LONG_LIST else [keys[0], "…", keys[-1]]
        raise ArgumentError(where, found=show(step), allowed=", ".join(allowed), hint=_grouping(keys, done, step))
    for name in keys if step == "*" else (step,):
        key: Any = int(name) if isinstance(node, list) else name
        if not rest:
            yield node, key, [*done, name]
        else:
            child = node[key] if isinstance(node, list) else node.get(key)
            yield from _walk(child, rest, [*done, name])


def _grouping(keys: tuple[str, ...], done: list[str], step: str) -> str:
    """How the gates of a layer are named, where a setting takes a layer of groups for one without, or the reverse."""
    layer = ".".join(done)
    if step == "gates" and "groups" in keys:
        return f"its units are in groups: {layer}.groups.NAME.gates, or * for every group"
    return f"its units are in no groups: {layer}.gates" if step == "groups" and "gates" in keys else ""


def _by_number(groups: list[Any], steps: list[str], done: list[str]) -> list[str]:
    """The steps below a list of groups with a group's number in the place of its name, which may have dots."""
    numbers = _keys(groups, done)
    names = [group.get("name") if isinstance(group, dict) else None for group in groups]
    listed = ", ".join(f"{number} ({name})" for number, name in zip(numbers, names, strict=True))
    for length in range(len(steps), 0, -1):
        name = ".".join(steps[:length])
        found = [number for number, other in zip(numbers, names, strict=True) if other == name != "*"]
        if len(found) > 1 or (found and name in numbers and found != [name]):
            said = "the name of several groups" if len(found) > 1 else "the number of one group and the name of another"
            hint = "give them other names: set their name"
            raise ArgumentError(".".join((*done, name)), found=f"{said}: {listed}", allowed="one group", hint=hint)
        if found:
            return [*found, *steps[length:]]
    if steps[0] in (*numbers, "*"):
        return steps
    raise ArgumentError(".".join((*done, steps[0])), found=show(steps[0]), allowed=f"{listed}, or * for all")


def _is_collection(node: Any, done: list[str]) -> bool:
    return isinstance(node, list) or done[-1:] == ["gates"]


def _model(node: Mapping[str, Any], done: list[str]) -> type[BaseModel] | None:
    """The model of the object that stands at ``done``; None where its own keys are all there are."""
    last, above = done[-1] if done else "", done[-2] if len(done) > 1 else ""
    if above == "gates":
        return Gate
    if last in ("bias", "recurrent", "kernel") or (last == "input" and len(done) > 3):
        return _registry(last).find(str(node.get("distribution")))
    return _OBJECTS.get(last)


def _keys(node: Any, done: list[str]) -> tuple[str, ...]:
    """The keys that can be set in the node of the spec's JSON that stands at ``done``."""
    if isinstance(node, list):
        return tuple(str(n) for n in range(len(node)))
    if not isinstance(node, dict):
        return ()
    model = _model(node, done)
    if model is not None:
        return tuple(model.model_fields)
    if done[-1:] == ["gates"]:
        return tuple(node)
    keys = tuple(key for key in node if key not in _FIXED or key == "groups")
    gates = node.get("gates", {})
    has_gains = isinstance(gates, dict) and any(GAINS[0] in gate for gate in gates.values() if isinstance(gate, dict))
    return (*keys, "memory_gain") if has_gains and "memory_gain" not in node else keys


# ---- values ----------------------------------------------------------------------------------------------


def _set(data: Any, node: Any, key: Any, where: list[str], value: Any) -> None:
    if where[-2:-1] == ["bias"] and where[-4:-3] == ["gates"]:
        _set_bias(data, node, key, where, value)
        return
    if isinstance(node, dict) and "distribution" in node:
        if key == "distribution":
            _keep_common(node, KERNELS.find(value) if isinstance(value, str) else None)
        elif key != "variance":
            _forget_derived("kernel", node)
    node[key] = value


def _keep_common(node: dict[str, Any], kind: type[Kernel] | type[Bias] | None) -> None:
    """Drop what the new distribution has no key for, and a variance that it does not have."""
    if kind is None:
        return
    for key in [key for key in node if key not in kind.model_fields]:
        del node[key]
    if "variance" in kind.derived or not kind.model_fields["variance"].is_required():
        node.pop("variance", None)


def _forget_derived(part: str, node: dict[str, Any]) -> None:
    """Drop what validation computes from the other keys."""
    kind = _registry(part).find(str(node.get("distribution")))
    for key in () if kind is None else kind.derived:
        node.pop(key, None)


def _set_bias(data: Any, bias: dict[str, Any], key: str, where: list[str], value: Any) -> None:
    kind = BIASES.find(str(bias.get("distribution")))
    path = ".".join(where)
    if kind is not None and key in kind.derived and "to" in kind.model_fields:
        raise ArgumentError(path, hint=f"follows the bias of {bias.get('to')}; set that one's")
    if kind is not None and key in kind.derived and key == "variance":
        raise ArgumentError(path, hint=f"follows min_time and max_time of {bias['distribution']}; set those")
    if kind is not None and key in kind.derived:
        _move_mean(kind, bias, value, path)
    elif key == "distribution":
        _change_distribution(data, bias, where, value)
    else:
        bias[key] = value
        _forget_derived("bias", bias)


def _move_mean(kind: type[Bias], bias: dict[str, Any], mean: Any, path: str) -> None:
    if type(mean) not in (int, float) or not abs(mean) <= LARGEST:  # which NaN is not, nor what no float holds
        raise ArgumentError(path, found=show(mean), allowed="a finite number")
    try:
        moved = kind.model_validate(bias).with_mean(float(mean)).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ArgumentError(path, hint=f"needs a valid {place}; found {show(first['input'])}") from None
    except ArgumentError as error:
        raise ArgumentError(path, found=show(mean), allowed=error.allowed, hint=error.hint) from None
    bias.update(moved)
    bias.pop("variance", None)


def _change_distribution(data: Any, bias: dict[str, Any], where: list[str], value: Any) -> None:
    mean, variance = _current_moments(data, bias, where)
    kind = BIASES.find(value) if isinstance(value, str) else None
    _keep_common(bias, kind)
    bias["distribution"] = value
    if kind is None:
        return
    if kind.derived:
        _forget_derived("bias", bias)
    else:
        bias["mean"] = mean
        bias["variance"] = variance if kind.model_fields["variance"].is_required() else 0.0


def _current_moments(data: Any, bias: dict[str, Any], where: list[str]) -> tuple[Any, Any]:
    """Mean and variance of a bias, stated or computed; None where they cannot be."""
    node: Any = data
    for step in where[:-3]:
        node = node[int(step)] if isinstance(node, list) else node[step]
    try:
        gate = where[-3]
        biases = {name: {"bias": parts["bias"]} for name, parts in node.items()}
        blank = {"recurrent": {"distribution": "zero"}, "input": {"distribution": "zero"}}
        needed = {gate, bias.get("to", gate)}
        gates = {name: Gate.model_validate({**blank, **biases[name]}) for name in needed}
        followed = Gates(gates).followed(gate)
        mean, variance = followed[1].moments
        return followed[0] * mean, variance
    except (ValidationError, ArgumentError, KeyError, TypeError, AttributeError):
        return bias.get("mean"), bias.get("variance", 0.0)
