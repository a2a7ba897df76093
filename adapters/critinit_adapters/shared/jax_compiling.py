"""Recording from a compiled run: what reaches the cells is made an output of the compiled program.

A model of JAX runs fast only when it is compiled, and a compiled program shows nothing of its inside.  So the model is
traced once into JAX's intermediate program (a jaxpr).  What is recorded stands there as calls of a primitive of its
own, which hands its first operand on.  ``_walk`` carries the program out and collects the operands of these calls, of
those within a ``scan`` at all its steps.  Compiled, and kept for the next call, it costs no more than the model itself.

What is compiled is kept only where it surely is the same program again: a model and a batch of the same structure, run
by a function that reads nothing that can change.  Where a model cannot be traced, or records within a branch or an
open-ended loop, ``recorded`` returns None, and the model runs step by step without compiling.
"""

from __future__ import annotations

import dataclasses
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.extend.core as jec
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.interpreters import batching

from critinit.errors import ArgumentError
from critinit.inputs.network import Runner
from critinit_adapters.shared.changing import Same, globals_in, is_installed, state_of
from critinit_adapters.shared.preserving import generators_kept
from critinit_adapters.shared.recording import Recorder

__all__ = ["Take", "TracedRecorder", "made", "recorded", "refuse_traced", "taken"]

Take = Callable[..., None]
"""A function of the recorder and the operands of one call on the host; hashable.

One that has a ``place`` may have a method ``all_steps``, which takes those of all steps of a scan at once, and then
``whole_pass``, which takes those of a layer's scan: its first operand at all steps, the others at the first step.  One
whose ``layer`` is +1 or −1 stands before or after the scan of such a layer.  One that ``is_blind`` takes None for its
first operand, which need not be computed for it."""

_KEPT = 8
"""Compiled programs that are kept."""
_LONGEST = 4000
"""Operations of a program that is compiled; a loop that is written out in Python would compile for minutes."""

_TAKE = jec.Primitive("critinit_take")
_TAKE.multiple_results = True


@_TAKE.def_abstract_eval
def _abstract(*operands: Any, take: Take) -> tuple[Any, ...]:
    return (operands[0],)


def _batched(operands: Sequence[Any], dims: Sequence[Any], *, take: Take) -> tuple[list[Any], list[int]]:
    """All members of a ``vmap`` are taken at once, in the first axis."""
    size = next(x.shape[dim] for x, dim in zip(operands, dims, strict=True) if dim is not None)
    moved = [batching.bdim_at_front(x, dim, size) for x, dim in zip(operands, dims, strict=True)]
    return _TAKE.bind(*moved, take=take), [0]


batching.primitive_batchers[_TAKE] = _batched


class TracedRecorder(Recorder):
    """A recorder while a model is traced: there is nothing to record yet."""


def taken(take: Take, x: Any, *operands: Any) -> Any:
    """Return x, which has to be used in its place; its value and the operands' are handed to ``take`` at every run.

    Args:
        take: Hashable.
        x: An array that is traced.
        operands: More arrays.
    """
    return _TAKE.bind(x, *operands, take=take)[0]


def made(results: Any) -> Any:
    """Return what a cell gave in a step, marked as such, while a model is traced."""
    return checkpoint_name(results, _MARK)


class _Loop(NamedTuple):
    """Takes within a scan; ``whole``: of a layer, with the operands of ``whole_pass``."""

    reverse: bool
    body: tuple[Any, ...]
    whole: bool


class _Program(NamedTuple):
    """A compiled run: a function of the arrays, the takes in their order, what the adapter noted, and whether it calls
    functions of Python, which may draw random numbers."""

    run: Callable[[list[Any]], Any]
    takes: tuple[Any, ...]
    noted: Any
    calls_back: bool


class _Key:
    """Parts that are hashed but once, as the structure of a model takes long."""

    def __init__(self, parts: Hashable) -> None:
        self.parts, self.hash = parts, hash(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.parts == other.parts

    def __hash__(self) -> int:
        return self.hash


_PROGRAMS: OrderedDict[_Key, tuple[_Program | None]] = OrderedDict()


def recorded(
    run: Callable[..., object],
    target: Any,
    static: Hashable,
    trace: Callable[[TracedRecorder, Any, Callable[..., object]], Any],
) -> tuple[Recorder, Any] | None:
    """Run a model compiled; return what was recorded and what ``trace`` returned, or None where that cannot be done.

    Args:
        run: What runs the model.
        target: A tree with all arrays that the model reads.
        static: What else decides how the model runs.
        trace: Runs a model with the arrays of a tree like ``target``, by a ``run`` like the given one.
    """
    if not isinstance(run, Runner):
        return None
    leaves, structure = jax.tree.flatten((target, run.batch))
    refuse_traced(leaves)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    key, known = None, None
    try:
        rest = tuple((leaf.shape, leaf.dtype) if _is_array(leaf) else leaf for leaf in leaves)
        key = _Key((static, structure, rest, _frozen(run.call)))
        known = _PROGRAMS.pop(key, None)
    except (TypeError, ValueError):  # it could be another program next time
        key = None
    if known is None:
        with generators_kept():
            known = (_made(leaves, structure, run, trace),)
    (program,) = known
    if key is not None:
        _PROGRAMS[key] = known  # the last one that was used
    while len(_PROGRAMS) > _KEPT:
        _PROGRAMS.popitem(last=False)
    if program is None:
        return None
    with generators_kept() if program.calls_back else nullcontext():
        values = jax.device_get(program.run(arrays))
    recorder = Recorder()
    _replay(recorder, program.takes, values)
    return recorder, program.noted


def refuse_traced(tree: Any) -> None:
    """Refuse what stands for arrays while JAX traces a function.

    Raises:
        ArgumentError: The tree has some of it.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree)):
        hint = "call it outside of jit, vmap and grad, on arrays"
        raise ArgumentError("batch", found="arrays without numbers, within a transformation of JAX", hint=hint)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "OSUMm")


def _made(
    leaves: Sequence[Any], structure: Any, run: Runner, trace: Callable[[TracedRecorder, Any, Runner], Any]
) -> _Program | None:
    """The compiled run, or None."""
    noted: list[Any] = []
    places = [i for i, leaf in enumerate(leaves) if _is_array(leaf)]

    def whole(arrays: Sequence[Any]) -> None:
        every = list(leaves)
        for i, array in zip(places, arrays, strict=True):
            every[i] = array
        target, batch = jax.tree.unflatten(structure, every)
        noted.append(trace(TracedRecorder(), target, run.on(batch)))

    try:
        closed = jax.make_jaxpr(whole)([leaves[i] for i in places])
        if _length(closed.jaxpr) > _LONGEST:
            return None
        takes: list[Any] = []

        def harvest(arrays: Sequence[Any]) -> list[Any]:
            takes.clear()
            return _walk(closed.jaxpr, closed.consts, arrays, takes)[1]

        compiled = jax.jit(harvest).lower([leaves[i] for i in places]).compile()
    except Exception:  # whatever it is, the run without compiling shows it, or does without
        return None
    return _Program(compiled, tuple(takes), noted[0], _calls_back(closed.jaxpr))


def _walk(
    jaxpr: Any, consts: Sequence[Any], given: Sequence[Any], takes: list[Any], within: int = 0
) -> tuple[list[Any], list[Any]]:
    """Carry a program out; return its results, and the operands of its takes, which are appended to ``takes``.

    Args:
        jaxpr: The program.
        consts: Its constants.
        given: What it is called with.
        takes: Where takes are appended.
        within: Within how many layers' calls it runs.
    """
    known: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *given), strict=True))
    values: list[Any] = []

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jec.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        if eqn.primitive is _TAKE:
            take = eqn.params["take"]
            within += getattr(take, "layer", 0)
            takes.append(take)
            values.append([None, *operands[1:]] if getattr(take, "is_blind", False) else operands)
            results = operands[:1]
        elif not any(map(_takes, _parts(eqn))):
            results = _carried_out(jaxpr, eqn, operands)
        elif eqn.primitive is jec.primitives.scan_p:
            results, inside = _scanned(eqn.params, operands, takes, of_layer=within > 0)
            values.append(inside)
        else:
            (inner,) = _parts(eqn)
            if eqn.primitive in (jec.primitives.while_p, jec.primitives.cond_p):
                raise NotImplementedError(eqn.primitive.name)
            closed = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            results, inside = _walk(inner, getattr(closed, "consts", ()), operands, takes, within)
            values += inside
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars], values


def _carried_out(jaxpr: Any, eqn: Any, operands: Sequence[Any]) -> list[Any]:
    """The results of one operation of a program."""
    named = {atom: x for atom, x in zip(eqn.invars, operands, strict=True) if not isinstance(atom, jec.Literal)}
    wanted = [atom for atom in eqn.outvars if not _is_dropped(atom)]
    alone = jaxpr.replace(constvars=[], invars=list(named), outvars=wanted, eqns=[eqn])
    found = iter(jec.jaxpr_as_fun(jec.ClosedJaxpr(alone, ()))(*named.values()))
    return [None if _is_dropped(atom) else next(found) for atom in eqn.outvars]


def _is_dropped(atom: Any) -> bool:
    """Whether a result has no name; JAX makes the class of these public only since later than 0.8.1."""
    return type(atom).__name__ == "DropVar"


def _scanned(params: Any, operands: Sequence[Any], takes: list[Any], *, of_layer: bool) -> tuple[list[Any], list[Any]]:
    """A scan, with what its steps take as further outputs.

    In that of a layer all steps are one pass, so what is seen of the states is wanted of the first step alone, unless
    something else than the cells can change them.  XLA then leaves out the whole scan where nothing else needs it.
    """
    consts, carries, inner = params["num_consts"], params["num_carry"], params["jaxpr"]
    of_layer = of_layer and _goes_on(params)
    body: list[Any] = []
    read: list[Any] = []

    def walked(carry: Sequence[Any], x: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        body.clear()
        return _walk(inner.jaxpr, inner.consts, [*operands[:consts], *carry, *x], body)

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], Any]:
        results, values = walked(carry, x)
        if not (of_layer and _are_apart(body)):
            return results[:carries], (results[carries:], values)
        # what is read as it arrives need not pass through the loop
        read[:] = [next((i for i, one in enumerate(x) if one is seen), None) for seen, *_ in values]
        seen = [None if i is not None else seen for i, (seen, *_) in zip(read, values, strict=True)]
        return results[:carries], (results[carries:], seen)

    first, xs = list(operands[consts : consts + carries]), list(operands[consts + carries :])
    last, (ys, values) = jax.lax.scan(
        step, first, xs, length=params["length"], reverse=params["reverse"], unroll=params["unroll"]
    )
    whole = of_layer and _are_apart(body)
    if whole:
        begins = walked(first, [x[-1 if params["reverse"] else 0] for x in xs])[1]
        seen = [one if i is None else xs[i] for i, one in zip(read, values, strict=True)]
        values = [[one, *others] for one, (_, *others) in zip(seen, begins, strict=True)]
    takes.append(_Loop(params["reverse"], tuple(body), whole))
    return [*last, *ys], values


def _goes_on(params: Any) -> bool:
    """Whether each state that a scan's step sees is a carry just as a cell left it in the step before.

    Otherwise what is read, a counter or a flag of the step before may reset it, before a step or after it.
    """
    consts, carries, inner = params["num_consts"], params["num_carry"], params["jaxpr"].jaxpr
    given = [i - consts if consts <= i < consts + carries else None for i in range(len(inner.invars))]
    results, seen = _origins(inner, given)
    return all(origin is not None and origin != _MADE and results[origin] == _MADE for origin in seen)


def _origins(jaxpr: Any, given: Sequence[int | None]) -> tuple[list[int | None], list[int | None]]:
    """Of which arguments the results of a program are zero or not, just as these are, and what takes see of states.

    Args:
        jaxpr: The program.
        given: The numbers of its arguments; None: of no matter.

    Returns:
        The numbers of the arguments, ``_MADE`` of what a cell made, None of anything else.
    """
    known: dict[Any, int | None] = dict(zip(jaxpr.invars, given, strict=True))
    seen: list[int | None] = []

    def origin(atom: Any) -> int | None:
        return None if isinstance(atom, jec.Literal) else known.get(atom)

    for eqn in jaxpr.eqns:
        operands, parts = list(map(origin, eqn.invars)), _parts(eqn)
        results: list[int | None] = [None] * len(eqn.outvars)
        if eqn.primitive is _TAKE:
            seen += operands[1:]
            results = operands[:1]
        elif eqn.primitive.name == "name" and eqn.params["name"] == _MARK:
            results = [_MADE]
        elif eqn.primitive.name in _REARRANGE or (eqn.primitive.name == "ne" and _is_zero(eqn.invars[1])):
            results = operands[:1]
        elif len(parts) == 1 and eqn.primitive not in _LOOPS and len(parts[0].invars) == len(operands):
            results, within = _origins(parts[0], operands)
            seen += within
        elif any(map(_takes, parts)):
            seen.append(None)
        known.update(zip(eqn.outvars, results, strict=True))
    return list(map(origin, jaxpr.outvars)), seen


_MADE = -1
"""Stands for what a cell made, where numbers stand for arguments."""
_MARK = "critinit_made"
_LOOPS = (jec.primitives.scan_p, jec.primitives.while_p, jec.primitives.cond_p)
_REARRANGE = ("broadcast_in_dim", "convert_element_type", "copy", "reduce_or", "reshape", "squeeze", "transpose")
"""Operations whose results are zero where their first operand is."""


def _is_zero(atom: Any) -> bool:
    return isinstance(atom, jec.Literal) and not np.any(atom.val)


def _parts(eqn: Any) -> list[Any]:
    """The programs within an operation; JAX has a public function for it only since later than 0.8.1."""
    values = [one for value in eqn.params.values() for one in (value if isinstance(value, tuple) else (value,))]
    found = [one for one in values if isinstance(one, (jec.Jaxpr, jec.ClosedJaxpr))]
    return [one.jaxpr if isinstance(one, jec.ClosedJaxpr) else one for one in found]


def _takes(jaxpr: Any) -> bool:
    return any(eqn.primitive is _TAKE or any(map(_takes, _parts(eqn))) for eqn in jaxpr.eqns)


def _calls_back(jaxpr: Any) -> bool:
    return any("callback" in eqn.primitive.name or any(map(_calls_back, _parts(eqn))) for eqn in jaxpr.eqns)


def _length(jaxpr: Any) -> int:
    """The number of operations in a program and within its parts."""
    return sum(1 + sum(map(_length, _parts(eqn))) for eqn in jaxpr.eqns)


def _are_apart(takes: Sequence[Any]) -> bool:
    """Whether takes of a scan are at places of their own, so that one can take all steps before the next one does."""
    return all(hasattr(take, "all_steps") for take in takes) and len({take.place for take in takes}) == len(takes)


def _replay(recorder: Recorder, takes: Sequence[Any], values: Sequence[Any]) -> None:
    """Hand what was taken to the recorder, in the order in which the model ran."""
    for take, operands in zip(takes, values, strict=True):
        if isinstance(take, _Loop) and take.whole:
            for one, (x, *others) in zip(take.body, operands, strict=True):
                one.whole_pass(recorder, x[::-1] if take.reverse else x, *others)
        elif isinstance(take, _Loop) and _are_apart(take.body):
            for one, given in zip(take.body, operands, strict=True):
                one.all_steps(recorder, *(x[::-1] if take.reverse else x for x in given))
        elif isinstance(take, _Loop):
            steps = len(jax.tree.leaves(operands)[0])
            for t in reversed(range(steps)) if take.reverse else range(steps):
                _replay(recorder, take.body, jax.tree.map(lambda x, t=t: x[t], operands))
        else:
            take(recorder, *operands)


def _frozen(value: Any) -> Hashable:
    """A key of a function, or of what it reads; functions of equal keys do the same.

    Raises:
        TypeError: It reads something that can change.
    """
    if value is None or isinstance(value, (str, bytes, int, float, complex)):
        return type(value), value
    if isinstance(value, (jax.Array, types.ModuleType, types.BuiltinFunctionType)):
        return Same(value)
    if isinstance(value, type):
        return state_of(value)
    if _is_linen(value):
        fields = (field.name for field in dataclasses.fields(value) if field.name not in ("parent", "name"))
        return Same(value), state_of((type(value), *(getattr(value, name, None) for name in fields)))
    if isinstance(value, tuple):
        return type(value), tuple(map(_frozen, value))
    if isinstance(value, partial):
        return partial, _frozen(value.func), _frozen(value.args), _frozen(tuple(sorted(value.keywords.items())))
    if isinstance(value, types.MethodType):
        return _frozen(value.__func__), _frozen(value.__self__)
    if isinstance(value, types.FunctionType):
        named = tuple(sorted((value.__kwdefaults__ or {}).items()))
        return value.__code__, _frozen(value.__defaults__), _frozen(named), tuple(_read_by(value))
    raise TypeError(f"{type(value).__name__} can change")


def _read_by(function: types.FunctionType) -> Iterator[Hashable]:
    """Keys of what a function reads beside its arguments; a library's functions read what stays."""
    for cell in function.__closure__ or ():
        yield _frozen(cell.cell_contents)
    if not is_installed(function):
        for name in globals_in(function.__code__):
            if name in function.__globals__:
                yield name, _frozen(function.__globals__[name])


def _is_linen(value: Any) -> bool:
    """Whether it is a module of Linen, which cannot be changed."""
    return any(f"{kind.__module__}.{kind.__name__}" == "flax.linen.module.Module" for kind in type(value).__mro__)
