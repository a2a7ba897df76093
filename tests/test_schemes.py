"""Schemes: what they promise, for every cell, length and input; and bad arguments."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import critinit
from critinit import schemes
from critinit.cells import CELLS
from critinit.distributions import CoupledBias, SpreadBias
from critinit.schemes import SCHEMES
from critinit.spec import Numbers
from critinit.theory.analysis import deviations, untied_numbers
from tests.theory import points

pytestmark = pytest.mark.slow

BUILT_IN = tuple(CELLS.built_in)
REMEMBERING = ("gru", "gru_reset_before", "lstm", "peephole_lstm", "coupled_lstm", "mgu", "ugrnn")
"""The cells that ``memory`` suits."""
GATED = [name for name, cell in CELLS.built_in.items() if cell.keep_gate is not None]


@pytest.mark.parametrize("scheme", SCHEMES.built_in)
@pytest.mark.parametrize("cell", BUILT_IN)
def test_every_scheme_gives_a_spec_that_holds(cell, scheme):
    if cell not in GATED and scheme in ("chrono", "uniform_gate"):
        suited = f"{cell} has none; schemes that suit {cell}: critical, isometry, orthogonal, torch, keras$"
        with pytest.raises(critinit.ArgumentError, match=suited):
            critinit.generate(cell, 50, scheme=scheme)
        return
    if scheme == "memory" and cell not in REMEMBERING:
        with pytest.raises(critinit.SchemeError, match="memory"):
            critinit.generate(cell, 50, scheme=scheme)
        return
    if cell == "projection_lstm" and scheme == "orthogonal":
        with pytest.raises(critinit.ArgumentError, match="needs square recurrent kernels"):
            critinit.generate(cell, 50, scheme=scheme)
        return
    spec = critinit.generate(cell, 50, scheme=scheme, layers=2)
    assert (spec.cell, spec.scheme, spec.T, len(spec.layers)) == (cell, scheme, 50, 2)
    assert deviations(spec) == []
    assert critinit.parse(spec.to_bytes()) == spec
    below, above = spec.layers
    assert isinstance(below.predicted.untied, Numbers)
    assert above.input.variance == pytest.approx(below.predicted.untied.second_moment)


@pytest.mark.parametrize("T", [1, 2, 3, 10, 784, 5000, 100_000])
@pytest.mark.parametrize("cell", BUILT_IN)
def test_isometry_reaches_its_time_scale(cell, T):
    spec = critinit.generate(cell, T, scheme="isometry")
    assert spec.target.limit is None
    assert spec.layers[0].predicted.untied.time_scale == pytest.approx(T, rel=0.03)


@pytest.mark.parametrize("padding", [0.0, 0.3, 1.0, None])
@pytest.mark.parametrize("T", [2, 30, 784, 20_000])
@pytest.mark.parametrize("cell", GATED)
def test_critical_leaks_less_than_1_of_T_under_inputs_that_carry_nothing(cell, T, padding):
    spec = points.generate(cell, T, padding)
    assert spec.target.quantity == "unit_time_constant"
    assert spec.target.limit is None
    if padding in (None, 1.0) or (
        padding and CELLS.built_in[cell].normalized
    ):  # the slack that is left for what the optimizer does
        assert spec.target.reached == pytest.approx(4 * T, rel=2e-3)
    else:  # at most e^(pre-activation variance / 2) more
        assert 4 * T < spec.target.reached < 4 * math.e * T


@pytest.mark.parametrize("padding", [0.0, 1.0, 9.0, None])
def test_critical_by_its_requirements(padding):
    gates = points.generate("lstm", 500, padding).layers[0].gates
    forget, write = gates["forget"].bias, gates["input"].bias
    assert isinstance(forget, SpreadBias)
    assert isinstance(write, CoupledBias)
    assert (write.to, write.sign, write.mean) == ("forget", -1, pytest.approx(-forget.mean))
    assert gates["forget"].input.variance == pytest.approx({1.0: 0.5, 9.0: 0.5 / 9.0}.get(padding, 2.0))
    assert all(500 * gate.recurrent.variance <= 0.011 for _, gate in gates.items())


def test_critical_needs_no_word_about_weaker_padding():
    silent, unknown, loud = (points.generate("gru", 300, padding) for padding in (0.0, None, 9.0))
    assert silent.layers[0].gates == unknown.layers[0].gates
    assert loud.target.reached == pytest.approx(1200, rel=2e-3)


def test_critical_lets_gates_react_less_where_padding_is_noise():
    """Up to a quarter of the signal's power nothing changes; each further layer's share of it is that of the inputs."""
    for ratio, variance in ((0.0, 2.0), (0.25, 2.0), (0.5, 1.0), (1.0, 0.5)):
        spec = points.generate("lstm", 100, 3.0 * ratio, layers=2, input_variance=3.0)
        for layer in spec.layers:
            for name, gate in layer.gates.items():
                found = gate.input.variance * layer.input.variance
                assert found == pytest.approx(4.0 if name == "cell" else variance)
        assert spec.target.reached >= 400 * (1 - 1e-3)
    alike = points.generate("lstm", 100, 1.0, constant=True, layers=2)
    unknown = critinit.generate("lstm", 100, layers=2)
    assert alike.target == unknown.target
    for one, other in zip(alike.layers, unknown.layers, strict=True):
        assert (one.gates, one.predicted) == (other.gates, other.predicted)
    loud = points.generate("lstm", 100, 8.0, constant=True)
    assert loud.layers[0].gates["forget"].input.variance == pytest.approx(2 / 8)
    assert loud.target.reached >= 400 * (1 - 1e-3)


@pytest.mark.parametrize("T", [2, 50, 784, 20_000])
@pytest.mark.parametrize("cell", REMEMBERING)
def test_memory_has_a_loop_of_gain_1_and_inputs_that_let_it_forget_in_T_steps(cell, T):
    memory, gated, short = critinit.generate(cell, T, scheme="memory").layers[0].groups
    assert (memory.share, short.share) == (0.5 if T > 2 else 1 / 16, 3 / 16)
    assert memory.share + gated.share + short.share == 1.0
    kernels = [name for name, gate in memory.gates.items() if not gate.recurrent.is_zero]
    assert kernels == [CELLS.built_in[cell].candidate_gate]
    assert gated.gates["update" if "update" in gated.gates else "forget"].bias.distribution == "log_uniform_time"
    found = critinit.generate(cell, T, scheme="memory").layers[0]
    alone = found.alone()[0]
    spec = critinit.generate(cell, T, scheme="memory").model_copy(update={"layers": (alone,), "target": None})
    numbers = untied_numbers(spec, alone)
    assert numbers.time_scale == pytest.approx(T, rel=1e-3)
    # over T steps too: a perturbation of an LSTM's memory lives on in what is read of it
    assert numbers.time_scale_over_T == pytest.approx(T, rel=0.01, abs=0.2)  # the first step is another one in LSTMs
    assert numbers.notes == ()  # one fixed point, although it is approached slowly from above


def test_the_angles_of_memory_follow_the_inputs_and_their_power_falls():
    white, smooth, smoother = (
        critinit.generate("gru", 100, scheme="memory", input_autocorrelation=a).layers[0].groups[0].gates["candidate"]
        for a in (None, 0.5, 0.99)
    )
    assert [gate.recurrent.concentration for gate in (white, smooth, smoother)] == [0.0, 0.5, 0.7]
    assert smooth.input.variance / white.input.variance == pytest.approx(0.75 / 1.25, rel=1e-3)


def test_the_angles_of_memory_follow_a_measured_spectrum():
    """The inputs add up to as much more as the mean of the spectrum's square says; by hand in the time domain."""
    a, count = 0.6, 400
    w = math.pi * (np.arange(count) + 0.5) / count
    powers = 7.0 * (1 - a * a) / (1 - 2 * a * np.cos(w) + a * a)
    by_name = critinit.generate("gru", 200, scheme="memory", input_autocorrelation=a)
    spec = critinit.generate("gru", 200, scheme="memory", input_autocorrelation=a, input_spectrum=powers)
    one, other = (s.layers[0].groups[0].gates["candidate"] for s in (by_name, spec))
    assert other.recurrent.angles(16) == pytest.approx(one.recurrent.angles(16), rel=1e-3)
    assert other.input.variance == pytest.approx(one.input.variance, rel=1e-3)
    assert list(spec.generated.arguments["input_spectrum"]) == powers.tolist()
    assert critinit.generate(**spec.generated.arguments).to_bytes() == spec.to_bytes()
    assert spec.layers[0].groups[1] == by_name.layers[0].groups[1]


@pytest.mark.parametrize(
    ("T", "hidden", "densest"),
    [
        (100, None, 100 / 32),
        (150, 64, 150 / 32),
        (900, 64, 900 / 32),
        (64, 64, 3.125),
        (500, 400, 3.125),
        (500, 200, 5.0),
    ],
)
def test_angles_are_no_denser_than_can_be_told_apart(T, hidden, densest):
    """Neighbours are 2π/T apart where the spectrum has a line, unless that is less dense than is good."""
    line = [0.1] * 124 + [100.0] * 4
    spec = critinit.generate("lstm", T, scheme="memory", input_spectrum=line, hidden_size=hidden)
    found = spec.layers[0].groups[0].gates["cell"].recurrent
    assert max(found.spectrum) == pytest.approx(densest, rel=1e-3)
    assert np.mean(found.spectrum) == pytest.approx(1.0, rel=1e-3)
    padded = critinit.generate(
        "lstm", T, scheme="memory", input_spectrum=line, hidden_size=hidden, padding={"variance": 0.0}
    )
    assert max(padded.layers[0].groups[0].gates["cell"].recurrent.spectrum) == pytest.approx(3.125, rel=1e-3)
    if T == 150:
        assert np.diff(found.angles(16)).min() == pytest.approx(2 * math.pi / T, rel=1e-3)


@pytest.mark.parametrize("powers", [3.0, [1.0], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan], "ab", [True, "1"]])
def test_a_spectrum_that_is_none_is_refused(powers):
    with pytest.raises(critinit.ArgumentError, match="input_spectrum"):
        critinit.generate("gru", 100, scheme="memory", input_spectrum=powers)


def test_schemes_that_do_not_follow_a_spectrum_do_not_record_it():
    with_it, without = (critinit.generate("gru", 100, layers=2, input_spectrum=s) for s in ([1.0, 3.0], None))
    assert with_it.to_bytes() == without.to_bytes()
    above = critinit.generate("gru", 100, scheme="memory", layers=2, input_spectrum=[1.0, 3.0]).layers[1].groups[0]
    assert above.gates["candidate"].recurrent.spectrum is None


@pytest.mark.parametrize(
    ("cell", "T", "rate", "chosen"),
    [
        ("gru", 100, None, "critical"),
        ("gru", 100, 1e-3, "memory"),
        ("gru", 100, 1.1e-3, "critical"),
        ("lstm", 1000, 1e-4, "memory"),
        ("lstm", 1000, 1e-3, "critical"),
        ("layernorm_lstm", 100, 1e-4, "critical"),
        ("projection_lstm", 100, 1e-4, "critical"),
        ("rnn", 100, 1e-4, "critical"),
    ],
)
def test_a_learning_rate_chooses_the_scheme_where_none_is_stated(cell, T, rate, chosen):
    spec = critinit.generate(cell, T, learning_rate=rate)
    assert spec.scheme == chosen
    assert spec.to_bytes() == critinit.generate(cell, T, scheme=chosen).to_bytes()


@pytest.mark.parametrize("rate", [-1.0, 0, 0.0, math.nan, "fast", True])
def test_a_learning_rate_that_is_none_is_refused(rate):
    with pytest.raises(critinit.ArgumentError, match="learning_rate"):
        critinit.generate("gru", 100, learning_rate=rate)


def test_a_learning_rate_is_refused_beside_a_scheme():
    with pytest.raises(critinit.ArgumentError, match="without a scheme"):
        critinit.generate("gru", 100, scheme="memory", learning_rate=1e-3)


@pytest.mark.parametrize(("cell", "candidate", "keep"), [("gru", "candidate", "update"), ("lstm", "cell", "forget")])
def test_the_short_group_is_for_the_last_few_steps(cell, candidate, keep):
    """Half of its units renew half of their state at every step, of inputs that tanh hardly bends, of any scale."""
    spec = critinit.generate(cell, 300, scheme="memory", input_variance=25.0)
    layer = spec.layers[0].alone()[2]
    assert layer.gates[candidate].input.variance * 25.0 == pytest.approx(0.1)
    assert {gate.recurrent.distribution for gate in layer.gates.values()} == {"orthogonal"}
    drawn = layer.gates[keep].bias.sample(np.random.default_rng(0), 20_000)
    values = np.sort(1.0 / (1.0 + np.exp(-drawn)))
    assert values == pytest.approx(np.linspace(1 / 300, 299 / 300, 20_000), abs=0.02)  # uniform
    assert untied_numbers(spec, layer).unit_time_constants.median == pytest.approx(2.0, abs=0.05)


def share_of(name, **arguments):
    """The share of a group of ``memory``, 0 where there is none."""
    groups = critinit.generate("gru", scheme="memory", **arguments).layers[0].groups
    return {group.name: group.share for group in groups}.get(name, 0.0)


def test_the_short_group_has_its_share_by_how_much_of_the_inputs_is_new():
    """Of an autoregressive signal h_t = a h_(t-1) + noise the variance 1 - a² is new, however it is stated."""
    assert share_of("short", T=100) == 3 / 16  # unknown
    assert share_of("short", T=100, input_spectrum=[2.0] * 8) == 6 / 16  # white
    w = math.pi * (np.arange(400) + 0.5) / 400
    for a in (0.0, 0.3, -0.4, 0.7, 0.9, 0.99):
        expected = round(6 * (1 - a * a)) / 16
        spectrum = 5.0 * (1 - a * a) / (1 - 2 * a * np.cos(w) + a * a)
        assert share_of("short", T=100, input_autocorrelation=a) == expected
        assert share_of("short", T=100, input_autocorrelation=0.1, input_spectrum=spectrum) == expected
    assert share_of("short", T=100, input_spectrum=[1.0] * 31 + [0.0]) > 0.25  # one empty bin says little
    assert share_of("short", T=100, input_spectrum=[1.0] + [0.0] * 31) == 0.0


def test_a_group_that_no_unit_needs_is_left_out_and_short_memories_take_few_units():
    smooth = critinit.generate("lstm", 100, scheme="memory", input_autocorrelation=0.999)
    assert [(group.name, group.share) for group in smooth.layers[0].groups] == [("memory", 0.5), ("gated", 0.5)]
    assert [share_of("memory", T=T) for T in (1, 10, 20, 30, 40, 5000)] == [1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 1 / 2]
    assert [share_of("memory", T=1, hidden_size=n) for n in (64, 16, 9, 4, 3, 2)] == [
        1 / 16,
        1 / 16,
        2 / 16,
        4 / 16,
        6 / 16,
        1 / 2,
    ]


def test_the_limits_of_memory_by_hand():
    memory, *others = critinit.generate("gru", 200, scheme="memory", input_variance=4.0).layers[0].groups
    candidate = memory.gates["candidate"]
    assert candidate.recurrent.limit_at(64) == pytest.approx(0.06 / 200)
    power = candidate.input.variance * 4.0
    assert candidate.input.limit_at(5) == pytest.approx(0.1 * math.sqrt(power) / 2.0 / 5, rel=1e-3)
    assert candidate.bias.max_learning_rate == pytest.approx(0.1 * math.sqrt(power), rel=1e-3)
    kernels = [part for other in others for gate in other.gates.values() for part in (gate.recurrent, gate.input)]
    assert {kernel.limit_at(9) for kernel in kernels} == {0.03}


def test_pre_activations_do_not_depend_on_the_scale_of_the_inputs():
    small, large = (critinit.generate("gru", 100, input_variance=r) for r in (0.01, 100.0))
    for name in ("update", "reset", "candidate"):
        a, b = (s.layers[0].gates[name].input.variance * s.layers[0].input.variance for s in (small, large))
        assert a == pytest.approx(b)
    assert small.layers[0].predicted.untied.chi == pytest.approx(large.layers[0].predicted.untied.chi, abs=1e-5)


def test_silent_inputs_are_allowed():
    spec = critinit.generate("gru", 20, input_variance=0.0)
    assert spec.layers[0].predicted.untied.second_moment == pytest.approx(0.0, abs=1e-9)


def test_framework_defaults_have_the_frameworks_moments():
    torch = pytest.importorskip("torch")
    spec = critinit.generate("gru", 10, scheme="torch", hidden_size=64, input_size=32)
    torch.manual_seed(0)
    layers = [torch.nn.GRU(32, 64) for _ in range(40)]
    gates = spec.layers[0].gates
    for n, name in enumerate(("reset", "update", "candidate")):
        rows = slice(64 * n, 64 * (n + 1))
        w = np.concatenate([layer.weight_hh_l0.detach().numpy()[rows].ravel() for layer in layers])
        u = np.concatenate([layer.weight_ih_l0.detach().numpy()[rows].ravel() for layer in layers])
        assert 64 * w.var() == pytest.approx(gates[name].recurrent.variance, rel=0.02)
        assert 32 * u.var() == pytest.approx(gates[name].input.variance, rel=0.02)


def test_uniform_gate_uses_the_hidden_size():
    bias = critinit.generate("lstm", 100, scheme="uniform_gate", hidden_size=32).layers[0].gates["forget"].bias
    assert (bias.min_time, bias.max_time) == (pytest.approx(32 / 31), 32.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"cell": "gruu", "T": 5},
            "cell: found 'gruu'; allowed: rnn, minimal_rnn, gru, gru_reset_before, lstm, peephole_lstm",
        ),
        ({"cell": "gru", "T": 0}, "T: found 0; allowed: an integer from 1"),
        ({"cell": "gru", "T": True}, "T: found True"),
        ({"cell": "gru", "T": 2.5}, "T: found 2.5"),
        ({"cell": "gru", "T": float("nan")}, "T: found nan"),
        ({"cell": "gru", "T": 10**10}, "T: found 10000000000"),
        ({"cell": "gru", "T": 5, "scheme": "best"}, "scheme: found 'best'; allowed: critical"),
        ({"cell": "gru_reset_after", "T": 5}, "cell: found 'gru_reset_after'; allowed: rnn, minimal_rnn, gru"),
        ({"cell": "gru", "T": 5, "padding": 0.0}, "padding: found 0.0; allowed: None, or variance and constant"),
        ({"cell": "gru", "T": 5, "layers": 0}, "layers: found 0"),
        ({"cell": "gru", "T": 5, "input_variance": -1.0}, "input_variance: found -1.0; allowed: a number from 0"),
        (
            {"cell": "gru", "T": 5, "input_variance": 1e-300},
            "input_variance: found 1e-300; allowed: 0, or a number",
        ),
        ({"cell": "gru", "T": 5, "input_variance": float("inf")}, "input_variance: found inf"),
        (
            {"cell": "gru", "T": 5, "input_correlation": 1.5},
            "input_correlation: found 1.5; allowed: a number from 0 to 1",
        ),
        ({"cell": "gru", "T": 5, "padding": {"variance": float("nan")}}, "padding.variance: found NaN"),
        (
            {"cell": "gru", "T": 5, "padding": {"variance": 0.0, "constant": "yes"}},
            'padding.constant: found "yes"; allowed: true or false',
        ),
        ({"cell": "gru", "T": 5, "hidden_size": 0}, "hidden_size: found 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(critinit.ArgumentError) as caught:
        critinit.generate(**arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    given = critinit.generate(
        "gru", np.int64(60), layers=np.int32(2), input_variance=np.float32(2), padding={"variance": np.float64(0)}
    )
    assert given == critinit.generate("gru", 60, layers=2, input_variance=2.0, padding={"variance": 0.0})
    scalars = critinit.generate(
        "gru", np.array(60), layers=np.array(2), input_variance=np.array(2.0), padding={"variance": np.array(0)}
    )
    assert given == scalars
    with pytest.raises(critinit.ArgumentError, match=r"input_variance: found array\(\[2.\]\); allowed: a number"):
        critinit.generate("gru", 60, input_variance=np.array([2.0]))


def test_same_arguments_same_bytes():
    for cell, scheme in itertools.product(("gru", "lstm"), ("critical", "chrono")):
        assert (
            critinit.generate(cell, 60, scheme=scheme).to_bytes()
            == critinit.generate(cell, 60, scheme=scheme).to_bytes()
        )


def test_a_spec_that_was_changed_by_hand_no_longer_holds():
    text = critinit.generate("gru", 100).to_json()
    changed = critinit.parse(text.replace('"mean": 5.0', '"mean": -2.0').replace('"variance": 4.0', '"variance": 1.0'))
    assert any("second_moment" in str(problem) for problem in deviations(changed))


def test_public_names():
    assert set(critinit.__all__) <= set(dir(critinit))
    for name in critinit.__all__:
        assert getattr(critinit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = critinit.nothing


def test_a_scheme_sees_the_spectrum_where_it_says_that_it_reads_it():
    seen = []

    def gates(layer):
        seen.append(layer.spectrum)
        parts = schemes.kernel("zero"), schemes.kernel("normal", 1.0), schemes.bias(0.0)
        return {name: schemes.gate(*parts) for name in layer.cell.gates}

    for reads in (False, True):
        scheme = critinit.Scheme(f"seeing_{reads}".lower(), "what is known of the inputs", gates, reads_spectrum=reads)
        critinit.generate("gru", 20, scheme=scheme, input_spectrum=[1.0, 3.0])
        assert seen[-1] == ((1.0, 3.0) if reads else None)
