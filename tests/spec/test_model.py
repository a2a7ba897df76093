"""What a spec is: every gate required, nothing unknown, moments that follow; one clear line elsewhere."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import integrate

from critinit import cells
from critinit.errors import SpecError
from critinit.spec import InitSpec, Numbers, parse
from critinit.spec.distributions import bias_of_quantile, bias_quadrature, spread_moments
from critinit.spec.reading import MAX_BYTES, validate_object
from tests.spec.examples import gate, plain, plain_object, spread_lstm, spread_object

GATES = "layers.0.gates"


def changed(change: Callable[[Any], Any], cell: str = "gru") -> Any:
    value = copy.deepcopy(plain_object(cell))
    change(value)
    return value


def set_at(path: str, new: Any, cell: str = "gru") -> Any:
    value = copy.deepcopy(plain_object(cell))
    *steps, last = path.split(".")
    node = value
    for step in steps:
        node = node[int(step)] if isinstance(node, list) else node[step]
    node[last] = new
    return value


@pytest.mark.parametrize(("cell", "reset"), list(cells.CELLS))
def test_every_cell_has_its_own_model(cell: str, reset: str | None) -> None:
    spec = plain(cell, reset)
    assert isinstance(spec, InitSpec)
    assert spec.layers[0].gates.names() == cells.CELLS[cell, reset].gates
    assert spec.find_cell() is cells.CELLS[cell, reset]
    for name in spec.layers[0].gates.names():
        value = copy.deepcopy(plain_object(cell, reset))
        del value["layers"][0]["gates"][name]
        with pytest.raises(SpecError) as caught:
            validate_object(value)
        assert caught.value.problems[0].path == f"{GATES}.{name}"


@pytest.mark.parametrize(
    ("path", "value", "found", "allowed"),
    [
        ("T", 0, "0", "at least 1"),
        ("T", -5, "-5", "at least 1"),
        ("T", math.nan, "NaN", "an integer"),
        ("T", 7.0, "7.0", "an integer"),
        ("T", "7", '"7"', "an integer"),
        ("T", True, "true", "an integer"),
        ("T", 10**400, "1000", "at most 1000000000"),
        ("cell", "grru", '"grru"', "rnn, minimal_rnn, gru, lstm, peephole_lstm"),
        ("cell", ["gru"], "a list of 1", "rnn, minimal_rnn, gru, lstm, peephole_lstm"),
        ("reset", "sideways", '"sideways"', "'after' or 'before'"),
        ("schema_version", 2, "2", "1"),
        ("schema_version", 1.0, "1.0", "an integer"),
        ("schema_version", True, "true", "an integer"),
        ("scheme", "", '""', "at least 1"),
        ("layers", [], "a list of 0", "at least 1"),
        ("layers.0.input.variance", -1.0, "-1.0", "at least 0"),
        ("layers.0.input.variance", math.inf, "infinity", "finite"),
        ("layers.0.input.correlation", 1.5, "1.5", "at most 1"),
        (f"{GATES}.update.recurrent.variance", -0.5, "-0.5", "at least 0"),
        (f"{GATES}.update.recurrent.variance", math.nan, "NaN", "finite"),
        (f"{GATES}.update.recurrent.variance", 1e101, "1e+101", "at most 1e+100"),
        (f"{GATES}.update.recurrent.distribution", "gaussian", '"gaussian"', "'normal', 'uniform'"),
        (f"{GATES}.update.recurrent.variance", "1", '"1"', "a number"),
        (f"{GATES}.update.bias.distribution", "cauchy", '"cauchy"', "constant, normal, log_uniform_time"),
        (f"{GATES}.update.bias", 3, "3", "an object"),
        (f"{GATES}.update.bias.mean", 10**400, "1000", "a number of at most 1e100"),
        (f"{GATES}.update.bias.variance", 1.0, "1.0", "at most 0"),
        (f"{GATES}.update.bias.sigma", 1.0, "an unknown key", "remove it"),
        (f"{GATES}.forget", gate(), "an unknown key", "remove it"),
        (f"{GATES}.update.input.distribution", "orthogonal", '"orthogonal"', "normal, uniform, zero"),
        (f"{GATES}.update.input.distribution", "identity", '"identity"', "normal, uniform, zero"),
        (f"{GATES}.reset.input.distribution", "zero", "1.0", "a zero kernel has variance 0"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(path: str, value: Any, found: str, allowed: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate_object(set_at(path, value), "spec.json")
    problem = caught.value.problems[0]
    where = path.removesuffix("distribution") + "variance" if "zero kernel" in allowed else path
    assert problem.path == where
    assert problem.found.startswith(found)
    assert allowed in problem.allowed
    line = str(caught.value)
    assert line.startswith(f"spec.json: {where}: found {found}")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("bias", "path"),
    [
        ({"distribution": "log_uniform_time", "min_time": 10.0, "max_time": 2.0}, "max_time"),
        ({"distribution": "log_uniform_time", "min_time": 1.0, "max_time": 2.0}, "min_time"),
        ({"distribution": "uniform_time", "min_time": 2.0}, "max_time"),
        ({"distribution": "uniform_time", "min_time": 2.0, "max_time": 9.0, "mean": 0.0}, "mean"),
        ({"distribution": "uniform_gate", "min_time": 2.0, "max_time": 9.0, "variance": 9.0}, "variance"),
        ({"distribution": "coupled", "to": "update", "sign": 1}, "to"),
        ({"distribution": "coupled", "to": "nowhere", "sign": 1}, "to"),
        ({"distribution": "coupled", "to": "reset", "sign": 2}, "sign"),
        ({"distribution": "coupled", "to": "reset", "sign": 1.0}, "sign"),
        ({"distribution": "coupled", "to": "reset", "sign": -1, "mean": 0.5}, "mean"),
        ({"distribution": "normal", "mean": 0.0}, "variance"),
        ({}, "distribution"),
    ],
)
def test_a_bias_that_contradicts_itself_is_refused(bias: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate_object(set_at(f"{GATES}.update.bias", bias))
    assert caught.value.problems[0].path == f"{GATES}.update.bias.{path}"


def test_a_bias_cannot_follow_one_that_follows() -> None:
    value = plain_object("lstm")
    gates = value["layers"][0]["gates"]
    gates["input"] = gate({"distribution": "coupled", "to": "forget", "sign": -1})
    gates["forget"] = gate({"distribution": "coupled", "to": "cell", "sign": -1})
    with pytest.raises(SpecError, match=r"layers\.0\.gates\.input\.bias\.to: found \"forget\"; allowed: cell, output"):
        validate_object(value)


def test_several_problems_are_all_kept() -> None:
    value = set_at("T", 0) | {"colour": 1}
    value["layers"] = [*value["layers"], {"input": {"variance": -1}, "gates": {}}]
    with pytest.raises(SpecError) as caught:
        validate_object(value)
    assert {p.path for p in caught.value.problems} >= {
        "T",
        "colour",
        "layers.1.input.variance",
        "layers.1.gates.reset",
    }
    assert "more: " in str(caught.value)


def test_cells_without_a_reset_gate_take_no_reset() -> None:
    with pytest.raises(SpecError, match='reset: found "after"; this cell has no reset gate'):
        validate_object(plain_object("lstm") | {"reset": "after"})
    value = plain_object("gru")
    del value["reset"]
    with pytest.raises(SpecError, match="reset: found nothing; this field is required"):
        validate_object(value)


def test_square_input_kernels_are_for_further_layers() -> None:
    value = copy.deepcopy(plain_object("gru", layers=2))
    value["layers"][1]["gates"]["update"]["input"]["distribution"] = "orthogonal"
    assert validate_object(value).layers[1].gates["update"].input.distribution == "orthogonal"


def test_an_unknown_null_variance_counts_as_the_variance() -> None:
    assert plain().layers[0].input.null_variance == 2.0
    assert plain().layers[0].input.null_power == 2.0
    assert validate_object(set_at("layers.0.input.null_variance", 0.0)).layers[0].input.null_power == 0.0


def test_specs_are_immutable_and_hashable() -> None:
    spec = spread_lstm()
    with pytest.raises(Exception, match="frozen"):
        spec.T = 5
    with pytest.raises(Exception, match="frozen"):
        spec.layers[0].gates["forget"].bias.mean = 5.0
    assert len({spec, spread_lstm()}) == 1
    with pytest.raises(KeyError):
        spec.layers[0].gates["nowhere"]


def test_standard_errors_are_immutable_and_their_names_are_known() -> None:
    value = {
        "second_moment": 1.0,
        "chi": 0.5,
        "time_scale": 1.0,
        "retention": 0.1,
        "unit_time_constants": {"min": 1.0, "median": 1.0, "max": 1.0},
        "jacobian": {"mean_squared_singular_value": 0.5, "variance": 0.0},
        "standard_error": {"jacobian.variance": 0.1, "chi": 0.2},
    }
    numbers = Numbers.model_validate(value)
    assert numbers.standard_error is not None
    assert list(numbers.standard_error) == ["chi", "jacobian.variance"]
    with pytest.raises(TypeError, match="immutable"):
        numbers.standard_error["chi"] = 3.0
    with pytest.raises(TypeError, match="immutable"):
        numbers.standard_error.update(chi=3.0)
    value["standard_error"] = {"psi": 0.1}
    with pytest.raises(ValueError, match="the names second_moment"):
        Numbers.model_validate(value)


def test_the_moments_of_a_coupled_bias_follow_the_other() -> None:
    spec = spread_lstm()
    follower, leader = spec.layers[0].gates["input"].bias, spec.layers[0].gates["forget"].bias
    assert follower.mean == -leader.mean
    assert follower.variance == leader.variance


DENSITY_OF_TIME = {  # dP/dτ, up to its norm, from the definition and not from the code
    "log_uniform_time": lambda t: 1 / t,
    "uniform_time": lambda t: 1.0,
    "uniform_gate": lambda t: 1 / t**2,
}


@pytest.mark.parametrize("distribution", DENSITY_OF_TIME)
@pytest.mark.parametrize("times", [(1.05, 784.0), (2.0, 2.5), (1.001, 1e6), (30.0, 5000.0)])
def test_moments_of_a_spread_are_integrals_over_the_time_constant(
    distribution: str, times: tuple[float, float]
) -> None:
    density = DENSITY_OF_TIME[distribution]

    def average(power: int) -> float:  # in s = ln τ, where all is smooth
        def integrand(s: float) -> float:
            return density(math.exp(s)) * math.exp(s) * math.log(math.expm1(s)) ** power

        ends = [math.log(t) for t in times]
        knots = sorted({*ends, *(k for k in (0.01, 0.1, 1.0, 4.0, 8.0, 12.0) if ends[0] < k < ends[1])})
        pieces = itertools.pairwise(knots)
        return sum(integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-11)[0] for a, b in pieces)

    norm = average(0)
    mean = average(1) / norm
    variance = average(2) / norm - mean**2
    got = spread_moments(distribution, *times)
    assert got == pytest.approx((mean, variance), rel=1e-6, abs=1e-8)
    nodes, weights = bias_quadrature(distribution, *times, 64)
    assert float(weights @ nodes) == pytest.approx(mean, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("distribution", DENSITY_OF_TIME)
def test_quantiles_of_a_spread_have_its_moments(distribution: str) -> None:
    q = (np.arange(200_000) + 0.5) / 200_000
    b = bias_of_quantile(distribution, 1.5, 300.0, q)
    assert np.all(np.diff(b) > 0)
    assert (b.mean(), b.var()) == pytest.approx(spread_moments(distribution, 1.5, 300.0), rel=1e-4)


def test_stated_moments_are_held_to_the_times() -> None:
    value = spread_object()
    dumped = json.loads(validate_object(value).to_json())
    assert parse(json.dumps(dumped)) == validate_object(value)
    dumped["layers"][0]["gates"]["forget"]["bias"]["max_time"] = 700.0
    with pytest.raises(SpecError, match="the moments of this distribution between its times"):
        parse(json.dumps(dumped))


def test_a_file_larger_than_the_limit_is_refused() -> None:
    with pytest.raises(SpecError, match="a spec has at most 4,194,304"):
        parse(b" " * (MAX_BYTES + 1))


@pytest.mark.parametrize("value", [None, [], 3, "gru", [{}], True])
def test_json_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        validate_object(value)
    assert "object" in str(caught.value)
