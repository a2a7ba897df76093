"""``critinit.initialize``: from a model and a batch to written weights, in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from glob import escape
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar, get_args

from critinit.errors import ApplyError, ArgumentError, SchemeError
from critinit.inputs.arriving import MeasuredInputs, NetworkInputs
from critinit.inputs.network import measure
from critinit.schemes import DEFAULT, Scheme
from critinit.schemes.generating import generate, reads_spectrum
from critinit.showing import Shown, Table
from critinit.spec import InitSpec, Padding
from critinit.tensors.application import Adapter, Applied, Report, Sampler, StepLimit, apply, find_adapter
from critinit.tensors.selecting import matches

__all__ = ["Embeddings", "Initialized", "initialize"]

Embeddings = Literal["keep", "rescale"]
Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Initialized(Shown, Generic[Model]):
    """What ``initialize`` returns: the model, the spec of each network, and what was measured and written.

    Attributes:
        model: The very object that was given where the framework's models are mutable, and a new one where they are
            not.
        specs: The spec of each recurrent network, by its path.
        measured: What arrived at each network when its spec was made.
        applied: What was written, of all networks together, and the limits for ``critinit.limit_steps``.
    """

    model: Model
    specs: Mapping[str, InitSpec]
    measured: MeasuredInputs
    applied: Applied[Model]

    @property
    def limits(self) -> tuple[StepLimit, ...]:
        """The limits on the learning rate of all networks, so that ``critinit.limit_steps`` takes this result too."""
        return self.applied.limits

    def __repr__(self) -> str:
        names = ", ".join(repr(name) for name in self.specs)
        return f"Initialized({type(self.model).__name__}, specs of {names}, seed={self.applied.seed})"

    def __str__(self) -> str:
        return f"{self.measured}\n\n{self.applied.report}"

    def _tables(self) -> Iterator[Table]:
        yield from self.measured._tables()
        yield from self.applied._tables()


def initialize(
    model: Model,
    batch: Any,
    T: int | None = None,
    *,
    scheme: str | Scheme = DEFAULT,
    seed: Any = None,
    sampler: Sampler = "portable",
    embeddings: Embeddings = "keep",
    padding: Padding | Mapping[str, Any] | None = None,
    mask: Any = None,
    settings: Sequence[str] = (),
    include: str | Sequence[str] | None = None,
    trust: bool = False,
    call: Callable[..., object] | None = None,
    framework: str | Adapter | None = None,
    **options: Any,
) -> Initialized[Model]:
    """Measure what arrives at every recurrent network of a model, make a spec for each, and write them.

    The networks are taken in the order in which the batch reaches them, and the model runs once for each: a network
    reads what those before it make with their new weights.  If anything fails, the model is as it was.

    Args:
        model: As of ``critinit.measure``.
        batch: A typical batch, as of ``critinit.measure``.
        T: Steps to remember; the longest way from information to the end of reading in the batch unless given.
        scheme: The scheme's name, or a scheme of your own.
        seed: The seed, as of ``critinit.apply``, one for all networks.  None: the next number of the generator that the
            framework's own initializers follow.
        sampler: "portable" or "native", as of ``critinit.apply``.
        embeddings: What to do with an embedding that is trained and feeds a network, where its rows are longer than 1:
            "keep" leaves it, "rescale" multiplies it so that their length is 1 (a mean square of 1/F, F its width).
            Shorter ones stay in both cases, and 1/F is stated.
        padding: What to state of the padding, where not what was measured.
        mask: Which steps of the batch are real, as of ``critinit.measure``.
        settings: Values to set in every spec, as of ``critinit.generate``.
        include: Patterns of paths that narrow which networks are written, as of ``critinit.apply``.
        trust: Whether to write also into classes that override the step of the framework's layers, as of
            ``critinit.apply``.
        call: How to run the model, as of ``critinit.measure``.
        framework: The framework's name or an adapter.
        **options: The adapter's own options.

    Returns:
        The model, the specs by network, what was measured, and the report.

    Raises:
        ApplyError: A network cannot take its spec, or cannot be measured; the model is as it was.
        ArgumentError: An argument is out of its range, or the batch does not reach a network.
        DataError: What arrives is not finite.

    Example:
        done = critinit.initialize(model, tokens, seed=0)
        print(done)
    """
    if embeddings not in get_args(Embeddings):
        raise ArgumentError("embeddings", found=repr(embeddings), allowed=" or ".join(map(repr, get_args(Embeddings))))
    adapter = find_adapter(model, framework, options)
    seen = {"spectrum": reads_spectrum(scheme)}
    how: dict[str, Any] = {"mask": mask, "call": call, "framework": adapter, **seen, **options}
    measured = measure(model, batch, **how)
    _check_reached(measured, include)
    names = [network.name for network in measured if _chosen(network.name, include)]
    if not names:
        allowed = f"a pattern that one of these matches: {', '.join(repr(n.name) for n in measured)}"
        raise ArgumentError("include", found=repr(include), allowed=allowed)
    keeping = getattr(adapter, "keeping", None)
    specs: dict[str, InitSpec] = {}
    found: list[NetworkInputs] = []
    written: list[Applied[Model]] = []
    notes: list[str] = []
    with nullcontext() if keeping is None else keeping(model, options):
        for name in names:
            if specs:
                measured = measure(model, batch, **how)
            if embeddings == "rescale" and (factor := _factor(measured, name, notes)) is not None:
                model = adapter.scale(model, factor, options)  # type: ignore[attr-defined]
                measured = measure(model, batch, **how)
            network = measured[name]
            try:
                spec = _spec(network, T, scheme, padding, settings)
            except SchemeError as error:
                others = [name for name in names if measured[name].cell != network.cell]
                raise error.replace(hint=_without(error.hint, network.name, others)) from None
            chosen = None if len(measured) + len(measured.unreached) == 1 else [escape(name)]
            applied = apply(
                spec, model, seed=seed, sampler=sampler, include=chosen, framework=adapter, trust=trust, **options
            )
            model, seed = applied.model, applied.seed
            specs[name] = spec
            found.append(network)
            written.append(applied)
            notes += [network.note, *network.warnings()]
            if T is None and (spec.T == 1 or not network.from_rest):
                notes.append(_short(network, spec.T))
    report = _joined([applied.report for applied in written], notes)
    limits = tuple(limit for applied in written for limit in applied.limits)
    inputs = replace(measured, networks=tuple(found))
    return Initialized(model, MappingProxyType(specs), inputs, Applied(model, report, limits))


def _spec(
    network: NetworkInputs,
    T: int | None,
    scheme: str | Scheme,
    padding: Padding | Mapping[str, Any] | None,
    settings: Sequence[str],
) -> InitSpec:
    return generate(
        network.cell,
        network.reach if T is None else T,
        scheme=scheme,
        layers=len(network.layers),
        input_variance=network.input_variance,
        input_autocorrelation=network.layers[0].statistics.input_autocorrelation,
        input_spectrum=network.layers[0].statistics.input_spectrum,
        padding=network.padding if padding is None else padding,
        hidden_size=network.hidden_size,
        input_size=network.input_size,
        settings=settings,
    )


def _short(network: NetworkInputs, T: int) -> str:
    """That T may be too short, and what to do."""
    who = repr(network.name) if network.name else "the network"
    found = "read one step" if T == 1 else f"began at another state than zero, and read at most {T} steps from there"
    return f"{who} {found}, so T is {T}: state how many it has to remember: initialize(..., T=)"


def _chosen(name: str, include: str | Sequence[str] | None) -> bool:
    patterns = (include,) if isinstance(include, str) else include
    return patterns is None or any(matches(name, pattern) for pattern in patterns)


def _check_reached(measured: MeasuredInputs, include: str | Sequence[str] | None) -> None:
    """Every network that is to be written was reached."""
    left = [name for name in measured.unreached if _chosen(name, include)]
    if not left:
        return
    refused = [note for note in measured.notes if any(note.startswith(f"{name}: ") for name in left)]
    if refused:
        raise ApplyError("target", found=refused[0], hint="or leave this network out with include=")
    found = f"one that does not reach {', '.join(map(repr, left))}"
    hint = "call= says how to run the model so that it is reached; include= names the networks to write"
    raise ArgumentError("batch", found=found, hint=hint)


def _without(hint: str, name: str, others: Sequence[str]) -> str:
    """A hint, and how to write only the networks beside one."""
    return f"{hint}; to leave {name!r} as it is: include={list(others)}" if others else hint


def _factor(measured: MeasuredInputs, name: str, notes: list[str]) -> dict[str, float] | None:
    """By what to multiply the embedding that feeds a network; None where it stays."""
    network = measured[name]
    squared_length = network.input_size * network.second_moment
    if network.embedding is None or not network.trains or squared_length <= 1.0:
        return None
    if network.embedding in measured.tied:
        notes.append(f"{network.embedding}: kept, for another layer uses it too")
        return None
    factor = float(squared_length**-0.5)
    notes.append(f"{network.embedding}: multiplied by {factor:.4g}; its mean square was {network.second_moment:.4g}")
    return {network.embedding: factor}


def _joined(reports: Sequence[Report], notes: Sequence[str]) -> Report:
    """The reports of several networks as one."""
    untouched = [name for name in reports[0].untouched if all(name in report.untouched for report in reports[1:])]
    return Report(
        tuple(row for report in reports for row in report.rows),
        reports[0].seed,
        tuple(dict.fromkeys(name for report in reports for name in report.zeroed)),
        tuple(untouched),
        tuple(dict.fromkeys([*notes, *(note for report in reports for note in report.notes)])),
    )
