"""``generate``: from a cell and a number of steps to remember over to an InitSpec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from critinit._version import __version__
from critinit.cells import Cell, find_cell, register_cell
from critinit.distributions.rotation import Spectrum
from critinit.errors import ArgumentError, CritinitError, SchemeError, SpecError
from critinit.foreign import check_numbers
from critinit.frozen import FrozenMapping
from critinit.schemes import DEFAULT, SCHEMES, LayerContext, Scheme, register_scheme
from critinit.spec.model import GAINS, MAX_LAYERS, MAX_T, SCHEMA_VERSION, Generated, InitSpec, Numbers, Padding, Target
from critinit.spec.overrides import override
from critinit.spec.reading import problems_of, validate_object
from critinit.theory.analysis import predict, predicted, reached, state_correlation, with_features_noted

__all__ = ["generate", "reads_spectrum", "suits"]

LIMITED = "memory"
"""The scheme for optimizers that keep limits, or whose rate is so small that none is needed."""
SAFE_WITHOUT_LIMITS = 0.1
"""T times the largest learning rate that it bears everywhere."""
_MET = 1.0 - 1e-3
"""A target counts as met from this share of it on: what six digits resolve."""
_OUT_OF_REACH = "no bias, gain or input variance that a spec can state reaches it with these inputs"
_LASTING = "with a larger gain some networks would grow without end, as the slopes of slow units last"
_LEAST_POWER = 1e-90
"""The smallest input variance but 0: the input kernel's is some number over it, and a spec states at most 1e100."""
_MAX_SIZE = 10**9
"""Units or coordinates."""
_POWERS: TypeAdapter[tuple[float, ...]] = TypeAdapter(Spectrum)


def generate(
    cell: str | Cell | type[Cell],
    T: int,
    *,
    scheme: str | Scheme | None = None,
    learning_rate: float | None = None,
    layers: int = 1,
    input_variance: float = 1.0,
    input_correlation: float = 1.0,
    input_autocorrelation: float | None = None,
    input_spectrum: Sequence[float] | None = None,
    padding: Padding | Mapping[str, Any] | None = None,
    hidden_size: int | None = None,
    input_size: int | None = None,
    settings: Sequence[str] = (),
) -> InitSpec:
    """Return the InitSpec of a cell that has to remember over ``T`` steps.

    Args:
        cell: The cell's name, or a cell of your own, which is registered.
        T: Over how many steps the network has to remember: the length of the sequences where the answer is read after
            the last step and information may be anywhere.  One step more or less makes no difference.
        scheme: The scheme's name, or a scheme of your own, which is registered.  None: ``critical``, which is safe at
            every learning rate, or what ``learning_rate`` chooses.
        learning_rate: The rate of Adam, or of an optimizer like it, that keeps no limits.  Up to .1/T it chooses the
            scheme ``memory``, which needs no limits then, where that suits the cell; above, ``critical``.  Only without
            a scheme.
        layers: Number of recurrent layers.
        input_variance: R, the mean square of an input number; standardized inputs have 1.
        input_correlation: Correlation of the inputs of the two copies whose distance χ describes.
        input_autocorrelation: Correlation of the input with that of the step before, −1 to 1; of smooth signals it is
            near 1.  None: unknown, and the theory takes inputs at different steps as independent.
        input_spectrum: Powers of the input about its mean in equal bins of the frequencies from 0 to π radians a step,
            in any unit, as ``critinit.inputs.measure`` finds them; from 2 to 1024 numbers.  The scheme ``memory``
            follows them; where a scheme does not, the spec does not record them.  None: unknown.
        padding: Inputs that carry no information, as ``Padding`` or a mapping: ``variance`` is their power per
            coordinate (0 when silent), ``constant`` whether they are all alike.  None: nothing is known of them, so
            they count as strong as the input.  ``critical`` lets gates react less where padding is noise.
        hidden_size: Units, for the schemes that depend on widths.
        input_size: Input coordinates, likewise.
        settings: Values to set afterwards, ``PATH=VALUE`` each (``critinit.spec.overrides``); the spec then says
            ``"scheme": "custom"`` unless a setting names the scheme.

    Returns:
        The spec, its prediction filled in; a missed target is stated in ``target.limit``.  It records these arguments:
        ``generate(**spec.generated.arguments)`` gives the same bytes.

    Raises:
        ArgumentError: An argument is out of its range; ``SchemeError`` where the scheme does not suit the cell.

    Example:
        >>> generate("gru", T=784).target.reached > 784
        True
    """
    the_cell = find_cell(cell) if isinstance(cell, str) else register_cell(cell)
    T, layers = _integer("T", T, MAX_T), _integer("layers", layers, MAX_LAYERS)
    hidden_size, input_size = (
        size if size is None else _integer(name, size, _MAX_SIZE)
        for name, size in (("hidden_size", hidden_size), ("input_size", input_size))
    )
    r = _number("input_variance", input_variance, 1e100)
    if 0.0 < r < _LEAST_POWER:
        allowed = f"0, or a number from {_LEAST_POWER:g} to 1e+100"
        raise ArgumentError("input_variance", found=f"{r:g}", allowed=allowed, hint="standardize the data")
    correlation = _number("input_correlation", input_correlation, 1.0)
    in_time = (
        None if input_autocorrelation is None else _number("input_autocorrelation", input_autocorrelation, 1.0, -1)
    )
    powers = None if input_spectrum is None else _spectrum(input_spectrum)
    known = _padding(padding)
    changes = _settings(settings)
    first = LayerContext(the_cell, T, r, correlation, known, 0, hidden_size, input_size, in_time, powers)
    scheme = _default(learning_rate, scheme, first) if scheme is None or learning_rate is not None else scheme
    the_scheme = SCHEMES.get(scheme) if isinstance(scheme, str) else register_scheme(scheme)
    arguments: dict[str, Any] = {
        "cell": the_cell.name,
        "T": T,
        "scheme": the_scheme.name,
        "layers": layers,
        "input_variance": r,
        "input_correlation": correlation,
        **({} if in_time is None else {"input_autocorrelation": in_time}),
        "padding": None if known is None else known.model_dump(),
        "hidden_size": hidden_size,
        "input_size": input_size,
        **({"settings": changes} if changes else {}),
    }
    own = the_scheme.name not in SCHEMES.built_in
    data = {
        "schema_version": SCHEMA_VERSION,
        "cell": the_cell.name,
        "scheme": the_scheme.name,
        "description": the_scheme.description if own else None,
        "T": T,
    }
    spec: InitSpec | None = None
    for index in range(layers):
        if spec is not None:
            r, correlation, known = _state_below(spec, known)
        smooth = None if index else in_time
        seen = None if index or not the_scheme.reads_spectrum else powers
        layer = LayerContext(the_cell, T, r, correlation, known, index, hidden_size, input_size, smooth, seen)
        try:
            one = validate_object({**data, "layers": [_layer(the_scheme, layer, smooth)]})
        except SpecError as error:
            hint = f"the spec that it makes of these arguments is not valid: {error}"
            raise ArgumentError("scheme", found=the_scheme.name, hint=hint) from None
        below = () if spec is None else spec.layers
        spec = one.model_copy(update={"layers": below + one.layers})
        top = spec.layers[-1].model_copy(update={"predicted": predicted(spec, index)})
        spec = spec.model_copy(update={"layers": (*below, top)})
    assert spec is not None  # there is at least one layer
    kernels = [gate.recurrent for group in spec.layers[0].groups for gate in group.gates.values()]
    if powers is not None and any(getattr(kernel, "spectrum", None) is not None for kernel in kernels):
        arguments["input_spectrum"] = list(powers)
    made = predict(_with_settings(spec, changes)) if changes else _with_target(spec, the_scheme)
    generated = Generated(critinit=__version__, arguments=FrozenMapping(arguments))
    return with_features_noted(made.model_copy(update={"generated": generated}))


def reads_spectrum(scheme: str | Scheme | None, learning_rate: float | None = None) -> bool:
    """Return whether ``generate`` can make use of the spectrum of the inputs, which takes time to measure.

    Args:
        scheme: As ``generate`` takes it, like the following.
        learning_rate: The optimizer's.

    Example:
        >>> [reads_spectrum(scheme) for scheme in ("memory", "chrono", None)]
        [True, False, False]
    """
    if scheme is None:
        return learning_rate is not None and SCHEMES.get(LIMITED).reads_spectrum
    known = SCHEMES.get(scheme) if isinstance(scheme, str) else scheme
    return bool(getattr(known, "reads_spectrum", False))  # what is no scheme, generate refuses


def suits(scheme: str, spec: InitSpec) -> bool:
    """Return whether one of critinit's own schemes has gates for the cell and the T of a spec.

    Args:
        scheme: The scheme's name.
        spec: The spec.

    Example:
        >>> from critinit.schemes.generating import generate
        >>> [suits("memory", generate(cell, 20)) for cell in ("gru", "rnn")]
        [True, False]
    """
    first = spec.layers[0].input
    return _suits(
        scheme, LayerContext(spec.find_cell(), spec.T, first.variance, first.correlation, None, 0, None, None)
    )


def _default(learning_rate: float | None, scheme: str | Scheme | None, layer: LayerContext) -> str:
    """The scheme where none is stated."""
    if learning_rate is None:
        return DEFAULT
    if scheme is not None:
        found = f"{_short(learning_rate)} beside a scheme"
        hint = "leave out one of the two: a rate chooses the scheme; critinit.limit_steps keeps limits at any rate"
        raise ArgumentError("learning_rate", found=found, allowed="without a scheme", hint=hint)
    rate = _number("learning_rate", learning_rate, 1e3)
    if not rate:
        raise ArgumentError("learning_rate", found="0", allowed="a number above 0, to 1000")
    return LIMITED if rate * layer.T <= SAFE_WITHOUT_LIMITS and _suits(LIMITED, layer) else DEFAULT


def _with_settings(spec: InitSpec, settings: Sequence[str]) -> InitSpec:
    """The spec with its values set; an error names the setting."""
    try:
        return override(spec, settings)
    except (ArgumentError, SpecError) as error:
        where = f"settings.{error.where}"
        raise ArgumentError(where, found=error.found, allowed=error.allowed, hint=error.hint) from None


def _layer(scheme: Scheme, layer: LayerContext, autocorrelation: float | None) -> dict[str, Any]:
    """A layer as the JSON of a spec has it."""
    cell = layer.cell
    try:
        gates = _asked(scheme, scheme.gates, layer)
    except SchemeError as error:
        suited = ", ".join(name for name in SCHEMES.built_in if name != scheme.name and _suits(name, layer))
        hint = "; ".join(filter(None, (error.hint, suited and f"schemes that suit {cell.name}: {suited}")))
        raise SchemeError(error.where, found=error.found, allowed=error.allowed, hint=hint) from error
    if cell.normalized and isinstance(gates, Mapping):
        gates = {n: {**dict.fromkeys(GAINS, 1.0), **g} if isinstance(g, Mapping) else g for n, g in gates.items()}
    if isinstance(gates, Mapping):
        gates = dict(gates)
    reads_normalized = cell.normalized and cell.has_readout
    return {
        "input": {
            "variance": layer.input_variance,
            "correlation": layer.correlation,
            "autocorrelation": autocorrelation,
            "padding": None if layer.padding is None else layer.padding.model_dump(),
        },
        **({"groups": list(gates)} if isinstance(gates, (list, tuple)) else {"gates": gates}),
        **({"projection": _asked(scheme, scheme.projection, layer)} if cell.projects else {}),
        **({"memory_gain": _asked(scheme, scheme.memory_gain, layer)} if reads_normalized else {}),
    }


def _suits(scheme: str, layer: LayerContext) -> bool:
    """Whether one of critinit's own schemes has gates for the cell."""
    try:
        SCHEMES.built_in[scheme].gates(layer)
    except SchemeError:
        return False
    return True


def _asked(scheme: Scheme, function: Callable[[LayerContext], Any], layer: LayerContext) -> Any:
    """What a scheme's function answers; raises ``SchemeError`` for whatever a function of a user's raises."""
    try:
        return function(layer)
    except Exception as error:
        if isinstance(error, CritinitError) or scheme.name in SCHEMES.built_in:
            raise
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        name = getattr(function, "__name__", "gates")
        hint = f"its function {name} raised {said} for the cell {layer.cell.name}"
        raise SchemeError("scheme", found=scheme.name, hint=hint) from error


def _state_below(spec: InitSpec, padding: Padding | None) -> tuple[float, float, Padding | None]:
    """The power of the state of the last layer, which the next one reads, its correlation in two copies, its padding.

    Inputs that are noise for a share of their power are taken to make such a share of the state; those that are all
    alike lead to states that are.
    """
    source = spec.layers[-1].input
    below = spec.layers[-1].predicted.untied
    if not isinstance(below, Numbers):
        hint = "an identity recurrent kernel has no second moment in the untied theory, which the next layer needs"
        raise ArgumentError("layers", found=str(len(spec.layers) + 1), allowed="1 with this scheme", hint=hint)
    power, correlation = below.second_moment, state_correlation(spec, spec.layers[-1])
    if padding is None:
        return power, correlation, None
    noise = not padding.constant and padding.variance > 0.0
    share = padding.variance / source.variance if noise and padding.variance < source.variance else 1.0
    return power, correlation, Padding(variance=power * share, constant=not noise)


def _with_target(spec: InitSpec, scheme: Scheme) -> InitSpec:
    """The spec with what its scheme set out to reach, and what stops it where it did not."""
    if scheme.target is None:
        return spec
    quantity = "time_scale" if spec.find_cell().keep_gate is None else scheme.target
    found = reached(spec, quantity)
    limit = None
    if found is not None and found < spec.T * _MET:
        cell = spec.find_cell()
        lasting = cell.keep_gate is None and not (cell.keeps_nothing or cell.is_odd)
        limit = _LASTING if lasting else _OUT_OF_REACH
    target = Target(quantity=quantity, wanted=float(spec.T), reached=found, limit=limit)
    return spec.model_copy(update={"target": target})


def _padding(padding: object) -> Padding | None:
    if padding is None or isinstance(padding, Padding):
        return padding
    if not isinstance(padding, Mapping):
        allowed = "None, or variance and constant, as in {'variance': 0.0}"
        raise ArgumentError("padding", found=_short(padding), allowed=allowed)
    try:
        return Padding.model_validate({key: _plain(f"padding.{key}", value) for key, value in padding.items()})
    except ValidationError as error:
        problem = problems_of(error)[0]
        where = ".".join(filter(None, ("padding", problem.where)))
        raise ArgumentError(where, found=problem.found, allowed=problem.allowed, hint=problem.hint) from None


def _spectrum(powers: object) -> tuple[float, ...]:
    try:
        return _POWERS.validate_python(tuple(_plain("input_spectrum", power) for power in powers), strict=True)  # type: ignore[attr-defined]
    except (TypeError, ValidationError):
        allowed = "from 2 to 1024 numbers from 0 on, of which one is above 0: powers in equal bins from 0 to π"
        raise ArgumentError("input_spectrum", found=_short(powers), allowed=allowed) from None


def _settings(settings: object) -> list[str]:
    if isinstance(settings, str) or not isinstance(settings, Sequence) or not all(isinstance(s, str) for s in settings):
        raise ArgumentError("settings", found=_short(settings), allowed="a list of texts PATH=VALUE")
    return list(settings)


def _integer(name: str, value: object, high: int) -> int:
    value = _plain(name, value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise ArgumentError(name, found=_short(value), allowed=f"an integer from 1 to {high}")
    return value


def _number(name: str, value: object, high: float, low: float = 0) -> float:
    value = _plain(name, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ArgumentError(name, found=_short(value), allowed=f"a number from {low:g} to {high:g}")
    return float(value)


def _plain(name: str, value: object) -> object:
    """A number of NumPy, or an array or tensor that is a single number without an axis, as Python's."""
    check_numbers(name, value)
    if getattr(value, "shape", None) != () or not hasattr(value, "__array__"):
        return value
    try:
        return (value if hasattr(value, "item") else np.asarray(value)).item()
    except RuntimeError:  # a tensor without numbers
        return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}…"
