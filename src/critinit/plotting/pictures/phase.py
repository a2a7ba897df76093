"""The picture "phase diagram": the growth rate χ of the untied theory over any two hyperparameters of a layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from critinit.cells import Cell
from critinit.distributions import CoupledBias
from critinit.dual import Array
from critinit.errors import ArgumentError, SpecError
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, new_figure
from critinit.spec import InitSpec
from critinit.spec.model import GAINS
from critinit.spec.overrides import override
from critinit.theory.parameters import GateParameters, LayerParameters, layer_parameters
from critinit.theory.untied.solution import solve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patheffects import AbstractPathEffect
    from matplotlib.text import Text

__all__ = ["Axis", "AxisRange", "Phases", "compute", "draw", "phase_diagram"]

AxisRange = tuple[str, float, float]
"""A path as in ``--set``, and the ends of the range over which it is varied."""

_POINTS = (17, 17, 9)
"""Points along an axis: of most cells; of cells with a read-out; of these where biases are spread over units, whose
theory takes 60 ms a point.  Cubics join them: from 17 points ln χ is right to .01 almost everywhere, and to .001
near χ = 1."""
_LARGEST_VARIANCE, _LARGEST_GAIN = 12.0, 2.0
"""Where the axis of a variance, or of a normalization's gain, ends unless the spec's own value is far along it: χ
passes 1 before that in most cells."""
_MOST_POINTS = 400
"""Points along an axis that are allowed: more than a picture has pixels to show."""
_DRAWN_POINTS = 65
"""Points along an axis to which fewer are joined: smooth on a picture of this size."""
_AT_ONCE = 200
"""Points that are solved in one call: enough to make calls cheap, few enough to report progress in between."""
_BEYOND = 1.25
"""How far the range of a recurrent variance goes in a cell that nothing bounds, in units of the spec's own."""
_LOG_FROM = 50.0
"""Ratio of the ends of a range from which its axis is logarithmic."""
_LABEL = 0.045
"""Half the length of a line's label, as a share of the picture's width."""
_LEVELS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0, 1.1, 1.5, 2.0, 4.0, 10.0)
"""Values of χ at which a line is drawn: close to each other near 1, where networks remember long."""


@dataclass(frozen=True)
class Axis:
    """A hyperparameter that is varied.

    Attributes:
        path: Where it stands in the spec, as in ``--set``.
        values: The values that it takes.
        value: The spec's own value.
        log: Whether the axis is logarithmic.
    """

    path: str
    values: Array
    value: float
    log: bool

    @property
    def label(self) -> str:
        """The path as people say it: ``update bias mean``."""
        steps = [step for step in self.path.split(".") if step not in ("layers", "gates", "*") and not step.isdigit()]
        return " ".join(steps).replace("_", " ")

    @property
    def shown(self) -> float:
        """The spec's own value, or the end of the axis beyond which it lies."""
        return min(max(self.value, float(self.values[0])), float(self.values[-1]))

    @property
    def share(self) -> float:
        """How far along the axis ``shown`` is, from 0 to 1."""
        low, high = float(self.values[0]), float(self.values[-1])
        if self.log:
            return math.log(self.shown / low) / math.log(high / low)
        return (self.shown - low) / (high - low)


@dataclass(frozen=True)
class Phases:
    """The growth rate over two hyperparameters.

    Attributes:
        x: The hyperparameter across.
        y: The hyperparameter up.
        chi: χ, (points of y, points of x); NaN where the theory's fixed point was not reached.
        here: The spec's own χ.
    """

    x: Axis
    y: Axis
    chi: Array
    here: float

    def summary(self) -> str:
        """Return the picture in a sentence."""
        known = np.isfinite(self.chi)
        grows = float(np.mean(self.chi[known] > 1.0))
        blank = "" if np.all(known) else f", without the {100 * np.mean(~known):.0f} % where the state does not settle"
        return (
            f"χ over {self.x.label} and {self.y.label}: small differences grow in {100 * grows:.0f} % of the area"
            f"{blank}; "
            f"this spec is at {self.x.value:.4g}, {self.y.value:.4g}, where χ is {self.here:.6g}."
        )


def phase_diagram(
    spec: InitSpec,
    *,
    x: str | AxisRange | None = None,
    y: str | AxisRange | None = None,
    layer: int = 0,
    points: int | None = None,
    dark: bool = False,
) -> Figure:
    """Return a figure of χ over two hyperparameters.

    The cost is ``points``² solutions of the untied theory: a second for 17² of a GRU, some seconds for 9² of an LSTM.

    Args:
        spec: The spec.
        x: The hyperparameter across: a path as in ``--set``, or path, low end and high end.  None: the bias of the gate
            that keeps the state, or in a cell without one the recurrent variance of the candidate; where the spec
            cannot vary that, the longest time of a spread bias, the spectral radius, or the next that it can vary.
        y: The hyperparameter up.  None: the recurrent variance of the candidate, or in a cell without a keep gate its
            input variance; or likewise the next.
        layer: The layer's number, from 0.
        points: Values of each hyperparameter.  None: 17, or 9 where the theory takes long.
        dark: Whether the figure is for a dark page.

    Raises:
        ArgumentError: A path cannot be varied, or a recurrent kernel is the identity.
        MissingExtraError: matplotlib is not installed.
    """
    data = compute(Study(spec, layer=layer), x=x, y=y, points=points)
    return new_figure(lambda figure, theme: draw(data, figure, theme), dark=dark)


def compute(
    study: Study, *, x: str | AxisRange | None = None, y: str | AxisRange | None = None, points: int | None = None
) -> Phases:
    """Return χ on the grid.

    Args:
        study: The study.
        x: As for ``phase_diagram``, like all the following.
        y: The hyperparameter up.
        points: Values of each hyperparameter.

    Raises:
        ArgumentError: A path cannot be varied, or a recurrent kernel is the identity.
    """
    here = study.needs_untied("phase diagram").chi
    count = _default_points(study) if points is None else points
    if not 2 <= count <= _MOST_POINTS:
        raise ArgumentError("points", found=str(count), allowed=f"2 to {_MOST_POINTS}")
    of_x, of_y = _default_paths(study)
    across = _first_axis("x", study, of_x, count) if x is None else _axis("x", study, x, count)
    up = (
        _first_axis("y", study, [path for path in of_y if path != across.path], count)
        if y is None
        else _axis("y", study, y, count)
    )
    if across.path == up.path:
        raise ArgumentError("y", found=f"{up.path}, which x has", allowed="another one")
    grid = [_parameters(study, {across.path: a, up.path: b}) for b in up.values for a in across.values]
    for name, path, other in (("x", across.path, grid[count - 1]), ("y", up.path, grid[-count])):
        if _same(other, grid[0]):
            hint = f"it does not enter the untied theory of layer {study.index}"
            raise ArgumentError(name, found=path, allowed="a number that changes χ", hint=hint)
    chi = _solved(grid, study.reporter("phase diagram")).reshape(count, count)
    return Phases(across, up, chi, here)


Groups = tuple[LayerParameters, ...]
"""The hyperparameters of each group of units of a layer."""


def _default_points(study: Study) -> int:
    spread = any(layer_parameters(study.cell, one).class_weights.size > 1 for one in study.layer.alone())
    return _POINTS[int(study.cell.has_readout) * (1 + int(spread))]


def _default_paths(study: Study) -> tuple[list[str], list[str]]:
    """Hyperparameters for x and for y where none is named, the best first; not every spec can vary them all."""
    layer = f"layers.{study.index}"
    gates = f"{layer}.gates" if len(study.layer.groups) == 1 else f"{layer}.groups.0.gates"
    written = f"{gates}.{study.cell.candidate_gate or study.cell.gates[-1]}"
    recurrent, feed = GAINS if study.cell.normalized else ("recurrent.variance", "input.variance")
    kernel = [f"{written}.{key}" for key in (recurrent, "recurrent.spectral_radius")]
    others = [f"{written}.{feed}", f"{written}.bias.mean", f"{layer}.input.variance"]
    if study.cell.keep_gate is None:
        return [*kernel, *others], [*others, *kernel]
    bias = study.layer.groups[0].gates[study.cell.keep_gate].bias
    keep = f"{gates}.{bias.to if isinstance(bias, CoupledBias) else study.cell.keep_gate}"
    times = [f"{keep}.bias.{key}" for key in ("mean", "max_time", "min_time")]
    return [*times, f"{keep}.{feed}", *others], [*kernel, *others]


def _first_axis(name: str, study: Study, paths: list[str], count: int) -> Axis:
    """The first of these hyperparameters that the spec has, and that can be varied over the range of an axis."""
    for path in paths:
        try:
            axis = _axis(name, study, path, count)
            low, high = (_parameters(study, {path: value}) for value in (axis.values[0], axis.values[-1]))
        except (ArgumentError, SpecError):
            continue
        if not _same(low, high):
            return axis
    hint = "no usual hyperparameter of this spec can be varied; name one, and its range: PATH=LOW:HIGH"
    raise ArgumentError(name, found="nothing", hint=hint)


def _axis(name: str, study: Study, wanted: str | AxisRange, count: int) -> Axis:
    path = wanted if isinstance(wanted, str) else wanted[0]
    if not path.startswith("layers."):
        allowed = f"a number of a layer, such as {_default_paths(study)[0][0]}"
        raise ArgumentError(name, found=repr(path), allowed=allowed)
    value, parent = _value(name, study.spec, path)
    low, high = _default_range(path, value, parent, study.cell) if isinstance(wanted, str) else wanted[1:]
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ArgumentError(name, found=f"the range {low:g} to {high:g}", allowed="two numbers, the smaller first")
    log = low > 0.0 and high / low >= _LOG_FROM and path.rpartition(".")[2] != "mean"
    values = np.geomspace(low, high, count) if log else np.linspace(low, high, count)
    return Axis(path, values, value, log)


def _value(name: str, spec: InitSpec, path: str) -> tuple[float, dict[str, Any]]:
    """The number at ``path`` (the first, where * stands for several) and the part of the spec that holds it."""
    node: Any = spec.to_dict()
    parent: Any = {}
    for step in path.split("."):
        parent = node
        keys = {str(n): x for n, x in enumerate(node)} if isinstance(node, list) else node
        if not isinstance(keys, dict) or (step != "*" and step not in keys):
            allowed = ", ".join(keys) if isinstance(keys, dict) else ""
            raise ArgumentError(name, found=f"{path!r}, which has no {step!r}", allowed=allowed)
        node = next(iter(keys.values())) if step == "*" else keys[step]
    if isinstance(node, bool) or not isinstance(node, (int, float)):
        raise ArgumentError(name, found=f"{path!r}, which is no number", allowed="a number of the spec")
    return float(node), parent


def _default_range(path: str, value: float, parent: dict[str, Any], cell: Cell) -> tuple[float, float]:
    """The ends of a range around the spec's own value that shows both sides of χ = 1 for most cells.

    Of a cell that nothing bounds χ = 1 is where its state grows without end, so little is shown beyond.
    """
    key = path.rpartition(".")[2]
    if path.endswith("recurrent.variance") and value > 0.0 and cell.keep_gate is None and not cell.bounded:
        return 0.0, _BEYOND * value
    if key == "mean":
        low, high = min(-2.0, value - 3.0), max(6.0, value + 3.0)
        if "min_time" in parent:  # a spread bias cannot have a mean below that of its shortest time
            low = max(low, math.log(parent["min_time"] - 1.0) + 0.1)
        return low, high
    if key == "spectral_radius":
        return 0.0, max(math.sqrt(12.0), 1.5 * value)
    if key == "correlation":
        return 0.0, 1.0
    if key in ("min_time", "max_time"):
        return (1.01, parent["max_time"]) if key == "min_time" else (parent["min_time"] * 1.01, 10.0 * value)
    return 0.0, max(_LARGEST_GAIN if key.endswith("gain") else _LARGEST_VARIANCE, 1.5 * value)


def _parameters(study: Study, at: dict[str, float]) -> Groups:
    """The hyperparameters of the layer's groups of units with these values set, by path."""
    spec = override(study.spec, [f"{path}={float(value)!r}" for path, value in at.items()])
    return tuple(layer_parameters(study.cell, one) for one in spec.layers[study.index].alone())


def _arrays(params: LayerParameters) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {"input_variance": params.input_variance, "correlation": params.correlation}
    found["memory_gain"] = np.asarray(math.nan if params.memory_gain is None else params.memory_gain)
    for name, gate in params.gates.items():
        found |= {f"{name}.{field}": array for field, array in vars(gate).items()}
    return found


def _same(one: Groups, other: Groups) -> bool:
    pairs = [(_arrays(a), _arrays(b)) for a, b in zip(one, other, strict=True)]
    return all(np.array_equal(array, b[name], equal_nan=True) for a, b in pairs for name, array in a.items())


def _solved(grid: list[Groups], report: Callable[[int, int], None] | None) -> Array:
    """χ of every point, that of the group in which perturbations last longest.

    Groups that share their classes of units, and a memory's gain, are solved in one call.
    """
    points = [params for groups in grid for params in groups]
    alike: dict[tuple[bytes, float | None], list[int]] = {}
    for n, params in enumerate(points):
        shared = params.class_weights.tobytes() + params.environment_weights.tobytes(), params.memory_gain
        alike.setdefault(shared, []).append(n)
    chi, done = np.full(len(points), math.nan), 0
    for members in alike.values():
        for start in range(0, len(members), _AT_ONCE):
            part = members[start : start + _AT_ONCE]
            with np.errstate(all="ignore"):
                found = solve(_stacked([points[n] for n in part]))
            chi[part] = np.where(found.converged, found.chi, math.nan)
            done += len(part)
            if report:
                report(done, len(points))
    return np.asarray(chi.reshape(len(grid), -1).max(axis=1))


def _stacked(points: list[LayerParameters]) -> LayerParameters:
    """One batch of all points, which have the same classes of units."""
    first = points[0]

    def stack(arrays: list[NDArray[Any]]) -> NDArray[Any]:
        return np.stack(np.broadcast_arrays(*arrays))

    gates = {
        name: GateParameters(
            **{field: stack([vars(params.gates[name])[field] for params in points]) for field in vars(gate)}
        )
        for name, gate in first.gates.items()
    }
    return replace(
        first,
        gates=gates,
        input_variance=stack([params.input_variance for params in points]),
        correlation=stack([params.correlation for params in points]),
        batch=(len(points),),
    )


def draw(data: Phases, figure: Figure, theme: Theme) -> None:
    """Draw bands of χ from light to strong with labelled lines between them, hatched where differences grow."""
    from matplotlib.patheffects import withStroke

    axes = figure.add_subplot()
    halo: list[AbstractPathEffect] = [withStroke(linewidth=2.5, foreground=theme.surface)]
    for axis, set_scale in ((data.x, axes.set_xscale), (data.y, axes.set_yscale)):
        if axis.log:
            set_scale("log")
    axes.set_xlim(data.x.values[0], data.x.values[-1])
    axes.set_ylim(data.y.values[0], data.y.values[-1])
    _draw_bands(data, axes, theme, halo)
    _draw_here(data, axes, theme, halo)
    axes.set(xlabel=data.x.label, ylabel=data.y.label)
    low, high = float(np.nanmin(data.chi)), float(np.nanmax(data.chi))
    blank = bool(np.any(~np.isfinite(data.chi)))
    side = "below" if high <= 1.0 else "above"
    where = "hatched: above 1" if low < 1.0 < high else f"{'shown values are' if blank else 'all of it'} {side} 1"
    unsettled = "\nblank: the state does not settle there or at the next point" if blank else ""
    axes.set_title(f"growth χ of a squared distance per step; {where}{unsettled}")


def _draw_bands(data: Phases, axes: Axes, theme: Theme, halo: list[AbstractPathEffect]) -> None:
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

    across, up, chi = _smooth(data)
    low, high = float(chi.min()), float(chi.max())
    inner = [level for level in _LEVELS if low < level < high]
    bands = [min(low, 0.0) - 1.0, *inner, max(high, 1.0) + 1.0]
    colours = LinearSegmentedColormap.from_list("critinit", [theme.low, theme.high])
    norm = BoundaryNorm(bands, colours.N) if len(bands) > 2 else None
    axes.contourf(across, up, chi, levels=bands, cmap=colours, norm=norm)
    axes.contourf(across, up, chi, levels=[1.0, bands[-1]], colors="none", hatches=["///"])
    at_one = []
    if 1.0 in inner:
        line = axes.contour(across, up, chi, levels=[1.0], colors=theme.ink, linewidths=2.2)
        at_one = axes.clabel(line, fmt={1.0: "χ = 1"}, fontsize=9.5, colors=theme.ink)
    others = [level for level in inner if level != 1.0]
    labels = []
    if others:
        lines = axes.contour(across, up, chi, levels=others, colors=theme.muted, linewidths=0.7, linestyles="solid")
        labels = axes.clabel(lines, fmt="%g", fontsize=8, colors=theme.ink, inline=False)
    for text in (*at_one, *_legible(labels, at_one, axes)):
        text.set_path_effects(halo)


def _legible(labels: list[Text], kept: list[Text], axes: Axes) -> list[Text]:
    """The labels that overlap neither one another nor those that are ``kept``, nor the edge; the others are removed."""

    def place(text: Text) -> Array:
        return np.asarray(axes.transAxes.inverted().transform(axes.transData.transform(text.get_position())))

    taken, shown = [place(text) for text in kept], []
    for text in labels:
        at = place(text)
        inside = bool(np.all((at > _LABEL) & (at < 1.0 - _LABEL)))
        if inside and all(np.linalg.norm(at - other) > 2.0 * _LABEL for other in taken):
            taken.append(at)
            shown.append(text)
        else:
            text.remove()
    return shown


def _draw_here(data: Phases, axes: Axes, theme: Theme, halo: list[AbstractPathEffect]) -> None:
    """A star at the spec, or at the edge beyond which it lies, and its χ beside it."""
    x, y = data.x.shown, data.y.shown
    axes.plot(
        [x], [y], marker="*", markersize=15, color=theme.orange, markeredgecolor=theme.surface, clip_on=False, zorder=5
    )
    right, upper = data.x.share > 0.6, data.y.share > 0.85
    outside = ", outside" if (x, y) != (data.x.value, data.y.value) else ""
    axes.annotate(
        f"this spec{outside}: χ = {data.here:.4g}", (x, y), xytext=(-10 if right else 10, -12 if upper else 8),
        textcoords="offset points", ha="right" if right else "left", weight="bold", path_effects=halo, zorder=6,
    )  # fmt: skip


def _smooth(data: Phases) -> tuple[Array, Array, np.ma.MaskedArray[Any, Any]]:
    """The grid to draw: monotone cubics join few points, which never leave the range of the points they join.

    They go through ln χ, or through χ itself where it is 0 somewhere.
    """
    x, y, chi = data.x.values, data.y.values, np.ma.masked_invalid(data.chi)
    if len(x) >= _DRAWN_POINTS or len(x) < 4 or np.any(chi.mask):
        return x, y, chi
    from scipy.interpolate import PchipInterpolator

    through_log = float(chi.min()) > 0.0
    at = np.linspace(0.0, len(x) - 1.0, _DRAWN_POINTS)
    index = np.arange(len(x), dtype=float)
    along = PchipInterpolator(index, np.log(chi.data) if through_log else chi.data, axis=1)(at)
    fine = PchipInterpolator(index, along, axis=0)(at)
    drawn = np.ma.masked_invalid(np.exp(fine) if through_log else fine)
    return np.interp(at, index, x), np.interp(at, index, y), drawn
