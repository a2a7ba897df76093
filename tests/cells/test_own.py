"""A custom cell: registered, checked before it is used, and all that follows from its definition."""

from __future__ import annotations

import math
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import critinit
from critinit import Cell, CellError, PluginError, PluginWarning, Scale, register_cell, sigmoid
from critinit.cells import CELLS, find_cell
from critinit.cells.checking import check_cell
from critinit.dual import derivative
from critinit.simulation import simulate
from critinit.spec.reading import validate_object
from critinit.tensors.sampling import draw
from critinit.theory.analysis import untied_numbers
from critinit.theory.parameters import layer_parameters
from critinit.theory.quadrature import rule_for
from critinit.theory.tied.solution import tied
from critinit.theory.untied.solution import solve
from tests.cells.janet import JANET
from tests.theory import points

FILE = Path(__file__).parent / "janet.py"


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(CELLS, "_registered", {})
    monkeypatch.setattr(CELLS, "_broken", {})


class Stated(Cell):
    """The same as JANET, function by function."""

    name = "stated"
    gates = ("forget", "cell")
    keep_gate = write_gate = "forget"
    candidate_gate = "cell"

    def keep(self, u):
        return sigmoid(u["forget"])

    def write(self, u):
        return sigmoid(-u["forget"])

    def candidate(self, u):
        return np.tanh(u["cell"])


class Leaky(Cell):
    """A leaky integrator: constant keep, linear candidate, read through tanh, no gates but the candidate's."""

    name = "leaky"
    gates = ("hidden",)
    candidate_gate = "hidden"

    def keep(self, u):
        return 0.8

    def write(self, u):
        return 0.4

    def candidate(self, u):
        return u["hidden"]

    def read(self, s, u):
        return np.tanh(s)


GATES = {"forget": points.gate(0.5, 0.5, 2), "cell": points.gate(1.5, 0.8, 0.1)}


def test_the_built_in_cells_are_cells():
    for cell in CELLS.built_in.values():
        check_cell(cell)


def test_keep_write_and_candidate_follow_from_an_update():
    u = {"forget": np.linspace(-20, 20, 41), "cell": np.linspace(-3, 3, 41)}
    for name in ("keep", "write", "candidate"):
        np.testing.assert_allclose(getattr(JANET(), name)(u), getattr(Stated(), name)(u), atol=1e-15)


def test_the_same_cell_stated_two_ways_has_the_same_theory():
    register_cell(JANET)
    register_cell(Stated)
    one, two = (points.spec(name, GATES) for name in ("janet_tested", "stated"))
    found, other = untied_numbers(one, one.layers[0]), untied_numbers(two, two.layers[0])
    assert found.chi == pytest.approx(other.chi, rel=1e-6)
    assert found.second_moment == pytest.approx(other.second_moment, rel=1e-6)
    assert tied(one, particles=300, steps=40)[0].chi == pytest.approx(
        tied(two, particles=300, steps=40)[0].chi, rel=1e-6
    )


def test_a_copy_of_the_gru_has_the_gru_s_numbers():
    class Copy(type(find_cell("gru_reset_before"))):
        name = "gru_copy"

    register_cell(Copy)
    gru = points.gru()
    copy = points.spec("gru_copy", gru.layers[0].gates)
    assert untied_numbers(copy, copy.layers[0]) == untied_numbers(gru, gru.layers[0])


@pytest.mark.parametrize("weights", ["untied", "tied"])
def test_a_read_out_without_a_gate_against_networks(weights):
    """c' = .8c + .4u: Var c = .16 Var u/(1 − .64), and the growth over T of c and h = tanh c against networks."""
    register_cell(Leaky)
    spec = points.spec("leaky", {"hidden": points.gate(1.2, 0.5, 0)})
    numbers = untied_numbers(spec, spec.layers[0])
    variance = 0.16 * (1.2 * numbers.second_moment + 0.5) / 0.36
    assert numbers.cell_second_moment == pytest.approx(variance, rel=1e-5)
    assert numbers.unit_time_constants.max == pytest.approx(5.0)
    expected = numbers if weights == "untied" else tied(spec, steps=150)[0]
    found = simulate(spec, width=500, steps=150, seeds=4, weights=weights)[0].numbers
    tolerance = 0.005 + 3 * found.standard_error["chi_over_T"]
    assert math.log(found.chi_over_T) == pytest.approx(math.log(expected.chi_over_T), abs=tolerance)
    if weights == "tied":  # the slowest directions alone have χ
        assert found.chi is expected.chi is None
    else:
        assert math.log(found.chi) == pytest.approx(math.log(expected.chi), abs=0.005 + 3 * found.standard_error["chi"])
    assert found.second_moment == pytest.approx(expected.second_moment, rel=0.03)


def test_a_cell_can_project_its_memory():
    """h = s: the gates read r = P s, E r² = 1.5·E s², and the layer gives r."""

    class Projected(Stated):
        name = "projected"
        projects = True

    register_cell(Projected)
    kernel = {"kernel": {"distribution": "orthogonal", "variance": 1.5}, "width": 0.4}
    spec = points.spec("projected", GATES, projection=kernel)
    expected = untied_numbers(spec, spec.layers[0])
    found = simulate(spec, width=500, steps=150, seeds=4, weights="untied")[0].numbers
    assert found.second_moment == pytest.approx(expected.second_moment, rel=0.02)
    assert math.log(found.chi) == pytest.approx(math.log(expected.chi), abs=0.01)
    assert found.jacobian.variance == pytest.approx(expected.jacobian.variance, rel=0.1)


def test_a_kink_is_seen_and_averaged_with_care():
    """h' = f h + (1−f) max(u, 0): E n, E n² and E n'² have closed forms in Φ and φ; a kink costs no accuracy."""
    from scipy.stats import norm

    class Rectified(Stated):
        name = "rectified"

        def candidate(self, u):
            return np.maximum(u["cell"], 0.0)

    register_cell(Rectified)
    assert Rectified().kinks == (0.0,)
    assert {name for name, cell in CELLS.built_in.items() if cell.kinks} == {"relu_rnn"}
    spec = points.spec("rectified", {"forget": points.gate(0, 0, 2), "cell": points.gate(0.9, 0.8, 0.3)})
    numbers = untied_numbers(spec, spec.layers[0])
    f, q = float(sigmoid(2.0)), numbers.second_moment
    deviation = math.sqrt(0.9 * q + 0.8)
    z = 0.3 / deviation
    n = 0.3 * norm.cdf(z) + deviation * norm.pdf(z)
    n2 = (0.09 + deviation**2) * norm.cdf(z) + 0.3 * deviation * norm.pdf(z)
    assert q * (1 - f**2) == pytest.approx(2 * f * (1 - f) * n * n + (1 - f) ** 2 * n2, rel=1e-5)
    assert numbers.chi == pytest.approx(f**2 + 0.9 * (1 - f) ** 2 * norm.cdf(z), rel=1e-5)


CURVED = {
    "softsign": (lambda u: u / (1.0 + np.abs(u)), 0.0),
    "elu": (lambda u: np.where(u > 0.0, u, np.expm1(np.minimum(u, 0.0))), 0.0),
    "shifted": (lambda u: np.square(np.maximum(u - 1.0 / 3.0, 0.0)), 1.0 / 3.0),
    "steep": (lambda u: np.tanh(5.0 * u), None),
    "softplus": (lambda u: np.maximum(u, 0.0) + np.log1p(np.exp(-np.abs(u))), None),
}


@pytest.mark.parametrize("variance", [0.01, 1.0, 4.0])
@pytest.mark.parametrize("name", CURVED)
def test_a_jump_of_the_curvature_and_a_steep_function_cost_the_averages_nothing(name, variance):
    """h' = n(u) and a recurrent kernel that is next to none: E n² and E n'² by adaptive quadrature."""
    from scipy.integrate import quad
    from scipy.stats import norm

    function, bend = CURVED[name]

    class Curved(Cell):
        gates = ("hidden",)
        candidate_gate = "hidden"

        def keep(self, u):
            return 0.0

        def write(self, u):
            return 1.0

        def candidate(self, u):
            return function(u["hidden"])

    Curved.name = f"curved_{name}"
    register_cell(Curved)
    assert Curved().breaks == (() if bend is None else (pytest.approx(bend, abs=1e-6),))
    assert Curved().kinks == ()
    recurrent = 1e-9
    spec = points.spec(Curved.name, {"hidden": points.gate(recurrent, variance, 0.2)})
    numbers = untied_numbers(spec, spec.layers[0])

    def average(f):
        ends = (-12.0, 0.0 if bend is None else (bend - 0.2) / math.sqrt(variance), 12.0)

        def weighed(z):
            return f(np.asarray(0.2 + math.sqrt(variance) * z)) * norm.pdf(z)

        return sum(quad(weighed, a, b, limit=400, epsabs=1e-13)[0] for a, b in pairwise(ends))

    square = average(lambda u: function(u) ** 2)
    slope = average(lambda u: np.asarray(derivative(function, u)) ** 2)
    assert numbers.second_moment == pytest.approx(square, rel=1e-5)
    assert numbers.chi == pytest.approx(recurrent * slope, rel=1e-5)


@pytest.mark.parametrize("scheme", ["critical", "orthogonal", "uniform_gate"])
@pytest.mark.parametrize("grows", ["line", "rectified", "square"])
def test_a_read_out_without_bound_has_its_second_moment(grows, scheme):
    """h = o·r(c): E h² is E o² times E c², half of that, or E c⁴, where c is symmetric."""

    class Read(Cell):
        name = "read"
        gates = ("input", "forget", "output", "cell")
        keep_gate, write_gate, read_gate, candidate_gate = "forget", "input", "output", "cell"

        def update(self, s, u):
            return sigmoid(u["forget"]) * s + sigmoid(u["input"]) * np.tanh(u["cell"])

        def read(self, s, u):
            read = {"line": lambda: s, "rectified": lambda: np.maximum(s, 0.0), "square": lambda: s * s}[grows]()
            return sigmoid(u["output"]) * read

    register_cell(Read)
    spec = critinit.generate("read", T=20, scheme=scheme)
    layer = spec.layers[0]
    found = solve(layer_parameters(Read(), layer))
    q, gate = float(found.second_moment), layer.gates["output"]
    deviation = math.sqrt(gate.recurrent.variance * q + gate.input.variance)
    z, weights = rule_for(deviation)
    opened = float(sigmoid(gate.bias.mean + deviation * z) ** 2 @ weights)
    if grows == "square":
        networks = simulate(spec, width=300, weights="untied", seeds=2, tangents=1)[0]
        assert q == pytest.approx(networks.numbers.second_moment, rel=0.05)
    else:
        assert q == pytest.approx(float(found.memory_moment) * opened * (1.0 if grows == "line" else 0.5), rel=1e-3)


def test_a_state_that_its_gates_bound_is_bounded():
    """Also where ``update`` is all that is stated, whose candidate has slope 1 and so may exceed 1."""

    class Logistic(Cell):
        name = "logistic"
        gates = ("forget", "cell")
        keep_gate = write_gate = "forget"
        candidate_gate = "cell"
        factor = 1.0

        def update(self, s, u):
            return sigmoid(u["forget"]) * s + self.factor * sigmoid(-u["forget"]) * sigmoid(u["cell"])

    class Larger(Logistic):
        factor = 1.1

    class Growing(Stated):
        def write(self, u):
            return 1e-3 * sigmoid(-u["forget"])

        def candidate(self, u):
            return u["cell"]

    assert Logistic().bounded
    assert not Larger().bounded
    assert not Growing().bounded


class Exponential(Stated):
    """JANET with a write gate of its own that grows without bound."""

    name = "exponential"
    gates = ("forget", "input", "cell")
    write_gate = "input"

    def write(self, u):
        return np.exp(u["input"])


def test_a_steep_smooth_gate_has_no_kink_and_its_closed_form():
    """E e^2u of a Gaussian u is known; recurrent kernels are zero, and a normal candidate's E n² is known."""

    class Straight(Exponential):
        name = "straight"

        def candidate(self, u):
            return u["cell"]

    register_cell(Straight)
    assert Straight().kinks == Exponential().kinks == ()
    gates = {"forget": points.gate(0, 0, 2), "input": points.gate(0, 0.5, -1), "cell": points.gate(0, 0.8, 0)}
    spec = points.spec("straight", gates)
    f = float(sigmoid(2.0))
    write_square = math.exp(-2.0 + 2.0 * 0.5)
    assert untied_numbers(spec, spec.layers[0]).second_moment == pytest.approx(
        write_square * 0.8 / (1 - f**2), rel=1e-5
    )


@pytest.mark.parametrize("function", [np.exp, lambda u: np.logaddexp(0.0, u), lambda u: np.maximum(u, 0.0), np.square])
@pytest.mark.parametrize("place", ["write", "candidate", "read"])
def test_gates_without_bound_work_or_are_refused(place, function):
    """As a write gate, a candidate and a read-out: critical has numbers; kernels of order 1 have, or are refused."""

    class Unbounded(Exponential):
        name = "unbounded"
        gates = ("forget", "input", "cell", "output")

        def write(self, u):
            return (function if place == "write" else sigmoid)(u["input"])

        def candidate(self, u):
            return (function if place == "candidate" else np.tanh)(u["cell"])

    class Read(Unbounded):
        name = "read"
        read_gate = "output"

        def read(self, s, u):
            return function(u["output"]) * np.tanh(s)

    cell = Read() if place == "read" else Unbounded()
    cell.gates = cell.gates if place == "read" else cell.gates[:3]
    spec = critinit.generate(cell, T=50)
    assert 0.9 < spec.layers[0].predicted.untied.chi_over_T < 1.0
    refused = (
        "found variances or biases whose moments overflow in the theory; allowed: smaller ones; in the recurrent kernel"
    )
    try:
        found = str(critinit.generate(cell, T=50, scheme="orthogonal").layers[0].predicted.untied.second_moment)
    except critinit.ArgumentError as error:
        found = str(error)
    assert refused in found or np.isfinite(float(found))


def test_schemes_that_a_cell_cannot_have_say_why():
    class Half(Stated):
        name = "half"

        def keep(self, u):
            return 0.5 * sigmoid(u["forget"])

    for scheme in ("critical", "isometry", "chrono", "uniform_gate"):
        with pytest.raises(critinit.ArgumentError, match="half keeps otherwise"):
            critinit.generate(Half, T=20, scheme=scheme)
    for scheme in ("chrono", "uniform_gate"):
        with pytest.raises(
            critinit.ArgumentError,
            match=r"leaky has none; schemes that suit leaky: critical, isometry, orthogonal, torch, keras$",
        ):
            critinit.generate(Leaky, T=20, scheme=scheme)
    assert critinit.generate(Half, T=20, scheme="orthogonal").cell == "half"


@pytest.mark.parametrize("scheme", ["critical", "isometry", "chrono", "uniform_gate", "memory"])
def test_a_keep_gate_that_is_the_other_way_round_is_told_the_way_out(scheme):
    class Reversed(Stated):
        name = "reversed"

        def keep(self, u):
            return sigmoid(-u["forget"])

        def write(self, u):
            return sigmoid(u["forget"])

    hint = r"reversed keeps sigmoid\(−u\): write the cell with u of the other sign, and say sign=\{'forget': -1\} in "
    with pytest.raises(critinit.ArgumentError, match=hint):
        critinit.generate(Reversed, T=20, scheme=scheme)


def test_memory_takes_no_candidate_that_bends_at_0():
    """Of u/(1 + |u|) a loop loses |u| a step: T steps would need inputs of power 1/T², and tanh 1/T."""

    class Softsign(Stated):
        name = "softsign"

        def candidate(self, u):
            return u["cell"] / (1.0 + np.abs(u["cell"]))

    for T in (1, 20, 1000):
        with pytest.raises(critinit.ArgumentError, match=r"memory needs a loop of gain 1, .* not linear near 0"):
            critinit.generate(Softsign, T=T, scheme="memory")


def test_an_exponential_forget_gate_gets_no_memory_and_is_given_the_schemes_that_suit():
    class Exponential(Stated):
        name = "exponential"

        def keep(self, u):
            return np.exp(u["forget"])

    for scheme in ("critical", "isometry", "chrono", "uniform_gate"):
        with pytest.raises(critinit.ArgumentError, match="exponential keeps otherwise; schemes that suit"):
            critinit.generate(Exponential, T=20, scheme=scheme)


def test_diagonal_recurrence_is_said_by_an_identity_kernel_where_all_units_have_the_same_weight():
    kernel = 'layers.0.gates.hidden.recurrent={"distribution":"identity","variance":0.81}'
    spec = critinit.generate("relu_rnn", T=20, scheme="orthogonal", settings=[kernel])
    gate = draw(spec, 3, 8, seed=0).layers[0][0].gates["hidden"]
    np.testing.assert_array_equal(gate.recurrent, 0.9 * np.eye(8))


def test_a_registered_cell_has_specs_a_sampler_and_checks(tmp_path):
    spec = critinit.generate(JANET, T=30, layers=2)
    assert critinit.parse(spec.to_bytes()) == spec
    again = register_cell(JANET)  # a cell defined anew, as in a notebook, takes the old one's place
    assert spec.find_cell() is again
    from critinit.weights.materializing import save

    tensors = critinit.materialize(spec, "canonical", input_size=3, hidden_size=24)
    save(tmp_path / "w.safetensors", tensors, spec=spec, framework="canonical", seed=0)
    assert critinit.check(spec, tmp_path / "w.safetensors").matches
    with pytest.raises(critinit.ArgumentError, match="found torch, which has no janet_tested"):
        critinit.materialize(spec, "torch", input_size=3, hidden_size=24)


def test_an_unknown_gate_and_a_missing_one_are_named():
    spec = critinit.generate(JANET, T=30).to_dict()
    gates = spec["layers"][0]["gates"]
    gates["update"] = gates.pop("cell")
    with pytest.raises(critinit.SpecError, match=r"layers\.0\.gates\.cell: found nothing.*layers\.0\.gates\.update"):
        validate_object(spec)


def test_a_spec_of_an_unknown_cell_says_which_and_how_to_know_it(tmp_path, monkeypatch):
    text = critinit.generate(JANET, T=30).to_json()
    monkeypatch.setattr(CELLS, "_registered", {})
    with pytest.raises(critinit.SpecError) as caught:
        critinit.parse(text)
    assert str(caught.value).startswith('cell: found "janet_tested"; allowed: rnn, ')
    assert str(caught.value).endswith("name the file of a cell of your own with --cell-file")
    critinit.load_cell(str(FILE))
    assert critinit.parse(text).to_json() == text


def test_a_spec_alone_runs_no_code(tmp_path):
    """A spec whose cell is a file's path, or a module's name, is refused and the file is not run."""
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch()")
    spec = critinit.generate("gru", T=10).to_dict()
    for name in (str(tmp_path / "evil.py"), f"{tmp_path / 'evil.py'}:Cell", "evil", "tests.cells.janet"):
        with pytest.raises(critinit.SpecError, match="cell: found"):
            validate_object(spec | {"cell": name})
        with pytest.raises(critinit.ArgumentError, match="cell: found"):
            critinit.generate(name, T=10)
    assert not (tmp_path / "evil.ran").exists()


def test_an_installed_package_can_have_a_cell(monkeypatch):
    point = metadata.EntryPoint("janet_tested", "tests.cells.janet:JANET", "critinit.cells")
    wrong = metadata.EntryPoint("other", "tests.cells.janet:JANET", "critinit.cells")
    broken = metadata.EntryPoint("broken", "tests.cells.no_such:JANET", "critinit.cells")

    monkeypatch.setattr(
        metadata, "entry_points", lambda *, group: [p for p in (point, wrong, broken) if p.group == group]
    )
    assert critinit.generate("janet_tested", T=10).cell == "janet_tested"
    for name, why in (("other", "found 'janet_tested'"), ("broken", "No module named 'tests.cells.no_such'")):
        with pytest.warns(PluginWarning, match=rf"cell {name} of .* was skipped: .*{why}"):
            assert CELLS.find(name) is None
        with pytest.raises(critinit.ArgumentError, match=rf"cell: found '{name}'.*skipped {name}: .*{why}"):
            critinit.generate(name, T=10)
    assert set(CELLS.loaded()) == {*CELLS.built_in, "janet_tested"}


def test_gates_may_have_the_names_of_a_model_s_methods():
    class Named(Cell):
        name, gates = "named", ("copy", "model_dump")
        keep_gate = write_gate = "copy"
        candidate_gate = "model_dump"

        def update(self, s, u):
            keep = sigmoid(u["copy"])
            return keep * s + (1 - keep) * np.tanh(u["model_dump"])

    spec = critinit.generate(Named, T=20)
    assert critinit.parse(spec.to_json()).layers[0].gates["copy"] == spec.layers[0].gates["copy"]


def faulty(**changes):
    return type("Faulty", (Stated,), {"name": "faulty", **changes})


def reads_all(self, s, u):
    return sigmoid(u["forget"]) * s + sigmoid(u["cell"] - u["forget"]) * np.tanh(u["cell"])


RANDOM = np.random.default_rng(0)
FAULTS = {
    "no name": (faulty(name=None), "name: found nothing"),
    "a name in capitals": (faulty(name="JANET"), "name: found 'JANET'"),
    "gates in a list": (faulty(gates=["forget", "cell"]), "gates: found"),
    "a gate twice": (faulty(gates=("forget", "cell", "cell")), "gates: found.*each name once"),
    "a gate that nothing reads": (faulty(gates=("forget", "cell", "idle")), "gates: found 'idle', which nothing reads"),
    "a role that no gate has": (faulty(keep_gate="f"), "keep_gate: found 'f'; allowed: None, forget, cell"),
    "no candidate's gate": (faulty(candidate_gate=None), "candidate_gate: found None"),
    "one gate for two": (faulty(candidate_gate="forget"), "candidate_gate: found 'forget', which keep_gate is too"),
    "no update": (
        type("Faulty", (Cell,), {"name": "f", "gates": ("a",), "candidate_gate": "a"}),
        "keep: found nothing; allowed: a method, or an update",
    ),
    "an update and a keep": (faulty(update=JANET.update), "update: found one beside keep"),
    "another shape": (faulty(keep=lambda self, u: np.zeros(3)), r"keep: found an array of shape \(3,\) for 7 units"),
    "NaN": (faulty(candidate=lambda self, u: np.log(u["cell"])), "candidate: found NaN at moderate pre-activations"),
    "infinity far out": (faulty(write=lambda self, u: np.exp(u["forget"] ** 3)), "write: found infinity"),
    "units that depend on each other": (
        faulty(
            candidate=lambda self, u: np.tanh(u["cell"] - np.mean(np.asarray(getattr(u["cell"], "value", u["cell"]))))
        ),
        "candidate: found units that depend on each other",
    ),
    "a random one": (
        faulty(candidate=lambda self, u: np.tanh(u["cell"]) * RANDOM.random()),
        "candidate: found",
    ),
    "another gate": (
        faulty(keep=lambda self, u: sigmoid(u["cell"])),
        "keep: found that it reads 'cell'; allowed: forget",
    ),
    "a function that has no derivative here": (
        faulty(candidate=lambda self, u: np.arcsinh(u["cell"])),
        r"candidate: found numpy.arcsinh takes no Dual; allowed: \+ - \* /, integer powers",
    ),
    "a power that is none": (
        faulty(candidate=lambda self, u: (1.0 + u["cell"] ** 2) ** 0.5),
        r"candidate: found a Dual's power takes one integer, found 0.5; allowed: \+ - ",
    ),
    "an exception": (faulty(keep=lambda self, u: 1 / 0), "keep: found ZeroDivisionError"),
    "not affine": (
        type(
            "Faulty",
            (JANET,),
            {"name": "f", "update": lambda self, s, u: np.tanh(s + sigmoid(u["forget"]) + u["cell"])},
        ),
        "update: found an update that is not affine in the state",
    ),
    "no product": (type("Faulty", (JANET,), {"name": "f", "update": reads_all}), "update: found other gates at work"),
    "a scale of the wrong gate": (
        faulty(before={"forget": Scale("cell", sigmoid)}),
        "before: found a scale of 'forget'",
    ),
    "a scale after the gate": (
        faulty(gates=("cell", "forget"), before={"cell": Scale("forget", sigmoid)}),
        r"before\['cell'\]: found 'forget'; allowed: a gate that stands before",
    ),
    "a scaled product by the keep gate": (
        faulty(after={"cell": Scale("forget", sigmoid)}),
        r"after\['cell'\]: found 'forget', the keep_gate",
    ),
    "a read gate and no read": (
        faulty(gates=("forget", "cell", "out"), read_gate="out"),
        "read_gate: found 'out'; allowed: None, or a read",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_cell_is_refused_in_a_line(fault):
    cell, message = FAULTS[fault]
    with pytest.raises(CellError, match=rf"^Faulty\.{message}") as caught:
        register_cell(cell)
    assert "\n" not in str(caught.value)
    assert CELLS.names() == tuple(CELLS.built_in)


def test_the_names_of_critinit_s_own_cells_are_taken():
    with pytest.raises(
        PluginError, match="cell name: found 'gru'; allowed: a name that none of critinit's own cells has"
    ):
        register_cell(faulty(name="gru"))
    assert type(find_cell("gru")) is type(CELLS.built_in["gru"])


def test_what_is_not_even_a_class_of_cells_is_refused():
    for thing in (3, int, Cell):
        with pytest.raises(CellError):
            register_cell(thing)


FILES = {
    "no cell": ("x = 1\n", "found no cell; allowed: a Python file with one subclass of critinit.Cell"),
    "imported only": ("from critinit import Cell\nfrom tests.cells.janet import JANET\n", "found no cell"),
    "a syntax error": ("class A(:\n", "line 1: found "),
    "an exception": ("x = 1\ny = x / 0\n", "line 2: found ZeroDivisionError: division by zero"),
    "an exit": ("raise SystemExit(0)\n", "line 1: found SystemExit"),
    "no text": (b"\xff\x00", "found "),
    "two": (
        FILE.read_text() + "\n\nclass Other(JANET):\n    name = 'other'\n",
        r"found several cells \(JANET, Other\)",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_hold_no_cell(kind, tmp_path):
    text, message = FILES[kind]
    path = tmp_path / "cell.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PluginError, match=rf"cell\.py: {message}") as caught:
        critinit.load_cell(str(path))
    assert "\n" not in str(caught.value)


def test_one_of_several_cells_in_a_file_can_be_named(tmp_path):
    path = tmp_path / "cell.py"
    path.write_text(FILES["two"][0])
    assert critinit.load_cell(f"{path}:Other").name == "other"
    with pytest.raises(PluginError, match="found no cell Third; allowed: JANET, Other"):
        critinit.load_cell(f"{path}:Third")
    for missing in (tmp_path / "none.py", tmp_path):
        with pytest.raises(critinit.FileError, match=r"allowed: a Python file with one subclass of critinit\.Cell"):
            critinit.load_cell(str(missing))
