"""Whether a class is a cell that every engine can use: what it declares, and what its functions do when they are asked.

The functions are probed at random numbers, in plain NumPy and in duals: each must read its own gate alone, give one
finite number per unit, treat every unit by itself, and be differentiable.  What passes can still be wrong as a cell,
but it is what the theory supposes: an affine recursion of a scalar memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from critinit.cells._base import EMBEDDED, Cell, Scale
from critinit.dual import SUPPORTED, Array, Dual, DualError, tangent, value
from critinit.errors import CellError

__all__ = ["check_cell"]

_UNITS = 7
"""Units of the probes: few, and no number that a shape has by chance."""
_FARTHEST = 100.0
"""The largest pre-activation, in either direction, at which functions must be finite."""
_CLOSE = 1e-9
"""Numbers that should be equal may differ by this much, relative to 1 or to themselves."""
_LONGEST_NAME = 60
"""Characters of a name."""
_LONGEST_TEXT = 160
"""Characters of a foreign error's text in a message: it stays on one line."""
_STEP = 1e-6
"""Of the finite differences that derivatives are compared with: errors of 1e-10, where a wrong slope errs by .1."""
_SLOPE_TOLERANCE = 1e-4
"""How far a derivative may be from the finite difference, relative to 1 or to itself."""
_ROLES = ("keep_gate", "write_gate", "candidate_gate", "read_gate")
_FUNCTIONS = ("keep", "write", "candidate", "read")


class _Recording(dict[str, Any]):
    """Pre-activations that remember which gates were asked for."""

    def __init__(self, u: Mapping[str, Any]) -> None:
        super().__init__(u)
        self.asked: set[str] = set()

    def __getitem__(self, gate: str) -> Any:
        self.asked.add(gate)
        return super().__getitem__(gate)


def check_cell(cell: Cell, source: str = "") -> None:
    """Raise ``CellError`` with the field, what was found and what is allowed, for what is no cell."""
    try:
        _declared(cell)
        _functions(cell)
        _update(cell)
    except _NotACellError as error:
        field, found, allowed = error.args
        where = f"{type(cell).__name__}.{field}"
        raise CellError(where, found=found, allowed=allowed, source=source) from None


class _NotACellError(Exception):
    """With the field, what was found and what is allowed."""


def _refuse(field: str, found: str, allowed: str) -> None:
    raise _NotACellError(field, found, allowed)


# ---- what is declared ------------------------------------------------------------------------------------


def _declared(cell: Cell) -> None:
    name = getattr(cell, "name", None)
    if not (isinstance(name, str) and name.isidentifier() and name.isascii() and name == name.lower()):
        _refuse("name", repr(name) if name is not None else "nothing", "lower-case letters, digits and _")
    if len(str(name)) > _LONGEST_NAME:
        _refuse("name", f"{len(str(name))} characters", f"at most {_LONGEST_NAME}")
    gates = getattr(cell, "gates", None)
    if not isinstance(gates, tuple) or not gates:
        _refuse("gates", repr(gates) if gates is not None else "nothing", 'a tuple of names, such as ("update",)')
    assert gates is not None
    for gate in gates:
        if not (isinstance(gate, str) and gate.isidentifier() and gate.isascii() and len(gate) <= _LONGEST_NAME):
            _refuse("gates", repr(gate), "letters, digits and _")
        if gate == EMBEDDED and cell.embeds_input:
            _refuse("gates", repr(gate), "another name: in a cell that embeds its input this is the input's")
    if len(set(gates)) < len(gates):
        _refuse("gates", repr(gates), "each name once")
    _roles(cell)
    _scales(cell)
    _readout(cell)
    idle = set(gates) - {getattr(cell, role) for role in _ROLES} - {scale.gate for scale in _all_scales(cell)}
    if idle:
        _refuse("gates", f"{sorted(idle)[0]!r}, which nothing reads", f"a gate named by one of {', '.join(_ROLES)}")


def _roles(cell: Cell) -> None:
    for role in _ROLES:
        gate = getattr(cell, role)
        if gate is not None and gate not in cell.gates:
            _refuse(role, repr(gate), f"None, {', '.join(cell.gates)}")
    if cell.embeds_input and cell.candidate_gate is not None:
        _refuse("candidate_gate", repr(cell.candidate_gate), "None, where the candidate is the embedded input")
    if not cell.embeds_input and cell.candidate_gate is None:
        _refuse("candidate_gate", "None", f"the gate that the candidate reads, one of {', '.join(cell.gates)}")
    for role in ("candidate_gate", "read_gate"):
        gate = getattr(cell, role)
        others = [other for other in _ROLES if other != role and getattr(cell, other) == gate]
        if gate is not None and others:
            _refuse(role, f"{gate!r}, which {others[0]} is too", "a gate of its own")


def _all_scales(cell: Cell) -> Iterator[Scale]:
    yield from (*cell.before.values(), *cell.after.values())


def _scales(cell: Cell) -> None:
    for field in ("before", "after"):
        for gate, scale in getattr(cell, field).items():
            if gate != cell.candidate_gate:
                _refuse(field, f"a scale of {gate!r}", f"a scale of the candidate's gate, {cell.candidate_gate!r}")
            if not isinstance(scale, Scale):
                _refuse(f"{field}[{gate!r}]", type(scale).__name__, "critinit.Scale(gate, factor)")
            if scale.gate not in cell.gates or cell.gates.index(scale.gate) >= cell.gates.index(gate):
                _refuse(f"{field}[{gate!r}]", repr(scale.gate), f"a gate that stands before {gate!r} in gates")
            roles = [role for role in _ROLES if getattr(cell, role) == scale.gate]
            if roles and not (field == "before" and roles == ["keep_gate", "write_gate"]):
                also = " or, before the kernel, the one that both keeps and writes"
                _refuse(f"{field}[{gate!r}]", f"{scale.gate!r}, the {roles[0]}", f"a gate of its own,{also}")
            _elementwise(f"{field}[{gate!r}].factor", scale.factor)
    if cell.before and cell.after:
        _refuse("after", "a scale, and another in before", "one of them")


def _readout(cell: Cell) -> None:
    if cell.read_gate is not None and not cell.has_readout:
        _refuse("read_gate", repr(cell.read_gate), "None, or a read(s, u) of the cell's own")
    if cell.has_readout and (cell.before or cell.after):
        _refuse("before" if cell.before else "after", "a scale in a cell with a read", "none there")
    if cell.has_readout and (cell.embeds_input or cell.message_is_memory):
        field = "embeds_input" if cell.embeds_input else "message_is_memory"
        why = "" if cell.embeds_input else ", as the gates read what read(s, u) gives"
        _refuse(field, "True in a cell with a read", f"False there{why}")
    if cell.projects and not cell.has_readout and cell.embeds_input:
        _refuse("projects", "True in a cell that embeds its input", "False there")
    if cell.projects and (cell.before or cell.after or cell.message_is_memory):
        _refuse("projects", "True in a cell with a scale, or whose message is its memory", "False there")
    if cell.normalized and (cell.before or cell.projects or cell.embeds_input):
        _refuse("normalized", "True in a cell with a before, a projection or an embedded input", "False there")
    if cell.keeps_normalized and not (cell.normalized and cell.has_readout):
        _refuse("keeps_normalized", "True in a cell that is not normalized, or has no read", "False there")


# ---- what the functions do -------------------------------------------------------------------------------


def _functions(cell: Cell) -> None:
    own = {name: getattr(type(cell), name) is not getattr(Cell, name) for name in (*_FUNCTIONS, "update")}
    missing = [name for name in _FUNCTIONS[:3] if not own[name]]
    if not own["update"] and missing:
        _refuse(missing[0], "nothing", "a method, or an update(s, u) that says all of keep, write and candidate")
    if own["update"] and len(missing) < 3:
        stated = next(name for name in _FUNCTIONS[:3] if own[name])
        _refuse("update", f"one beside {stated}", "update alone, or keep, write and candidate")
    if own["update"]:
        _from_update(cell)
        return
    for name, gate in zip(_FUNCTIONS[:3], (cell.keep_gate, cell.write_gate, cell.candidate_gate), strict=True):
        reads = gate if name != "candidate" else cell._written
        _elementwise(name, getattr(cell, name), reads)


def _from_update(cell: Cell) -> None:
    """That an ``update`` is affine in s, with a product of a function of one gate and one of another."""
    _elementwise_in_all(cell, "update", lambda s, u: cell.update(s, u))
    s, u = _draw(cell)
    low, middle, high = (value(cell.update(x, u)) for x in (0.0 * s, s, 2.0 * s))
    if not _alike(low + high, 2.0 * middle):
        _refuse("update", "an update that is not affine in the state s", "keep(u)·s + write(u)·candidate(u)")
    if cell._candidate_scale[0] == 0.0 or cell._candidate_scale[1] == 0.0:
        _refuse("update", f"one that {cell._written!r} does not move at 0", "keep, write and candidate, stated apart")
    stated = value(cell.update(s, u))
    gates = ((cell.keep, cell.keep_gate), (cell.write, cell.write_gate), (cell.candidate, cell._written))
    keep, write, candidate = (value(f({g: u[g]} if g else {})) for f, g in gates)
    if not _alike(stated, keep * s + write * candidate):
        _refuse(
            "update",
            "other gates at work than keep_gate, write_gate and candidate_gate say, or no product of two functions",
            f"keep({cell.keep_gate})·s + write({cell.write_gate})·candidate({cell._written})",
        )


def _update(cell: Cell) -> None:
    _elementwise_in_all(cell, "update", cell.update)
    if cell.has_readout:
        _elementwise_in_all(cell, "read", cell.read, {cell.read_gate} - {None})


def _draw(cell: Cell, units: int = _UNITS) -> tuple[Array, dict[str, Array]]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(units), {g: 2.0 * rng.standard_normal(units) for g in (*cell.gates, EMBEDDED)}


def _alike(a: Any, b: Any) -> bool:
    return bool(np.all(np.abs(value(a) - value(b)) <= _CLOSE * (1.0 + np.abs(value(b)))))


def _elementwise(field: str, function: Callable[..., Any], gate: str | None = None) -> None:
    """Probe a factor of one pre-activation or, with a ``gate``, a function of the pre-activations that may read it."""
    is_factor = field.endswith(".factor")

    def on(x: Any) -> Any:
        if is_factor:
            return function(x)
        u = _Recording({} if gate is None else {gate: x})
        try:
            return function(u)
        except KeyError as error:
            raise _other_gate(field, error, gate) from None

    x = np.random.default_rng(1).standard_normal(_UNITS) * 2.0
    ends = np.array([-_FARTHEST, -30.0, 0.0, 30.0, _FARTHEST])
    _probe(field, on, x, lambda part: on(x[part]), ends if gate or is_factor else None)


def _elementwise_in_all(cell: Cell, field: str, function: Callable[..., Any], allowed: set[Any] | None = None) -> None:
    s, u = _draw(cell)
    given = u if allowed is None else {g: u[g] for g in allowed}

    def on(shift: Any) -> Any:
        asked = _Recording({g: x + shift for g, x in given.items()})
        try:
            return function(s + shift, asked)
        except KeyError as error:
            raise _other_gate(field, error, ", ".join(map(str, given)) or None) from None

    def of(part: slice) -> Any:
        return function(s[part], {g: x[part] for g, x in given.items()})

    _probe(field, on, np.zeros(_UNITS), of, None)
    for shift in (-_FARTHEST, _FARTHEST):
        _finite(field, _called(field, partial(on, np.full(_UNITS, shift))), f"where all is near {shift:g}")


def _other_gate(field: str, error: KeyError, gate: str | None) -> _NotACellError:
    allowed = gate or "no gate, as the cell declares none for it"
    return _NotACellError(field, f"that it reads {error.args[0]!r}", allowed)


def _probe(field: str, on: Callable[[Any], Any], x: Array, of: Callable[[slice], Any], ends: Array | None) -> None:
    """``on``: the function at pre-activations moved by x; ``of``: the same on some of the units alone."""
    plain = _called(field, lambda: on(x))
    if np.shape(plain) not in ((), x.shape):
        _refuse(field, f"an array of shape {np.shape(plain)} for {_UNITS} units", f"shape ({_UNITS},), or a number")
    _finite(field, plain, "at moderate pre-activations")
    first = slice(0, 3)
    whole = np.broadcast_to(value(plain), x.shape)[first]
    if not _alike(whole, _called(field, lambda: of(first))):
        _refuse(field, "units that depend on each other", "an elementwise function, each unit by itself")
    if not _alike(plain, _called(field, lambda: on(x))):
        _refuse(field, "other values when asked again", "a function of its arguments alone")
    slope = _called(field, lambda: on(Dual(x, np.ones_like(x))))
    _finite(field, tangent(slope), "in its derivative")
    ahead, behind = (value(_called(field, partial(on, x + step))) for step in (_STEP, -_STEP))
    numeric = (ahead - behind) / (2.0 * _STEP)
    if not np.all(np.abs(tangent(slope) - numeric) <= _SLOPE_TOLERANCE * (1.0 + np.abs(numeric))):
        _refuse(field, "a derivative that is not that of its values", "functions of NumPy, on arrays as they come")
    for end in () if ends is None else ends:
        far = _called(field, partial(on, Dual(np.full(_UNITS, end), np.ones(_UNITS))))
        _finite(field, value(far), f"at the pre-activation {end:g}")
        _finite(field, tangent(far), f"in its derivative at the pre-activation {end:g}")


def _finite(field: str, found: Any, where: str) -> None:
    if not np.all(np.isfinite(value(found))):
        kind = "NaN" if np.any(np.isnan(value(found))) else "infinity"
        _refuse(field, f"{kind} {where}", "finite numbers; critinit.sigmoid does not overflow")


def _called(field: str, call: Callable[[], Any]) -> Any:
    """The function's answer; what it raises becomes the reason of a refusal."""
    try:
        with np.errstate(all="ignore"):
            found = call()
        if not isinstance(found, Dual):
            found = np.asarray(found, dtype=float)
    except _NotACellError:
        raise
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        if isinstance(error, DualError):
            _refuse(field, error.what, SUPPORTED)
        _refuse(field, f"{type(error).__name__}: {first[:_LONGEST_TEXT]}", "a function of arrays, one number per unit")
    return found
