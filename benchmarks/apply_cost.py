"""What applying a spec to ``torch.nn.LSTM(1024, 2048)`` costs beside torch's own initializers, gate by gate.

The baseline fills the same numbers by hand: ``torch.nn.init.orthogonal_`` on each recurrent gate block,
``normal_`` on each input block, ``zero_`` on the biases; it checks nothing, reports nothing and can undo
nothing.  Every way runs in a process of its own, on every device at hand: seconds are the best of three, peak
memory is what the process (or the GPU's allocator) holds at most above what it held with the model in place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["costs", "main"]

INPUT, HIDDEN, GATES = 1024, 2048, 4
WAYS = ("torch.nn.init", "native", "portable")
REPEATS = 3


def main() -> None:
    """Print time and peak memory of each way, and their ratios to the baseline."""
    import torch

    print(f"torch.nn.LSTM({INPUT}, {HIDDEN}), orthogonal recurrent and normal input kernels, float32")
    print(f"{'device':8}{'way':16}{'seconds':>9}{'ratio':>8}{'peak MB':>10}{'ratio':>8}")
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        found = costs(device)
        base = found[WAYS[0]]
        for way, own in found.items():
            seconds, peak = (f"{own[k] / base[k]:8.2f}" for k in ("seconds", "megabytes"))
            print(f"{device:8}{way:16}{own['seconds']:9.2f}{seconds}{own['megabytes']:10.1f}{peak}")


def costs(device: str, inputs: int = INPUT, hidden: int = HIDDEN) -> dict[str, dict[str, float]]:
    """Return ``seconds`` and ``megabytes`` of each way, the baseline first, for ``torch.nn.LSTM(inputs, hidden)``."""
    return {way: _in_a_process(way, device, inputs, hidden) for way in WAYS}


def _in_a_process(way: str, device: str, inputs: int, hidden: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.apply_cost", way, device, str(inputs), str(hidden)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env=dict(os.environ),
    )
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def _measure(way: str, device: str, inputs: int, hidden: int) -> dict[str, float]:
    import torch

    torch.linalg.qr(torch.randn(64, 64, device=device))  # loads LAPACK or cuSOLVER
    _run_of(way, torch.nn.LSTM(16, 16, device=device))()  # loads what the way itself needs
    model = torch.nn.LSTM(inputs, hidden, device=device)
    run, held, peak = _run_of(way, model), *_memory(device)
    seconds = []
    before = held()
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "megabytes": (peak() - before) / 2**20}


def _run_of(way: str, model: Any) -> Callable[[], object]:
    """The way to initialize ``model``, ready to run."""
    import torch

    from critinit.spec.reading import validate_object
    from critinit.tensors.application import apply

    if way == "torch.nn.init":
        return lambda: _by_hand(model)
    gate = {
        "recurrent": {"distribution": "orthogonal", "variance": 1.0},
        "input": {"distribution": "normal", "variance": 1.0},
        "bias": {"distribution": "constant", "mean": 0.0, "variance": 0.0},
    }
    layer = {"input": {"variance": 1.0}, "gates": dict.fromkeys(("input", "forget", "cell", "output"), gate)}
    spec = validate_object({"schema_version": 1, "cell": "lstm", "scheme": "custom", "T": 100, "layers": [layer]})
    assert isinstance(model, torch.nn.LSTM)
    return lambda: apply(spec, model, seed=0, sampler="native" if way == "native" else "portable")


def _by_hand(model: Any) -> None:
    import torch

    width = model.hidden_size
    with torch.no_grad():
        for n in range(GATES):
            rows = slice(n * width, (n + 1) * width)
            torch.nn.init.orthogonal_(model.weight_hh_l0[rows])
            model.weight_ih_l0[rows].normal_(0.0, model.input_size**-0.5)
        model.bias_ih_l0.zero_()
        model.bias_hh_l0.zero_()


def _memory(device: str) -> tuple[Callable[[], float], Callable[[], float]]:
    """Functions for the bytes held now and the most held since this call."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated, torch.cuda.max_memory_allocated
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
    return lambda: _status("VmRSS"), lambda: _status("VmHWM")


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
