"""The published JSON Schema of an InitSpec (draft 2020-12).

It comes from the models themselves, with one rule for each cell, told apart by ``cell``: which gates a layer has.
Rules that the models check in code are added as conditions; what relates several fields to each other (moments,
couplings, shares, ``predicted``) is beyond a schema and left to ``critinit validate``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from critinit.cells import CELLS, Cell, find_cell
from critinit.distributions import BIASES, KERNELS, KernelFamily
from critinit.spec.model import GAINS, InitSpec

__all__ = ["DIALECT", "SCHEMA_ID", "json_schema", "schema_text"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = "urn:critinit:schema:initspec:v1"
"""A name for the schema, not an address to read it from."""


def json_schema(more: Sequence[str] = ()) -> dict[str, Any]:
    """Return the schema as a JSON value, its keys in the order they are published in.

    Args:
        more: Names of registered cells beside critinit's own; a schema with more is one's own, and has no ``$id``.
    """
    body = InitSpec.model_json_schema()
    definitions: dict[str, Any] = {name: _plain(found) for name, found in body.pop("$defs").items()}
    for name, registry in (("Kernel", KERNELS), ("Bias", BIASES)):
        members = {cls.__name__: cls.model_json_schema() for cls in registry.built_in.values()}
        for member, schema in members.items():
            definitions[member] = _plain(schema) | {"required": ["distribution", *_required(schema)]}
        definitions[name] = {
            "description": f"A {name.lower()}'s distribution.",
            "type": "object",
            "required": ["distribution"],
            "oneOf": [{"$ref": f"#/$defs/{member}"} for member in members],
        }
    definitions["Layer"] = _layer(definitions["Layer"])
    cells = [*(find_cell(name) for name in CELLS.built_in), *(find_cell(name) for name in more)]
    properties = _plain(body)["properties"]
    properties["cell"] |= {"enum": [cell.name for cell in cells]}
    return {
        "$schema": DIALECT,
        **({} if more else {"$id": SCHEMA_ID}),
        "title": "InitSpec",
        "description": "What the weights of a recurrent network are to be, in terms of no framework.",
        "type": "object",
        "required": body["required"],
        "properties": properties,
        "additionalProperties": False,
        "allOf": [
            {"properties": {"layers": {"prefixItems": [_not_square(("input",))]}}},  # its input has a width of its own
            *map(_of_cell, cells),
        ],
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def schema_text(more: Sequence[str] = ()) -> str:
    """Return the schema in the bytes in which it is published, newline at the end; ``more`` as in ``json_schema``."""
    return json.dumps(json_schema(more), indent=2, allow_nan=False) + "\n"


def _required(schema: dict[str, Any]) -> list[str]:
    return [name for name in schema.get("required", ()) if name != "distribution"]


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
    """A layer as files have it: with gates, or with groups."""
    groups = layer["properties"]["groups"]
    gates = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Gate"}, "description": "By name."}
    return {
        **layer,
        "description": "One recurrent layer: its gates or, where units are drawn differently, its groups of units.",
        "properties": {"input": layer["properties"]["input"], "gates": gates, "groups": groups, **layer["properties"]},
        "required": ["input"],
        "oneOf": [{"required": ["gates"]}, {"required": ["groups"]}],
    }


def _not_square(parts: Sequence[str]) -> dict[str, Any]:
    """That no gate's kernel of these parts is a square one."""
    square = sorted(name for name, kind in KERNELS.built_in.items() if kind.is_square)
    refused = {"properties": {"distribution": {"not": {"enum": square}}}}
    return _in_gates({"additionalProperties": {"properties": dict.fromkeys(parts, refused)}})


def _mixing() -> dict[str, Any]:
    """That neither kernel of a gate is a multiple of the identity; all zeros are allowed."""
    alone = sorted(name for name, kind in KERNELS.built_in.items() if kind.family is KernelFamily.DIAGONAL)
    rule = {"if": {"properties": {"distribution": {"enum": alone}}}, "then": {"properties": {"variance": {"const": 0}}}}
    return dict.fromkeys(("recurrent", "input"), rule)


def _in_gates(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule of a layer's gates, whether it has one group or several."""
    return {"properties": {"gates": rule, "groups": {"items": {"properties": {"gates": rule}}}}}


def _of_cell(cell: Cell) -> dict[str, Any]:
    """Which gates the layers of a cell's specs have, and whether they have a projection or gains."""
    gates = _in_gates({"required": list(cell.gates), "propertyNames": {"enum": list(cell.gates)}})
    if cell.projects:
        rules = [gates, _not_square(("recurrent", "input")), {"required": ["projection"]}]
    else:
        rules = [gates, {"properties": {"projection": False}}]
    if cell.normalized:
        rules.append(_in_gates({"additionalProperties": {"required": list(GAINS), "properties": _mixing()}}))
    else:
        rules.append(_in_gates({"additionalProperties": {"properties": dict.fromkeys(GAINS, False)}}))
    if not (cell.normalized and cell.has_readout):
        rules.append({"properties": {"memory_gain": False}})
    if cell.keeps_normalized:
        rules.append({"required": ["memory_gain"], "properties": {"memory_gain": {"type": "number"}}})
    layer = {"allOf": rules}
    return {
        "if": {"properties": {"cell": {"const": cell.name}}, "required": ["cell"]},
        "then": {"properties": {"layers": {"items": layer}}},
    }


def _plain(node: Any, *, is_property: bool = False) -> Any:
    """One form for what pydantic's versions write in several; without titles that only repeat a name."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if isinstance(node, float) and node.is_integer() and abs(node) < 2**53:
        return int(node)
    if not isinstance(node, dict):
        return node
    if len(node.get("allOf", ())) == 1:
        node = node["allOf"][0] | {key: value for key, value in node.items() if key != "allOf"}
    if "const" in node:
        node = {key: value for key, value in node.items() if key != "enum"}
    if "union" in node:
        node = {"$ref": f"#/$defs/{node['union']}"} | {key: value for key, value in node.items() if key != "union"}
    plain = {}
    for key, value in node.items():
        if (is_property and key == "title") or (key == "additionalProperties" and value is True):
            continue
        if key == "properties":
            plain[key] = {name: _plain(item, is_property=True) for name, item in value.items()}
        else:
            plain[key] = value if key in ("default", "const", "enum") else _plain(value)
    return plain
