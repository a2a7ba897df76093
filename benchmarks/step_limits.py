"""What limits on the learning rate cost beside a training step of an LSTM of 1024 units.

``python -m benchmarks step_limits`` trains ``torch.nn.LSTM(64, 1024)`` with Adam (batch 32, 50 steps of time), on every
device at hand, without limits and with one on each recurrent kernel and bias, turn by turn.  Seconds are the best of
some; on the CPU those of one thread on the processor, which other programs disturb little.  The exit status is 1 where
the cost is above the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import critinit

__all__ = ["main"]

INPUT, UNITS, BATCH, LENGTH = 64, 1024, 32, 50
RATE = 1e-3
"""Adam's learning rate; all limits are smaller, so every region is copied and shortened at every step."""
REPEATS = 7
MOST = 0.05
"""The share of a training step that limits may cost."""
SETTINGS = [f"layers.0.gates.*.{part}.max_learning_rate=1e-4" for part in ("recurrent", "bias")]


def main() -> int:
    """Print seconds of a step with and without limits; the exit status is 1 where the cost is above the limit."""
    import torch

    print(f"torch.nn.LSTM({INPUT}, {UNITS}), Adam, batch {BATCH}, {LENGTH} steps of time; best of {REPEATS}")
    print(f"{'device':8}{'optimizer':12}{'plain s':>10}{'limited s':>11}{'cost':>8}{'may cost':>10}")
    status, threads = 0, torch.get_num_threads()
    torch.set_num_threads(1)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for kind in ("foreach", "fused"):
            plain, limited = _seconds(device, {kind: True})
            cost = limited / plain - 1.0
            status = max(status, int(cost > MOST))
            print(f"{device:8}{kind:12}{plain:10.4f}{limited:11.4f}{cost:8.1%}{MOST:10.0%}", flush=True)
    torch.set_num_threads(threads)
    return status


def _seconds(device: str, options: dict[str, Any]) -> tuple[float, float]:
    """The best seconds of a training step without and with limits."""
    import torch

    spec = critinit.generate("lstm", T=LENGTH, settings=SETTINGS)
    x = torch.randn(LENGTH, BATCH, INPUT, device=device)
    clock = time.process_time if device == "cpu" else time.perf_counter
    steps: list[Callable[[], object]] = []
    for is_limited in (False, True):
        model = torch.nn.LSTM(INPUT, UNITS, device=device)
        applied = critinit.apply(spec, model, seed=0, sampler="native")
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE, **options)
        if is_limited:
            critinit.limit_steps(optimizer, applied)
        steps.append(_step(model, optimizer, x))
    best = [float("inf")] * len(steps)
    for repeat in range(REPEATS + 1):
        for number, step in enumerate(steps):
            start = clock()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first makes the optimizer's state and the copies
                best[number] = min(best[number], clock() - start)
    return best[0], best[1]


def _step(model: Any, optimizer: Any, x: Any) -> Callable[[], object]:
    def step() -> None:
        optimizer.zero_grad()
        model(x)[0][-1].square().mean().backward()
        optimizer.step()

    return step
