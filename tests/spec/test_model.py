"""What a spec is: every gate required, nothing unknown, moments that follow; one clear line elsewhere."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from critinit import generate
from critinit.cells import CELLS
from critinit.distributions import BIASES, ConstantBias, CoupledBias, NormalBias, NormalKernel
from critinit.errors import ArgumentError, SpecError
from critinit.spec import Gate, Gates, Generated, InitSpec, Layer, Numbers, Padding, parse
from critinit.spec.reading import MAX_BYTES, validate_object
from critinit.theory.analysis import predict
from tests.spec.examples import gate, grouped_object, plain, plain_object, spread_lstm, spread_object

GATES = "layers.0.gates"


def set_at(path: str, new: Any, cell: str = "gru") -> Any:
    value = copy.deepcopy(plain_object(cell))
    *steps, last = path.split(".")
    node = value
    for step in steps:
        node = node[int(step)] if isinstance(node, list) else node[step]
    node[last] = new
    return value


@pytest.mark.parametrize("cell", CELLS.built_in)
def test_every_cell_has_its_own_gates(cell: str) -> None:
    spec = plain(cell)
    assert isinstance(spec, InitSpec)
    assert tuple(spec.layers[0].gates) == CELLS.built_in[cell].gates
    assert spec.find_cell() is CELLS.built_in[cell]
    for name in spec.layers[0].gates:
        value = copy.deepcopy(plain_object(cell))
        del value["layers"][0]["gates"][name]
        with pytest.raises(SpecError) as caught:
            validate_object(value)
        assert caught.value.problems[0].where == f"{GATES}.{name}"


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
        ("cell", "grru", '"grru"', "rnn, minimal_rnn, gru, gru_reset_before, lstm, peephole_lstm"),
        ("cell", ["gru"], "a list of 1", "a string"),
        ("reset", "after", "an unknown key", "remove it"),
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
        (f"{GATES}.update.recurrent.distribution", "gaussian", '"gaussian"', "normal, uniform"),
        (f"{GATES}.update.recurrent.fan", "both", '"both"', "'in', 'out' or 'average'"),
        (f"{GATES}.update.recurrent.max_learning_rate", 0.0, "0.0", "more than 0"),
        (f"{GATES}.update.bias.max_learning_rate", "fast", '"fast"', "a number"),
        ("layers.0.input.padding", 0.5, "0.5", "an object"),
        ("layers.0.input.padding", {"variance": -1.0}, "an object with 1 keys", "at least 0"),
        ("generated", {"critinit": "0.2.0", "arguments": {"T": math.nan}}, "NaN", "texts, true, false, null, numbers"),
        ("generated", {"critinit": "0.2.0", "arguments": {"padding": [[[[[1]]]]]}}, "a list of 1", "lists and objects"),
        (f"{GATES}.update.recurrent.variance", "1", '"1"', "a number"),
        (f"{GATES}.update.bias.distribution", "cauchy", '"cauchy"', "constant, normal, log_uniform_time"),
        (f"{GATES}.update.bias", 3, "3", "an object"),
        (f"{GATES}.update.bias.mean", 10**400, "1000", "a number of at most 1e100"),
        (f"{GATES}.update.bias.variance", 1.0, "1.0", "at most 0"),
        (f"{GATES}.update.bias.sigma", 1.0, "an unknown key", "remove it"),
        (f"{GATES}.forget", gate(), "an unknown key", "remove it"),
        (f"{GATES}.update.input.distribution", "orthogonal", '"orthogonal"', "normal, uniform, truncated_normal, zero"),
        (f"{GATES}.update.input.distribution", "identity", '"identity"', "normal, uniform, truncated_normal, zero"),
        (f"{GATES}.reset.input.distribution", "zero", "1.0", "at most 0"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(path: str, value: Any, found: str, allowed: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate_object(set_at(path, value), "spec.json")
    problem = caught.value.problems[0]
    where = problem.where
    below = ".variance" if "padding" in path and isinstance(value, dict) else ""
    below = f".arguments.{next(iter(value['arguments']))}" if path == "generated" else below
    assert where == (path.removesuffix("distribution") + "variance" if value == "zero" else path + below)
    assert problem.found.startswith("-1.0" if below == ".variance" else found)
    assert allowed in (problem.allowed or problem.hint)
    line = str(caught.value)
    assert line.startswith(f"spec.json: {where}: found {problem.found}")
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
    assert caught.value.problems[0].where == f"{GATES}.update.bias.{path}"


def test_a_bias_cannot_follow_one_that_follows() -> None:
    value = plain_object("lstm")
    gates = value["layers"][0]["gates"]
    gates["input"] = gate({"distribution": "coupled", "to": "forget", "sign": -1})
    gates["forget"] = gate({"distribution": "coupled", "to": "cell", "sign": -1})
    with pytest.raises(SpecError, match=r"layers\.0\.gates\.input\.bias\.to: found \"forget\"; allowed: cell, output"):
        validate_object(value)


def test_several_problems_are_all_kept() -> None:
    """All of the structure; whether gates fit the cell is asked where the structure holds."""
    value = set_at("T", 0) | {"colour": 1}
    value["layers"] = [*value["layers"], {"input": {"variance": -1}, "gates": {}}]
    with pytest.raises(SpecError) as caught:
        validate_object(value)
    assert {p.where for p in caught.value.problems} >= {
        "T",
        "colour",
        "layers.1.input.variance",
    }
    assert "more: " in str(caught.value)


def test_missing_gates_of_every_layer_are_all_named() -> None:
    value = plain_object("gru", layers=2)
    for layer, name in zip(value["layers"], ("update", "reset"), strict=True):
        del layer["gates"][name]
    with pytest.raises(SpecError) as caught:
        validate_object(value)
    assert [p.where for p in caught.value.problems] == ["layers.0.gates.update", "layers.1.gates.reset"]


def test_a_layer_has_gates_or_groups() -> None:
    value = plain_object()
    del value["layers"][0]["gates"]
    with pytest.raises(SpecError, match=r"^layers\.0\.gates: found nothing; this field is required$"):
        validate_object(value)
    both = plain_object()
    both["layers"][0]["groups"] = grouped_object(1.0)["layers"][0]["groups"]
    with pytest.raises(SpecError, match=r"^layers\.0\.groups: found an unknown key; a layer has gates or groups$"):
        validate_object(both)


def test_square_input_kernels_are_for_further_layers() -> None:
    value = copy.deepcopy(plain_object("gru", layers=2))
    value["layers"][1]["gates"]["update"]["input"]["distribution"] = "orthogonal"
    assert validate_object(value).layers[1].gates["update"].input.distribution == "orthogonal"


@pytest.mark.parametrize("padding", [None, {"variance": 0.0, "constant": False}, {"variance": 2.0, "constant": True}])
def test_unknown_padding_is_told_apart_from_a_stated_one(padding: dict[str, Any] | None) -> None:
    """Also where the stated one has the power that an unknown one counts as; both round trip."""
    spec = validate_object(set_at("layers.0.input.padding", padding))
    source = spec.layers[0].input
    assert source.padding == (None if padding is None else Padding(**padding))
    assert source.padding_power == (2.0 if padding is None else padding["variance"])
    assert spec.to_dict()["layers"][0]["input"]["padding"] == padding
    assert parse(spec.to_json()) == spec
    same_power = validate_object(set_at("layers.0.input.padding", {"variance": 2.0}))
    assert (spec == same_power) is False
    assert (spec.to_bytes() == same_power.to_bytes()) is False


def test_padding_is_null_where_nothing_is_said() -> None:
    assert plain().to_dict()["layers"][0]["input"] == {"variance": 2.0, "correlation": 1.0, "padding": None}
    assert generate("gru", 100).layers[0].input.padding is None
    stated = generate("gru", 100, padding={"variance": 1.0})
    assert stated.layers[0].input.padding == Padding(variance=1.0)
    assert stated.to_bytes() != generate("gru", 100).to_bytes()


def test_a_copy_with_another_variance_leaves_unknown_padding_unknown() -> None:
    copied = plain().layers[0].input.model_copy(update={"variance": 4.0})
    assert (copied.padding, copied.padding_power) == (None, 4.0)


def test_specs_are_immutable_and_hashable() -> None:
    spec = spread_lstm()
    with pytest.raises(Exception, match="frozen"):
        spec.T = 5
    with pytest.raises(Exception, match="frozen"):
        spec.layers[0].gates["forget"].bias.mean = 5.0
    with pytest.raises(ArgumentError, match=r"^InitSpec.T: found an assignment; allowed: reading, as it is frozen; a"):
        spec.T = 5
    with pytest.raises(ArgumentError, match=r"^Layer.input: found an assignment"):
        del spec.layers[0].input
    with pytest.raises(ArgumentError, match=r"^InitSpec.length: found no such field; allowed: schema_version, "):
        spec.length = 5
    assert predict(spec.model_copy(update={"T": 5})).T == 5
    assert len({spec, spread_lstm()}) == 1
    with pytest.raises(KeyError):
        spec.layers[0].gates["nowhere"]


def test_standard_errors_are_immutable_and_their_names_are_known() -> None:
    value = {
        "second_moment": 1.0,
        "chi": 0.5,
        "time_scale": 1.0,
        "chi_over_T": 0.5,
        "retention": 0.1,
        "unit_time_constants": {"min": 1.0, "median": 1.0, "max": 1.0},
        "jacobian": {"mean_squared_singular_value": 0.5, "variance": 0.0},
        "standard_error": {"jacobian.variance": 0.1, "chi": 0.2},
    }
    numbers = Numbers.model_validate(value)
    assert numbers.standard_error is not None
    assert list(numbers.standard_error) == ["chi", "jacobian.variance"]
    before = hash(numbers)
    with pytest.raises(TypeError):
        numbers.standard_error["chi"] = 3.0  # type: ignore[index]
    with pytest.raises(AttributeError):
        numbers.standard_error.update(chi=3.0)  # type: ignore[attr-defined]
    for change in (lambda t: setattr(t, "_items", {}), lambda t: delattr(t, "_items")):
        with pytest.raises(AttributeError, match="immutable"):
            change(numbers.standard_error)
    assert dict(numbers.standard_error) == {"chi": 0.2, "jacobian.variance": 0.1}
    assert hash(numbers) == before
    assert numbers.model_copy(update={"chi": 0.6}).standard_error == numbers.standard_error
    value["standard_error"] = {"psi": 0.1}
    with pytest.raises(ValueError, match="the names second_moment"):
        Numbers.model_validate(value)


def test_the_moments_of_a_coupled_bias_follow_the_other() -> None:
    spec = spread_lstm()
    follower, leader = spec.layers[0].gates["input"].bias, spec.layers[0].gates["forget"].bias
    assert follower.mean == -leader.mean
    assert follower.variance == leader.variance


def test_stated_moments_are_held_to_the_times() -> None:
    value = spread_object()
    dumped = json.loads(validate_object(value).to_json())
    assert parse(json.dumps(dumped)) == validate_object(value)
    dumped["layers"][0]["gates"]["forget"]["bias"]["max_time"] = 700.0
    with pytest.raises(SpecError, match=r"mean: found .*; allowed: what follows from min_time and max_time"):
        parse(json.dumps(dumped))


def test_a_file_larger_than_the_limit_is_refused() -> None:
    with pytest.raises(SpecError, match="allowed: a spec of at most 4,194,304"):
        parse(b" " * (MAX_BYTES + 1))


@pytest.mark.parametrize("value", [None, [], 3, "gru", [{}], True])
def test_json_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        validate_object(value)
    assert "object" in str(caught.value)


# ---- what generated it -----------------------------------------------------------------------------------


def test_a_copy_with_changes_no_longer_says_what_generated_it() -> None:
    spec = generate("gru", 50)
    assert spec.generated is not None
    assert spec.model_copy(update={"T": 60}).generated is None
    assert spec.model_copy().generated == spec.generated
    assert predict(spec).to_bytes() == spec.to_bytes()


def test_the_arguments_are_immutable_and_in_one_form() -> None:
    made = Generated(critinit="0", arguments={"b": [1, {"d": -0.0, "c": None}], "a": "x"})
    assert json.dumps(made.model_dump(mode="json")["arguments"]) == '{"a": "x", "b": [1, {"c": null, "d": 0.0}]}'
    assert hash(made) == hash(Generated(critinit="0", arguments={"a": "x", "b": (1, {"c": None, "d": 0.0})}))
    assert made.model_copy(update={"critinit": "1"}).arguments == made.arguments
    with pytest.raises(TypeError):
        made.arguments["a"] = "y"  # type: ignore[index]
    for value in (object(), {1: 2}, math.inf, 10**101, [[[[[]]]]]):
        with pytest.raises(ValidationError, match="texts, true, false, null, numbers"):
            Generated(critinit="0", arguments={"a": value})


# ---- coupled biases --------------------------------------------------------------------------------------


def made(bias: Any) -> Gate:
    return Gate(recurrent=NormalKernel(variance=0.1), input=NormalKernel(variance=1.0), bias=bias)


def test_one_coupled_bias_can_follow_different_partners() -> None:
    """No validation writes into what it is given: the instance and its hash stay as they are."""
    coupled = CoupledBias(to="forget", sign=-1)
    before = hash(coupled)
    for mean in (2.0, 5.0):
        gates = Gates({"forget": made(NormalBias(mean=mean, variance=0.5)), "input": made(coupled)})
        assert gates["input"].bias.moments == (-mean, 0.5)
        assert gates.followed("input") == (-1, gates["forget"].bias)
        assert gates.followed("forget") == (1, gates["forget"].bias)
    value = spread_object()
    value["layers"][0]["gates"]["input"] = gate()
    value["layers"][0]["gates"]["input"]["bias"] = coupled
    assert validate_object(value).layers[0].gates["input"].bias.mean is not None
    assert (coupled.mean, coupled.variance) == (None, None)
    assert hash(coupled) == before
    with pytest.raises(ArgumentError, match=r"^bias: found −forget, unit by unit; the moments follow from the gate"):
        _ = coupled.moments


def test_moments_of_coupled_biases_follow_a_replaced_gate() -> None:
    gates = Gates({"forget": made(ConstantBias(mean=2.0)), "input": made(CoupledBias(to="forget", sign=-1))})
    changed = gates.replace(forget=made(ConstantBias(mean=3.0)))
    assert changed["input"].bias.moments == (-3.0, 0.0)
    assert gates["input"].bias.moments == (-2.0, 0.0)


def test_a_coupling_that_cannot_be_is_refused_in_python_too() -> None:
    with pytest.raises(ArgumentError, match=r"^input\.bias\.to: found nowhere; allowed: forget$"):
        Gates({"forget": made(ConstantBias(mean=2.0)), "input": made(CoupledBias(to="nowhere", sign=1))})
    with pytest.raises(ArgumentError, match=r"^input\.bias\.mean: found 9.0; allowed: what follows from .*forget: 2"):
        Gates({"forget": made(ConstantBias(mean=2.0)), "input": made(CoupledBias(to="forget", sign=1, mean=9.0))})


# ---- copies ----------------------------------------------------------------------------------------------


def test_a_copy_computes_what_follows_anew_and_is_validated() -> None:
    spread = spread_lstm().layers[0].gates["forget"].bias
    shorter = spread.model_copy(update={"max_time": 100.0})
    kind = BIASES.built_in["log_uniform_time"]
    assert shorter == kind.model_validate({"min_time": 1.05, "max_time": 100.0})
    with pytest.raises(ValidationError, match="at least min_time"):
        spread.model_copy(update={"max_time": 1.01})
    with pytest.raises(ValidationError, match="what follows from min_time and max_time"):
        spread.model_copy(update={"mean": 99.0})
    with pytest.raises(ValidationError):
        plain().model_copy(update={"T": 0})
    with pytest.raises(ValidationError):
        plain().model_copy(update={"colour": "red"})


# ---- groups and limits on the learning rate --------------------------------------------------------------


def test_groups_are_read_and_written() -> None:
    spec = validate_object(grouped_object(0.25, 0.75))
    layer = spec.layers[0]
    assert [(group.name, group.share) for group in layer.groups] == [("group 0", 0.25), ("group 1", 0.75)]
    assert list(spec.to_dict()["layers"][0]) == ["input", "groups", "predicted"]
    assert parse(spec.to_json()) == spec
    assert parse(spec.to_json()).to_bytes() == spec.to_bytes()


def test_the_gates_of_a_layer_are_its_one_group() -> None:
    layer = plain().layers[0]
    assert len(layer.groups) == 1
    assert layer.gates is layer.groups[0].gates
    assert "groups" not in plain().to_dict()["layers"][0]
    named = validate_object(grouped_object(1.0))
    assert named.layers[0].gates == layer.gates
    assert named.to_dict()["layers"][0]["groups"][0]["name"] == "group 0"


@pytest.mark.parametrize("shares", [(0.5, 0.4), (0.5, 0.5, 0.1), (0.3,)])
def test_shares_add_up_to_one(shares: tuple[float, ...]) -> None:
    with pytest.raises(SpecError) as caught:
        validate_object(grouped_object(*shares))
    assert caught.value.where == "layers.0.groups"
    assert caught.value.allowed == f"shares that add up to 1; these add up to {sum(shares):.6g}"
    validate_object(grouped_object(0.1, 0.2, 0.7))  # which add up to 1 but for rounding


def test_errors_within_groups_name_the_group() -> None:
    value = grouped_object(0.5, 0.5)
    value["layers"][0]["groups"][1]["gates"]["update"]["bias"]["mean"] = "high"
    with pytest.raises(SpecError, match=r"^layers\.0\.groups\.1\.gates\.update\.bias\.mean: found \"high\""):
        validate_object(value)
    value = grouped_object(0.5, 0.5)
    del value["layers"][0]["groups"][0]["gates"]["reset"]
    with pytest.raises(SpecError, match=r"^layers\.0\.groups\.0\.gates\.reset: found nothing"):
        validate_object(value)
    value = grouped_object(0.5, 0.5)
    value["layers"][0]["groups"][1]["name"] = "group 0"
    with pytest.raises(SpecError, match=r"^layers\.0\.groups: found a list of 2; allowed: each group's name once$"):
        validate_object(value)


def test_the_gates_of_a_layer_of_several_groups_are_refused_clearly() -> None:
    layer = validate_object(grouped_object(0.5, 0.5)).layers[0]
    message = r"^groups: found 2 groups of units \(group 0, group 1\); allowed: layers of one group"
    with pytest.raises(ArgumentError, match=message):
        _ = layer.gates
    with pytest.raises(ArgumentError, match=message):
        layer.with_gates({})


def test_groups_alone_are_layers_of_their_gates() -> None:
    spec = validate_object(grouped_object(0.25, 0.75))
    layer = spec.layers[0]
    assert [one.gates for one in layer.alone()] == [group.gates for group in layer.groups]
    assert all(one.input == layer.input for one in layer.alone())
    assert generate("gru", 20).layers[0].alone() == (generate("gru", 20).layers[0],)


@pytest.mark.parametrize(
    ("shares", "total", "counts"),
    [
        ((0.25, 0.75), 64, (16, 48)),
        ((0.25, 0.75), 5, (1, 4)),
        ((0.5, 0.5), 5, (3, 2)),
        ((0.1, 0.2, 0.7), 10, (1, 2, 7)),
        ((1 / 3, 1 / 3, 1 / 3), 3, (1, 1, 1)),
        ((0.3, 0.3, 0.4), 11, (3, 3, 5)),
    ],
)
def test_units_are_split_by_shares(shares: tuple[float, ...], total: int, counts: tuple[int, ...]) -> None:
    assert validate_object(grouped_object(*shares)).layers[0].split(total) == counts


def test_too_few_units_for_every_group_are_refused() -> None:
    layer = validate_object(grouped_object(0.1, 0.9)).layers[0]
    found = r"found 2, of which group group 0 \(share 0\.1\) would have none"
    message = rf"^hidden_size: {found}; allowed: more, for instance 10$"
    with pytest.raises(ArgumentError, match=message):
        layer.split(2)


def test_as_many_units_as_the_message_says_are_enough_for_every_group() -> None:
    layer = validate_object(grouped_object(0.125, 0.375, 0.5)).layers[0]
    for total in (1, 2, 3):
        with pytest.raises(ArgumentError, match=r"for instance 8$"):
            layer.split(total)
    assert layer.split(8) == (1, 3, 4)


def test_other_gates_make_a_layer_without_prediction() -> None:
    layer = generate("gru", 20).layers[0]
    changed = layer.with_gates(layer.gates.replace(reset=made(ConstantBias(mean=1.0))))
    assert changed.gates["reset"].bias.mean == 1.0
    assert changed.predicted == Layer(input=layer.input, groups=layer.groups).predicted
    assert changed.input == layer.input


def test_a_limit_on_the_learning_rate_is_kept_and_left_out_where_there_is_none() -> None:
    value = plain_object()
    parts = value["layers"][0]["gates"]["update"]
    for part in parts.values():
        part["max_learning_rate"] = 5e-5
    spec = validate_object(value)
    read = spec.layers[0].gates["update"]
    assert {read.recurrent.max_learning_rate, read.input.max_learning_rate, read.bias.max_learning_rate} == {5e-5}
    written = spec.to_dict()["layers"][0]["gates"]
    assert [part["max_learning_rate"] for part in written["update"].values()] == [5e-5] * 3
    assert not any("max_learning_rate" in part for part in written["reset"].values())
    assert parse(spec.to_json()) == spec


def test_a_kernel_of_a_projection_has_rows_to_choose_from() -> None:
    value = plain_object("projection_lstm")
    kernel = value["layers"][0]["projection"]["kernel"]
    for name in ("identity", "zero", "spectral_radius"):
        kernel |= {"distribution": name, "variance": 0.0}
        kernel.pop("spectral_radius", None)
        if name == "spectral_radius":
            kernel["spectral_radius"] = 0.0
        with pytest.raises(SpecError) as caught:
            validate_object(value)
        assert caught.value.where == "layers.0.projection.kernel.distribution"
        assert caught.value.allowed == "normal, uniform, truncated_normal, orthogonal"
    value["layers"][0]["projection"]["kernel"] = {"distribution": "normal", "variance": 1.0, "fan": "out"}
    with pytest.raises(SpecError, match=r'^layers\.0\.projection\.kernel\.fan: found "out"; allowed: in$'):
        validate_object(value)
    wide = plain_object("projection_lstm")
    wide["layers"][0]["gates"]["cell"]["recurrent"]["fan"] = "average"
    with pytest.raises(
        SpecError, match=r"cell\.recurrent\.fan: found \"average\"; allowed: in, where the state is pro"
    ):
        validate_object(wide)
