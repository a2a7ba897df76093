"""Every spec that is generated, of every scheme and cell, is made again from its record and survives every trip."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from critinit import InitSpec, generate, parse, predict
from critinit.cells import CELLS
from critinit.errors import ArgumentError, SchemeError
from critinit.schemes import SCHEMES
from critinit.spec import NotComputed, Numbers
from critinit.spec.overrides import override
from tests.spec.examples import plain

pytestmark = pytest.mark.slow

PADDINGS: list[dict[str, Any] | None] = [
    None,
    {"variance": 0.0},
    {"variance": 0.3},
    {"variance": 1.0, "constant": True},
]
ARGUMENTS: list[dict[str, Any]] = [
    {"T": 40 + 9 * number, "padding": padding, "layers": 1 + number % 2, "input_variance": 0.5 + number}
    for number, padding in enumerate(PADDINGS)
]
ARGUMENTS[1] |= {"hidden_size": 32, "input_size": 5}
ARGUMENTS[2] |= {"input_correlation": 0.6}
SETTINGS = ["layers.*.gates.*.bias.max_learning_rate=1e-4", "layers.0.input.padding=null", "description=changed"]


@cache
def made() -> dict[str, InitSpec]:
    """The specs by what they are, each cell and scheme with other arguments in turn."""
    specs = {}
    for number, (cell, scheme) in enumerate((c, s) for c in CELLS.built_in for s in SCHEMES.built_in):
        try:
            specs[f"{cell}, {scheme}"] = generate(cell, scheme=scheme, **ARGUMENTS[number % len(ARGUMENTS)])
        except SchemeError:
            continue
    specs["settings"] = generate("lstm", 40, settings=SETTINGS)
    specs["named"] = generate("gru", 40, settings=["T=90", "scheme=mine"])
    orthogonal = ("layers.0.gates.hidden.recurrent.variance=9", "layers.0.gates.hidden.input.variance=0.01")
    specs["chaotic"] = generate("rnn", 40, scheme="orthogonal", settings=orthogonal)
    specs["identity"] = generate("rnn", 40, settings=["layers.0.gates.hidden.recurrent.distribution=identity"])
    return specs


def names() -> list[str]:
    refused = {(cell, scheme) for cell in ("rnn", "relu_rnn") for scheme in ("chrono", "uniform_gate")}
    refused |= {("projection_lstm", "orthogonal")}
    unsuited = ("rnn", "relu_rnn", "minimal_rnn", "projection_lstm", *(c for c in CELLS.built_in if "layernorm" in c))
    refused |= {(cell, "memory") for cell in unsuited}
    pairs = [
        f"{cell}, {scheme}" for cell in CELLS.built_in for scheme in SCHEMES.built_in if (cell, scheme) not in refused
    ]
    return [*pairs, "settings", "named", "chaotic", "identity", "by hand", "unreachable"]


def spec_of(name: str) -> InitSpec:
    if name == "by hand":
        return plain(layers=2)
    if name == "unreachable":  # of a target that is unbounded
        data = made()["chaotic"].to_dict()
        data["target"] = {"quantity": "time_scale", "wanted": 40.0, "reached": None, "limit": "chi is 1"}
        return parse(data)
    return made()[name]


TRIPS: dict[str, Callable[[InitSpec], Any]] = {
    "JSON": lambda spec: parse(spec.to_json()),
    "bytes": lambda spec: parse(spec.to_bytes()),
    "a dict": lambda spec: parse(spec.to_dict()),
    "JSON by pydantic": lambda spec: InitSpec.model_validate_json(spec.to_json()),
    "a dict by pydantic": lambda spec: InitSpec.model_validate(json.loads(spec.to_json())),
    "pickle": lambda spec: pickle.loads(pickle.dumps(spec)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda spec: spec.model_copy(update={"T": spec.T, "generated": spec.generated}),
    "OmegaConf": lambda spec: parse(pytest.importorskip("omegaconf").OmegaConf.create(spec.to_dict())),
    "YAML": lambda spec: parse(_through_yaml(spec)),
}


def _through_yaml(spec: InitSpec) -> Any:
    conf = pytest.importorskip("omegaconf").OmegaConf
    return conf.create(conf.to_yaml(conf.create(spec.to_dict())))


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("name", names())
def test_a_spec_survives(name: str, trip: str) -> None:
    spec = spec_of(name)
    same = TRIPS[trip](spec)
    assert type(same) is InitSpec
    assert same == spec
    assert hash(same) == hash(spec)
    assert same.to_bytes() == spec.to_bytes()


def test_the_specs_with_nulls_are_among_them() -> None:
    """Where χ ≥ 1 a time scale is null; an identity kernel has no untied reading; neither becomes "not computed"."""
    chaotic = spec_of("chaotic").layers[0].predicted
    assert isinstance(chaotic.untied, Numbers)
    assert chaotic.untied.chi > 1.0
    assert chaotic.untied.time_scale is None
    identity = spec_of("identity").layers[0].predicted
    assert identity.untied is None
    assert isinstance(identity.tied, Numbers)
    assert isinstance(spec_of("by hand").layers[0].predicted.untied, NotComputed)
    target = spec_of("unreachable").target
    assert target is not None
    assert target.reached is None
    assert '"reached": null' in spec_of("unreachable").to_json()


@pytest.mark.parametrize("name", [name for name in names() if name not in ("by hand", "unreachable")])
def test_what_generated_a_spec_generates_it_again(name: str) -> None:
    spec = spec_of(name)
    assert spec.generated is not None
    read = parse(spec.to_json())
    assert read.generated is not None
    for record in (spec.generated, read.generated):
        assert generate(**record.arguments).to_bytes() == spec.to_bytes()


def test_different_specs_are_different() -> None:
    specs = [spec_of(name) for name in names()]
    assert len(set(specs)) == len({spec.to_bytes() for spec in specs}) == len(specs)


def test_settings_are_recorded_and_applied() -> None:
    spec = spec_of("settings")
    assert spec.generated is not None
    assert list(spec.generated.arguments["settings"]) == SETTINGS
    assert (spec.scheme, spec.description) == ("custom", "changed")
    assert {gate.bias.max_learning_rate for gate in spec.layers[0].gates.values()} == {1e-4}
    bare = predict(override(generate("lstm", 40), SETTINGS))
    assert spec.model_copy(update={"generated": None}) == bare


@pytest.mark.parametrize("settings", ["T=3", [3], 3, None])
def test_settings_are_a_list_of_texts(settings: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^settings: found .*; allowed: a list of texts PATH=VALUE"):
        generate("gru", 10, settings=settings)
