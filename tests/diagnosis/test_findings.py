"""Planted faults are found in fresh weights, and good ones are called fine; no framework."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from critinit import generate, materialize
from critinit.diagnosis.compared import weights_that_moved
from critinit.diagnosis.files import diagnose_file
from critinit.diagnosis.findings import findings_of
from critinit.diagnosis.numbers import LayerNumbers, layer_numbers
from critinit.diagnosis.result import Diagnosis
from critinit.errors import ArgumentError, DataError, WeightsError
from critinit.spec import InitSpec
from critinit.tensors.recurrence import LayerWeights
from tests.diagnosis.layers import layer

UNITS, INPUTS = 48, 6
Arrays = dict[str, np.ndarray[Any, Any]]


def drawn(spec: InitSpec, seed: int = 0, **sizes: Any) -> Arrays:
    return dict(materialize(spec, "canonical", seed=seed, **{"input_size": INPUTS, "hidden_size": UNITS, **sizes}))


def data(T: int, count: int = 6, seed: int = 0, smooth: bool = False) -> list[np.ndarray[Any, Any]]:
    x = np.random.default_rng(seed).standard_normal((count, T + 1, INPUTS))
    if smooth:
        x = np.cumsum(x, axis=1) / np.sqrt(np.arange(1, T + 2))[:, None]
    return list(x)


GOOD = [
    (cell, scheme, T, seed, smooth)
    for cell, schemes in (
        ("gru", ("critical", "chrono", "memory")),
        ("lstm", ("critical", "chrono", "memory")),
        ("rnn", ("critical",)),
    )
    for scheme in schemes
    for T in (30, 100)
    for seed, smooth in ((0, False), (1, True), (2, False), (3, True))
]


@pytest.mark.parametrize(("cell", "scheme", "T", "seed", "smooth"), GOOD)
def test_good_starts_are_fine(cell: str, scheme: str, T: int, seed: int, smooth: bool) -> None:
    spec = generate(cell, T=T, scheme=scheme, layers=2 if seed == 3 else 1)
    found = diagnose_file(spec, drawn(spec, seed), data(T, seed=seed, smooth=smooth))
    assert found.is_fine, found.verdict
    assert found.verdict == "fine"


@pytest.mark.parametrize(
    "cell", ["layernorm_gru", "layernorm_lstm", "projection_lstm", "mgu", "coupled_lstm", "minimal_rnn"]
)
def test_other_cells_are_fine_too(cell: str) -> None:
    spec = generate(cell, T=40)
    inputs = UNITS if cell == "minimal_rnn" else INPUTS
    arrays = materialize(spec, "canonical", input_size=inputs, hidden_size=UNITS, seed=0)
    x = list(np.random.default_rng(0).standard_normal((4, 41, inputs)))
    found = diagnose_file(spec, arrays, x)
    assert found.is_fine, found.verdict


# ---- planted faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [1, 2, 3])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_fresh_kernels_of_a_few_units_are_not_called_multiplied(cell: str, units: int) -> None:
    """Singular values of so few entries are any number."""
    for scheme in ("torch", "keras", "orthogonal"):
        spec = generate(cell, T=20, scheme=scheme)
        for seed in range(8):
            arrays = drawn(spec, seed, hidden_size=units)
            assert "multiplied" not in diagnose_file(spec, arrays, data(20)).verdict


def named(arrays: Arrays, gate: str, part: str) -> str:
    return f"layers.0.0.{gate}.{part}"


def lost(gate: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[named(arrays, gate, "bias")] *= 0.0

    return change


def doubled(arrays: Arrays) -> None:
    for name in arrays:
        if name.endswith(".recurrent"):
            arrays[name] *= 2.0


def swapped(first: str, second: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for part in ("recurrent", "input", "bias"):
            a, b = named(arrays, first, part), named(arrays, second, part)
            arrays[a], arrays[b] = arrays[b], arrays[a]

    return change


def saturated(arrays: Arrays) -> None:
    for name in arrays:
        if name.endswith(".input"):
            arrays[name] *= 30.0


FAULTS: list[tuple[str, str, Callable[[Arrays], None], str]] = [
    ("gru", "critical", lost("update"), "bias lost: update is 0 in all units"),
    ("lstm", "critical", lost("forget"), "bias lost: forget is 0 in all units"),
    ("lstm", "chrono", lost("forget"), "bias lost: forget is 0 in all units"),
    ("lstm", "orthogonal", lost("forget"), "bias lost: forget is 0 in all units"),
    *[(cell, "uniform_gate", lost(gate), f"bias lost: {gate} is 0 in all units, where the spec has it spread around ")
      for cell, gate in (("gru", "update"), ("lstm", "forget"), ("peephole_lstm", "forget"))],
    *[(cell, scheme, doubled, "recurrent kernel of variance 4")
      for cell, scheme in (("gru", "critical"), ("lstm", "critical"), ("gru", "chrono"), ("lstm", "chrono"),
                           ("rnn", "critical"), ("rnn", "isometry"), ("gru", "orthogonal"))],
    *[("gru", "critical", swapped(a, b), f"{a} has the biases of {b}")
      for a, b in (("update", "reset"), ("update", "candidate"), ("reset", "candidate"))],
    *[("lstm", "critical", swapped(a, b), f"{a} has the biases of {b}")
      for a, b in (("input", "forget"), ("forget", "cell"), ("forget", "output"), ("input", "output"),
                   ("input", "cell"))],
    ("lstm", "critical", swapped("cell", "output"), "cell has the biases of output"),
    *[(cell, "critical", saturated, "saturates: ") for cell in ("gru", "lstm")],
]  # fmt: skip


@pytest.mark.parametrize(("cell", "scheme", "change", "words"), FAULTS)
def test_faults_are_found(cell: str, scheme: str, change: Callable[[Arrays], None], words: str) -> None:
    spec = generate(cell, T=60, scheme=scheme)
    arrays = drawn(spec)
    change(arrays)
    verdict = diagnose_file(spec, arrays, data(60)).verdict
    assert words in verdict


def test_groups_of_units_are_looked_at_each_by_itself() -> None:
    spec = generate("gru", T=60, scheme="memory")
    arrays = drawn(spec)
    (group,) = [group for group in spec.layers[0].groups if group.name == "memory"]
    units = round(group.share * UNITS)
    arrays["layers.0.0.update.bias"][:units] = 0.0
    verdict = diagnose_file(spec, arrays, data(60)).verdict
    assert "group memory: bias lost: update is 0 in all units" in verdict
    assert "group gated" not in verdict


@pytest.mark.parametrize(("cell", "kind"), [("gru", "forgets"), ("lstm", "forgets")])
def test_a_lost_keep_bias_shows_in_what_the_network_does(cell: str, kind: str) -> None:
    spec = generate(cell, T=60)
    arrays = drawn(spec)
    lost("update" if cell == "gru" else "forget")(arrays)
    (layer,) = diagnose_file(spec, arrays, data(60))
    assert layer.findings[0].kind == kind
    after = int(layer.verdict.split()[2])
    assert layer.numbers.perturbation[after] < 1e-6 <= layer.numbers.perturbation[after - 1]


def test_chaos_and_explosions_are_called_so() -> None:
    spec = generate("rnn", T=80)
    arrays = drawn(spec)
    doubled(arrays)
    (layer,) = diagnose_file(spec, arrays, data(80))
    assert layer.findings[0].kind == "chaotic"
    assert layer.numbers.lyapunov[0] > 0.05
    spec = generate("relu_rnn", T=80)
    arrays = drawn(spec)
    arrays["layers.0.0.hidden.recurrent"] = 3.0 * np.eye(UNITS)
    (layer,) = diagnose_file(spec, arrays, data(80))
    assert layer.findings[0].kind == "explodes"
    assert math.expm1(layer.numbers.lyapunov[0]) == pytest.approx(2.0, rel=1e-6)
    arrays["layers.0.0.hidden.recurrent"] = 1e12 * np.eye(UNITS)
    (layer,) = diagnose_file(spec, arrays, data(80))
    assert layer.verdict.startswith("explodes: the state is no longer finite after ")
    json.loads(Diagnosis((layer,)).to_json())


def found_in(weights: LayerWeights, x: list[np.ndarray[Any, Any]]) -> tuple[LayerNumbers, str]:
    numbers = layer_numbers(weights, x, T=None, exponents=4, seed=0)
    return numbers, "; ".join(str(finding) for finding in findings_of(weights.cell, numbers))


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_units_that_hold_a_value_are_saturated_and_no_fault(name: str) -> None:
    """The candidate reads its own unit six times, so that tanh is at ±1 for good, with the sign that began."""
    weights = layer(name, units=UNITS, inputs=INPUTS, gain=0.0)
    cell = weights.cell
    held = {**weights.recurrent, cell.candidate_gate: 6.0 * np.eye(UNITS)}
    opened = {g: np.full(UNITS, 3.0) if g == "output" else 0.0 * b for g, b in weights.bias.items()}
    holding = replace(weights, recurrent=held, bias=opened, inner_bias={})
    for size, fault in ((0.1, False), (30.0, True)):
        driven = replace(holding, input={g: size * x for g, x in weights.input.items()})
        numbers, verdict = found_in(driven, data(60))
        assert numbers.saturated_units > 0.7
        assert ("saturates" in verdict) == fault
        assert (numbers.overdriven_units > 0.7) == fault


def test_units_that_are_off_or_far_out_saturate() -> None:
    off = layer("relu_rnn", units=UNITS, inputs=INPUTS)
    far = layer("gru", units=UNITS, inputs=INPUTS)
    for weights, gate, bias in ((off, "hidden", -9.0), (far, "candidate", 12.0)):
        changed = replace(weights, bias={**weights.bias, gate: np.full(UNITS, bias)}, inner_bias={})
        assert "saturates: 100 % of the units" in found_in(changed, data(60))[1]


def test_growth_within_a_bounded_time_is_an_explosion() -> None:
    """A chain of units hands a perturbation on, ten times larger at each step, and lets go of it at the end."""
    spec = generate("relu_rnn", T=20)
    arrays = {name: np.zeros_like(array) for name, array in drawn(spec).items()}
    arrays["layers.0.0.hidden.bias"][:] = 1e-3
    arrays["layers.0.0.hidden.recurrent"] = 10.0 * np.eye(UNITS, k=-1)[:, :UNITS]
    arrays["layers.0.0.hidden.recurrent"][12:] = 0.0
    (layer,) = diagnose_file(spec, arrays, data(20))
    assert layer.findings[0].text.startswith("explodes: a difference grows ")


# ---- the result ------------------------------------------------------------------------------------------


def test_files_give_what_arrays_give_and_layers_read_those_below(tmp_path: Any) -> None:
    spec = generate("lstm", T=30, layers=2)
    arrays = dict(materialize(spec, "torch", input_size=INPUTS, hidden_size=16, seed=3, bidirectional=True))
    np.savez(tmp_path / "w.npz", **arrays)
    x = data(30)
    found, same = (diagnose_file(spec, w, x) for w in (arrays, tmp_path / "w.npz"))
    assert found.to_dict() == same.to_dict()
    assert [(layer.layer, layer.direction) for layer in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert found[2].predicted == spec.layers[1].predicted.untied
    text = found.to_dict()["layers"][3]
    assert text["steps"] == {"min": 31, "max": 31}
    assert len(text["lyapunov_exponents"]) == 4
    assert set(found.scalars()) >= {"critinit/0/log10_retention", "critinit/1_backward/lyapunov"}


def test_a_multiplied_kernel_is_found_beside_earlier_weights() -> None:
    spec = generate("gru", T=40, scheme="critical")
    start = drawn(spec)
    doubled = {name: 2.0 * x if "recurrent" in name else x for name, x in start.items()}
    found = diagnose_file(spec, doubled, data(40), reference=start)
    assert "recurrent kernel multiplied: update 2 times" in found.verdict
    assert diagnose_file(spec, start, data(40), reference=doubled).is_fine  # smaller is no fault


@pytest.mark.parametrize("part", ["bias", "recurrent", "input"])
@pytest.mark.parametrize("name", ["gru", "lstm", "layernorm_lstm"])
def test_what_was_lost_since_an_earlier_time_is_found_without_a_spec(name: str, part: str) -> None:
    trained = layer(name, units=UNITS)
    gate = trained.cell.keep_gate or ""
    trained = replace(trained, bias={**trained.bias, gate: trained.bias[gate] + 1.0})
    parts = getattr(trained, part)
    wrong = replace(trained, **{part: {**parts, gate: np.zeros_like(parts[gate])}})
    assert not list(weights_that_moved(trained, trained))
    (finding,) = weights_that_moved(wrong, trained)
    was = f"{gate} is 0 in all units, where it was {trained.bias[gate].mean():.3g} on average"
    gone = f"kernel lost: all of {gate} {part} is 0, which training never makes"
    assert str(finding) == (f"bias lost: {was}" if part == "bias" else gone)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rounded", [False, True])
def test_nothing_is_said_of_the_directions_that_a_pruned_kernel_lacks(rounded: bool) -> None:
    """They are empty, or hold what rounding makes of nothing."""
    spec = generate("gru", T=40, scheme="orthogonal")
    rng = np.random.default_rng(1)
    start = drawn(spec)
    for name, x in start.items():
        if "recurrent" in name:
            x[:] = np.where(np.arange(UNITS)[:, None] % 16 == 0, x, 1e-8 * x * rounded)
    later = {name: x + 1e-3 * rng.standard_normal(x.shape) if "recurrent" in name else x for name, x in start.items()}
    assert "multiplied" not in diagnose_file(spec, later, data(40), reference=start).verdict


def at_paths(*paths: str) -> Arrays:
    """One network at each path."""
    arrays = dict(materialize(generate("gru", T=20), "torch", input_size=INPUTS, hidden_size=UNITS, seed=0))
    return {f"{path}.{name}": x for path in paths for name, x in arrays.items()}


@pytest.mark.parametrize(
    ("weights", "reference"),
    [(("a",), ("b",)), (("a",), ("a", "b")), (("a", "b"), ("b", "a")), (("a", "b"), ("c", "d"))],
)
def test_networks_are_known_by_their_paths_or_their_order(weights: tuple[str, ...], reference: tuple[str, ...]) -> None:
    found = diagnose_file(generate("gru", T=20), at_paths(*weights), data(20), reference=at_paths(*reference))
    assert found.is_fine
    assert len(found) == len(weights)
    same, few = found.notes
    assert same.startswith("the reference has the same weights")
    assert few.startswith(f"{', '.join(weights)}: predicted is for inputs of many features")


def test_a_reference_that_is_another_network_is_refused() -> None:
    spec, deep = generate("gru", T=20), generate("gru", T=20, layers=2)
    broken = {name: np.full_like(x, np.nan) for name, x in drawn(spec).items()}
    for of, weights, reference, words in (
        (deep, drawn(deep), at_paths("a"), "the reference: layers: found 'a' has 1; allowed: 2 layers"),
        (spec, at_paths("a", "b"), at_paths("b", "c"), "reference: found a model without a, layer 0"),
        (spec, drawn(spec), broken, "the reference: .*recurrent: found numbers that are not finite"),
    ):
        with pytest.raises((ArgumentError, WeightsError), match=words):
            diagnose_file(of, weights, data(20), reference=reference)


def test_it_is_shown_as_tables() -> None:
    spec = generate("gru", T=30)
    found = diagnose_file(spec, drawn(spec), data(30))
    assert "verdict: fine" in str(found)
    assert "<table>" in found._repr_html_()
    assert found[0].place == "the model itself, layer 0"


def test_what_does_not_fit_is_refused() -> None:
    spec = generate("gru", T=30)
    arrays: Mapping[str, Any] = drawn(spec)
    with pytest.raises(DataError, match="found 2 features; allowed: 6"):
        diagnose_file(spec, arrays, [np.zeros((9, 2))])
    with pytest.raises(DataError, match="at least 3 steps"):
        diagnose_file(spec, arrays, [np.zeros((2, 6))])
    for name, array in arrays.items():
        with pytest.raises(WeightsError, match=rf"the weights: {name}: found numbers that are not finite"):
            diagnose_file(spec, {**arrays, name: array * np.nan}, data(30))
    with pytest.raises(WeightsError, match="the spec's cell"):
        diagnose_file(generate("rnn", T=30), arrays, data(30))
    for bad in ({"sequences": 0}, {"exponents": 1.5}, {"seed": -1}):
        with pytest.raises(ArgumentError):
            diagnose_file(spec, arrays, data(30), **bad)  # type: ignore[arg-type]


def test_more_exponents_than_units_and_one_sequence_are_taken() -> None:
    spec = generate("gru", T=30)
    arrays = materialize(spec, "canonical", input_size=INPUTS, hidden_size=3, seed=0)
    (layer,) = diagnose_file(spec, arrays, data(30, count=1), exponents=9)
    assert len(layer.numbers.lyapunov) == 3
    assert layer.numbers.standard_error["lyapunov"] == (None, None, None)
    json.loads(Diagnosis((layer,)).to_json())


@pytest.mark.parametrize("framework", ["canonical", "torch", "keras", "linen", "nnx", "equinox"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_every_layout_gives_the_same_numbers(framework: str, cell: str) -> None:
    spec = generate(cell, T=20, layers=2)
    sizes: dict[str, Any] = {"input_size": INPUTS, "hidden_size": 12, "seed": 4}
    wanted = diagnose_file(spec, materialize(spec, "torch", **sizes), data(20))
    found = diagnose_file(spec, materialize(spec, framework, **sizes), data(20))
    assert [layer.numbers for layer in found] == [layer.numbers for layer in wanted]
