"""The published schema equals what the models say, and refuses what they refuse where a schema can."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from critinit.cells import CELLS
from critinit.distributions import BIASES, KERNELS
from critinit.spec.schema import SCHEMA_ID, json_schema, schema_text
from tests.spec.examples import gate, grouped_object, plain_object, spread_object

GOLDEN = Path(__file__).parents[2] / "schemas" / "initspec.v1.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_the_published_file_is_what_the_models_say() -> None:
    """After a change of the models: ``critinit schema -o schemas/initspec.v1.schema.json``."""
    assert GOLDEN.read_text(encoding="utf-8") == schema_text()


def test_it_is_a_schema_of_the_draft_it_names() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == SCHEMA_ID
    jsonschema.Draft202012Validator.check_schema(schema)


def test_objects_are_closed_and_gates_required() -> None:
    definitions = json_schema()["$defs"]
    objects = {name: d for name, d in definitions.items() if d.get("type") == "object"}
    assert objects
    loose = [name for name, d in objects.items() if "properties" in d and d.get("additionalProperties") is not False]
    assert loose == []
    for name, cell in CELLS.built_in.items():
        for gate_name in cell.gates:
            value = copy.deepcopy(plain_object(name))
            del value["layers"][0]["gates"][gate_name]
            assert not VALIDATOR.is_valid(value)
            grouped = grouped_object(0.5, 0.5, cell=name)
            VALIDATOR.validate(grouped)
            del grouped["layers"][0]["groups"][1]["gates"][gate_name]
            assert not VALIDATOR.is_valid(grouped)


@pytest.mark.parametrize("cell", CELLS.built_in)
def test_it_accepts_every_cell(cell: str) -> None:
    VALIDATOR.validate(plain_object(cell, layers=2))
    VALIDATOR.validate(spread_object())
    VALIDATOR.validate(grouped_object(0.25, 0.75, cell=cell))


def test_each_distribution_is_in_the_schema_with_its_fields() -> None:
    definitions = json_schema()["$defs"]
    for union, registry in (("Kernel", KERNELS), ("Bias", BIASES)):
        members = [option["$ref"].removeprefix("#/$defs/") for option in definitions[union]["oneOf"]]
        assert members == [kind.__name__ for kind in registry.built_in.values()]
        for name, kind in registry.built_in.items():
            found = definitions[kind.__name__]["properties"]
            assert found["distribution"]["const"] == name
            assert set(found) == set(kind.model_fields)
            assert "max_learning_rate" in found


def _gates(value: Any) -> Any:
    return value["layers"][0]["gates"]


SPOILERS: dict[str, Callable[[Any], Any]] = {
    "no layers": lambda v: v.pop("layers"),
    "empty layers": lambda v: v.update(layers=[]),
    "a missing gate": lambda v: _gates(v).pop("candidate"),
    "a gate of another cell": lambda v: _gates(v).update(forget=gate()),
    "a missing part": lambda v: _gates(v)["update"].pop("bias"),
    "an unknown key": lambda v: v.update(colour="red"),
    "an unknown cell": lambda v: v.update(cell="grru"),
    "the reset of an older shape": lambda v: v.update(reset="after"),
    "no gates and no groups": lambda v: v["layers"][0].pop("gates"),
    "gates and groups": lambda v: v["layers"][0].update(groups=grouped_object(1.0)["layers"][0]["groups"]),
    "no groups in groups": lambda v: v["layers"][0].update(gates=v["layers"][0].pop("gates"), groups=[]),
    "a share of 0": lambda v: v.update(layers=grouped_object(0.0, 1.0)["layers"]),
    "a learning rate of 0": lambda v: _gates(v)["update"]["recurrent"].update(max_learning_rate=0),
    "an unknown fan": lambda v: _gates(v)["update"]["input"].update(fan="both"),
    "a density of 0": lambda v: _gates(v)["update"].update(
        recurrent={"distribution": "spectral_radius", "spectral_radius": 1.0, "density": 0}
    ),
    "a padding that is a number": lambda v: v["layers"][0]["input"].update(padding=0.5),
    "another version": lambda v: v.update(schema_version=2),
    "T of 0": lambda v: v.update(T=0),
    "a text for T": lambda v: v.update(T="100"),
    "a negative variance": lambda v: _gates(v)["update"]["recurrent"].update(variance=-1),
    "an unknown distribution": lambda v: _gates(v)["update"]["recurrent"].update(distribution="gaussian"),
    "an orthogonal input kernel": lambda v: _gates(v)["update"]["input"].update(distribution="orthogonal"),
    "a zero kernel of variance 1": lambda v: _gates(v)["update"]["recurrent"].update(distribution="zero", variance=1.0),
    "a spread without times": lambda v: _gates(v)["update"].update(bias={"distribution": "uniform_time"}),
    "a time of 1": lambda v: _gates(v)["update"].update(
        bias={"distribution": "uniform_time", "min_time": 1, "max_time": 2}
    ),
    "a coupling without sign": lambda v: _gates(v)["update"].update(bias={"distribution": "coupled", "to": "reset"}),
}


@pytest.mark.parametrize("spoil", SPOILERS)
def test_it_refuses(spoil: str) -> None:
    value = copy.deepcopy(plain_object("gru"))
    VALIDATOR.validate(value)
    SPOILERS[spoil](value)
    assert not VALIDATOR.is_valid(value)


def test_its_text_is_stable_and_plain() -> None:
    assert schema_text() == schema_text()
    assert json.loads(schema_text()) == json_schema()
