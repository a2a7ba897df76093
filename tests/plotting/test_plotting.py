"""Pictures: their numbers are the theory's and the networks', and their files are whole and repeatable."""

from __future__ import annotations

import io
import math
from pathlib import Path
from xml.etree import ElementTree

import critinit_cli.commands.plot as plot_command
import numpy as np
import pytest

from critinit import analyze, generate, plotting
from critinit.errors import ArgumentError
from critinit.plotting import KINDS, Study, default_kind, picture, render
from critinit.plotting import study as study_module
from critinit.plotting.pictures import distance, phase, schemes, singular_values, time_constants
from critinit.schemes import SCHEMES
from critinit.simulation import simulate
from critinit.spec import InitSpec
from critinit.spec.overrides import override
from critinit.theory.analysis import predict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spec() -> InitSpec:
    """A GRU of moderate weights, whose networks are small and quick."""
    settings = ["layers.0.gates.*.bias.distribution=constant", "layers.0.gates.*.bias.mean=1"]
    settings += ["layers.0.gates.*.recurrent.variance=0.3", "layers.0.gates.*.input.variance=0.5"]
    return predict(override(generate("gru", 30), settings))


@pytest.fixture(scope="module")
def study(spec: InitSpec) -> Study:
    return Study(spec, width=60, networks=2)


def test_the_phase_diagram_is_the_theory_of_the_spec_with_values_set(spec: InitSpec, study: Study) -> None:
    x, y = "layers.0.gates.update.bias.mean", "layers.0.gates.candidate.recurrent.variance"
    found = phase.compute(study, x=(x, -1.0, 3.0), y=(y, 0.1, 9.0), points=3)
    assert found.x.value == 1.0
    assert found.y.value == 0.3
    assert (found.x.log, found.y.log) == (False, True)
    for i, b in enumerate(found.y.values):
        for j, a in enumerate(found.x.values):
            point = analyze(override(spec, [f"{x}={a}", f"{y}={b}"]), weights="untied").layers[0].untied
            assert point is not None
            assert found.chi[i, j] == pytest.approx(point.chi, rel=1e-5)
    own = spec.layers[0].predicted.untied
    assert found.here == pytest.approx(own.chi, rel=1e-5)  # type: ignore[union-attr]


def test_a_spread_of_biases_can_be_an_axis() -> None:
    """Both axes change the classes of units, and with them their weights."""
    study = Study(generate("gru", 50, scheme="chrono"))
    bias = "layers.0.gates.update.bias"
    found = phase.compute(study, x=(f"{bias}.min_time", 1.5, 5.0), y=(f"{bias}.max_time", 10.0, 100.0), points=2)
    for i, b in enumerate(found.y.values):
        for j, a in enumerate(found.x.values):
            point = override(study.spec, [f"{bias}.min_time={a}", f"{bias}.max_time={b}"])
            untied = analyze(point, weights="untied").layers[0].untied
            assert untied is not None
            assert found.chi[i, j] == pytest.approx(untied.chi, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "where", "found", "allowed"),
    [
        (
            {"x": "layers.0.gates.update.bias.mode"},
            "x",
            "'layers.0.gates.update.bias.mode', which has no 'mode'",
            "distribution, mean, variance",
        ),
        (
            {"x": "layers.0.gates.update"},
            "x",
            "'layers.0.gates.update', which is no number",
            "a number of the spec",
        ),
        ({"y": "T"}, "y", "'T'", "a number of a layer, such as layers.0.gates.update.bias.mean"),
        (
            {"x": ("layers.0.gates.update.bias.mean", 3.0, 1.0)},
            "x",
            "the range 3 to 1",
            "two numbers, the smaller first",
        ),
        (
            {"y": "layers.0.gates.update.bias.mean"},
            "y",
            "layers.0.gates.update.bias.mean, which x has",
            "another one",
        ),
        ({"points": 1}, "points", "1", "2 to 400"),
    ],
)
def test_axes_that_cannot_be_are_refused(
    study: Study, arguments: dict[str, object], where: str, found: str, allowed: str
) -> None:
    with pytest.raises(ArgumentError) as error:
        phase.compute(study, **{"points": 2} | arguments)  # type: ignore[arg-type]
    assert (error.value.where, error.value.found, error.value.allowed) == (where, found, allowed)


def test_an_axis_that_changes_nothing_is_refused() -> None:
    study = Study(generate("gru", 30, padding={"variance": 0.5}))
    with pytest.raises(ArgumentError) as error:
        phase.compute(study, x="layers.0.input.padding.variance", points=2)
    assert (error.value.where, error.value.found) == ("x", "layers.0.input.padding.variance")
    assert error.value.hint == "it does not enter the untied theory of layer 0"


@pytest.mark.parametrize("cell", ["rnn", "minimal_rnn", "gru", "lstm", "peephole_lstm"])
def test_every_cell_has_axes_of_its_own(cell: str) -> None:
    found = phase.compute(Study(generate(cell, 20, scheme="orthogonal" if cell == "rnn" else "isometry")), points=3)
    assert np.all(np.isfinite(found.chi))
    assert np.ptp(found.chi) > 0.01
    assert found.x.values[0] <= found.x.value <= found.x.values[-1]
    assert found.y.values[0] <= found.y.value <= found.y.values[-1]


def test_the_spectrum_is_that_of_the_networks(spec: InitSpec, study: Study) -> None:
    found = singular_values.compute(study)
    (measured,) = simulate(spec, width=60, seeds=2, steps=30, singular_values=True)
    assert measured is not None
    assert len(found.squares) == 2 * 60
    assert found.squares.mean() == pytest.approx(measured.numbers.jacobian.mean_squared_singular_value, rel=1e-5)
    predicted = study.tied_numbers
    assert (found.mean, found.variance) == (
        predicted.jacobian.mean_squared_singular_value,
        predicted.jacobian.variance,
    )
    assert found.squares.mean() == pytest.approx(found.mean, rel=0.1)


def test_the_distance_is_followed_by_theory_and_networks(spec: InitSpec, study: Study) -> None:
    found = distance.compute(study)
    courses = {course.label: course for course in found.courses}
    assert set(courses) == {"theory, untied", "theory, tied", "networks, untied", "networks, tied"}
    assert all(course.squared[0] == pytest.approx(1.0) for course in found.courses)
    untied = spec.layers[0].predicted.untied
    theory = courses["theory, untied"]
    assert theory.steps[-1] == spec.T
    assert theory.squared[-1] == pytest.approx(untied.retention, rel=1e-4)  # type: ignore[union-attr]
    at = 5
    for weights in ("untied", "tied"):
        theory, networks = courses[f"theory, {weights}"], courses[f"networks, {weights}"]
        assert math.log(networks.squared[at]) == pytest.approx(
            math.log(np.interp(at, theory.steps, theory.squared)), abs=0.5
        )


def test_padding_has_a_course_and_times_of_its_own() -> None:
    spec = generate("gru", 40, padding={"variance": 0.0})
    study = Study(spec, width=40, networks=2)
    courses = {course.label: course for course in distance.compute(study).courses}
    padded = courses["theory, untied, while padding"]
    assert padded.squared[-1] > courses["theory, untied"].squared[-1]
    found = time_constants.compute(study)
    assert found.padded is not None
    assert spec.target is not None
    assert found.padded[-1] == pytest.approx(spec.target.reached, rel=0.01)
    assert found.informed[-1] < found.padded[-1]
    row = schemes.compute(study).rows[0]
    assert row.padded is not None
    assert row.padded.times[2] == pytest.approx(found.padded[-1], rel=1e-4)
    assert row.padded.retention == pytest.approx(padded.squared[-1], rel=1e-4)


@pytest.mark.parametrize(("scheme", "longest_padded"), [("chrono", 100.0), ("orthogonal", 3.72)])
def test_two_pictures_give_one_answer_for_padding(scheme: str, longest_padded: float) -> None:
    """While the input is padding, the state is that of a layer which reads padding, in every picture."""
    spec = generate("gru", 100, scheme=scheme, input_variance=4.0, padding={"variance": 0.0})
    study = Study(spec)
    curves = time_constants.compute(study)
    (row,) = (row for row in schemes.compute(study).rows if row.scheme == scheme)
    assert curves.padded is not None
    assert row.padded is not None
    assert row.informed.times == tuple(curves.informed[[0, 100, 200]])
    assert row.padded.times == tuple(curves.padded[[0, 100, 200]])
    assert study.padded is not None
    np.testing.assert_allclose(row.padded.times, study.padded.parts[0].unit_time_constants, rtol=1e-6)
    np.testing.assert_allclose(row.informed.times, study.needs_untied("test").parts[0].unit_time_constants, rtol=1e-6)
    assert curves.padded[-1] == pytest.approx(longest_padded, rel=0.01)
    assert curves.informed[-1] < curves.padded[-1]


def test_unknown_padding_has_no_curve() -> None:
    """Neither has padding that is as strong as the input."""
    for padding in (None, {"variance": 1.0}):
        study = Study(generate("gru", 30, padding=padding))
        assert time_constants.compute(study).padded is None
        assert [row.padded for row in schemes.compute(study).rows if row.scheme == "critical"] == [None]


@pytest.mark.parametrize(
    ("cell", "scheme"), [("gru", "chrono"), ("lstm", "critical"), ("peephole_lstm", "uniform_gate")]
)
def test_the_time_constants_end_where_the_prediction_does(cell: str, scheme: str) -> None:
    spec = generate(cell, 60, scheme=scheme)
    found, predicted = time_constants.compute(Study(spec)), analyze(spec, weights="untied").layers[0].untied
    assert predicted is not None
    assert np.all(np.diff(found.informed) >= 0)
    expected = predicted.unit_time_constants
    assert found.informed[[0, 100, -1]] == pytest.approx([expected.min, expected.median, expected.max], rel=1e-4)


def test_a_normal_bias_is_spread_over_units() -> None:
    settings = ["layers.0.gates.update.bias.distribution=normal", "layers.0.gates.update.bias.variance=1"]
    spec = predict(override(generate("gru", 30, scheme="isometry"), settings))
    found = time_constants.compute(Study(spec))
    assert found.informed[-1] > 2 * found.informed[100]


def test_what_a_cell_has_not_is_said() -> None:
    with pytest.raises(ArgumentError, match="time constants: rnn has no gate that keeps"):
        time_constants.compute(Study(generate("rnn", 20)))
    identity = override(generate("gru", 20), ["layers.0.gates.candidate.recurrent.distribution=identity"])
    for module, where in ((phase, "phase diagram"), (time_constants, "time constants")):
        with pytest.raises(ArgumentError, match="cannot describe an identity kernel") as error:
            module.compute(Study(identity))
        assert error.value.where == where
    with pytest.raises(ArgumentError, match="layer: found 1; allowed: 0 to 0"):
        Study(identity, layer=1)


def test_only_cells_that_theory_cannot_describe_have_no_density(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = {"width": 20, "networks": 1}
    projected = singular_values.compute(Study(generate("projection_lstm", 20), **quick))
    assert projected.density is None
    assert singular_values.compute(Study(generate("rnn", 20), **quick)).density is not None

    def refuse(*_: object, **__: object) -> None:
        raise ArgumentError("particles", found="1", allowed="at least 2")

    monkeypatch.setattr(singular_values, "spectrum_density", refuse)
    with pytest.raises(ArgumentError, match="particles: found 1"):
        singular_values.compute(Study(generate("rnn", 20), **quick))


@pytest.mark.parametrize(("cell", "kind"), [("gru", "time-constants"), ("lstm", "time-constants"), ("rnn", "phase")])
def test_the_default_picture_is_the_one_that_says_most(cell: str, kind: str) -> None:
    spec = generate(cell, 20)
    assert default_kind(spec) == kind
    KINDS[kind].compute(Study(spec))


def test_the_default_picture_of_an_identity_kernel_needs_no_untied_theory() -> None:
    identity = override(generate("gru", 20), ["layers.0.gates.candidate.recurrent.distribution=identity"])
    assert default_kind(identity) == "distance"
    found = distance.compute(Study(identity, width=20, networks=1))
    assert {course.label for course in found.courses} == {"theory, tied", "networks, tied"}


def test_theory_and_networks_run_once_for_all_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    def counted(name: str) -> None:
        original = getattr(study_module, name)

        def wrapper(*arguments: object, **options: object) -> object:
            runs.append(name)
            return original(*arguments, **options)

        monkeypatch.setattr(study_module, name, wrapper)

    for name in ("tied_with_courses", "simulate_layer"):
        counted(name)
    study = Study(generate("gru", 20), width=20, networks=1)
    for kind in KINDS.values():
        kind.compute(study, **({"points": 4} if kind.name == "phase" else {}))
    assert sorted(runs) == ["simulate_layer", "simulate_layer", "tied_with_courses"]  # untied and tied networks


def test_schemes_are_compared_as_the_command_does(spec: InitSpec, study: Study) -> None:
    found = schemes.compute(study)
    assert [row.scheme for row in found.rows] == list(SCHEMES.names())
    for row in found.rows:
        numbers = generate("gru", 30, scheme=row.scheme).layers[0].predicted.untied
        assert row.informed.retention == numbers.retention  # type: ignore[union-attr]
    noisy = generate("gru", 30, padding={"variance": 1.0})  # gates react less where padding is noise
    (own,) = (row for row in schemes.compute(Study(noisy)).rows if row.scheme == "critical")
    assert own.informed.retention == noisy.layers[0].predicted.untied.retention != found.rows[0].informed.retention  # type: ignore[union-attr]
    assert [row.scheme for row in schemes.compute(Study(generate("rnn", 20))).rows] == [
        "critical",
        "isometry",
        "orthogonal",
        "torch",
        "keras",
    ]


@pytest.mark.parametrize("name", KINDS)
def test_every_picture_is_drawn_the_same_twice_and_differs_in_the_dark(study: Study, name: str) -> None:
    pytest.importorskip("matplotlib")
    Image = pytest.importorskip("PIL.Image")
    kind = KINDS[name]
    found = kind.compute(study, **({"points": 6} if name == "phase" else {}))
    svg = [render(picture(kind, found, dark=dark), "svg") for dark in (False, False, True)]
    assert svg[0] == svg[1] != svg[2]
    assert ElementTree.fromstring(svg[0]).tag.endswith("svg")
    png = [render(picture(kind, found, dark=dark), "png") for dark in (False, True)]
    light, dark = (np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float) for data in png)
    assert light[0, 0] > 250
    assert dark[0, 0] < 30
    # what is drawn stands out from the surface in grey too
    assert np.mean(light < 150) > 0.005
    assert np.mean(dark > 105) > 0.005
    assert found.summary()


def test_lines_differ_without_colour(study: Study) -> None:
    pytest.importorskip("matplotlib")
    figure = picture(KINDS["distance"], distance.compute(study))
    looks = [
        (line.get_linestyle(), line.get_marker()) for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 1
    ]  # type: ignore[arg-type]
    assert len(looks) == 4
    assert len(set(looks)) == 4


def test_figures_are_returned_to_people(spec: InitSpec, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = plotting.phase_diagram(spec, points=4, dark=True)
    figure.savefig(tmp_path / "phase.png")
    assert plotting.time_constants(spec).axes[0].get_ylabel() == "time constant, steps"
    assert len(plotting.compare(spec).axes) == 3
    assert plotting.distance(spec, width=30, networks=1).axes[0].get_yscale() == "log"
    assert plotting.singular_values(spec, width=30, networks=1).axes[0].get_xlabel() == "squared singular value"
    with pytest.raises(ArgumentError, match="format: found 'pdf'; allowed: png, svg"):
        render(figure, "pdf")


def test_the_users_settings_change_nothing(study: Study) -> None:
    mpl = pytest.importorskip("matplotlib")

    kind = KINDS["time-constants"]
    found = kind.compute(study)
    expected = render(picture(kind, found), "svg")
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red", "svg.fonttype": "none"}):
        assert render(picture(kind, found), "svg") == expected
        assert mpl.rcParams["font.size"] == 30


def test_the_kinds_offered_are_the_kinds_there_are() -> None:
    assert set(KINDS) == set(plot_command.KINDS)


def test_few_points_are_joined_without_inventing_a_phase() -> None:
    """χ comes up to 1 and stays below: no smoothing may carry it over."""
    pytest.importorskip("matplotlib")
    axis = phase.Axis("layers.0.gates.update.bias.mean", np.linspace(0.0, 8.0, 9), 1.0, False)
    other = phase.Axis("layers.0.gates.reset.bias.mean", np.linspace(0.0, 8.0, 9), 1.0, False)
    row = np.array([0.2, 0.2, 0.2, 0.2, 0.999, 0.999, 0.999, 0.999, 0.999])
    chi = np.tile(row, (9, 1))
    figure = picture(KINDS["phase"], phase.Phases(axis, other, chi, 0.2))
    assert figure.axes[0].get_title(loc="left").endswith("all of it below 1")


def test_a_phase_diagram_says_where_it_is_blank() -> None:
    """A ReLU network's state has no bound from a recurrent variance of 2 on: nothing is known of that part."""
    pytest.importorskip("matplotlib")
    found = KINDS["phase"].compute(Study(generate("relu_rnn", T=100), width=60, networks=2), points=5)
    assert np.isnan(found.chi).any()
    title = picture(KINDS["phase"], found).axes[0].get_title(loc="left")
    assert "all of it" not in title
    assert title.endswith("shown values are below 1\nblank: the state does not settle there or at the next point")
    assert np.isnan(found.chi).mean() < 0.3
    assert ", without the 20 % where the state does not settle; this spec is at" in found.summary()


def test_a_retention_as_uncertain_as_itself_is_not_stated_in_words() -> None:
    numbers = generate("gru", T=50).layers[0].predicted.tied
    unsure = numbers.model_copy(update={"standard_error": {"retention": 2.0 * numbers.retention}})
    sure = numbers.model_copy(update={"standard_error": {"retention": 0.1 * numbers.retention}})
    assert "tied weights too uncertain to be stated after 50" in distance.Distances(50, (), unsure).summary()
    assert f"tied weights {numbers.retention:.3g} after 50" in distance.Distances(50, (), sure).summary()
