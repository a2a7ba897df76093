"""Setting values by path: what follows a change follows it, and what cannot be set says why."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critinit import generate, predict
from critinit.distributions import BIASES
from critinit.errors import ArgumentError, CritinitError
from critinit.spec import InitSpec, NotComputed, Padding
from critinit.spec.overrides import CUSTOM, override
from critinit.spec.reading import validate_object
from tests.spec.examples import grouped_object, plain, spread_lstm
from tests.spec.strategies import ODDITIES, SPREADS, TIMES

GATES = "layers.0.gates"


def spread_moments(distribution: str, min_time: float, max_time: float) -> tuple[float, float]:
    return BIASES.built_in[distribution].model_validate({"min_time": min_time, "max_time": max_time}).moments


def bias(spec: InitSpec, gate: str, layer: int = 0) -> dict[str, Any]:
    value: dict[str, Any] = spec.layers[layer].gates[gate].bias.model_dump(mode="json")
    return value


def test_a_value_is_set_and_the_spec_becomes_custom() -> None:
    spec = spread_lstm()
    assert spec.target is not None
    changed = override(spec, [f"{GATES}.output.bias.mean=3", "T=50"])
    assert bias(changed, "output") == {"distribution": "constant", "mean": 3.0, "variance": 0.0}
    assert (changed.T, changed.scheme, changed.target) == (50, "custom", None)
    assert isinstance(changed.layers[0].predicted.tied, NotComputed)
    assert bias(changed, "forget") == bias(spec, "forget")
    assert spec == spread_lstm()


def test_a_whole_part_is_set() -> None:
    part = {"distribution": "log_uniform_time", "min_time": 2.0, "max_time": 50.0}
    changed = override(plain(), [f"{GATES}.update.bias={json.dumps(part)}"])
    mean, variance = spread_moments("log_uniform_time", 2.0, 50.0)
    assert bias(changed, "update") == part | {
        "mean": pytest.approx(mean, rel=1e-11),
        "variance": pytest.approx(variance, rel=1e-11),
    }


def test_a_star_is_every_layer_and_every_gate() -> None:
    changed = override(plain(layers=2), ["layers.*.gates.*.recurrent.variance=0.25"])
    assert {g.recurrent.variance for layer in changed.layers for g in layer.gates.values()} == {0.25}


def test_later_settings_see_earlier_ones() -> None:
    path = f"{GATES}.update.bias"
    made = [f"{path}.distribution=uniform_time", f"{path}.min_time=2", f"{path}.max_time=9"]
    assert bias(override(plain(), made), "update")["max_time"] == 9.0


@pytest.mark.parametrize("distribution", SPREADS)
@given(low=TIMES, high=TIMES, other=TIMES)
@settings(deadline=None, max_examples=25)
def test_the_mean_of_a_spread_moves_its_longest_time(distribution: str, low: float, high: float, other: float) -> None:
    low, high = sorted((low, high))
    mean = spread_moments(distribution, low, max(low, other))[0]
    part = json.dumps({"distribution": distribution, "min_time": low, "max_time": high})
    changed = override(plain(), [f"{GATES}.update.bias={part}", f"{GATES}.update.bias.mean={mean!r}"])
    got = bias(changed, "update")
    assert got["min_time"] == low
    assert got["mean"] == mean + 0.0
    assert spread_moments(distribution, low, got["max_time"])[0] == pytest.approx(mean, rel=1e-9, abs=1e-9)


def test_times_drop_the_moments_they_determine() -> None:
    changed = override(spread_lstm(), [f"{GATES}.forget.bias.max_time=100"])
    mean, variance = spread_moments("log_uniform_time", 1.05, 100.0)
    assert bias(changed, "forget")["mean"] == pytest.approx(mean, rel=1e-11)
    assert bias(changed, "input")["mean"] == pytest.approx(-mean, rel=1e-11)
    assert bias(changed, "input")["variance"] == pytest.approx(variance, rel=1e-11)


@pytest.mark.parametrize(("kind", "factor"), [("constant", 0.0), ("normal", 1.0)])
def test_another_distribution_keeps_the_mean(kind: str, factor: float) -> None:
    before = bias(spread_lstm(), "forget")
    changed = override(spread_lstm(), [f"{GATES}.forget.bias.distribution={kind}"])
    variance = pytest.approx(factor * before["variance"], rel=1e-11)
    assert bias(changed, "forget") == {"distribution": kind, "mean": before["mean"], "variance": variance}
    changed = override(spread_lstm(), [f"{GATES}.input.bias.distribution={kind}"])
    assert bias(changed, "input") == {"distribution": kind, "mean": -before["mean"], "variance": variance}


def test_one_spread_for_another_keeps_the_times() -> None:
    changed = override(spread_lstm(), [f"{GATES}.forget.bias.distribution=uniform_gate"])
    assert bias(changed, "forget")["max_time"] == 784.0
    mean = spread_moments("uniform_gate", 1.05, 784.0)[0]
    assert bias(changed, "forget")["mean"] == pytest.approx(mean, rel=1e-11)


def test_a_zero_kernel_has_variance_zero() -> None:
    changed = override(plain(), [f"{GATES}.reset.recurrent.distribution=zero"])
    assert changed.layers[0].gates["reset"].recurrent.variance == 0.0


def test_a_spectral_radius_gives_the_variance() -> None:
    recurrent = f"{GATES}.reset.recurrent"
    part = {"distribution": "spectral_radius", "spectral_radius": 0.5, "density": 0.2}
    changed = override(plain(), [f"{recurrent}={json.dumps(part)}", f"{recurrent}.spectral_radius=0.9"])
    kernel = changed.layers[0].gates["reset"].recurrent
    assert kernel.model_dump(mode="json") == part | {"spectral_radius": 0.9, "variance": 0.81}
    again = override(changed, ["T=7"])
    assert again.layers[0].gates["reset"].recurrent == kernel
    with pytest.raises(CritinitError, match=r"the square of spectral_radius, 0\.81"):
        override(changed, [f"{recurrent}.variance=4"])


def test_unknown_padding_stays_unknown() -> None:
    changed = override(plain(), ["layers.0.input.variance=4"])
    assert changed.layers[0].input.padding is None
    changed = override(plain(), ['layers.0.input.padding={"variance":0}', "layers.0.input.variance=4"])
    assert changed.layers[0].input.padding == Padding(variance=0.0)
    changed = override(changed, ["layers.0.input.padding.constant=true"])
    assert changed.layers[0].input.padding == Padding(variance=0.0, constant=True)
    assert override(changed, ["layers.0.input.padding=null"]).layers[0].input.padding is None
    with pytest.raises(ArgumentError, match=r"padding\.variance: found no such field; .* is null; set it as a whole"):
        override(plain(), ["layers.0.input.padding.variance=1"])


def test_values_of_groups_are_set() -> None:
    spec = validate_object(grouped_object(0.5, 0.5))
    changed = override(spec, ["layers.0.groups.1.gates.update.bias.mean=3", "layers.0.groups.*.share=0.5"])
    assert [group.gates["update"].bias.mean for group in changed.layers[0].groups] == [0.5, 3.0]
    uneven = ["layers.0.groups.0.share=0.1", "layers.0.groups.1.share=0.9"]
    assert [group.share for group in override(spec, uneven).layers[0].groups] == [0.1, 0.9]


def means(spec: InitSpec, *settings: str) -> list[float]:
    return [group.gates["update"].bias.mean for group in override(spec, settings).layers[0].groups]


def test_groups_are_called_by_their_names() -> None:
    spec = validate_object(grouped_object(0.5, 0.5))
    first, second = (group.name for group in spec.layers[0].groups)
    assert means(spec, f"layers.0.groups.{second}.gates.update.bias.mean=3") == [0.5, 3.0]
    assert means(spec, f"layers.*.groups.{first}.gates.*.bias.mean=3") == [3.0, 0.5]
    named = "layers.0.groups.0.name=slow.long"
    assert means(spec, named, "layers.0.groups.slow.long.gates.update.bias.mean=3") == [3.0, 0.5]
    assert means(spec, "layers.0.groups.0.name=*", "layers.0.groups.*.gates.update.bias.mean=3") == [3.0, 3.0]
    assert means(spec, named, "layers.0.groups.1.name=slow", "layers.0.groups.slow.gates.update.bias.mean=3")[1] == 3.0


def test_a_name_that_means_no_group_or_several_is_refused() -> None:
    spec = validate_object(grouped_object(0.5, 0.5))
    first, second = (group.name for group in spec.layers[0].groups)
    value = "gates.update.bias.mean=3"
    for wrong, said in (
        ([f"layers.0.groups.none.{value}"], f'groups.none: found "none"; allowed: 0 ({first}), 1 ({second}), or * for'),
        ([f"layers.0.groups.2.{value}"], f'groups.2: found "2"; allowed: 0 ({first}), 1 ({second}), or * for all'),
        (
            ['layers.0.groups.0.name="1"', f"layers.0.groups.1.{value}"],
            f"groups.1: found the number of one group and the name of another: 0 (1), 1 ({second}); allowed: one group",
        ),
        (
            ["layers.0.groups.*.name=x", f"layers.0.groups.x.{value}"],
            "groups.x: found the name of several groups: 0 (x), 1 (x); allowed: one group; give them other names",
        ),
        ([f"layers.0.{value}"], "its units are in groups: layers.0.groups.NAME.gates, or * for every group"),
    ):
        with pytest.raises(ArgumentError, match=re.escape(said)):
            override(spec, wrong)
    with pytest.raises(ArgumentError, match=r"found \"groups\"; .*its units are in no groups: layers\.0\.gates"):
        override(plain(), [f"layers.0.groups.memory.{value}"])
    same = ['layers.0.groups.1.name="1"', f"layers.0.groups.1.{value}"]  # number and name are of one group
    assert means(spec, *same) == [0.5, 3.0]


def test_a_limit_on_the_learning_rate_is_set() -> None:
    changed = override(spread_lstm(), [f"{GATES}.forget.bias.max_learning_rate=5e-5"])
    assert changed.layers[0].gates["forget"].bias.max_learning_rate == 5e-5
    assert bias(changed, "forget") == bias(spread_lstm(), "forget") | {"max_learning_rate": 5e-5}


def test_a_setting_can_name_and_describe_the_scheme() -> None:
    changed = override(spread_lstm(), ["T=50", "scheme=lab", "description=long memory, 1"])
    assert (changed.scheme, changed.description) == ("lab", "long memory, 1")
    assert override(changed, ["T=60"]).scheme == "custom"
    assert override(changed, ["T=60"]).description is None


def test_what_generated_a_spec_no_longer_holds_for_a_changed_one() -> None:
    spec = generate("gru", 40)
    changed = override(spec, ["T=50"])
    assert changed.generated is None
    assert predict(changed).generated is None
    recorded = generate("gru", 40, settings=["T=50"])
    assert recorded.generated is not None
    assert generate(**recorded.generated.arguments).to_bytes() == recorded.to_bytes()
    assert recorded.model_copy(update={"generated": None}) == predict(changed)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("T", "\"T\": found no '='; allowed: PATH=VALUE"),
        ("=3", 'found ""; allowed: scheme, T, layers'),
        ("depth=3", 'depth: found "depth"; allowed: scheme, T, layers'),
        ("cell=gru", "cell: cannot be set; choose it with --cell"),
        ("scheme=", 'scheme: found ""; allowed: at least 1 character'),
        ("generated.critinit=1", "generated.critinit: cannot be set; it records what made the spec"),
        ("layers.0.groups=[]", "layers.0.groups: cannot be set; it is a list; set the values in it"),
        ("schema_version=1", "schema_version: cannot be set"),
        ("target=null", "target: cannot be set"),
        ("target.wanted=3", "target.wanted: cannot be set"),
        ("layers.0.predicted.tied.chi=1", "cannot be set; it is computed"),
        ("layers.*.predicted={}", "cannot be set; it is computed"),
        ("layers.1.input.variance=1", 'layers.1: found "1"; allowed: 0'),
        ("layers.-1.input.variance=1", 'layers.-1: found "-1"; allowed: 0'),
        ("layers.00.input.variance=1", 'layers.00: found "00"; allowed: 0'),
        (
            "layers.0.gates.update.bias.mean=1",
            'gates.update: found "update"; allowed: input, forget, cell, output',
        ),
        ("layers.0.gates.cell.bias.min_time=2", "allowed: max_learning_rate, distribution, mean, variance"),
        ("layers.0.gates.cell.bias.mean.x=2", "found no such field"),
        ("layers.0.gates.cell.bias={bad", "found no JSON at line 1 column 2"),
        ('layers.0.gates.cell.bias={"mean":1,"mean":2}', 'found the key "mean" twice'),
        ("layers.0.gates.cell.recurrent.mean=1", "allowed: max_learning_rate, learning_rate_fan, fan, distribution, "),
        ("layers.0.gates.input.bias.mean=1", "input.bias.mean: follows the bias of forget"),
        ("layers.0.gates.input.bias.variance=1", "input.bias.variance: follows the bias of forget"),
        ("layers.0.gates.forget.bias.variance=1", "follows min_time and max_time"),
        ("layers.0.gates.forget.bias.mean=99", "found 99; allowed: -2.99573 to 17.2518"),
        ("layers.0.gates.forget.bias.mean=NaN", "found NaN; allowed: a finite number"),
        ("layers.0.gates.forget.bias.mean=high", 'found "high"; allowed: a finite number'),
        ("layers.0.gates.forget.bias.min_time=1e4", "forget.bias.max_time: found 784.0"),
        ("T=0", "T: found 0; allowed: at least 1"),
        ("T=1e400", "T: found infinity"),
        ("T=soon", 'T: found "soon"; allowed: an integer'),
        (
            "layers.0.gates.cell.recurrent.variance=-1",
            "cell.recurrent.variance: found -1; allowed: at least 0",
        ),
        ("layers.0.gates.cell.input.distribution=identity", 'cell.input.distribution: found "identity"'),
        ("layers.0.gates.cell.bias.distribution=uniform_time", "cell.bias.min_time: found nothing"),
        ("layers=[]", "layers: found a list of 0"),
        ("layers.0.gates={}", "layers.0.gates.input: found nothing"),
    ],
)
def test_what_cannot_be_set_says_why(setting: str, says: str) -> None:
    with pytest.raises(CritinitError) as caught:
        override(spread_lstm(), [setting])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


PATHS = st.lists(
    st.sampled_from(
        [
            "layers",
            "0",
            "1",
            "*",
            "gates",
            "input",
            "forget",
            "cell",
            "bias",
            "recurrent",
            "mean",
            "variance",
            "distribution",
            "min_time",
            "max_time",
            "to",
            "sign",
            "T",
            "scheme",
            "reset",
            "",
        ]
    ),
    min_size=1,
    max_size=6,
).map(".".join)
KNOWN = st.sampled_from(
    [f"{GATES}.{g}.{f}" for g in ("input", "forget", "cell") for f in ("bias", "recurrent", "input")]
    + [f"{GATES}.{g}.bias.{f}" for g in ("input", "forget") for f in ("distribution", "mean", "to", "sign", "max_time")]
)


@given(st.lists(st.tuples(PATHS | KNOWN, ODDITIES | st.sampled_from([{}, {"distribution": "coupled"}])), max_size=4))
@settings(deadline=None, max_examples=200)
def test_no_setting_raises_anything_else(settings_: list[tuple[str, Any]]) -> None:
    texts = [f"{path}={value if isinstance(value, str) else json.dumps(value)}" for path, value in settings_]
    try:
        named = [text.removeprefix("scheme=") for text in texts if text.startswith("scheme=")]
        assert override(spread_lstm(), texts).scheme == [CUSTOM, *named][-1]
    except CritinitError as error:
        assert str(error)  # noqa: PT017
