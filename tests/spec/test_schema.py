"""The published schema equals what the models say, and refuses what they refuse where a schema can."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from critinit import cells
from critinit.spec.schema import SCHEMA_ID, json_schema, schema_text
from tests.spec.examples import gate, plain_object, spread_object

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
    by_gates = {tuple(d["required"]) for name, d in definitions.items() if name.endswith("Gates")}
    assert by_gates == {cell.gates for cell in cells.CELLS.values()}


@pytest.mark.parametrize(("cell", "reset"), list(cells.CELLS))
def test_it_accepts_every_cell(cell: str, reset: str | None) -> None:
    VALIDATOR.validate(plain_object(cell, reset, layers=2))
    VALIDATOR.validate(spread_object())


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
    "no reset": lambda v: v.pop("reset"),
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
