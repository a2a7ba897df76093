"""What the tied theory costs beside the simulation that gives the same standard error.

``python -m benchmarks tied_cost`` takes the LSTM and the GRU of the theory's check table, runs the sampled theory and
four networks of width 1,000 over the same number of steps, and scales both to one standard error of ln χ by
error ∝ 1/√time, which holds for both (more populations, more networks).  Processor time on one core; target: at most a
third.  The standard errors are themselves known to a quarter or so: the ratio is an order of magnitude, not a digit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from critinit.simulation import simulate
from critinit.spec import InitSpec, Numbers
from critinit.spec.reading import validate_object
from critinit.theory.analysis import untied_numbers
from critinit.theory.tied.estimate import fast_tied
from critinit.theory.tied.solution import tied

__all__ = ["TARGET", "cost", "main", "specs"]

TARGET = 0.003
"""Standard error of ln χ that both are scaled to."""
LIMIT = 1.0 / 3.0
"""Largest wanted ratio of the theory's seconds to the network's."""
_WIDTH = 1000
"""Units of a simulated network."""
_STEPS = 300
"""Steps that both follow a perturbation."""


def _spec(name: str, gates: Mapping[str, tuple[float, float, float]]) -> InitSpec:
    def gate(recurrent: float, feed: float, mean: float) -> dict[str, object]:
        return {
            "recurrent": {"distribution": "normal", "variance": recurrent},
            "input": {"distribution": "normal", "variance": feed},
            "bias": {"distribution": "constant", "mean": mean, "variance": 0.0},
        }

    layer = {"input": {"variance": 1.0}, "gates": {key: gate(*numbers) for key, numbers in gates.items()}}
    return validate_object({"schema_version": 1, "cell": name, "scheme": "custom", "T": _STEPS, "layers": [layer]})


def specs() -> dict[str, InitSpec]:
    """Return the specs that are timed, by cell."""
    gru = {"update": (0.5, 0.5, 2.0), "reset": (0.7, 0.3, 1.0), "candidate": (1.5, 0.8, 0.0)}
    lstm = {"input": (0.6, 0.4, -1.0), "forget": (0.5, 0.3, 2.0), "cell": (1.2, 1.0, 0.0), "output": (0.8, 0.2, 0.5)}
    peephole = {"input": (0.2, 0.4, -2.0), "forget": (0.1, 0.3, 1.0), "cell": (0.6, 1.0, 0.0)}
    return {
        "gru_reset_before": _spec("gru_reset_before", gru),
        "lstm": _spec("lstm", lstm),
        "peephole_lstm": _spec("peephole_lstm", peephole),
    }


def cost(run: Callable[[], Numbers]) -> tuple[float, float, Numbers]:
    """Return processor seconds, the same scaled to the target error of ln χ, and the numbers."""
    start = time.process_time()
    numbers = run()
    seconds = time.process_time() - start
    error = ((numbers.standard_error or {}).get("chi") or 0.0) / numbers.chi
    return seconds, seconds * (error / TARGET) ** 2, numbers


def _simulated(spec: InitSpec) -> Numbers:
    measured = simulate(spec, width=_WIDTH, steps=_STEPS)[0]
    assert measured is not None  # tied: always a reading
    return measured.numbers


def main() -> None:
    """Print both costs side by side."""
    print(f"Processor seconds for a standard error of {TARGET} in ln chi (simulated: width {_WIDTH}, {_STEPS} steps)")
    print(f"{'':20} {'theory':>8} {'network':>8} {'ratio':>7}   chi (theory, network)      fast estimate")
    for name, spec in specs().items():
        _, theory, sampled = cost(lambda spec=spec: tied(spec, steps=_STEPS)[0])
        _, network, measured = cost(lambda spec=spec: _simulated(spec))
        layer = spec.layers[0]
        start = time.process_time()
        fast = fast_tied(spec.find_cell(), layer, spec.T, untied_numbers(spec, layer))
        quick = 1e3 * (time.process_time() - start)
        print(
            f"{name:20} {theory:8.2f} {network:8.2f} {theory / network:7.3f}   "
            f"{sampled.chi:.4f}, {measured.chi:.4f}   {fast.chi:14.4f} in {quick:.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
