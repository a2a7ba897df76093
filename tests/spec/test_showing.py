"""What a notebook and rich show of a spec."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

import pytest

import critinit
from critinit import generate
from critinit.cells import CELLS
from critinit.showing import Shown
from critinit.spec.model import TimeConstants
from critinit.spec.reading import validate_object
from critinit.spec.tables import number_rows, tables
from tests.cli.conftest import environment
from tests.spec.examples import grouped_object

pytestmark = pytest.mark.slow

Console = pytest.importorskip("rich.console").Console


def cells(shown: Shown) -> list[list[list[str]]]:
    """The tables' rows, read back from the HTML."""
    page = ElementTree.fromstring(f"<div>{shown._repr_html_()}</div>")  # it is well-formed
    return [[["".join(td.itertext()) for td in row] for row in t.iter("tr")] for t in page.iter("table")]


def test_a_notebook_shows_gates_and_predicted_numbers() -> None:
    spec = critinit.generate("gru", T=100, scheme="chrono")
    gates, predicted = cells(spec)
    assert gates[0] == ["gate", "recurrent kernel", "input kernel", "bias"]
    assert [row[0] for row in gates[1:]] == list(spec.layers[0].gates)
    assert any("uniform_time" in row[3] for row in gates)
    chi = next(row for row in predicted if row[0] == "growth rate chi, asymptotic")
    numbers = spec.layers[0].predicted.untied
    assert isinstance(numbers, critinit.Numbers)
    assert float(chi[1]) == pytest.approx(numbers.chi, rel=1e-3)


@pytest.mark.parametrize(
    ("cell", "scheme"),
    [
        (cell, scheme)
        for cell in CELLS.built_in
        for scheme in ("critical", "chrono", "uniform_gate", "orthogonal")
        if CELLS.get(cell).keep_gate
        and (cell, scheme) != ("projection_lstm", "orthogonal")  # its kernels are not square
    ],
)
def test_every_cell_and_scheme_is_shown(cell: str, scheme: str) -> None:
    spec = critinit.generate(cell, T=20, scheme=scheme, layers=2)
    shown = list(tables(spec))
    assert len(shown) == 4
    assert all(len(row) == len(table.columns) for table in shown for row in table.rows)
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(spec)
    text = console.export_text()
    assert "layer 1" in text
    assert all(gate in text for gate in spec.layers[0].gates)


def test_each_group_is_shown_with_its_share() -> None:
    (table,) = tables(validate_object(grouped_object(0.25, 0.75)))
    assert [row[0] for row in table.rows][:3] == [f"group 0 (0.25): {name}" for name in CELLS.built_in["gru"].gates]
    assert len(table.rows) == 6


def test_names_are_escaped_and_no_markup_is_read() -> None:
    spec = critinit.generate("rnn", T=5, scheme="orthogonal").model_copy(update={"scheme": "<b>[red]x"})
    assert "scheme &lt;b&gt;[red]x" in spec._repr_html_()
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(spec)
    assert "<b>[red]x" in console.export_text()


def test_where_nothing_was_computed_only_gates_are_shown() -> None:
    spec = critinit.generate("rnn", T=5, scheme="orthogonal")
    layer = spec.layers[0].model_copy(update={"predicted": type(spec.layers[0].predicted)()})
    assert [t.columns[0] for t in tables(spec.model_copy(update={"layers": (layer,)}))] == ["gate"]


def test_an_analysis_shows_both_readings_with_errors() -> None:
    found = critinit.analyze(critinit.generate("gru", T=50, scheme="orthogonal"))
    (table,) = cells(found)
    assert table[0] == ["", "untied", "tied"]
    _, untied, tied = next(row for row in table if row[0] == "second moment")
    numbers = found.layers[0].tied
    assert numbers is not None
    assert numbers.standard_error is not None
    value, error = map(float, tied.split(" ± "))
    assert value == pytest.approx(numbers.second_moment, rel=1e-3)
    assert error == pytest.approx(numbers.standard_error["second_moment"], rel=0.05)  # type: ignore[operator]
    assert "±" not in untied


@pytest.mark.frameworks
def test_a_report_shows_every_row_and_what_was_left() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.GRU(2, 8), torch.nn.Linear(8, 1))
    applied = critinit.apply(critinit.generate("gru", T=50), model, seed=0)
    (table,) = cells(applied)
    assert len(table) == 1 + len(applied.report)
    assert table == cells(applied.report)[0]
    assert table[0][0] == "tensor"
    assert table[1][0] == applied.report.rows[0].tensor
    assert "left as it was: 1.weight, 1.bias" in applied._repr_html_()
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(applied)
    assert "left as it was: 1.weight" in console.export_text()


def test_html_needs_no_rich() -> None:
    spec = "critinit.generate('rnn', T=5, scheme='orthogonal')"
    code = f"import sys, critinit; {spec}._repr_html_(); print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_extremes_of_sampled_units_are_not_shown_beside_those_of_theory() -> None:
    """They depend on how many units are sampled, and for how long; the median does not."""
    exact = generate("gru", T=50).layers[0].predicted.untied
    sampled = exact.model_copy(update={"standard_error": {"unit_time_constants.min": 0.01}})
    rows = {label: numbers for label, *numbers in number_rows([exact, sampled])}
    for name in ("shortest", "longest"):
        assert rows[f"time constant, {name}"][1] == "-" != rows[f"time constant, {name}"][0]
    assert rows["time constant, median"][1] != "-"
    assert "time constant, shortest" not in {label for label, *_ in number_rows([sampled])}
    one = exact.unit_time_constants.min
    alike = sampled.model_copy(update={"unit_time_constants": TimeConstants(min=one, median=one, max=one)})
    assert dict(number_rows([alike]))["time constant, longest"] != "-"
