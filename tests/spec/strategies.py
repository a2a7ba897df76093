"""Hypothesis strategies: arbitrary valid specs, and ways to spoil one."""

from __future__ import annotations

import copy
import math
from typing import Any

from hypothesis import strategies as st

from critinit.cells import CELLS, Cell
from critinit.distributions import BIASES, SpreadBias
from critinit.spec.model import GAINS

SPREADS = tuple(name for name, kind in BIASES.built_in.items() if issubclass(kind, SpreadBias))
SMALL = st.floats(min_value=0, max_value=1e6, allow_subnormal=False)
SIGNED = st.floats(min_value=-50, max_value=50) | st.just(-0.0)
TIMES = st.floats(min_value=1.001, max_value=1e6)


@st.composite
def kernels(draw: st.DrawFn, *, square: bool = True) -> dict[str, Any]:
    names = ["normal", "uniform", "truncated_normal", "zero"]
    names += ["orthogonal", "identity", "spectral_radius"] if square else []
    name = draw(st.sampled_from(names))
    value: dict[str, Any] = {"distribution": name}
    if name == "spectral_radius":
        value |= {"spectral_radius": draw(SMALL), "density": draw(st.floats(min_value=1e-3, max_value=1))}
    else:
        value["variance"] = 0.0 if name == "zero" else draw(SMALL)
    if square and name in ("normal", "uniform", "truncated_normal") and draw(st.booleans()):
        value["fan"] = draw(st.sampled_from(["in", "out", "average"]))
    if name == "truncated_normal" and draw(st.booleans()):
        value["cut"] = draw(st.floats(min_value=0.1, max_value=10))
    return value | draw(limits())


@st.composite
def limits(draw: st.DrawFn) -> dict[str, Any]:
    """A limit on the learning rate, now and then."""
    rates = st.none() | st.floats(min_value=1e-6, max_value=1, exclude_min=True)
    return {"max_learning_rate": draw(rates)} if draw(st.integers(0, 3)) == 0 else {}


@st.composite
def projections(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(["normal", "uniform", "truncated_normal", "orthogonal"]))
    width = draw(st.floats(min_value=1e-3, max_value=1))
    return {"kernel": {"distribution": name, "variance": draw(SMALL)}, "width": width}


@st.composite
def free_biases(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(["constant", "normal", *SPREADS]))
    limit = draw(limits())
    if name == "constant":
        return {"distribution": name, "mean": draw(SIGNED)} | limit
    if name == "normal":
        return {"distribution": name, "mean": draw(SIGNED), "variance": draw(SMALL)} | limit
    low, high = sorted((draw(TIMES), draw(TIMES)))
    return {"distribution": name, "min_time": low, "max_time": high} | limit


@st.composite
def gates(draw: st.DrawFn, cell: Cell, *, first: bool) -> dict[str, Any]:
    names, own_width = cell.gates, cell.projects or cell.normalized
    biases = {name: draw(free_biases()) for name in names}
    if len(names) > 1 and draw(st.booleans()):
        follower, leader = draw(st.permutations(names))[:2]
        biases[follower] = {"distribution": "coupled", "to": leader, "sign": draw(st.sampled_from([-1, 1]))}
    return {
        name: {
            "recurrent": draw(kernels(square=not own_width)),
            "input": draw(kernels(square=not first and not own_width)),
            "bias": biases[name],
            **({gain: draw(SMALL) for gain in GAINS} if cell.normalized else {}),
        }
        for name in names
    }


@st.composite
def numbers(draw: st.DrawFn, cell: str) -> dict[str, Any]:
    chi = draw(st.floats(min_value=0, max_value=4))
    value: dict[str, Any] = {
        "second_moment": draw(SMALL),
        "chi": chi,
        "time_scale": None if chi >= 1 else draw(SMALL),
        "chi_over_T": draw(SMALL),
        "time_scale_over_T": draw(st.none() | SMALL),
        "retention": draw(SMALL),
        "unit_time_constants": {name: draw(SMALL) for name in ("min", "median", "max")},
        "jacobian": {"mean_squared_singular_value": draw(SMALL), "variance": draw(SMALL)},
    }
    if cell == "lstm":
        value["cell_second_moment"] = draw(SMALL)
    if draw(st.booleans()):
        value["standard_error"] = {"chi": draw(SMALL), "time_scale": None}
    if draw(st.booleans()):
        value["notes"] = draw(st.lists(st.text(min_size=1, max_size=20, alphabet=_LETTERS), max_size=2))
    return value


_LETTERS = st.characters(exclude_categories=["Cs"])


@st.composite
def paddings(draw: st.DrawFn) -> dict[str, Any] | None:
    """What is known of padding: nothing, or its power and perhaps that it is all alike."""
    value = {"variance": draw(SMALL)} | ({"constant": draw(st.booleans())} if draw(st.booleans()) else {})
    return draw(st.sampled_from([None, value]))


@st.composite
def groups(draw: st.DrawFn, one: st.SearchStrategy[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of units whose shares add up to 1, by eighths."""
    first = draw(st.integers(1, 8))
    shares = [first / 8, 1 - first / 8] if first < 8 else [1.0]
    return [{"name": name, "share": share, "gates": draw(one)} for name, share in zip("ab", shares, strict=False)]


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """What a spec may have been generated with: any JSON object of a few levels."""
    leaves = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | SIGNED | st.text(max_size=4, alphabet=_LETTERS)
    keys = st.text(max_size=4, alphabet=_LETTERS)
    values = leaves | st.lists(leaves, max_size=2) | st.dictionaries(keys, leaves, max_size=2)
    return draw(st.dictionaries(keys, values, max_size=4))


@st.composite
def spec_objects(draw: st.DrawFn) -> dict[str, Any]:
    """The JSON value of a valid spec, derived fields now stated, now left out."""
    name = draw(st.sampled_from(list(CELLS.built_in)))
    cell = CELLS.built_in[name]
    layers = []
    for index in range(draw(st.integers(1, 3))):
        source: dict[str, Any] = {"variance": draw(SMALL)}
        if draw(st.booleans()):
            source |= {"correlation": draw(st.floats(min_value=0, max_value=1)), "padding": draw(paddings())}
        layer: dict[str, Any] = {"input": source}
        one = gates(cell, first=index == 0)
        if draw(st.integers(0, 3)) == 0 and not cell.normalized:
            layer["groups"] = draw(groups(one))
        else:
            layer["gates"] = draw(one)
        if cell.projects:
            layer["projection"] = draw(projections())
        if cell.normalized and cell.has_readout:
            layer["memory_gain"] = draw(SMALL if cell.keeps_normalized else st.none() | SMALL)
        if draw(st.booleans()):
            layer["predicted"] = {
                "untied": draw(st.sampled_from([None, {}])),
                "tied": draw(numbers(name)),
            }
        layers.append(layer)
    value: dict[str, Any] = {
        "schema_version": 1,
        "cell": name,
        "scheme": draw(st.text(min_size=1, max_size=20, alphabet=_LETTERS)),
        "T": draw(st.integers(1, 10**9)),
        "layers": layers,
    }
    if draw(st.booleans()):
        value["generated"] = {"critinit": "0.2.0", "arguments": draw(arguments())}
    if draw(st.booleans()):
        value["description"] = draw(st.text(max_size=20, alphabet=_LETTERS))
    if draw(st.booleans()):
        value["target"] = {
            "quantity": "time_scale",
            "wanted": draw(SMALL),
            "reached": None,
            "limit": "chi is 1",
        }
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node of a JSON value, the root's being ()."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        found += places(child, (*path, key))
    return found


ODDITIES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 10**400, -(10**30), -1, 0, 1, 1.0, 0.5, -0.0]
    ),
    st.text(max_size=5),
    st.sampled_from(["", "\ud800", "gru", "lstm", "zero", "coupled", "orthogonal", "log_uniform_time", "update"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """A spec's JSON value with a few nodes deleted, replaced, renamed or added."""
    value = copy.deepcopy(draw(spec_objects()))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(value)))
        if not path:
            if draw(st.integers(0, 20)) == 0:
                return draw(ODDITIES)
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        change = draw(st.sampled_from(["delete", "replace", "add", "copy"]))
        if change == "delete":
            del parent[path[-1]]
        elif change == "replace":
            parent[path[-1]] = draw(ODDITIES)
        elif change == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=4))] = draw(ODDITIES)
        elif change == "copy":
            parent[path[-1]] = copy.deepcopy(value if len(path) < 3 else parent)
    return value
