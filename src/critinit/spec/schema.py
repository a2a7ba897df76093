"""The published JSON Schema of an InitSpec (draft 2020-12).

It comes from the models themselves: one member per cell, told apart by ``cell``, every gate required.  Two
rules that the models check in code are added as conditions; what relates several fields to each other
(moments, couplings, ``predicted``) is beyond a schema and left to ``critinit validate``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from critinit import cells
from critinit.spec.model import spec_model

__all__ = ["DIALECT", "SCHEMA_ID", "json_schema", "schema_text"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = "https://critinit.org/schemas/initspec.v1.schema.json"
"""A name for the schema, not an address to read it from."""

_ZERO_IS_ZERO = {
    "if": {"properties": {"distribution": {"const": "zero"}}, "required": ["distribution"]},
    "then": {"properties": {"variance": {"const": 0}}},
}


def json_schema(more: Sequence[str] = ()) -> dict[str, Any]:
    """The schema as a JSON value, its keys in the order they are published in.

    It has critinit's own cells and ``more`` registered ones; a schema with more is one's own, and has no ``$id``.
    """
    models: Any = reduce(or_, (spec_model(name) for name in (*cells.NAMES, *more)))
    body = TypeAdapter(Annotated[models, Field(discriminator="cell")]).json_schema()
    definitions: dict[str, Any] = {name: _plain(body["$defs"][name]) for name in sorted(body["$defs"])}
    definitions["Kernel"] |= _ZERO_IS_ZERO
    for definition in definitions.values():
        if "layers" in definition.get("properties", {}):
            definition["description"] = f"A spec of {definition['properties']['cell']['const']}."
            layer = definition["properties"]["layers"]["items"]["$ref"].rsplit("/", 1)[1]
            if "projection" in definitions[layer]["properties"]:
                definitions[layer] |= _kernels(definitions, layer, ("recurrent", "input"))
            else:
                first = {"$ref": f"#/$defs/{layer}", **_kernels(definitions, layer, ("input",))}
                definition["properties"]["layers"] |= {"prefixItems": [first]}
    return {
        "$schema": DIALECT,
        **({} if more else {"$id": SCHEMA_ID}),
        "title": "InitSpec",
        "description": "What the weights of a recurrent network are to be, in terms of no framework.",
        "type": "object",
        "required": ["cell"],
        "oneOf": body["oneOf"],
        "discriminator": body["discriminator"],
        "$defs": definitions,
    }


def schema_text(more: Sequence[str] = ()) -> str:
    """The schema in the bytes in which it is published, newline at the end; ``more``: names of registered cells."""
    return json.dumps(json_schema(more), indent=2, allow_nan=False) + "\n"


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
    plain = {}
    for key, value in node.items():
        if is_property and key == "title":
            continue
        if key == "properties":
            plain[key] = {name: _plain(item, is_property=True) for name, item in value.items()}
        else:
            plain[key] = value if key in ("default", "const", "enum") else _plain(value)
    return plain


def _kernels(definitions: dict[str, Any], layer: str, parts: Sequence[str]) -> dict[str, Any]:
    """That kernels of these parts are not square ones (``InitSpec`` and ``ProjectedLayer`` say why)."""
    gates = definitions[layer]["properties"]["gates"]["$ref"]
    kernel = {"properties": {"distribution": {"enum": ["normal", "uniform", "zero"]}}}
    gate = {"properties": dict.fromkeys(parts, kernel)}
    names = definitions[gates.rsplit("/", 1)[1]]["properties"]
    found = {"properties": {"gates": {"properties": dict.fromkeys(names, gate)}}}
    if parts == ("input",):
        return found
    return {"allOf": [found]}
