"""InitSpec: the models, reading and writing, overrides, tables, and the published schema."""

from __future__ import annotations

from critinit.spec.model import (
    FORGOTTEN,
    KEPT,
    SCHEMA_VERSION,
    Gate,
    Gates,
    Generated,
    Group,
    InitSpec,
    Input,
    Jacobian,
    Layer,
    NotComputed,
    Numbers,
    Padding,
    Predicted,
    Projection,
    Target,
    TimeConstants,
)
from critinit.spec.reading import checked_spec, load, parse

__all__ = [
    "FORGOTTEN",
    "KEPT",
    "SCHEMA_VERSION",
    "Gate",
    "Gates",
    "Generated",
    "Group",
    "InitSpec",
    "Input",
    "Jacobian",
    "Layer",
    "NotComputed",
    "Numbers",
    "Padding",
    "Predicted",
    "Projection",
    "Target",
    "TimeConstants",
    "checked_spec",
    "load",
    "parse",
]
