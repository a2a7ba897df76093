"""Phase diagram: χ of the untied theory over any two hyperparameters, with the spec's own point on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, drawn
from critinit.spec import InitSpec
from critinit.spec.overrides import override
from critinit.theory.parameters import GateParameters, LayerParameters, layer_parameters
from critinit.theory.untied.solution import solve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Axis", "Phases", "compute", "draw", "phase_diagram"]

Range = tuple[str, float, float]
"""A path as in ``--set`` and the range over which it is varied."""

_POINTS = (33, 17, 9)
"""Points along either axis; of cells with a read-out, whose theory takes longer; of these with biases of their own."""
_SMOOTH = 65
_LEVELS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0, 1.1, 1.5, 2.0, 4.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """A hyperparameter: its ``path``, the ``values`` over which it goes, the spec's own ``value``."""

    path: str
    values: Array
    value: float
    log: bool

    @property
    def label(self) -> str:
        """The path as people say it: ``update bias mean``."""
        steps = [step for step in self.path.split(".") if step not in ("layers", "gates", "*") and not step.isdigit()]
        return " ".join(steps).replace("_", " ")


@dataclass(frozen=True)
class Phases:
    """``chi`` (points of y, points of x), NaN where the fixed point was not reached; ``here``: the spec's own χ."""

    x: Axis
    y: Axis
    chi: Array
    here: float

    def summary(self) -> str:
        """The picture in a sentence."""
        grows = float(np.mean(self.chi[np.isfinite(self.chi)] > 1.0))
        return (
            f"chi over {self.x.label} and {self.y.label}: perturbations grow in {100 * grows:.0f} % of the area; "
            f"the spec is at {self.x.value:.4g}, {self.y.value:.4g}, where chi is {self.here:.6g}."
        )


def phase_diagram(
    spec: InitSpec,
    *,
    x: str | Range | None = None,
    y: str | Range | None = None,
    layer: int = 0,
    points: int | None = None,
    dark: bool = False,
) -> Figure:
    """χ over two hyperparameters, named by paths as in ``--set``, each with or without its range.

    Unless they are said: the bias of the gate that keeps the state, and the recurrent variance of the candidate.
    Cost: ``points``² solutions of the untied theory; 33² take seconds, of the LSTM 9² up to a minute.  Raises ``ArgumentError`` for
    paths that cannot be varied, and where an identity kernel leaves no untied reading.
    """
    found = compute(Study(spec, layer=layer), x=x, y=y, points=points)
    return drawn(lambda figure, theme: draw(found, figure, theme), dark=dark)


def compute(
    study: Study, *, x: str | Range | None = None, y: str | Range | None = None, points: int | None = None
) -> Phases:
    """χ on the grid."""
    if study.solution is None:
        raise ArgumentError("phase diagram: an identity kernel has no untied reading")
    cell = study.spec.find_cell()
    own = layer_parameters(cell, study.layer)
    count = _POINTS[int(cell.has_readout) * (1 + int(own.class_weights.size > 1))] if points is None else points
    if not 2 <= count <= 400:
        raise ArgumentError(f"points: found {count}; allowed: 2 to 400")
    default_x, default_y = _default_paths(study)
    across, up = _axis("x", study, x or default_x, count), _axis("y", study, y or default_y, count)
    if across.path == up.path:
        raise ArgumentError(f"y: found {up.path}, which x has; allowed: another one")
    points = [_law(study, {across.path: a, up.path: b}) for b in up.values for a in across.values]
    for axis, other in (("x", points[count - 1]), ("y", points[-count])):
        if _same(other, points[0]):
            path = across.path if axis == "x" else up.path
            raise ArgumentError(f"{axis}: {path} does not enter the untied theory of layer {study.index}")
    chi = _solved(points, study.reporter("phase diagram")).reshape(count, count)
    return Phases(across, up, chi, float(study.solution.chi))


def _default_paths(study: Study) -> tuple[str, str]:
    cell = study.spec.find_cell()
    gates = f"layers.{study.index}.gates"
    written = cell.candidate_gate or cell.gates[-1]
    if cell.keep_gate is None:
        return f"{gates}.{written}.recurrent.variance", f"{gates}.{written}.input.variance"
    return f"{gates}.{cell.keep_gate}.bias.mean", f"{gates}.{written}.recurrent.variance"


def _axis(name: str, study: Study, wanted: str | Range, count: int) -> Axis:
    path = wanted if isinstance(wanted, str) else wanted[0]
    if not path.startswith("layers."):
        raise ArgumentError(f"{name}: found {path!r}; allowed: a number of a layer, such as {_default_paths(study)[0]}")
    value, parent = _value(name, study.spec, path)
    low, high = _default_range(path, value, parent) if isinstance(wanted, str) else wanted[1:]
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ArgumentError(f"{name}: found the range {low:g} to {high:g}; allowed: two numbers, the smaller first")
    log = low > 0.0 and high / low >= 50.0 and path.rpartition(".")[2] != "mean"
    values = np.geomspace(low, high, count) if log else np.linspace(low, high, count)
    return Axis(path, values, value, log)


def _value(name: str, spec: InitSpec, path: str) -> tuple[float, dict[str, Any]]:
    """The number at ``path`` (the first, where * stands for several) and the part of the spec that holds it."""
    node: Any = spec.model_dump(mode="json")
    parent: Any = {}
    for step in path.split("."):
        parent = node
        keys = {str(n): x for n, x in enumerate(node)} if isinstance(node, list) else node
        if not isinstance(keys, dict) or (step != "*" and step not in keys):
            allowed = f"; there stand {', '.join(keys)}" if isinstance(keys, dict) else ""
            raise ArgumentError(f"{name}: found {path!r}, which has no {step!r}{allowed}")
        node = next(iter(keys.values())) if step == "*" else keys[step]
    if isinstance(node, bool) or not isinstance(node, (int, float)):
        raise ArgumentError(f"{name}: found {path!r}, which is no number; allowed: a number of the spec")
    return float(node), parent


def _default_range(path: str, value: float, parent: dict[str, Any]) -> tuple[float, float]:
    key = path.rpartition(".")[2]
    if key == "mean":
        low, high = min(-2.0, value - 3.0), max(6.0, value + 3.0)
        if "min_time" in parent:  # a spread bias cannot have a mean below that of its shortest time
            low = max(low, math.log(parent["min_time"] - 1.0) + 0.1)
        return low, high
    if key == "correlation":
        return 0.0, 1.0
    if key in ("min_time", "max_time"):
        return (1.01, parent["max_time"]) if key == "min_time" else (parent["min_time"] * 1.01, 10.0 * value)
    return 0.0, max(12.0, 1.5 * value)


def _law(study: Study, at: dict[str, float]) -> LayerParameters:
    spec = override(study.spec, [f"{path}={float(value)!r}" for path, value in at.items()])
    return layer_parameters(spec.find_cell(), spec.layers[study.index])


def _arrays(params: LayerParameters) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {"r": params.input_variance, "c": params.correlation}
    for name, gate in params.gates.items():
        found |= {f"{name}.{field}": array for field, array in vars(gate).items()}
    return found


def _same(one: LayerParameters, other: LayerParameters) -> bool:
    arrays = _arrays(other)
    return all(np.array_equal(array, arrays[name]) for name, array in _arrays(one).items())


def _solved(points: list[LayerParameters], report: Callable[[int, int], None] | None) -> Array:
    """χ of every point; those that share their classes of units are solved in one call."""
    groups: dict[bytes, list[int]] = {}
    for n, params in enumerate(points):
        groups.setdefault(params.class_weights.tobytes() + params.environment_weights.tobytes(), []).append(n)
    chi, done = np.full(len(points), math.nan), 0
    for members in groups.values():
        for start in range(0, len(members), 200):
            part = members[start : start + 200]
            with np.errstate(all="ignore"):
                found = solve(_stacked([points[n] for n in part]))
            chi[part] = np.where(found.converged, found.chi, math.nan)
            done += len(part)
            if report:
                report(done, len(points))
    return chi


def _stacked(points: list[LayerParameters]) -> LayerParameters:
    first = points[0]

    def stack(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        return np.stack(np.broadcast_arrays(*arrays))

    gates = {
        name: GateParameters(**{field: stack([vars(params.gates[name])[field] for params in points]) for field in vars(gate)})
        for name, gate in first.gates.items()
    }
    return replace(
        first,
        gates=gates,
        input_variance=stack([params.input_variance for params in points]),
        correlation=stack([params.correlation for params in points]),
        batch=(len(points),),
    )


def draw(found: Phases, figure: Figure, theme: Theme) -> None:
    """Bands of χ from light to strong, its contours labelled, hatched where perturbations grow."""
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap
    from matplotlib.patheffects import AbstractPathEffect, withStroke

    axes = figure.add_subplot()
    across, up, chi = _smooth(found)
    low, high = float(chi.min()), float(chi.max())
    inner = [level for level in _LEVELS if low < level < high]
    bands = [min(low, 0.0) - 1.0, *inner, max(high, 1.0) + 1.0]
    colours = LinearSegmentedColormap.from_list("critinit", [theme.low, theme.high])
    norm = BoundaryNorm(bands, colours.N) if len(bands) > 2 else None
    axes.contourf(across, up, chi, levels=bands, cmap=colours, norm=norm)
    axes.contourf(across, up, chi, levels=[1.0, bands[-1]], colors="none", hatches=["///"])
    halo: list[AbstractPathEffect] = [withStroke(linewidth=2.5, foreground=theme.surface)]
    others = [level for level in inner if level != 1.0]
    if others:
        lines = axes.contour(across, up, chi, levels=others, colors=theme.muted, linewidths=0.7, linestyles="solid")
        for text in axes.clabel(lines, fmt="%g", fontsize=8, colors=theme.ink):
            text.set_path_effects(halo)
    if 1.0 in inner:
        line = axes.contour(across, up, chi, levels=[1.0], colors=theme.ink, linewidths=2.2)
        for text in axes.clabel(line, fmt={1.0: "χ = 1"}, fontsize=9.5, colors=theme.ink):
            text.set_path_effects(halo)
    for axis, set_scale in ((found.x, axes.set_xscale), (found.y, axes.set_yscale)):
        if axis.log:
            set_scale("log")
    axes.set_xlim(found.x.values[0], found.x.values[-1])
    axes.set_ylim(found.y.values[0], found.y.values[-1])
    x, outside_x = _within(found.x)
    y, outside_y = _within(found.y)
    axes.plot(
        [x], [y], marker="*", markersize=15, color=theme.orange, markeredgecolor=theme.surface, clip_on=False, zorder=5
    )
    right = _share(found.x, x) > 0.6
    upper = _share(found.y, y) > 0.85
    outside = ", outside" if outside_x or outside_y else ""
    axes.annotate(
        f"this spec{outside}: χ = {found.here:.4g}", (x, y), xytext=(-10 if right else 10, -12 if upper else 8),
        textcoords="offset points", ha="right" if right else "left", weight="bold", path_effects=halo, zorder=6,
    )  # fmt: skip
    axes.set(xlabel=found.x.label, ylabel=found.y.label)
    where = "hatched: it grows" if low < 1.0 < high else f"it {'shrinks' if high <= 1.0 else 'grows'} everywhere here"
    axes.set_title(f"growth χ of a perturbation per step; {where}")


def _smooth(found: Phases) -> tuple[Array, Array, np.ma.MaskedArray[Any, Any]]:
    """The grid to draw: where few points were solved, monotone cubics through ln χ, which never leave its range."""
    x, y, chi = found.x.values, found.y.values, np.ma.masked_invalid(found.chi)
    if len(x) >= _SMOOTH or len(x) < 4 or np.any(chi.mask) or float(chi.min()) <= 0.0:
        return x, y, chi
    from scipy.interpolate import PchipInterpolator

    at = np.linspace(0.0, len(x) - 1.0, _SMOOTH)
    index = np.arange(len(x), dtype=float)
    along = PchipInterpolator(index, np.log(chi.data), axis=1)(at)
    fine = np.exp(PchipInterpolator(index, along, axis=0)(at))
    return np.interp(at, index, x), np.interp(at, index, y), np.ma.masked_invalid(fine)


def _within(axis: Axis) -> tuple[float, bool]:
    """The spec's value, or the end of the axis beyond which it lies."""
    shown = min(max(axis.value, float(axis.values[0])), float(axis.values[-1]))
    return shown, shown != axis.value


def _share(axis: Axis, value: float) -> float:
    low, high = float(axis.values[0]), float(axis.values[-1])
    if axis.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)
