"""Simulated networks: against the theory's check numbers, against plain recurrences, and their edges."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest

import critinit
from critinit import simulation
from critinit.cells import find_cell
from critinit.distributions import haar, kernel
from critinit.errors import ArgumentError
from critinit.simulation import Inputs, reduction, simulate
from critinit.simulation.kernels import Rows, fresh
from critinit.simulation.network import draw_network
from critinit.simulation.reduction import NetworkRun
from critinit.theory.comparing import comparisons
from critinit.theory.protocol import DRIFTING, SAME_INPUTS
from critinit.theory.tied import growth
from tests.theory import points

pytestmark = pytest.mark.slow


def measured(spec, **options):
    result = simulate(spec, **{"width": 400, "steps": 120, "seeds": 3, "seed": 1, **options})[0]
    assert result is not None
    return result


def near(numbers, name, expected, *, relative):
    """Within ``relative`` and four standard errors (of three or four networks)."""
    error = numbers.standard_error[name]
    value = getattr(numbers, name) if "." not in name else numbers.jacobian.model_dump()[name.split(".")[1]]
    assert abs(value - expected) <= relative * abs(expected) + 4 * error, (name, value, error, expected)
    assert error <= 3 * relative * abs(expected), f"{name}: too noisy to tell ({error})"


@pytest.mark.parametrize(
    ("spec", "second", "untied", "tied", "variance"),
    [
        (points.gru(), 0.038172, 0.762, 0.883, 0.0355),
        (points.gru("gru"), 0.038171, 0.762, 0.882, 0.0356),
        (points.lstm(), 0.0492, 0.776, 0.933, 0.0425),
        (points.peephole(), 0.019832, 0.535, 0.611, 0.0306),
    ],
    ids=["gru_reset_before", "gru", "lstm", "peephole"],
)
def test_both_columns_of_the_check_table(spec, second, untied, tied, variance):
    fresh_weights = measured(spec, weights="untied").numbers
    near(fresh_weights, "second_moment", second, relative=0.02)
    near(fresh_weights, "chi", untied, relative=0.01)
    near(fresh_weights, "jacobian.mean_squared_singular_value", untied, relative=0.01)
    assert fresh_weights.jacobian.variance == pytest.approx(variance, rel=0.15)
    kept = measured(spec).numbers
    near(kept, "chi", tied, relative=0.01)
    assert kept.chi > 1.05 * fresh_weights.chi


def test_slow_point_lives_a_hundred_times_longer_than_fresh_weights_say():
    near(measured(points.slow(), steps=200).numbers, "chi", 0.9993, relative=0.005)
    assert measured(points.slow(), weights="untied").numbers.time_scale == pytest.approx(10.6, rel=0.02)


def test_kept_weights_make_the_published_critical_point_chaotic():
    numbers = measured(points.minimal(), width=600).numbers
    assert numbers.chi > 1.01
    assert any(note.startswith("chaotic") for note in numbers.notes)
    assert numbers.time_scale is None


@pytest.mark.parametrize("name", ["gru", "gru_reset_before"])
def test_step_equals_a_plain_recurrence(name):
    layer = points.gru(name).layers[0]
    net = draw_network(find_cell(name), layer, 7, np.random.default_rng(0))
    w = {name: apply(Rows(np.eye(7))).T for name, apply in net.recurrent.items()}
    rng = np.random.default_rng(1)
    h, external = rng.standard_normal(7), {name: rng.standard_normal(7) for name in w}
    state = type(net.rest())(h[None], h[None])
    after, _ = net.step(state, {name: x[None] for name, x in external.items()})

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    f = sigmoid(w["update"] @ h + external["update"])
    r = sigmoid(w["reset"] @ h + external["reset"])
    product = w["candidate"] @ (r * h) if name == "gru_reset_before" else r * (w["candidate"] @ h)
    np.testing.assert_allclose(after.h[0], f * h + (1 - f) * np.tanh(external["candidate"] + product), atol=1e-14)


def test_retention_is_that_of_a_finite_difference():
    """δ carried forward by duals against two copies that start 1e-7 apart, on the same small network."""
    layer = points.lstm().layers[0]
    cell = find_cell("lstm")
    net = draw_network(cell, layer, 12, np.random.default_rng(3))
    inputs = list(net.external_inputs(0, 9))
    state, u = net.rest(), None
    for external in inputs[:4]:
        state, u = net.step(state, external)
    direction = np.random.default_rng(4).standard_normal((1, 12))
    epsilon = 1e-7
    moved = type(state)(state.s + epsilon * direction, cell.read(state.s + epsilon * direction, u))
    from critinit.simulation.measure import _perturbed

    carried = _perturbed(net, state, u, direction[None])
    for external in inputs[4:]:
        state, _ = net.step(state, external)
        moved, _ = net.step(moved, external)
        carried, _ = net.step(carried, external)
    np.testing.assert_allclose(carried.s.tangent[0], (moved.s - state.s) / epsilon, rtol=2e-5, atol=1e-8)


def test_singular_values_and_exponents_belong_to_the_numbers():
    result = measured(points.gru(), width=150, steps=60, singular_values=True, tangents=3)
    values = result.singular_values
    assert values.shape == (3, 150)
    square = np.mean(values**2, axis=1)
    assert result.numbers.jacobian.mean_squared_singular_value == pytest.approx(square.mean(), rel=1e-9)
    spread = np.mean(np.mean(values**4, axis=1) - square**2)
    assert result.numbers.jacobian.variance == pytest.approx(spread, rel=1e-9)
    assert np.all(np.diff(result.lyapunov) <= 0)
    assert math.exp(2 * result.lyapunov[0]) == pytest.approx(result.numbers.chi, rel=0.03)
    assert result.log_distance.shape == (61,)


def test_linear_network_has_the_exponents_of_its_matrix():
    """Keep gates shut, a candidate small enough to be linear: leading exponents are the logarithms of |eigenvalues|."""
    spec = points.spec("rnn", {"hidden": points.gate(0.8, 1e-10, 0)})
    result = measured(spec, width=30, steps=600, seeds=1, seed=5, burn_in=5, tangents=4)
    child = np.random.SeedSequence((5, 0)).spawn(1)[0]
    net = draw_network(find_cell("rnn"), spec.layers[0], 30, np.random.default_rng(child))
    w = net.recurrent["hidden"](Rows(np.eye(30))).T
    moduli = np.sort(np.log(np.abs(np.linalg.eigvals(w))))[::-1]
    np.testing.assert_allclose(result.lyapunov[:3].sum(), moduli[:3].sum(), atol=0.05)


@pytest.mark.parametrize("distribution", ["normal", "orthogonal"])
def test_fresh_products_are_distributed_as_those_of_a_fresh_matrix(distribution):
    n, gain = 60, 1.3
    rng = np.random.default_rng(0)
    apply = fresh(kernel(distribution, gain**2), n, n, rng)
    x = rng.standard_normal((2, n))
    x[1] += x[0]  # correlated rows
    wanted = x @ x.T / n
    grams = np.array([(y := apply(Rows(x))) @ y.T / n / gain**2 for _ in range(400)])
    if distribution == "orthogonal":
        np.testing.assert_allclose(grams, np.broadcast_to(wanted, grams.shape), rtol=1e-10)
    else:
        np.testing.assert_allclose(grams.mean(axis=0), wanted, rtol=0.06)
        assert grams[:, 0, 0].std() == pytest.approx(wanted[0, 0] * math.sqrt(2 / n), rel=0.15)
    first = np.array(
        [apply(Rows(x))[:, 0] for _ in range(2000)]
    )  # entries are uncorrelated between calls, right covariance
    np.testing.assert_allclose(first.T @ first / len(first), gain**2 * wanted, rtol=0.12)


def test_haar_frames_are_orthonormal_and_have_no_preferred_sign():
    rng = np.random.default_rng(0)
    frames = np.array([haar(rng, 3, 5) for _ in range(2000)])
    np.testing.assert_allclose(frames[0] @ frames[0].T, np.eye(3), atol=1e-12)
    assert np.all(np.abs(frames.mean(axis=0)) < 5 / math.sqrt(5 * 2000))


def test_orthogonal_kernels_agree_with_gaussian_ones_in_chi():
    """The GRU's χ; its variance too, where the couplings' own spread makes up nearly all of it (0.03555)."""
    orthogonal = measured(points.gru(distribution="orthogonal")).numbers
    near(orthogonal, "chi", 0.8815, relative=0.01)
    near(orthogonal, "jacobian.variance", 0.03555, relative=0.05)


@pytest.mark.parametrize(("distribution", "variance"), [("normal", 0.532122), ("orthogonal", 0.176063)])
def test_orthogonal_kernels_have_the_narrower_spectrum(distribution, variance):
    """J = D W: the orthogonal kernel takes (E v)² = .596707² off the second moment."""
    spec = points.spec("rnn", {"hidden": points.gate(1.2, 0.3, 0, 0.1, distribution)})
    found = measured(spec, weights="untied", steps=40, seeds=4).numbers
    near(found, "jacobian.variance", variance, relative=0.05)


def test_identity_kernel_has_no_untied_reading():
    spec = points.spec("rnn", {"hidden": points.gate(0.81, 0.01, 0, distribution="identity")})
    assert simulate(spec, width=50, weights="untied") == (None,)
    numbers = measured(spec, width=50, steps=40).numbers
    assert numbers.jacobian.mean_squared_singular_value == pytest.approx(0.81, rel=0.1)


def test_correlated_inputs_lower_chi():
    whole = measured(points.gru(), weights="untied").numbers.chi
    half = measured(points.gru(correlation=0.5), weights="untied").numbers
    assert half.chi < whole - 0.004
    assert any("correlation 0.5" in note for note in half.notes)


@pytest.mark.parametrize("scheme", ["critical", "uniform_gate", "isometry"])
@pytest.mark.parametrize("weights", ["untied", "tied"])
def test_growth_is_of_the_copies_that_theory_means_where_inputs_differ(scheme, weights):
    """Untied of two copies with inputs of their own, tied of two with the same: each beside a prediction like it."""
    spec = critinit.generate("gru", T=60, scheme=scheme, input_correlation=0.5)
    found = simulate(spec, width=128, seeds=4, weights=weights)[0].numbers
    expected = getattr(spec.layers[0].predicted, weights)
    assert (SAME_INPUTS in found.notes) == (SAME_INPUTS in expected.notes) == (weights == "tied")
    by_field = {c.field: c for c in comparisons(expected, found, 60, errors=3.0, width=128)}
    assert by_field["chi_over_T"].agrees
    assert by_field["chi_over_T"].difference < 0.1
    other = getattr(spec.layers[0].predicted, "tied" if weights == "untied" else "untied")
    assert "chi_over_T" not in {c.field for c in comparisons(other, found, 60, errors=3.0)}


def test_a_state_that_still_drifts_is_not_held_to_a_stationary_one():
    spec = critinit.generate("gru", T=20_000, scheme="isometry")
    found = simulate(spec, width=16, seeds=2, steps=20)[0].numbers
    assert DRIFTING in found.notes
    assert found.second_moment == pytest.approx(spec.layers[0].predicted.tied.second_moment, rel=0.3)  # from its past
    assert "second_moment" not in {c.field for c in comparisons(spec.layers[0].predicted.tied, found, 20_000, errors=3)}


def test_when_inputs_go_off_the_gates_stay_at_their_bias():
    spec = points.spec(
        "peephole_lstm",
        {"input": points.gate(0, 1, 0), "forget": points.gate(0, 4, -1), "cell": points.gate(0, 1, 0)},
        padding=0.0,
    )
    off = measured(spec, width=300, steps=60, inputs=Inputs(off_after=5)).numbers
    keep = 1 / (1 + math.exp(1.0))
    assert off.chi == pytest.approx(keep**2, rel=1e-6)
    on = measured(spec, width=300, steps=60).numbers
    assert on.chi > 1.5 * off.chi


def test_constant_inputs_come_to_rest():
    result = measured(points.spec("rnn", {"hidden": points.gate(0.3, 0.5, 0)}), inputs=Inputs(constant=True))
    network = draw_network(
        find_cell("rnn"),
        points.rnn().layers[0],
        5,
        np.random.default_rng(0),
        inputs=Inputs(constant=True),
    )
    first, *others = network.external_inputs(-70, 70)
    assert all(np.array_equal(first["hidden"], other["hidden"]) for other in others)
    assert result.numbers.chi < 0.5


def test_nothing_passed_on_is_zero_and_no_error():
    result = measured(points.spec("rnn", {"hidden": points.gate(0, 1, 0)}), width=30, steps=30)
    assert (result.numbers.chi, result.numbers.retention, result.numbers.time_scale) == (0.0, 0.0, 0.0)
    assert np.all(result.lyapunov == -np.inf)


def test_the_same_arguments_give_the_same_numbers_and_progress_reaches_its_end():
    calls = []
    options = {"width": 40, "steps": 24, "seeds": 2, "seed": 9}
    one = simulate(points.gru(), progress=lambda done, total: calls.append((done, total)), **options)[0]
    two = simulate(points.gru(), **options)[0]
    assert one.numbers == two.numbers
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert simulate(points.gru(), **{**options, "seed": 10})[0].numbers != one.numbers


def test_every_layer_is_measured():
    data = points.gru().to_dict()
    data["layers"] = [*data["layers"], *data["layers"]]
    first, second = simulate(critinit.parse(data), width=40, steps=24, seeds=2)
    assert first.numbers != second.numbers  # independent networks


def test_simulation_takes_nothing_but_the_protocol_from_the_theory():
    """What measures the theory shares no formula with it; of theory it takes how long to run, no more."""
    settings = {"critinit.theory.protocol", "critinit.theory.settling"}
    files = sorted(Path(simulation.__file__).parent.glob("*.py"))
    assert len(files) > 3
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            of_theory = [name for name in names if f"{name}.".startswith("critinit.theory.")]
            taken = {".".join(name.split(".")[:3]) for name in of_theory}
            assert taken <= settings, (file.name, of_theory)


def test_both_reductions_give_the_same_numbers():
    """Written twice on purpose; on the same records they agree to rounding."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        course = np.cumsum(rng.normal(-0.1, 0.3, 61))
        assert reduction.growth_rate(course) == pytest.approx(growth.late_growth(course), rel=1e-9)
        delta = rng.standard_normal(50) * 10.0 ** rng.uniform(-200, 0, 50)
        assert reduction.share_of_units(delta) == pytest.approx(growth.participation(delta**2), rel=1e-9)
        moments = list(1.0 + rng.normal(0.0, 0.05, 80) + rng.choice([0.0, 0.2]) * np.linspace(1, 0, 80) ** 4)
        assert reduction.is_stationary(moments) == growth._is_stationary(moments)
        for informative in (10, 30, 50, 60):
            assert reduction.further_perturbations(informative, 100) == growth.repeats(informative, 100)


@pytest.mark.parametrize("spread", [False, True])
def test_the_reductions_of_whole_runs_agree(spread):
    rng, layer = np.random.default_rng(1), critinit.generate("gru", 100).layers[0]
    simulated, theoretical = [], []
    for _ in range(3):
        course, carrying = np.cumsum(rng.normal(-0.1, 0.1, 61)), np.linspace(1.0, 0.002, 61)
        shared = {
            "second_moment": rng.random(),
            "memory": rng.random(),
            "time_constants": 1.0 + rng.exponential(5.0, 40),
        }
        repeated, m1 = (np.cumsum(rng.normal(-0.1, 0.1, 41)),), rng.random()
        shared |= {"log_square": course, "settled": False, "repeated": repeated}
        simulated.append(NetworkRun(**shared, carrying=carrying, squared_singular_values=(m1, 2 * m1**2)))
        own = {"moment_errors": (0.0, 0.0), "participation": carrying}
        run = growth.Run(**shared, **own, jacobian_square=m1, jacobian_second=2 * m1**2)
        theoretical.append(run)
    both = ((reduction.reduce, simulated), (growth.combine, theoretical))
    one, other = (reduce_(runs, layer, 100, spread=spread) for reduce_, runs in both)
    assert one.notes == other.notes
    assert len(one.notes) == 4
    assert set(one.standard_error) == set(other.standard_error)
    assert (one.chi is None) is spread
    for a, b in ((one, other), (one.jacobian, other.jacobian), (one.unit_time_constants, other.unit_time_constants)):
        for name in type(a).model_fields:
            if isinstance(getattr(a, name), float):
                assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9)
    for name, error in one.standard_error.items():
        assert error == pytest.approx(other.standard_error[name], rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width: found 0"),
        ({"width": 10, "seeds": 0}, "seeds: found 0"),
        ({"width": 10, "steps": 2}, "steps: found 2"),
        ({"width": 3}, "width: found 3; allowed: 5 to 100,000"),
        ({"width": 10**9}, "width: found 1000000000; allowed: 5 to 100,000"),
        ({"width": 10, "weights": "both"}, "weights: found 'both'"),
        ({"width": "10"}, "width: found '10'; allowed: an integer of at least 0"),
        ({"width": 10, "seed": "x"}, "seed: found 'x'; allowed: an integer of at least 0"),
        ({"width": 10, "seed": True}, "seed: found True"),
        ({"width": 10, "steps": 30.0}, "steps: found 30.0"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ArgumentError, match=message):
        simulate(points.gru(), **options)
    with pytest.raises(ArgumentError, match="off_after"):
        Inputs(off_after=-1)
