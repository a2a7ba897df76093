"""Starts that are set by hand: a group of units that is a linear memory, beside a group that follows a scheme.

They try out what no spec says yet.  The memory group's keep gate is shut and its other gates are open, so that its
state goes through the candidate's recurrent kernel alone; that kernel is orthogonal on the group, times the gain that
makes the whole loop's gain 1, or a little less.  The groups do not read each other.  Every part has a limit on its
learning rate.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

import critinit
from benchmarks.training.tasks import Data
from critinit.errors import ArgumentError
from critinit.schemes import SCHEMES

__all__ = ["Grouped", "grouped", "phases_of", "response"]

_CANDIDATE = {"gru": "candidate", "lstm": "cell"}
_KEEP = {"gru": "update", "lstm": "forget"}
_ORDER = {"gru": ("reset", "update", "candidate"), "lstm": ("input", "forget", "cell", "output")}
"""The gates in the order of torch's tensors."""
_WORDS = {"phases": ("haar", "spectrum"), "input": ("fixed", "response", "equal"), "rest": SCHEMES.names()}
"""Words that a number of a start may be instead."""
_SEEN = 256
"""Sequences from which the inputs' correlation in time is measured."""


@dataclass(frozen=True)
class Grouped:
    """Numbers of a start with a memory group.

    Attributes:
        share: Units of the memory group, of all.
        phases: The angles by which the loop turns.  ``haar``: those of an orthogonal matrix drawn at random.
            A number: evenly from 0 to so many half turns.  ``spectrum``: at quantiles of the inputs' power spectrum.
        decay: Time constant of the loop in units of T; infinite for a gain of 1.
        spread: Whether time constants are log-uniform from 2 steps to ``decay`` T, not all alike.
        mixed: Whether every unit has a part in every plane, by a random orthogonal matrix; else two units are a plane.
        input: The candidate's input variance.  ``fixed``: .0005/R.  ``response``: such that the group's mean second
            moment, were it linear, is at most ``reach``/T.  ``equal``: so, and the same for each phase.
        reach: See ``input``.
        kappa: T times (units of the group) times the loop's limit.
        gated: Limit of the gated group.
        into: Limit of the memory group's input kernels and biases.
        rest: The scheme of the other group.
        shut: Bias of the keep gate.
        open: Bias of the others.
    """

    share: float = 0.75
    phases: float | str = "haar"
    decay: float = np.inf
    spread: bool = False
    mixed: bool = True
    input: str = "fixed"
    reach: float = 5.0
    kappa: float = 0.24
    gated: float = 0.03
    into: float = 0.003
    rest: str = "critical"
    shut: float = -7.0
    open: float = 5.0

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of a hash over the numbers that are not the usual ones."""
        usual = asdict(Grouped())
        own = sorted((name, value) for name, value in asdict(self).items() if value != usual[name])
        return hashlib.sha256(repr(own).encode()).hexdigest()[:8]

    def apply(self, layer: Any, cell: str, T: int, data: Data, spec: critinit.InitSpec, seed: int) -> Any:
        """Write the start into a layer of torch and return its limits.

        Args:
            layer: ``torch.nn.GRU`` or ``LSTM`` of one layer.
            cell: The cell.
            T: Steps.
            data: The task; its inputs decide its variance.
            spec: Of the gated group.
            seed: Of the weights.
        """
        import torch

        hidden, n = layer.hidden_size, round(self.share * layer.hidden_size)
        small = type(layer)(layer.input_size, hidden - n)
        critinit.apply(spec, small, seed=seed)
        rng = np.random.default_rng([seed, 1])
        kernel, into = self._loop(n, data, T, rng)
        opened, kept = _sigmoid(self.open), _sigmoid(self.shut)
        kernel -= kept * np.eye(n)  # what the keep gate lets through
        kernel /= opened * (1.0 - kept if cell == "gru" else opened)
        limits = []
        with torch.no_grad():
            for index, gate in enumerate(_ORDER[cell]):
                memory = slice(index * hidden, index * hidden + n)
                rest = slice(memory.stop, (index + 1) * hidden)
                own = slice(index * (hidden - n), (index + 1) * (hidden - n))
                candidate = gate == _CANDIDATE[cell]
                layer.weight_ih_l0[memory] = 0.0
                layer.weight_hh_l0[slice(memory.start, rest.stop)] = 0.0
                layer.bias_ih_l0[memory] = 0.0
                layer.bias_hh_l0[memory] = 0.0
                if candidate:
                    layer.weight_ih_l0[memory] = _tensor(into)
                    layer.weight_hh_l0[memory, :n] = _tensor(kernel)
                else:
                    layer.bias_ih_l0[memory] = self.shut if gate == _KEEP[cell] else self.open
                layer.weight_ih_l0[rest] = small.weight_ih_l0[own]
                layer.weight_hh_l0[rest, n:] = small.weight_hh_l0[own]
                layer.bias_ih_l0[rest] = small.bias_ih_l0[own]
                layer.bias_hh_l0[rest] = small.bias_hh_l0[own]
                loop = self.kappa / (T * max(n, 1))
                limits += [critinit.StepLimit("weight_hh_l0", (memory,), loop)]
                limits += [critinit.StepLimit("weight_hh_l0", (rest,), self.gated)]
                for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
                    limits += [critinit.StepLimit(name, (memory,), self.into)]
                    limits += [critinit.StepLimit(name, (rest,), self.gated)]
        return critinit.StepLimits(layer, tuple(limits))

    def _loop(self, n: int, data: Data, T: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The loop's kernel and the candidate's input kernel."""
        phases = phases_of(self.phases, n // 2, data, T)
        basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
        if not self.mixed and phases is not None:
            basis = np.eye(n)
        times = np.full(n // 2, self.decay * T)
        if self.spread:
            times = np.exp(rng.permutation(np.linspace(np.log(2.0), np.log(self.decay * T), n // 2)))
        gains = np.exp(-1.0 / times)
        into = rng.standard_normal((n, data.inputs)) / np.sqrt(data.inputs)
        if phases is None:
            kernel, phases = gains[0] * basis, np.abs(np.angle(np.linalg.eigvals(basis)))[::2]
        else:
            turns = np.diag(np.repeat(gains * np.cos(phases), 2))
            first = 2 * np.arange(n // 2)
            turns[first, first + 1] = -gains * np.sin(phases)
            turns[first + 1, first] = gains * np.sin(phases)
            kernel = basis @ turns @ basis.T
        if self.input == "fixed":
            return kernel, into * np.sqrt(5e-4 / data.input_variance)
        each = self.reach / T / response(phases, gains, data, T)
        if self.input == "equal":
            return kernel, basis @ (into * np.sqrt(np.repeat(each, 2))[:, None])
        return kernel, into * np.sqrt(1.0 / np.mean(1.0 / each))


def phases_of(phases: float | str, planes: int, data: Data, T: int) -> np.ndarray | None:
    """Return the angles by which the planes turn; None where they are drawn with the kernel."""
    if phases == "haar":
        return None
    levels = (np.arange(planes) + 0.5) / planes
    if not isinstance(phases, str):
        return levels * np.pi * phases
    grid, power = _spectrum(data, T)
    total = np.cumsum(power)
    return np.interp(levels, np.concatenate([[0.0], total / total[-1]]), np.append(grid, np.pi))


def response(phases: np.ndarray, gains: np.ndarray, data: Data, T: int) -> np.ndarray:
    """Return the largest second moment that each mode has, of the T steps, from inputs through a kernel of variance 1.

    A mode is h' = gain e^(iφ) h + x, without tanh.
    """
    x = data.sample(np.random.default_rng(0), _SEEN).x.astype(np.float64)
    turn = (gains * np.exp(1j * phases))[:, None, None]
    h = np.zeros((len(phases), *x.shape[1:]), dtype=complex)
    largest = np.zeros(len(phases))
    for now in x:
        h = turn * h + now
        largest = np.maximum(largest, np.mean(np.abs(h) ** 2, axis=(1, 2)))
    return largest


def _spectrum(data: Data, T: int) -> tuple[np.ndarray, np.ndarray]:
    """The left ends of equal bins over [0, π), and the inputs' power in each; a constant counts nowhere."""
    x = data.sample(np.random.default_rng(0), _SEEN).x.astype(np.float64)
    x = x - x.mean(axis=(0, 1), keepdims=True)
    power = np.mean(np.abs(np.fft.rfft(x, n=2 * T, axis=0)) ** 2, axis=(1, 2))[:-1]
    return np.pi * np.arange(T) / T, power


def _sigmoid(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-x)))


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def grouped(scheme: str) -> Grouped | None:
    """Return the numbers of a start as it is named: ``groups``, and each that is not the usual one as NAME=VALUE.

    Args:
        scheme: Such as ``groups share=0.5 phases=1 decay=1``.

    Returns:
        The numbers; None where the name is of something else.

    Raises:
        ArgumentError: It is no number of a start, or not one that a start can have.
    """
    first, *rest = scheme.split()
    if first != "groups":
        return None
    names = [field.name for field in fields(Grouped)]
    given: dict[str, Any] = {}
    for name, _, value in (part.partition("=") for part in rest):
        if name not in names:
            raise ArgumentError("scheme", found=f"{name} in {scheme!r}", allowed=", ".join(names))
        words = _WORDS.get(name, ())
        try:
            given[name] = value if value in words else _number(name, value)
        except ValueError:
            allowed = ", ".join([*([] if name in ("input", "rest") else ["a number"]), *words])
            raise ArgumentError(name, found=f"{value!r} in {scheme!r}", allowed=allowed) from None
    return Grouped(**given)


def _number(name: str, value: str) -> float:
    number = float(value)
    low, high = {"shut": (-np.inf, np.inf), "open": (-np.inf, np.inf), "share": (0.0, 1.0)}.get(name, (0.0, np.inf))
    if name in ("input", "rest") or not low <= number <= high:
        raise ValueError
    return bool(number) if name in ("spread", "mixed") else number
