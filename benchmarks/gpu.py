"""What a GPU changes: the adapters' weights and outputs, native sampling, the time of ``apply``, and training.

``python -m benchmarks gpu`` runs on the first GPU and prints one report in Markdown; the exit status is 1 where the
device disagrees with the processor.  It needs PyTorch with CUDA; JAX's frameworks are checked where JAX has the GPU
too.  ``--minutes`` (8) bounds it: what there is no time for is left out, and the report says so.  Without a GPU
``--device cpu --small`` runs every part of it in small, which says nothing about GPUs.

Single precision is compared with TF32 switched off.  Training takes the task ``adding``, which needs no files, with
PyTorch's own layers, so with cuDNN on a GPU: first as many steps as the processor takes in its share of the time, on
both devices, from the same weights and batches; then on the device alone.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import critinit
from benchmarks._errors import not_installed
from benchmarks._options import count
from benchmarks.apply_cost import costs
from critinit.errors import ArgumentError
from critinit.files import make_folder, write

__all__ = ["Size", "main"]


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        units: Units where weights and outputs are compared.
        sampled: Units of natively drawn layers.
        applied: Units of the layer whose ``apply`` is timed; it reads half as many inputs.
        trained: Units of trained layers.
        length: Steps T of trained sequences.
        both: Training steps on the processor and on the device.
        alone: Training steps on the device.
    """

    units: int = 64
    sampled: int = 512
    applied: int = 2048
    trained: int = 256
    length: int = 784
    both: int = 10
    alone: int = 300


SMALL = Size(units=8, sampled=96, applied=64, trained=8, length=20, both=4, alone=6)
SEED, STEPS, BATCH, INPUTS = 3, 20, 4, 5
"""Of the weights; steps, sequences and coordinates where outputs are compared."""
TOLERANCES = {"float32": 2e-5, "float64": 1e-10}
"""Between the outputs of two devices, which are of order 1."""
LOSS_TOLERANCE = 1e-2
"""Between the losses of two devices after the same few steps; rounding grows with them."""
SPECS = (("rnn", "orthogonal"), ("gru", "critical"), ("lstm", "critical"), ("gru", "memory"), ("lstm", "memory"))
"""(cell, scheme) that weights and outputs are compared for."""
TRAINED = (("gru", "critical", 1e-2), ("gru", "memory", 3e-2), ("lstm", "critical", 1e-2), ("lstm", "memory", 3e-2))
"""(cell, scheme, learning rate) that are trained."""


class _Lines:
    """The report as it grows; lines show at once."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.wrong: list[str] = []

    def say(self, line: str = "") -> None:
        self.text.append(line)
        print(line, flush=True)

    def head(self, title: str, columns: Sequence[str]) -> None:
        for line in ("", f"## {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)):
            self.say(line)

    def row(self, *cells: object, right: bool = True) -> None:
        if not right:
            self.wrong.append(str(cells[0]))
        self.say(f"| {' | '.join(map(str, cells))}{'' if right else ' **differs**'} |")


def main(arguments: Sequence[str] = ()) -> int:
    """Run all parts on the device and print the report; the exit status is 1 where the devices disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="torch's name of it; cpu tries the parts without a GPU [cuda]")
    parser.add_argument("--small", action="store_true", help="small sizes, seconds in all")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="bound of the whole; parts are left out after it [8]"
    )
    parser.add_argument("--hidden", type=count, default=Size.trained, help=f"units to train [{Size.trained}]")
    parser.add_argument("--T", type=count, default=Size.length, help=f"steps of trained sequences [{Size.length}]")
    parser.add_argument("--report", type=Path, help="write the report there too")
    options = parser.parse_args(list(arguments))
    if not 0 < options.minutes < math.inf:
        parser.error(f"argument --minutes: found {options.minutes}; allowed: a number above 0")
    size = SMALL if options.small else Size(trained=options.hidden, length=options.T)
    _needs(options.device)
    end = time.monotonic() + 60.0 * options.minutes
    lines = _Lines()
    lines.say(f"# critinit on {_name(options.device)}")
    lines.say()
    lines.say("; ".join(_versions(options.device)))
    parts: tuple[Callable[[_Lines, str, Size], None], ...] = (_weights, _jax, _native, _apply)
    for part in parts:
        if time.monotonic() < end:
            part(lines, options.device, size)
        else:
            lines.say(f"\nNo time was left for {part.__name__.strip('_')}.")
    _training(lines, options.device, size, end)
    lines.say()
    lines.say(f"Wrong: {'; '.join(lines.wrong) if lines.wrong else 'nothing'}.")
    if options.report is not None:
        make_folder(options.report.parent)
        write(options.report, ("\n".join(lines.text) + "\n").encode())
    return int(bool(lines.wrong))


def _needs(device: str) -> None:
    try:
        import torch
    except ImportError:
        raise not_installed("PyTorch") from None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build without CUDA
        reason = str(error).partition("\n")[0][:200]
        hint = "without a GPU, --device cpu --small runs every part in small"
        allowed = "a device that PyTorch has here"
        raise ArgumentError("device", found=f"{device} ({reason})", allowed=allowed, hint=hint) from None


def _name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{device} ({platform.machine()})"


def _versions(device: str) -> Iterator[str]:
    import torch

    yield f"Python {platform.python_version()}"
    yield f"PyTorch {torch.__version__}"
    if device.startswith("cuda"):
        yield f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    yield f"critinit {critinit.__version__}"


def _spec(cell: str, scheme: str, layers: int = 1) -> critinit.InitSpec:
    return critinit.generate(cell, 100, scheme=scheme, layers=layers)


def _without_tf32() -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def _weights(lines: _Lines, device: str, size: Size) -> None:
    """Portable weights have the same bits on both devices, and the layers the same outputs."""
    import torch

    _without_tf32()
    lines.head("PyTorch: the same weights and outputs", ("layer", "weights", *(f"outputs, {t}" for t in TOLERANCES)))
    for cell, scheme in SPECS:
        for layers, both in ((1, False), (2, True)):
            differences = {}
            bits = True
            for dtype in TOLERANCES:
                kind = getattr(torch, dtype)
                made, found = [], []
                x = torch.from_numpy(np.random.default_rng(0).standard_normal((STEPS, BATCH, INPUTS))).to(kind)
                for place in ("cpu", device):
                    layer = getattr(torch.nn, cell.upper())(INPUTS, size.units, layers, bidirectional=both)
                    layer = layer.to(place, kind)
                    critinit.apply(_spec(cell, scheme, layers), layer, seed=SEED)
                    made.append({name: t.cpu() for name, t in layer.state_dict().items()})
                    with torch.no_grad():
                        found.append(layer(x.to(place))[0].cpu())
                bits &= all(torch.equal(made[0][name], made[1][name]) for name in made[0])
                differences[dtype] = float((found[0] - found[1]).abs().max())
            right = bits and all(differences[dtype] <= most for dtype, most in TOLERANCES.items())
            name = f"{cell}, {scheme}, {layers} layer(s){', both directions' if both else ''}"
            said = (f"{differences[dtype]:.1e}" for dtype in TOLERANCES)
            lines.row(name, "same bits" if bits else "other bits", *said, right=right)


def _jax(lines: _Lines, device: str, size: Size) -> None:
    """The same for cells of Equinox and Flax NNX; Linen and Haiku are written by the same code as Equinox."""
    if importlib.util.find_spec("jax") is None:
        lines.say("\nJAX is not installed.")
        return
    import jax

    try:
        there = jax.devices("gpu" if device.startswith("cuda") else device)[0]
    except RuntimeError:
        lines.say(f"\nJAX {jax.__version__} has no such device here.")
        return
    lines.head(
        f"JAX {jax.__version__}: the same weights and outputs", ("layer", "weights", "outputs, float32", "native")
    )
    for framework, build in (("equinox", _equinox), ("flax", _nnx)):
        if importlib.util.find_spec(framework) is None:
            continue
        for cell, scheme in SPECS[1:]:
            spec = _spec(cell, scheme)
            made, found = [], []
            for place in (jax.devices("cpu")[0], there):
                with jax.default_device(place), jax.default_matmul_precision("float32"):
                    leaves, outputs, _ = build(spec, cell, size.units)
                    made.append([np.asarray(leaf) for leaf in leaves])
                    found.append(np.asarray(outputs))
            with jax.default_device(there):
                drawn = build(spec, cell, size.sampled, sampler="native")[2]
            bits = all(one.tobytes() == other.tobytes() for one, other in zip(*made, strict=True))
            difference = float(np.abs(found[0] - found[1]).max())
            sampled = _as_asked(drawn, size.sampled)
            right = bits and difference <= TOLERANCES["float32"] and not sampled
            name = f"{framework} {cell}, {scheme}"
            lines.row(
                name, "same bits" if bits else "other bits", f"{difference:.1e}", sampled or "as asked", right=right
            )


def _cell_inputs() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((STEPS, BATCH, INPUTS)).astype(np.float32)


def _equinox(spec: critinit.InitSpec, cell: str, units: int, sampler: Any = "portable") -> Any:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    kind = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}[cell]
    applied = critinit.apply(spec, kind(INPUTS, units, key=jax.random.key(0)), seed=SEED, sampler=sampler)
    zero = jnp.zeros((BATCH, units))

    def step(state: Any, x: Any) -> Any:
        state = jax.vmap(applied.model)(x, state)
        return state, state[0] if cell == "lstm" else state

    outputs = jax.lax.scan(step, (zero, zero) if cell == "lstm" else zero, jnp.asarray(_cell_inputs()))[1]
    return jax.tree.leaves(eqx.filter(applied.model, eqx.is_array)), outputs, applied.report


def _nnx(spec: critinit.InitSpec, cell: str, units: int, sampler: Any = "portable") -> Any:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    kind = {"gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[cell]
    model = nnx.RNN(kind(INPUTS, units, rngs=nnx.Rngs(0)))
    applied = critinit.apply(spec, model, seed=SEED, sampler=sampler)
    outputs = model(jnp.asarray(_cell_inputs().swapaxes(0, 1)))
    return jax.tree.leaves(nnx.state(model, nnx.Param)), outputs, applied.report


def _as_asked(report: critinit.Report, units: int) -> str:
    """What of natively drawn kernels is not as the spec asks; nothing where all is."""
    for row in report:
        place = f"{row.group} {row.gate} {row.part}".strip()
        if row.orthogonality_error is not None and row.orthogonality_error > 1e-4:
            return f"{place}: orthogonality error {row.orthogonality_error:.1e}"
        entries = INPUTS * units / 2  # at least: the input kernel of one of two groups
        far = 6.0 * math.sqrt(2.0 / entries)
        is_drawn = row.part != "bias" and row.variance > 0 and row.orthogonality_error is None
        if is_drawn and abs(row.realised_variance / row.variance - 1.0) > far:
            return f"{place}: variance {row.realised_variance:.4g} for {row.variance:.4g}"
    return ""


def _native(lines: _Lines, device: str, size: Size) -> None:
    """Kernels that the device draws pass ``check``, and a seed means the same numbers each time."""
    import torch

    lines.head("PyTorch: native sampling", ("layer", "check", "the same seed again"))
    for cell, scheme in SPECS:
        spec = _spec(cell, scheme)
        states: list[Mapping[str, Any]] = []
        for _ in range(2):
            layer = getattr(torch.nn, cell.upper())(size.sampled // 2, size.sampled, device=device)
            critinit.apply(spec, layer, seed=SEED, sampler="native")
            states.append(layer.state_dict())
        checked = critinit.check(spec, states[0])
        again = all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        right = checked.matches and again
        said = "matches" if checked.matches else "differs", "same bits" if again else "other bits"
        lines.row(f"{cell}, {scheme}, {size.sampled} units", *said, right=right)


def _apply(lines: _Lines, device: str, size: Size) -> None:
    title = f"Time and memory of apply: torch.nn.LSTM({size.applied // 2}, {size.applied})"
    lines.head(title, ("device", "way", "seconds", "over torch.nn.init", "peak MB"))
    for place in dict.fromkeys((device, "cpu")):
        found = costs(place, size.applied // 2, size.applied)
        base = next(iter(found.values()))["seconds"]
        for way, own in found.items():
            lines.row(place, way, f"{own['seconds']:.3f}", f"{own['seconds'] / base:.2f}", f"{own['megabytes']:.0f}")


def _training(lines: _Lines, device: str, size: Size, end: float) -> None:
    """The same runs on both devices, then long ones on the device."""
    from benchmarks.training.run import Run
    from benchmarks.training.train import train

    _without_tf32()
    like = Run("gru", "adding", size.length, "critical", 1e-2, hidden=size.trained, steps=size.both, every=size.both)
    runs = [replace(like, cell=cell, scheme=scheme, learning_rate=rate) for cell, scheme, rate in TRAINED]
    lines.head(
        f"Training {size.trained} units on the sum of two marked numbers among T = {size.length}: {size.both} steps",
        ("run", "loss, cpu", f"loss, {device}", "difference", "s a step, cpu", f"s a step, {device}"),
    )
    for run in runs:
        name = f"{run.cell}, {run.scheme}, learning rate {run.learning_rate:g}"
        if time.monotonic() > end:
            lines.say(f"\nNo time was left for {name} on both devices.")
            continue
        train([replace(run, steps=1, every=1)], device)  # loads what the device needs
        here, there = (train([run], place)[0] for place in ("cpu", device))
        difference = abs(here.loss[-1] / there.loss[-1] - 1.0)
        seconds = (f"{result.seconds / size.both:.3f}" for result in (here, there))
        right = difference <= LOSS_TOLERANCE
        lines.row(name, f"{here.loss[-1]:.6g}", f"{there.loss[-1]:.6g}", f"{difference:.1e}", *seconds, right=right)
    every = max(size.alone // 3, 1)
    lines.head(
        f"The same on {device}: {size.alone} steps",
        ("run", "mean squared error after " + ", ".join(str(k) for k in _evaluated(size.alone, every)), "seconds"),
    )
    for run in runs:
        name = f"{run.cell}, {run.scheme}, learning rate {run.learning_rate:g}"
        if time.monotonic() > end:
            lines.say(f"\nNo time was left for {name} on {device}.")
            continue
        (result,) = train([replace(run, steps=size.alone, every=every)], device)
        lines.row(name, ", ".join(f"{m:.4f}" for m in result.metric), f"{result.seconds:.0f}")


def _evaluated(steps: int, every: int) -> list[int]:
    return sorted({0, *range(every, steps + 1, every), steps})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
