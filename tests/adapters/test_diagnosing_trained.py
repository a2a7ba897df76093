"""Trained networks: good ones are called fine, and planted faults are found in them."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import pytest

import critinit

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]
T, UNITS = 30, 24
GATES = {"gru": ("reset", "update", "candidate"), "lstm": ("input", "forget", "cell", "output")}


def first_symbol(torch: Any, count: int, generator: Any) -> tuple[Any, Any]:
    """The class of a sequence is which of four inputs is on at its first step; the rest is noise."""
    x = 0.3 * torch.randn(count, T, 4, generator=generator)
    y = torch.randint(4, (count,), generator=generator)
    x[:, 0] = 0.0
    x[torch.arange(count), 0, y] = 2.0
    return x, y


REFERENCES: dict[tuple[str, str, int], dict[str, Any]] = {}
"""The networks at their start, and 20 steps before the end."""


@cache
def trained(cell: str, scheme: str, seed: int) -> tuple[Any, Any, Any]:
    """A network that has learned it, its spec, and a batch; what it was before stands in ``REFERENCES``."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    rnn = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](4, UNITS, batch_first=True)
    head = torch.nn.Linear(UNITS, 4)
    spec = critinit.generate(cell, T=T - 1, scheme=scheme)
    critinit.apply(spec, rnn, seed=seed)
    start = copy.deepcopy(rnn)
    recent: deque[Any] = deque(maxlen=20)
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], 0.01)
    generator = torch.Generator().manual_seed(seed)
    for step in range(400):
        x, y = first_symbol(torch, 32, generator)
        logits = head(rnn(x)[0][:, -1])
        if step > 100 and bool((logits.argmax(1) == y).all()):
            break
        recent.append(copy.deepcopy(rnn.state_dict()))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, y).backward()
        optimizer.step()
    assert bool((logits.argmax(1) == y).float().mean() > 0.9)
    later = copy.deepcopy(start)
    later.load_state_dict(recent[0])
    REFERENCES[cell, scheme, seed] = {"start": start, "later": later}
    return rnn, spec, first_symbol(torch, 32, generator)[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("cell", "scheme"), [("gru", "critical"), ("lstm", "critical"), ("lstm", "chrono")])
def test_trained_networks_are_fine(cell: str, scheme: str, seed: int) -> None:
    model, spec, x = trained(cell, scheme, seed)
    for reference in (None, *REFERENCES[cell, scheme, seed].values()):
        found = critinit.diagnose(model, x, spec, reference=reference)
        assert found.is_fine, found.verdict


@pytest.mark.parametrize(
    ("scheme", "units", "rate", "steps"),
    [
        *[(scheme, units, 0.01, 300) for scheme in ("critical", "torch", "orthogonal") for units in (1, 2, 4)],
        *[(scheme, 16, 0.03, 600) for scheme in ("torch", "orthogonal")],
    ],
)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_nothing_was_done_to_small_networks_and_long_trained_ones(
    cell: str, scheme: str, units: int, rate: float, steps: int
) -> None:
    """Training alone makes their kernels larger, turns them, and moves biases to where another gate's were."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    rnn = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](4, units, batch_first=True)
    head = torch.nn.Linear(units, 1)
    spec = critinit.generate(cell, T=20, scheme=scheme)
    critinit.apply(spec, rnn, seed=1)
    start = copy.deepcopy(rnn)
    optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], rate)
    for _ in range(steps):
        x = torch.randn(24, 21, 4)
        y = torch.tanh(x[:, 5, 0]) + 0.5 * x[:, -1, 0] * x[:, 8, -1]
        optimizer.zero_grad()
        (head(rnn(x)[0][:, -1])[:, 0] - y).square().mean().backward()
        optimizer.step()
    for reference in (None, start):
        found = critinit.diagnose(rnn, x, spec, reference=reference)
        assert "differs" not in [finding.kind for finding in found[0].findings], found.verdict


def rows(cell: str, gate: str) -> slice:
    place = GATES[cell].index(gate)
    return slice(place * UNITS, (place + 1) * UNITS)


def lost(cell: str, gate: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name in ("bias_ih_l0", "bias_hh_l0"):
            getattr(model, name).data[rows(cell, gate)] = 0.0

    return change


def swapped(cell: str, first: str, second: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for parameter in model.parameters():
            old = parameter.data.clone()
            parameter.data[rows(cell, first)] = old[rows(cell, second)]
            parameter.data[rows(cell, second)] = old[rows(cell, first)]

    return change


def saturated(model: Any) -> None:
    model.weight_ih_l0.data.mul_(30.0)


@pytest.mark.parametrize(
    ("cell", "change", "words"),
    [
        ("gru", lost("gru", "update"), "bias lost: update"),
        ("lstm", lost("lstm", "forget"), "bias lost: forget"),
        *[("gru", swapped("gru", a, b), f"{a} has the biases of {b}")
          for a, b in (("reset", "update"), ("reset", "candidate"), ("update", "candidate"))],
        *[("lstm", swapped("lstm", a, b), f"{a} has the biases of {b}")
          for a, b in (("input", "forget"), ("forget", "cell"), ("forget", "output"), ("input", "output"))],
        ("gru", saturated, "saturates: "),
        ("lstm", saturated, "saturates: "),
    ],
)  # fmt: skip
def test_faults_are_found_in_trained_networks(cell: str, change: Callable[[Any], None], words: str) -> None:
    model, spec, x = trained(cell, "critical", 0)
    broken = copy.deepcopy(model)
    change(broken)
    assert words in critinit.diagnose(broken, x, spec).verdict


def doubled(model: Any) -> None:
    model.weight_hh_l0.data.mul_(2.0)


def verdict(cell: str, scheme: str, change: Callable[[Any], None], since: str | None) -> str:
    model, spec, x = trained(cell, scheme, 0)
    broken = copy.deepcopy(model)
    change(broken)
    reference = None if since is None else REFERENCES[cell, scheme, 0][since]
    return critinit.diagnose(broken, x, spec, reference=reference).verdict


@pytest.mark.parametrize(("cell", "scheme"), [("gru", "critical"), ("lstm", "critical"), ("lstm", "chrono")])
@pytest.mark.parametrize("since", ["start", "later"])
def test_any_two_swapped_gates_are_found_beside_an_earlier_time(cell: str, scheme: str, since: str) -> None:
    for first, second in combinations(GATES[cell], 2):
        assert "gates look swapped: " in verdict(cell, scheme, swapped(cell, first, second), since)


@pytest.mark.parametrize(
    ("cell", "scheme", "since"),
    [
        ("lstm", "chrono", None),  # kernels that start large keep most of their singular values
        ("lstm", "chrono", "start"),
        ("lstm", "chrono", "later"),
        ("gru", "critical", "later"),  # kernels that start next to 0 are all learned
        ("lstm", "critical", "later"),
    ],
)
def test_a_doubled_recurrent_kernel_is_found(cell: str, scheme: str, since: str | None) -> None:
    assert "recurrent kernel multiplied: " in verdict(cell, scheme, doubled, since)


def test_an_empty_kernel_is_found() -> None:
    def emptied(model: Any) -> None:
        model.weight_ih_l0.data[rows("lstm", "cell")] = 0.0

    assert "kernel lost: all of cell input" in verdict("lstm", "critical", emptied, None)


def test_a_reference_that_is_another_model_is_refused() -> None:
    torch = pytest.importorskip("torch")
    model, _, x = trained("gru", "critical", 0)
    for other, words in ((torch.nn.GRU(4, 7), "gru of 7 units"), (torch.nn.LSTM(4, UNITS), "lstm of 24 units"),
                         (torch.nn.Linear(4, UNITS), "without the model itself")):  # fmt: skip
        with pytest.raises(critinit.errors.ArgumentError, match=f"reference: .*{words}"):
            critinit.diagnose(model, x, reference=other)
