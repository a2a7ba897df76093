"""Schemes: ways to choose a spec for a cell and a sequence length.  One file a scheme; this table names them."""

from __future__ import annotations

import numpy as np

from critinit import cells
from critinit.errors import ArgumentError, SpecError
from critinit.schemes import chrono, critical, isometry, keras, orthogonal, torch, uniform_gate
from critinit.schemes._base import Circumstances, Scheme
from critinit.spec.model import SCHEMA_VERSION, InitSpec, Numbers, Target
from critinit.spec.reading import validate_object
from critinit.theory.analysis import predict, reached

__all__ = ["NAMES", "SCHEMES", "Circumstances", "Scheme", "describe", "generate"]

SCHEMES: dict[str, Scheme] = {
    module.SCHEME.name: module.SCHEME for module in (critical, isometry, chrono, uniform_gate, orthogonal, torch, keras)
}

NAMES: tuple[str, ...] = tuple(SCHEMES)

_MET = 1.0 - 1e-3


def describe(name: str) -> str:
    """The scheme in a line."""
    return SCHEMES[name].summary


def generate(
    cell: str | cells.Cell | type[cells.Cell],
    T: int,
    *,
    scheme: str = "critical",
    reset: str | None = None,
    layers: int = 1,
    input_variance: float = 1.0,
    input_correlation: float = 1.0,
    null_variance: float | None = None,
    null_constant: bool = False,
    hidden_size: int | None = None,
    input_size: int | None = None,
) -> InitSpec:
    """The InitSpec of a cell for sequences of ``T`` steps.

    ``cell``: its name, or a cell of your own, which is registered (``critinit.register``).
    ``scheme``: one of ``critinit.schemes.NAMES``.  ``reset``: the GRU's variant, "after" unless said.
    ``input_variance`` R: second moment per input coordinate; ``input_correlation``: between the inputs of the two
    copies whose distance χ describes; ``null_variance`` R₀: power of inputs that carry no information (padding),
    0 for silence; unknown (None) it counts as R.  ``critical`` drives its gates less where R₀ is declared, unless
    ``null_constant`` says that those inputs are all alike: only noise writes over what was kept.  Each further layer's R is the second moment of the state below it.  ``hidden_size``
    and ``input_size`` matter to the schemes that depend on widths (torch, keras, uniform_gate).

    ``predicted`` is filled in; a missed target is stated in ``target.limit``.  Raises ``ArgumentError``.
    """
    the_cell = cells.find(cell if isinstance(cell, str) else cells.register(cell).name, reset)
    if scheme not in SCHEMES:
        raise ArgumentError(f"scheme: found {scheme!r}; allowed: {', '.join(NAMES)}")
    T, layers = _integer("T", T, 10**9), _integer("layers", layers, 1000)
    hidden_size, input_size = (
        size if size is None else _integer(name, size, 10**9)
        for name, size in (("hidden_size", hidden_size), ("input_size", input_size))
    )
    r = _number("input_variance", input_variance, 1e100)
    correlation = _number("input_correlation", input_correlation, 1.0)
    null = r if null_variance is None else _number("null_variance", null_variance, 1e100)
    if not isinstance(_plain(null_constant), bool):
        raise ArgumentError(f"null_constant: found {_short(null_constant)}; allowed: True or False")
    noise = 0.0 if null_variance is None or null_constant else null
    data = {
        "schema_version": SCHEMA_VERSION,
        "cell": the_cell.name,
        **({"reset": the_cell.reset} if the_cell.reset else {}),
        "scheme": scheme,
        "T": T,
    }
    spec: InitSpec | None = None
    for index in range(layers):
        if spec is not None:
            below = spec.layers[-1].predicted.untied
            assert isinstance(below, Numbers)  # no scheme has identity kernels
            # inputs that are noise for a share of their power are taken to make such a share of the state
            noise = below.second_moment * (1.0 if noise >= r else noise / r) if noise else 0.0
            r = null = below.second_moment
        at = Circumstances(the_cell, T, r, correlation, null, noise, index, hidden_size, input_size)
        layer = {
            "input": {"variance": r, "correlation": correlation, "null_variance": null},
            "gates": dict(SCHEMES[scheme].gates(at)),
        }
        if the_cell.projects:
            layer["projection"] = SCHEMES[scheme].projection(at)
        try:
            one = predict(validate_object({**data, "layers": [layer]}))
        except SpecError as error:
            raise ArgumentError(f"{scheme} has no valid spec for these numbers: {error}") from None
        spec = one if spec is None else spec.model_copy(update={"layers": spec.layers + one.layers})
    assert spec is not None
    return _with_target(spec, SCHEMES[scheme])


def _with_target(spec: InitSpec, scheme: Scheme) -> InitSpec:
    """The spec with what its scheme set out to reach, and what stops it where it did not."""
    if scheme.target is None:
        return spec
    quantity = "time_scale" if spec.find_cell().keep_gate is None else scheme.target
    found = reached(spec, quantity)
    limit = None
    if found is not None and found < spec.T * _MET:
        limit = "no bias or drive that a spec can state reaches it with these inputs"
    target = Target(quantity=quantity, wanted=float(spec.T), reached=found, limit=limit)
    return spec.model_copy(update={"target": target})


def _integer(name: str, value: object, high: int) -> int:
    value = _plain(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise ArgumentError(f"{name}: found {_short(value)}; allowed: an integer from 1 to {high}")
    return value


def _number(name: str, value: object, high: float) -> float:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= high:
        raise ArgumentError(f"{name}: found {_short(value)}; allowed: a number from 0 to {high:g}")
    return float(value)


def _plain(value: object) -> object:
    """NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}…"
