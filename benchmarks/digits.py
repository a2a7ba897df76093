"""How fast a GRU or LSTM learns real, padded input: handwritten digits, from each initialization.

scikit-learn's 1,797 digits (8 by 8 pixels) are read one pixel a step, and silence up to step T follows, so what was
seen must be kept until the end.  ``torch.nn.GRU`` reads them, a linear layer reads its last state; Adam.  For a seed,
every initialization gets the same split, batches, readout, optimizer and number of steps; only the recurrent layer's
weights differ.  ``torch default`` is the layer as PyTorch makes it, every other name a scheme of ``critinit``.

``python -m benchmarks digits``                 two initializations, one seed: about two minutes
``python -m benchmarks digits --full --plot``   what docs/benchmarks.md states; with ``--results FILE`` each finished
                                                run is kept there and not run again: docs/digits.jsonl holds those
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import critinit
from critinit.errors import ArgumentError, MissingExtraError

__all__ = ["DEFAULT", "Curve", "Setting", "digits", "main", "steps_to", "train"]

DEFAULT = "torch default"
SCHEMES = ("critical", "isometry", "chrono", "orthogonal", DEFAULT)
GOAL = 0.9
_IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_TRAINING_SHARE = 0.75
_SPLIT_SEED = 0

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """What every initialization shares.  ``T``: steps of a sequence, the pixels' own and silence."""

    cell: str = "gru"
    T: int = 256
    hidden: int = 64
    batch: int = 32
    learning_rate: float = 1e-2
    clip: float = 1.0
    steps: int = 400
    every: int = 25


@dataclass(frozen=True)
class Curve:
    """One run: after ``steps`` optimizer steps, the ``accuracy`` and ``loss`` (cross-entropy, nats) on held-out digits."""

    setting: Setting
    scheme: str
    seed: int
    steps: tuple[int, ...]
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    seconds: float


def digits(T: int) -> Split:
    """Training sequences (T, n, 1) and labels, held-out sequences and labels; the split is the same for every seed.

    Pixels have mean 0 and variance 1 over the training set; after the 64th step the input is 0.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError("scikit-learn", "test") from None
    data = load_digits()
    pixels = data.data.astype(np.float64)
    count, length = pixels.shape
    if length > T:
        raise ArgumentError(f"T: found {T}; allowed: {length} (a digit's pixels) or more")
    order = np.random.default_rng(_SPLIT_SEED).permutation(count)
    training, held = np.split(order, [round(_TRAINING_SHARE * count)])
    pixels = (pixels - pixels[training].mean()) / pixels[training].std()
    sequences = np.zeros((T, count, 1), dtype=np.float32)  # time first: torch's CPU layers are twice as fast so
    sequences[:length, :, 0] = pixels.T
    return sequences[:, training], data.target[training], sequences[:, held], data.target[held]


def train(setting: Setting, scheme: str, seed: int, split: Split) -> Curve:
    """Train one network; its held-out curve, from before the first step on."""
    import torch

    start = time.perf_counter()
    x, y, x_held, y_held = map(torch.from_numpy, split)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the readout, and torch's own weights
        layer: Any = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[setting.cell](1, setting.hidden)
        readout = torch.nn.Linear(setting.hidden, 10)
    if scheme != DEFAULT:
        spec = critinit.generate(
            setting.cell,
            T=setting.T,
            scheme=scheme,
            input_variance=1.0,
            null_variance=0.0,
            hidden_size=setting.hidden,
            input_size=1,
        )
        critinit.apply(spec, layer, seed=seed)
    parameters = [*layer.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=setting.learning_rate)
    batches = np.random.default_rng(seed)
    cross_entropy = torch.nn.functional.cross_entropy

    def logits(sequences: Any) -> Any:
        return readout(layer(sequences)[0][-1])

    @torch.no_grad()
    def held_out() -> tuple[float, float]:
        found = logits(x_held)
        return float((found.argmax(1) == y_held).float().mean()), float(cross_entropy(found, y_held))

    points = [(0, *held_out())]
    for step in range(1, setting.steps + 1):
        batch = batches.integers(len(y), size=setting.batch)
        optimizer.zero_grad()
        cross_entropy(logits(x[:, batch]), y[batch]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, setting.clip)
        optimizer.step()
        if step % setting.every == 0 or step == setting.steps:
            points.append((step, *held_out()))
    steps, accuracy, loss = zip(*points, strict=True)
    return Curve(setting, scheme, seed, steps, accuracy, loss, time.perf_counter() - start)


def steps_to(curve: Curve, goal: float = GOAL) -> float:
    """Steps at the first evaluation with held-out accuracy ``goal`` or more; infinite where none is."""
    reached = (step for step, accuracy in zip(curve.steps, curve.accuracy, strict=True) if accuracy >= goal)
    return next(reached, float("inf"))


def read(file: Path) -> list[Curve]:
    """The runs kept in a file of JSON lines; none where it does not exist."""
    if not file.exists():
        return []
    return [_curve(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def _curve(data: dict[str, Any]) -> Curve:
    lists = {name: tuple(data[name]) for name in ("steps", "accuracy", "loss")}
    return Curve(**(data | lists | {"setting": Setting(**data["setting"])}))


def _keep(curve: Curve, file: Path) -> None:
    rounded = {name: [float(f"{v:.6g}") for v in getattr(curve, name)] for name in ("accuracy", "loss")}
    line = json.dumps(asdict(curve) | rounded | {"seconds": round(curve.seconds, 1)})
    with file.open("a", encoding="utf-8") as out:
        out.write(line + "\n")


def _measure(setting: Setting, schemes: Sequence[str], seeds: Sequence[int], file: Path | None) -> list[Curve]:
    split = digits(setting.T)
    curves = {(c.scheme, c.seed): c for c in (read(file) if file else []) if c.setting == setting}
    for seed in seeds:
        for scheme in schemes:
            if (scheme, seed) in curves:
                continue
            curve = curves[scheme, seed] = train(setting, scheme, seed, split)
            if file:
                _keep(curve, file)
    return [curves[scheme, seed] for scheme in schemes for seed in seeds]


def table(curves: Iterable[Curve]) -> str:
    """Held-out accuracy by step, median over seeds; then the steps to the goal, and the seeds' least and most."""
    by_scheme: dict[str, list[Curve]] = {}
    for curve in curves:
        by_scheme.setdefault(curve.scheme, []).append(curve)
    first = next(iter(by_scheme.values()))[0]
    rows = [["step", *by_scheme]]
    for i, step in enumerate(first.steps):
        medians = (statistics.median(c.accuracy[i] for c in group) for group in by_scheme.values())
        rows.append([str(step), *(f"{m:.3f}" for m in medians)])
    rows.append([f"steps to {GOAL:.0%}", *(_range(map(steps_to, g), first.steps[-1]) for g in by_scheme.values())])
    rows.append(["last, lowest–highest", *(_spread([c.accuracy[-1] for c in g]) for g in by_scheme.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)


def _range(steps: Iterable[float], budget: int) -> str:
    """Median, and the least and most where they differ; beyond the budget as ``>budget``."""

    def shown(value: float) -> str:
        return f"{value:.0f}" if value <= budget else f">{budget}"

    found = sorted(steps)
    median = shown(statistics.median_low(found) if len(found) % 2 else statistics.median(found))
    return median if found[0] == found[-1] else f"{median} ({shown(found[0])}–{shown(found[-1])})"


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.3f}–{max(values):.3f}"


def plot(curves: Sequence[Curve], folder: Path, name: str = "digits") -> list[Path]:
    """Write the median curves, with the seeds' range as a band, to ``name``.png and ``name``.svg in ``folder``."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    from matplotlib.figure import Figure

    setting = curves[0].setting
    # line, marker and end label each tell the curves apart without colour
    looks = {
        "critical": ("-", "o", "#0b5d8a"),
        "isometry": ("--", "s", "#d97706"),
        "chrono": ("-.", "^", "#2f7d32"),
        "orthogonal": (":", "D", "#8e44ad"),
        DEFAULT: ((0, (5, 1, 1, 1, 1, 1)), "x", "#333333"),
    }
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for scheme in dict.fromkeys(c.scheme for c in curves):
        runs = [c for c in curves if c.scheme == scheme]
        line, marker, colour = looks.get(scheme, ("-", ".", "#777777"))
        values = np.array([c.accuracy for c in runs])
        middle = np.median(values, axis=0)
        axes.plot(runs[0].steps, middle, linestyle=line, marker=marker, color=colour, markersize=5, label=scheme)
        if len(runs) > 1:
            axes.fill_between(runs[0].steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    axes.axhline(GOAL, color="#999999", linewidth=0.8)
    axes.set(ylim=(0, 1), xlabel="optimizer steps", ylabel="held-out accuracy")
    axes.set_xlim(0, setting.steps)
    seeds = len({c.seed for c in curves})
    axes.set_title(
        f"torch.nn.{setting.cell.upper()}({setting.hidden}) on digits, 64 pixels then silence to T = {setting.T}\n"
        f"median of {seeds} seeds; band: lowest to highest",
        fontsize=10,
    )
    figure.legend(loc="outside right center", frameon=False, handlelength=3.5)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.png", folder / f"{name}.svg"]
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(files[0], dpi=160)
        figure.savefig(files[1], metadata={"Date": None})
    return files


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks digits", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--full", action="store_true", help="all initializations, three seeds, 400 steps")
    parser.add_argument("--cell", choices=("gru", "lstm"), default="gru")
    parser.add_argument("--seeds", type=int, help="how many seeds, from 0 on")
    parser.add_argument("--schemes", nargs="+", help=f"names of critinit's schemes, or {DEFAULT!r}")
    parser.add_argument("--steps", type=int, help="optimizer steps")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default 1)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="JSON lines: runs kept there are not run again")
    parser.add_argument("--plot", action="store_true", help="write docs/images/digits[-lstm].png and .svg")
    return parser


def main(arguments: Sequence[str] = ()) -> None:
    """Train and print both curves."""
    parser = _parser()
    options = parser.parse_args(list(arguments))
    if options.plot and not options.full:
        parser.error("--plot: allowed: with --full, whose picture it is")
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "torch") from None
    torch.set_num_threads(options.threads)
    setting = replace(Setting(cell=options.cell), steps=options.steps or (400 if options.full else 250))
    schemes = options.schemes or (SCHEMES if options.full else ("critical", DEFAULT))
    seeds = range(options.seeds or (3 if options.full else 1))
    curves = _measure(setting, schemes, seeds, options.results)
    seconds = statistics.median(c.seconds for c in curves)
    print(f"digits, T = {setting.T}: held-out accuracy of torch.nn.{setting.cell.upper()}({setting.hidden}), median of")
    print(
        f"{len(seeds)} seed(s); batch {setting.batch}, Adam {setting.learning_rate:g}, clip {setting.clip:g};", end=" "
    )
    print(f"torch {torch.__version__}, {options.threads} thread(s), {seconds:.0f} s a run")
    print(table(curves))
    if options.plot:
        for file in plot(curves, _IMAGES, "digits" if options.cell == "gru" else "digits-lstm"):
            print(f"written: {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
