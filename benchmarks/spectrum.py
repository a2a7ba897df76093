"""The spectrum of the one-step Jacobian at infinite width, held to simulated networks with tied weights.

``python -m benchmarks spectrum`` prints, for each network, the largest difference between the predicted distribution
function of the singular values and that of four simulated networks of 500 units (Kolmogorov's distance), mean and
variance of the squared ones, and where the eigenvalues end.  Then it draws histogram and density, eigenvalues and edge,
to docs/images/spectrum.png and .svg.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._options import count
from critinit.dual import Array, Dual, tangent
from critinit.errors import MissingExtraError
from critinit.files import write
from critinit.simulation.network import State, draw_network
from critinit.spec import InitSpec
from critinit.spec.reading import validate_object
from critinit.theory.spectrum.couplings import sampled_couplings, self_feeding
from critinit.theory.spectrum.density import Density, spectrum_density
from critinit.theory.tied.jacobian import Couplings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Measured", "draw", "main", "measure", "network_jacobian", "specs"]

_BINS = 40
"""Of a histogram: 50 singular values each with four networks of 500 units."""
_BEFORE = 200
"""Steps from rest to the Jacobian."""


def _gate(recurrent: float, feed: float, mean: float, distribution: str = "normal") -> dict[str, Any]:
    return {
        "recurrent": {"distribution": distribution, "variance": recurrent},
        "input": {"distribution": "normal", "variance": feed},
        "bias": {"distribution": "constant", "mean": mean, "variance": 0.0},
    }


def _spec(cell: str, gates: dict[str, Any], power: float = 1.0) -> InitSpec:
    layer = {"input": {"variance": power}, "gates": gates}
    return validate_object({"schema_version": 1, "cell": cell, "scheme": "custom", "T": 100, "layers": [layer]})


def specs() -> dict[str, InitSpec]:
    """Return the specs of the networks, by the titles of their pictures."""
    gru = {"update": _gate(0.5, 0.5, 2), "reset": _gate(0.7, 0.3, 1), "candidate": _gate(1.5, 0.8, 0)}
    lstm = {
        "input": _gate(0.6, 0.4, -1), "forget": _gate(0.5, 0.3, 2), "cell": _gate(1.2, 1.0, 0),
        "output": _gate(0.8, 0.2, 0.5),
    }  # fmt: skip
    return {
        "GRU, reset before": _spec("gru_reset_before", gru),
        "LSTM": _spec("lstm", lstm),
        "RNN, orthogonal": _spec("rnn", {"hidden": _gate(1.0, 0.2, 0, "orthogonal")}),
        "minimal RNN, orthogonal": _spec("minimal_rnn", {"update": _gate(3.0, 1.0, 1, "orthogonal")}),
        "minimal RNN, chaotic": _spec("minimal_rnn", {"update": _gate(6.88**2, 1.39**2, 0)}, power=0.46),
    }


@dataclass(frozen=True)
class Measured:
    """A prediction, and the spectra of simulated networks.

    Attributes:
        spec: The spec.
        density: The predicted density of the singular values.
        couplings: What the prediction was made from.
        singular_values: Measured, (networks, width).
        eigenvalues: Measured, (networks, width).
    """

    spec: InitSpec
    density: Density
    couplings: Couplings
    singular_values: Array
    eigenvalues: np.ndarray

    @property
    def distance(self) -> float:
        """Kolmogorov's distance of the singular values from their predicted distribution, at 60 of their quantiles."""
        values = np.sort(self.singular_values, axis=None)
        at = np.quantile(values, np.linspace(0.005, 0.995, 60))
        return float(
            np.max(np.abs(self.density.distribution.cumulative(at)[0] - np.searchsorted(values, at) / values.size))
        )

    @property
    def outermost(self) -> float:
        """Largest modulus of the eigenvalues, mean over networks."""
        return float(np.mean(np.max(np.abs(self.eigenvalues), axis=1)))


def network_jacobian(spec: InitSpec, width: int, seed: int) -> Array:
    """Return ∂s'/∂s of a tied network of the first layer (of the LSTM at fixed output gate), 200 steps after rest."""
    network = draw_network(spec.find_cell(), spec.layers[0], width, np.random.default_rng(seed))
    state, u = network.rest(), {}
    for external in network.external_inputs(0, _BEFORE):
        state, u = network.step(state, external)
    s = Dual(state.s, np.eye(width)[:, None, :])
    after, _ = network.step(State(s, network.cell.read(s, u)), next(iter(network.external_inputs(0, 1))))
    return np.ascontiguousarray(tangent(after.s)[:, 0, :].T)


def measure(spec: InitSpec, *, width: int = 500, networks: int = 4, particles: int = 1000) -> Measured:
    """Return a prediction from ``particles`` units at four times, and the spectra of simulated networks."""
    jacobians = [network_jacobian(spec, width, seed) for seed in range(networks)]
    return Measured(
        spec,
        spectrum_density(spec, particles=particles),
        sampled_couplings(spec.find_cell(), spec.layers[0], T=spec.T, particles=particles),
        np.array([np.linalg.svd(j, compute_uv=False) for j in jacobians]),
        np.array([np.linalg.eigvals(j) for j in jacobians]),
    )


def row(title: str, found: Measured) -> str:
    """Return a line of the table."""
    squares, d = found.singular_values**2, found.density
    return (
        f"{title:26}{found.distance:9.4f}{d.mean:11.4f}{squares.mean():9.4f}{d.variance:11.4f}{squares.var():9.4f}"
        f"{d.spectral_edge:11.3f}{found.outermost:9.3f}"
    )


HEADER = (
    f"{'':26}{'':9}{'mean of squares':>20}{'their variance':>20}{'eigenvalues end':>20}\n"
    f"{'network':26}{'distance':>9}{'theory':>11}{'found':>9}{'theory':>11}{'found':>9}{'theory':>11}{'found':>9}"
)


def draw(found: dict[str, Measured]) -> Figure:
    """Return a figure: histograms with densities, the eigenvalues of two networks with their edges."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    figure = Figure(figsize=(10.5, 6.2), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    *shown, last = found
    for ax, title in zip(axes[[0, 1, 3, 4]], shown, strict=True):
        _histogram(ax, title, found[title])
    for ax, title in zip(axes[[2, 5]], ("LSTM", last), strict=True):
        _plane(ax, title, found[title])
    return figure


def _histogram(ax: Axes, title: str, found: Measured) -> None:
    width, networks = found.singular_values.shape[1], found.singular_values.shape[0]
    heights, bins = np.histogram(found.singular_values, bins=_BINS, density=True)
    theory = found.density.averages(bins)
    ax.stairs(heights, bins, fill=True, color="#9dc3de", label=f"{networks} networks of {width} units")
    ax.stairs(theory, bins, color="#b3500b", linewidth=1.5, label="theory, averaged over the bins")
    for edge in found.density.edges:
        ax.axvline(edge, ymax=0.75, color="#1c1c1a", linestyle=":", linewidth=0.9)
    ax.set(title=title, xlabel="singular value", ylabel="density")
    ax.set_ylim(0, 1.35 * float(max(theory.max(), heights.max())))
    ax.legend(frameon=False, fontsize=8, loc="upper left")


def _plane(ax: Axes, title: str, found: Measured) -> None:
    eigenvalues, kernels = found.eigenvalues[0], {n: g.recurrent for n, g in found.spec.layers[0].gates.items()}
    few = found.couplings._replace(
        update=found.couplings.update[:, ::4], messages={n: m[:, ::4] for n, m in found.couplings.messages.items()}
    )
    x = np.linspace(eigenvalues.real.min() - 0.15, eigenvalues.real.max() + 0.15, 50)
    y = np.linspace(0.003, 1.3 * eigenvalues.imag.max(), 26)
    radius = np.array([[self_feeding(few, kernels, complex(a, b)) for a in x] for b in y])
    for sign in (1, -1):
        ax.contour(x, sign * y, radius, levels=[1.0], colors="#b3500b")
    ax.plot(eigenvalues.real, eigenvalues.imag, ".", color="#1f5fa8", markersize=2.5, label="one network")
    ax.plot([], [], color="#b3500b", label="theory: edge")
    ax.set(title=f"eigenvalues: {title}", xlabel="real part", ylabel="imaginary part")
    ax.set_aspect("equal", adjustable="box")
    ax.set_ylim(-1.2 * y[-1], 1.7 * y[-1])
    ax.legend(frameon=False, fontsize=8, loc="upper left")


def save(figure: Figure, folder: Path) -> list[Path]:
    """Write spectrum.png and spectrum.svg and return their paths; the same figure gives the same bytes."""
    import matplotlib as mpl

    written = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        stream = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": "critinit"}):
            figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
        path = folder / f"spectrum.{kind}"
        write(path, stream.getvalue())
        written.append(path)
    return written


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table, draw the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks spectrum", description=__doc__)
    parser.add_argument("--width", type=count, default=500, help="units of a simulated network (default 500)")
    parser.add_argument("--networks", type=count, default=4, help="simulated networks (default 4)")
    parser.add_argument("--particles", type=count, default=1000, help="sampled units of the theory (default 1000)")
    folder = Path(__file__).parents[1] / "docs" / "images"
    parser.add_argument("--folder", type=Path, default=folder, help="where the picture goes (default docs/images)")
    options = parser.parse_args(list(arguments))
    print(HEADER, flush=True)
    found = {}
    for title, spec in specs().items():
        found[title] = measure(spec, width=options.width, networks=options.networks, particles=options.particles)
        print(row(title, found[title]), flush=True)
    for path in save(draw(found), options.folder):
        print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
