"""How fast a policy with an LSTM learns to remember, by reinforcement (RecurrentPPO), from each start.

``python -m benchmarks reinforcement --table FILE`` trains what the table lacks, then prints it.  The task is recall:
the first observation shows one of two cues, T − 1 steps of noise follow, and in the last ten steps the action that
belongs to the cue earns a tenth each.  Who remembers nothing earns .5, who remembers 1.  The policy is sb3-contrib's
with one LSTM and linear heads for actions and values; the whole policy has one learning rate, and ``memory`` has its
limits beside.

A run's curve is the mean reward of the last 100 episodes after each rollout of 16 episodes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import critinit
from benchmarks._errors import not_installed
from benchmarks._options import count
from benchmarks._tables import keep, records

__all__ = ["STARTS", "main", "measured", "recall", "report"]

STARTS = {"default": (1e-2, 3e-3, 1e-3), "critical": (1e-2, 3e-3, 1e-3), "memory": (1e-1, 3e-2, 1e-2)}
"""Start -> the learning rates that are tried; ``default`` is PyTorch's own."""
ANSWERS, ENVIRONMENTS, WINDOW = 10, 16, 100
"""Steps that are rewarded, episodes side by side, and episodes that a reward is averaged over."""
GOAL = 0.9
"""The mean reward at which a run has learned the task."""
_INPUTS = 3
"""Coordinates of an observation: a place for each cue, and noise of variance 1."""


def recall(length: int) -> Any:
    """Return the class of the environment whose episodes have ``length`` steps."""
    import gymnasium

    class Recall(gymnasium.Env):  # type: ignore[misc]
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (_INPUTS,), np.float32)
        action_space = gymnasium.spaces.Discrete(_INPUTS - 1)

        def _seen(self) -> np.ndarray:
            x = np.zeros(_INPUTS, np.float32)
            x[-1] = self.np_random.standard_normal()
            if self.t == 0:
                x[self.cue] = 1.0
            return x

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
            super().reset(seed=seed)
            self.t, self.cue = 0, int(self.np_random.integers(_INPUTS - 1))
            return self._seen(), {}

        def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            self.t += 1
            reward = float(self.t > length - ANSWERS and action == self.cue) / ANSWERS
            return self._seen(), reward, self.t == length, False, {}

    return Recall


def measured(start: str, rate: float, seed: int, T: int = 64, hidden: int = 64, steps: int = 65_536) -> dict[str, Any]:
    """Return one run's record.

    Args:
        start: One of ``STARTS``.
        rate: The optimizer's learning rate.
        seed: Of weights, episodes and actions.
        T: Steps of an episode.
        hidden: Units of the LSTM.
        steps: Steps of the environment in all; whole rollouts of 16 episodes are made.

    Raises:
        CritinitError: sb3-contrib is not installed.
    """
    try:
        from sb3_contrib import RecurrentPPO
        from stable_baselines3.common.callbacks import BaseCallback
        from stable_baselines3.common.env_util import make_vec_env
    except ImportError:
        raise not_installed("sb3-contrib") from None

    class Rewards(BaseCallback):  # type: ignore[misc]
        """Keeps the mean reward after each rollout."""

        def __init__(self) -> None:
            super().__init__()
            self.curve: list[float] = []

        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            self.curve.append(float(np.mean([episode["r"] for episode in self.model.ep_info_buffer])))

    model = RecurrentPPO(
        "MlpLstmPolicy",
        make_vec_env(recall(T), n_envs=ENVIRONMENTS, seed=seed),
        n_steps=T,
        batch_size=4 * T,
        n_epochs=4,
        gamma=1.0,
        gae_lambda=1.0,
        learning_rate=rate,
        seed=seed,
        device="cpu",
        stats_window_size=WINDOW,
        policy_kwargs={"lstm_hidden_size": hidden, "net_arch": [], "shared_lstm": True, "enable_critic_lstm": False},
    )
    if start != "default":
        variance = (1.0 + 1.0 / T) / _INPUTS  # the noise at every step, and the cue at one
        spec = critinit.generate("lstm", T, scheme=start, input_variance=variance, input_autocorrelation=0.0)
        applied = critinit.apply(spec, model.policy, seed=seed)
        critinit.limit_steps(model.policy.optimizer, applied)
    rewards, began = Rewards(), time.perf_counter()
    model.learn(steps, callback=rewards)
    settings = {"start": start, "learning_rate": rate, "seed": seed, "T": T, "hidden": hidden, "steps": steps}
    return {**settings, "curve": [round(r, 4) for r in rewards.curve], "seconds": round(time.perf_counter() - began, 1)}


def _episodes(record: dict[str, Any]) -> float:
    """Episodes until the mean reward is at the goal; infinite where it never is."""
    reached = (k for k, reward in enumerate(record["curve"], 1) if reward >= GOAL)
    return next((ENVIRONMENTS * k for k in reached), math.inf)


def report(found: Iterable[dict[str, Any]]) -> str:
    """Return a Markdown table: a line for each length, start and rate; seeds are divided by commas."""
    lines = [
        f"| T | units | start | learning rate | seeds | episodes to a reward of {GOAL:g} | reward at the end |",
        "|" + "---|" * 7,
    ]
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    place = ("T", "hidden", "start", "learning_rate")
    for record in sorted(found, key=lambda r: (*(r[k] for k in place), r["seed"])):
        rows.setdefault(tuple(record[k] for k in place), []).append(record)
    for (T, hidden, start, rate), runs in rows.items():
        most = ENVIRONMENTS * max(len(run["curve"]) for run in runs)
        counted = [f"more than {most}" if math.isinf(e := _episodes(run)) else f"{e:.0f}" for run in runs]
        ends = ", ".join(f"{run['curve'][-1]:.2f}" for run in runs)
        seeds = ", ".join(str(run["seed"]) for run in runs)
        lines.append(f"| {T} | {hidden} | {start} | {rate:g} | {seeds} | {', '.join(counted)} | {ends} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] = ()) -> int:
    """Run what the table lacks, then print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reinforcement", description=__doc__)
    parser.add_argument("--table", type=Path, help="JSON lines, a line a run; without it none is kept")
    parser.add_argument("--start", choices=STARTS, action="append", help="several allowed [all]")
    parser.add_argument("--rate", type=float, action="append", help="learning rates, instead of each start's own")
    parser.add_argument("--T", type=count, default=64, help="steps of an episode [64]")
    parser.add_argument("--hidden", type=count, default=64, help="units of the LSTM [64]")
    parser.add_argument("--steps", type=count, default=65_536, help="steps of the environment [65536]")
    parser.add_argument("--seeds", type=count, default=1, help="seeds from 0 [1]")
    parser.add_argument("--report", action="store_true", help="run nothing, print what the table holds")
    options = parser.parse_args(list(arguments))
    if options.T < ANSWERS:
        parser.error(f"argument --T: found {options.T}; allowed: {ANSWERS} or more, the steps that are rewarded")
    found = records(options.table)
    names = ("start", "learning_rate", "seed", "T", "hidden", "steps")
    known = {tuple(record[name] for name in names) for record in found}
    for seed, start in () if options.report else product(range(options.seeds), options.start or STARTS):
        for rate in options.rate or STARTS[start]:
            wanted = (start, rate, seed, options.T, options.hidden, options.steps)
            if wanted in known:
                continue
            record = measured(*wanted)
            found.append(record)
            keep(options.table, [record])
            shown = f"{start} {rate:g} seed {seed}: reward {record['curve'][-1]:.2f}, {record['seconds']:.0f} s"
            print(shown, flush=True)
    print(report(found))
    return 0
