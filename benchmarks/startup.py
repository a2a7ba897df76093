"""How long a command takes beside the bare imports of what such commands usually need.

``python -m benchmarks.startup`` runs ``critinit spec`` and ``critinit validate`` in turn with
``python -c "import numpy, pydantic, typer, scipy.optimize"`` and prints medians and their ratio: at most 1.5.  (These
two do without ``scipy.optimize``, which takes longer to import than all that they compute.)
Run in turn, a machine that slows down slows both; the first round warms the file cache and does not count.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["COMMAND", "LIMIT", "environment", "main"]

LIMIT = 1.5
_ROUNDS = 9
_ROOT = Path(__file__).parents[1]
_IMPORTS = (sys.executable, "-c", "import numpy, pydantic, typer, scipy.optimize")
COMMAND = (sys.executable, "-m", "critinit_cli")
"""What runs the command line from any folder in :func:`environment`."""


def environment() -> dict[str, str]:
    """This environment, with the working tree's packages ahead."""
    paths = [str(_ROOT / part) for part in ("src", "adapters", "cli")]
    return os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}


def _seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main(rounds: int = _ROUNDS) -> None:
    """Print a line for the imports and one for each command."""
    variables = environment()
    with tempfile.TemporaryDirectory() as folder:
        gru, lstm = (str(Path(folder) / f"{cell}.json") for cell in ("gru", "lstm"))
        commands: dict[str, tuple[str, ...]] = {"import numpy, pydantic, typer, scipy.optimize": _IMPORTS}
        for cell, path in (("gru", gru), ("lstm", lstm)):
            arguments = ("spec", "--cell", cell, "--T", "784")
            commands[f"critinit {' '.join(arguments)}"] = (*COMMAND, *arguments, "-o", path)
            commands[f"critinit validate, the {cell}'s spec"] = (*COMMAND, "validate", path)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                seconds = _seconds(command, variables)
                if number:
                    times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    bare = next(iter(medians.values()))
    print(f"start-up, median of {rounds} runs in turn (limit {LIMIT} times the imports)")
    for name, median in medians.items():
        low, high = min(times[name]), max(times[name])
        print(f"  {name:46s} {median:6.3f} s  ({low:.3f} to {high:.3f})  {median / bare:5.2f} x")


if __name__ == "__main__":
    main()
