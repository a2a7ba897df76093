"""InitSpec: the models, reading and writing, overrides, and the published schema."""

from __future__ import annotations

from critinit.spec.distributions import Bias, ConstantBias, CoupledBias, Kernel, NormalBias, SpreadBias
from critinit.spec.model import (
    SCHEMA_VERSION,
    Gate,
    Gates,
    InitSpec,
    Input,
    Jacobian,
    Layer,
    NotComputed,
    Numbers,
    Predicted,
    Projection,
    Target,
    TimeConstants,
)
from critinit.spec.reading import parse

__all__ = [
    "SCHEMA_VERSION",
    "Bias",
    "ConstantBias",
    "CoupledBias",
    "Gate",
    "Gates",
    "InitSpec",
    "Input",
    "Jacobian",
    "Kernel",
    "Layer",
    "NormalBias",
    "NotComputed",
    "Numbers",
    "Predicted",
    "Projection",
    "SpreadBias",
    "Target",
    "TimeConstants",
    "parse",
]
