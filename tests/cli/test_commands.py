"""The commands: what they write, where, and with which exit code."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import jsonschema
import pytest

from critinit.cells import CELLS
from critinit.schemes import SCHEMES, Scheme
from critinit.schemes.generating import generate
from critinit.spec import Padding, parse
from critinit.spec.schema import json_schema, schema_text
from critinit.tensors.layouts import LAYOUTS
from critinit.theory.requirements import requirements
from tests.cli.conftest import Run

NUMBERS = {
    *("second_moment", "chi", "time_scale", "chi_over_T", "time_scale_over_T", "retention"),
    *("unit_time_constants", "jacobian"),
}


def only_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.mark.parametrize("cell", CELLS.built_in)
def test_spec_writes_a_canonical_spec_to_stdout(run: Run, cell: str) -> None:
    result = run("spec", "--cell", cell, "--T", "30")
    assert result.code in (0, 3)
    spec = parse(result.out)
    assert spec.to_json() == result.out
    assert (spec.cell, spec.T, spec.scheme) == (cell, 30, "critical")
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(result.out))
    assert run("spec", "--cell", cell, "--T", "30").out == result.out
    assert spec.generated is not None
    assert generate(**spec.generated.arguments).to_json() == result.out


@pytest.mark.parametrize("scheme", SCHEMES.built_in)
def test_every_scheme_writes_a_spec_that_validates(run: Run, scheme: str) -> None:
    result = run("spec", "--cell", "lstm", "--T", "30", "--scheme", scheme)
    assert parse(result.out).scheme == scheme
    checked = run("validate", "-", stdin=result.out.encode())
    assert checked.code == result.code
    if result.code == 3:
        assert only_line(result.err).startswith("missed: ")


@pytest.mark.parametrize("command", ["spec", "compare"])
def test_help_lists_what_is_registered(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Scheme("mine_in_help", "a scheme of mine", lambda layer: {})
    monkeypatch.setattr(SCHEMES, "_registered", {"mine_in_help": mine})
    words = run(command, "--help").out.replace(",", " ").replace(";", " ").split()
    assert {*CELLS.names(), *SCHEMES.names()} <= set(words)
    assert "mine_in_help" in words


@pytest.mark.parametrize("command", ["check", "materialize"])
def test_help_lists_the_frameworks(run: Run, command: str) -> None:
    words = run(command, "--help").out.replace(",", " ").replace(".", " ").split()
    assert set(LAYOUTS.names()) <= set(words)
    assert "torch" in words


def test_spec_passes_every_option_on(run: Run) -> None:
    result = run(
        *("spec", "--cell", "gru_reset_before", "--T", "40", "--layers", "2", "--input-variance", "2.5"),
        *("--input-correlation", "0.5", "--padding-variance", "0.25", "--padding-constant"),
        *("--hidden-size", "64", "--input-size", "3", "--scheme", "torch"),
    )
    spec = parse(result.out)
    source = spec.layers[0].input
    assert (source.variance, source.correlation, source.padding) == (2.5, 0.5, Padding(variance=0.25, constant=True))
    assert (spec.cell, len(spec.layers)) == ("gru_reset_before", 2)
    assert spec.generated is not None
    arguments = spec.generated.arguments
    assert (arguments["hidden_size"], arguments["input_size"], arguments["scheme"]) == (64, 3, "torch")
    assert generate(**arguments).to_json() == result.out


def test_padding_that_no_option_states_stays_unknown(run: Run) -> None:
    unknown, silent = (
        run("spec", "--cell", "gru", "--T", "40", *more).out for more in ((), ("--padding-variance", "0"))
    )
    assert parse(unknown).layers[0].input.padding is None
    assert parse(silent).layers[0].input.padding == Padding(variance=0.0, constant=False)


def test_a_missed_target_is_said_and_the_spec_written(run: Run, tmp_path: Path) -> None:
    """A plain rnn cannot reach a time scale of 10 000 by its gates: it has none."""
    path = tmp_path / "spec.json"
    result = run("spec", "--cell", "rnn", "--T", "10000", "--scheme", "orthogonal", "-o", str(path))
    spec = parse(path.read_bytes())
    if spec.target is not None and spec.target.limit is not None:
        assert result.code == 3
        assert spec.target.limit in only_line(result.err)
    else:
        assert (result.code, result.err) == (0, "")


def test_set_writes_a_custom_spec_with_its_own_prediction(run: Run) -> None:
    plain = parse(run("spec", "--cell", "gru", "--T", "50").out)
    result = run("spec", "--cell", "gru", "--T", "50", "--set", "layers.0.gates.update.bias={}")
    assert result.code == 2
    result = run(
        *("spec", "--cell", "gru", "--T", "50", "--set", "layers.0.gates.update.bias.distribution=constant"),
        *("--set", "layers.0.gates.update.bias.mean=1"),
    )
    assert result.code == 0
    spec = parse(result.out)
    assert spec.scheme == "custom"
    assert spec.target is None
    assert spec.layers[0].gates["update"].bias.mean == 1.0
    assert spec.layers[0].predicted != plain.layers[0].predicted
    assert run("validate", "-", stdin=result.out.encode()).code == 0
    assert spec.generated is not None
    assert spec.generated.arguments["settings"] == (
        "layers.0.gates.update.bias.distribution=constant",
        "layers.0.gates.update.bias.mean=1",
    )
    assert generate(**spec.generated.arguments).to_json() == result.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cell", "grru", "--T", "5"], "--cell: found 'grru'; allowed: rnn, minimal_rnn, gru"),
        (["--cell", "gru", "--T", "0"], "--T: found 0; allowed: "),
        (["--cell", "gru", "--T", "-3"], "--T: found -3; allowed: "),
        (["--cell", "gru", "--T", "nan"], "--T: found nan; allowed: an integer"),
        (["--cell", "gru", "--T", "1e400"], "--T: found 1e400; allowed: an integer"),
        (["--cell", "gru", "--T", "9" * 400], "--T: found 999"),
        (["--cell", "gru", "--T", "9" * 9000], "--T: found 999"),
        (["--cell", "gru", "--T", "5", "--scheme", "magic"], "--scheme: found 'magic'; allowed: critical"),
        (["--cell", "GRU", "--T", "5"], "did you mean 'gru'?"),
        (["--cell", "lsmt", "--T", "5"], "did you mean 'lstm'?"),
        (["--cell", "gru", "--T", "5", "--scheme", "chromo"], "did you mean 'chrono'?"),
        (["--cell", "gru", "--T", "5", "--reset", "after"], "--reset: found no such option"),
        (["--cell", "gru", "--T", "5", "--layers", "0"], "--layers: found 0; allowed: "),
        (["--cell", "gru", "--T", "5", "--layers", "100000"], "--layers: found 100000; allowed: "),
        (["--cell", "gru", "--T", "5", "--input-variance", "-1"], "--input-variance: found -1"),
        (
            ["--cell", "gru", "--T", "5", "--input-variance", "nan"],
            "--input-variance: found nan; allowed: a finite",
        ),
        (
            ["--cell", "gru", "--T", "5", "--input-variance", "1e400"],
            "--input-variance: found 1e400; allowed: a fin",
        ),
        (
            ["--cell", "gru", "--T", "5", "--input-variance", "1e300"],
            "--input-variance: found 1e+300; allowed: ",
        ),
        (
            ["--cell", "gru", "--T", "5", "--input-correlation", "2"],
            "--input-correlation: found 2.0; allowed: ",
        ),
        (["--cell", "gru", "--T", "5", "--padding-variance", "-1"], "--padding-variance: found -1"),
        (
            ["--cell", "gru", "--T", "5", "--padding-constant"],
            "--padding-constant: found no --padding-variance beside it; allowed: with --padding-variance",
        ),
        (["--cell", "gru", "--T", "5", "--hidden-size", "0"], "--hidden-size: found 0; allowed: "),
        (["--cell", "gru", "--T", "5", "--input-size", "0"], "--input-size: found 0; allowed: "),
        (
            ["--cell", "gru"],
            "--T: found nothing; allowed: over how many steps the network has to remember, such as",
        ),
        (["--T", "5"], "--cell: found nothing; allowed: rnn, minimal_rnn, gru"),
        (["--cell", "gru", "--T", "5", "--colour", "red"], "--colour: found no such option"),
        (["--cell", "gru", "--t", "5"], "--t: found no such option; did you mean --T? See critinit spec --help"),
        (["--cell", "gru", "--T", "5", "--input-varianc", "1"], "did you mean --input-variance"),
        (["--cell", "gru", "--T", "5", "stray"], "unexpected extra argument"),
        (["--cell", "gru", "--T", "5", "--set", "T"], "--set \"T\": found no '='; allowed: PATH=VALUE"),
        (["--cell", "gru", "--T", "5", "--set", "T=0"], "--set T: found 0; allowed: at least 1"),
        (["--cell", "gru", "--T", "5", "--set", "a.b=0"], '--set a: found "a"; allowed: '),
        (
            ["--cell", "gru", "--T", "5", "--set", "cell=rnn"],
            "--set cell: cannot be set; choose it with --cell",
        ),
        (
            ["--cell", "gru", "--T", "5", "-o", "nowhere/spec.json"],
            "nowhere/spec.json: found no such file or folder",
        ),
        (
            ["--cell", "gru", "--T", "5", "-o", "."],
            ".: found a directory; allowed: a place that can be written",
        ),
        (["--cell", "gru", "--T", "5", "-o", ""], "the file's name: found nothing; allowed: a place that can"),
        (["--cell", "gru", "--T", "5", "-o", "s.json/"], "s.json/: found a directory; allowed: a place"),
        (
            ["--cell", "gru", "--T", "5", "--input-variance", "1e-310"],
            "--input-variance: found 1e-310; allowed: 0, or a number from",
        ),
        (
            ["--cell", "minimal_rnn", "--T", "1000000000", "--input-variance", "1e100"],
            "gates: found variances or biases whose moments overflow in the theory; allowed: smaller ones",
        ),
        (["--cell", "gru", "--T", "5", "-o", "a\0b"], "null byte"),
        (["--cell", "gr\udcffu", "--T", "5"], "--cell: found "),
    ],
)
def test_bad_usage_is_one_line_and_writes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("spec", *arguments)
    assert result.code == 2
    assert result.out == ""
    line = only_line(result.err)
    assert line.startswith("error: ")
    assert says in line
    assert len(line) < 400
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_old_file_as_it_was(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text("mine")
    assert run("spec", "--cell", "gru", "--T", "0", "-o", str(path)).code == 2
    assert path.read_text() == "mine"
    assert run("spec", "--cell", "gru", "--T", "5", "-o", str(path)).code == 0
    assert parse(path.read_bytes()).T == 5
    assert [p.name for p in tmp_path.iterdir()] == ["spec.json"]


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "found nothing; allowed: a JSON object"),
    "truncated": (
        b'{"schema_version": 1, "cell": "gr',
        "found no JSON at line 1 column 31 (a text that does not end); allowed: a JSON object; it may be",
    ),
    "cut in an object": (
        b'{"schema_version": 1',
        "found no JSON at line 1 column 21 (Expecting ',' delimiter); allowed: a JSON object; it may be",
    ),
    "a slip": (
        b'{"schema_version": tru, "cell": "gru"}',
        "found no JSON at line 1 column 20 (Expecting value); allowed: a",
    ),
    "UTF-16": (
        '{"schema_version": 1}'.encode("utf-16"),
        "found byte 0 that is not UTF-8; allowed: JSON in UTF-8; it is UTF-16, as > writes it in PowerShell: write the",
    ),
    "compressed": (
        gzip.compress(b'{"schema_version": 1}'),
        "found byte 1 that is not UTF-8; allowed: JSON in UTF-8; it is compressed: unpack it with gunzip",
    ),
    "two specs": (
        b'{"T": 1}\n{"T": 2}',
        "found no JSON at line 2 column 1 (Extra data); allowed: a JSON object; more follows the first spec",
    ),
    "weights": (
        (40).to_bytes(8, "little") + b'{"w":{}}'.ljust(40) + b"\x00\xff\xfe" * 9,
        "found byte 49 that is not UTF-8; allowed: JSON in UTF-8; it looks like a file of weights: give the spec here",
    ),
    "binary": (b"\x80\x81", "found byte 0 that is not UTF-8"),
    "deep": (b"[" * 10_000 + b"]" * 10_000, "found JSON nested too deeply"),
    "large": (b" " * 10_000_000, "found more than 4,194,304 bytes"),
    "large weights": (
        (9).to_bytes(8, "little") + b'{"w":{}} ' + b"\x00" * 10_000_000,
        "found more than 4,194,304 bytes; allowed: a spec of at most 4,194,304 bytes; it looks like a file of weights",
    ),
    "list": (b"[]", "found a list of 0; allowed: an object"),
    "twice": (b'{"cell": "gru", "cell": "gru"}', 'found the key "cell" twice'),
    "huge": (
        b'{"schema_version": 1, "cell": "lstm", "scheme": "x", "T": 1e400, "layers": []}',
        "T: found infinity",
    ),
    "cell": (
        b'{"schema_version": 1, "cell": "grru", "scheme": "x", "T": 5, "layers": []}',
        'cell: found "grru"; allowed: rnn, minimal_rnn, gru, gru_reset_before, lstm, peephole_lstm',
    ),
}


def test_a_mark_in_front_of_the_text_is_no_part_of_it(run: Run, tmp_path: Path) -> None:
    text = run("spec", "--cell", "gru", "--T", "5").out
    (tmp_path / "marked.json").write_bytes(text.encode("utf-8-sig"))
    result = run("validate", str(tmp_path / "marked.json"))
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("how", ["file", "stdin"])
def test_an_invalid_spec_is_one_line_and_code_1(run: Run, tmp_path: Path, kind: str, how: str) -> None:
    data, says = BAD_FILES[kind]
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    for command in (["validate"], ["analyze"], ["simulate", "--width", "50"]):
        name = str(path) if how == "file" else "-"
        result = run(*command, name, stdin=b"" if how == "file" else data)
        assert (result.code, result.out) == (1, "")
        source = str(path) if how == "file" else "standard input"
        assert only_line(result.err).startswith(f"error: {source}: {says}")


def test_every_file_gets_its_line_and_the_worst_code_wins(run: Run, tmp_path: Path, spec_file: Path) -> None:
    good = str(spec_file)
    bad, stale, missing = (str(tmp_path / name) for name in ("bad.json", "stale.json", "missing.json"))
    Path(bad).write_text("{}")
    value = json.loads(spec_file.read_text())
    value["layers"][0]["predicted"]["untied"]["chi"] *= 0.9
    Path(stale).write_text(json.dumps(value))

    assert run("validate", good) == (0, f"{good}: ok\n", "")
    result = run("validate", stale, good)
    assert (result.code, result.out) == (3, f"{good}: ok\n")
    assert only_line(result.err).startswith(f"missed: {stale}: ")
    assert "chi" in result.err

    result = run("validate", good, stale, bad)
    assert (result.code, result.out, len(result.err.splitlines())) == (1, f"{good}: ok\n", 2)
    result = run("validate", missing, bad, good, stale, str(tmp_path))
    assert (result.code, result.out, len(result.err.splitlines())) == (2, f"{good}: ok\n", 4)
    assert f"error: {missing}: found no such file or folder" in result.err
    assert f"error: {tmp_path}: found a directory" in result.err


def test_validate_answers_programs_in_json(run: Run, tmp_path: Path, spec_file: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(spec_file.read_text().replace('"T": 50', '"T": -50'))
    result = run("validate", "--json", str(spec_file), str(bad), str(tmp_path / "missing"))
    assert result.code == 2
    good, invalid, missing = json.loads(result.out)
    assert good == {"file": str(spec_file), "valid": True, "problems": [], "deviations": []}
    assert invalid == {
        "file": str(bad),
        "valid": False,
        "problems": [{"where": "T", "found": "-50", "allowed": "at least 1", "hint": ""}],
        "deviations": [],
    }
    assert missing["valid"] is False
    assert missing["problems"][0]["found"] == "no such file or folder"


def test_validate_reads_stdin_once(run: Run) -> None:
    result = run("validate", "-", "-", stdin=b"{}")
    assert (result.code, result.out) == (2, "")
    assert only_line(result.err).startswith("error: FILE...: found - 2 times; allowed: once")


def test_validate_reads_stdin(run: Run, spec_file: Path) -> None:
    assert run("validate", "-", stdin=spec_file.read_bytes()) == (0, "-: ok\n", "")


@pytest.mark.parametrize("weights", ["untied", "tied", "both"])
def test_analyze_answers_programs_in_json(run: Run, spec_file: Path, weights: str) -> None:
    result = run("analyze", str(spec_file), "--weights", weights, "--json")
    assert (result.code, result.err) == (0, "")
    layers = json.loads(result.out)["layers"]
    assert len(layers) == 1
    for name in ("untied", "tied"):
        if weights in (name, "both"):
            assert set(layers[0][name]) >= NUMBERS
        else:
            assert layers[0].get(name) is None


def test_analyze_shows_people_a_table(run: Run, tmp_path: Path) -> None:
    spec_file = tmp_path / "orthogonal.json"
    run("spec", "--cell", "gru", "--T", "50", "--scheme", "orthogonal", "-o", str(spec_file))
    result = run("analyze", str(spec_file))
    assert (result.code, result.err) == (0, "")
    numbers = json.loads(run("analyze", str(spec_file), "--json").out)["layers"][0]
    row = next(line.split() for line in result.out.splitlines() if "chi, asymptotic" in line)
    assert f"{numbers['untied']['chi']:.6g}" in row
    value, plus_minus, error = row[-3:]
    assert (plus_minus, float(error)) == ("±", pytest.approx(numbers["tied"]["standard_error"]["chi"], rel=0.05))
    assert abs(float(value) - numbers["tied"]["chi"]) < 0.1 * float(error)  # to the last digit of the error
    assert "gru, scheme orthogonal, T = 50" in result.out


def test_tied_numbers_of_small_kernels_are_the_untied_ones_exactly(run: Run, spec_file: Path) -> None:
    layer = json.loads(run("analyze", str(spec_file), "--json").out)["layers"][0]
    assert layer["tied"] == layer["untied"]
    assert "Untied and tied theory agree." in run("analyze", str(spec_file)).out


def test_analyze_refuses_a_precision_out_of_range(run: Run, spec_file: Path) -> None:
    result = run("analyze", str(spec_file), "--precision", "0")
    assert result.code == 2
    assert result.err == "error: --precision: found 0; allowed: more than 0, less than 1\n"


def test_analyze_refuses_other_weights(run: Run, spec_file: Path) -> None:
    result = run("analyze", str(spec_file), "--weights", "loose")
    assert result.code == 2
    assert "--weights: found loose" in only_line(result.err)


def test_compare_shows_every_scheme(run: Run) -> None:
    result = run("compare", "--cell", "gru", "--T", "50", "--json")
    assert (result.code, result.err) == (0, "")
    value = json.loads(result.out)
    assert (value["cell"], value["T"]) == ("gru", 50)
    rows = {row["scheme"]: row for row in value["schemes"]}
    assert tuple(rows) == SCHEMES.names()
    for name, row in rows.items():
        assert row["description"] == SCHEMES.get(name).description
        alone = parse(run("spec", "--cell", "gru", "--T", "50", "--scheme", name).out)
        assert row["layers"] == [layer.predicted.model_dump(mode="json") for layer in alone.layers]
        assert row["requirements"] == requirements(alone).model_dump(mode="json")
    stated = value["if_padding_were_stated"]
    assert [(found["padding"]["variance"], found["same_gates"]) for found in stated.values()] == [(0, True), (1, False)]
    for found in stated.values():
        option = ("--padding-variance", str(found["padding"]["variance"]))
        alone = parse(run("spec", "--cell", "gru", "--T", "50", *option).out)
        assert found["requirements"] == requirements(alone).model_dump(mode="json")
    table = run("compare", "--cell", "gru", "--T", "50")
    silence = f"{stated['silence']['requirements']['padding_retention']:.3g}"
    assert f"with --padding-variance 0 (silence): the same gates, padding retention {silence}\n" in table.out
    for known in (
        ("--cell", "gru", "--padding-variance", "0"),
        ("--cell", "rnn"),
        ("--cell", "gru", "--input-variance", "0"),
    ):
        assert "Padding, inputs" not in run("compare", "--T", "20", *known).out
        assert "if_padding_were_stated" not in json.loads(run("compare", "--T", "20", "--json", *known).out)
    assert all(name in table.out for name in SCHEMES.names())


def test_compare_says_how_to_read_each_column(run: Run) -> None:
    words = run("compare", "--cell", "gru", "--T", "50").out
    heads = [line.split() for line in words.splitlines() if line.split()[-1:] in (["J"], ["variance"])]
    assert heads[0] == ["early-input", "padding", "response", "chi", "over", "T,", "chi", "over", "T,", "J", "J"]
    assert heads[1] == ["scheme", "response", "retention", "gain", "untied", "tied", "mean", "variance"]
    before, after = words.split("\n\n")[0], words.split("How to read the columns:\n")[1]
    assert "Read padding retention first" in " ".join(before.split())
    explained = dict(line.split(": ", 1) for line in after.replace("\n    ", " ").splitlines() if line.startswith("  "))
    chi = ("chi over T, untied", "chi over T, tied")
    headings = ("early-input response", "padding retention", "response gain", *chi, "J mean")
    assert [name.strip() for name in explained] == [*headings, "J variance"]
    for name, text in explained.items():
        assert name == "  chi over T, tied" or ("Good: " in text and "Bad: " in text), name
    least, lost = (f"{limit ** (1 / 50):.5g}" for limit in (1e-3, 1e-6))
    for text, said in (
        (after, f"Good: {least} to 1, which leaves 0.001 to 1 over T steps. Bad: below {lost}, which leaves less than"),
        (before, f"chi over T, tied, is below {lost}, which leaves 1e-6 too, training has nothing to start from"),
    ):
        assert said in " ".join(text.split())
    assert "docs/glossary.md" in after


def test_compare_says_why_a_scheme_is_left_out_and_what_a_dash_means(run: Run) -> None:
    result = run("compare", "--cell", "rnn", "--T", "20")
    assert result.code == 0
    (line,) = (line for line in result.out.splitlines() if line.startswith("chrono: left out; "))
    assert line == "chrono: left out; chrono sets the bias of the gate that keeps the state, and rnn has none"
    assert "\n-: the cell has no gate that keeps the state" in result.out
    value = json.loads(run("compare", "--cell", "rnn", "--T", "20", "--json").out)
    refused = next(row for row in value["schemes"] if row["scheme"] == "chrono")["refused"]
    assert (refused["where"], refused["found"]) == ("scheme", "chrono")
    assert "rnn has none" in refused["hint"]


def test_compare_refuses_bad_arguments(run: Run) -> None:
    result = run("compare", "--cell", "gru", "--T", "0")
    assert (result.code, result.out) == (2, "")
    assert only_line(result.err).startswith("error: --T: found 0; allowed: ")


def test_schema_prints_and_writes_the_schema(run: Run, tmp_path: Path) -> None:
    assert run("schema") == (0, schema_text(), "")
    path = tmp_path / "schema.json"
    assert run("schema", "-o", str(path)) == (0, "", "")
    assert path.read_text() == schema_text()


def test_simulate_measures_and_judges(run: Run) -> None:
    spec = run(
        *("spec", "--cell", "gru", "--T", "20", "--set", "layers.0.gates.*.bias.distribution=constant"),
        *("--set", "layers.0.gates.*.bias.mean=1", "--set", "layers.0.gates.*.recurrent.variance=0.01"),
        *("--set", "layers.0.gates.*.input.variance=0.5"),
    ).out
    measure = ["simulate", "-", "--width", "300", "--steps", "60", "--weights", "untied"]
    result = run(*measure, "--json", stdin=spec.encode())
    value = json.loads(result.out)
    assert (result.code, value["prediction_holds"]) == (0, True)
    assert all(one["holds"] for one in value["compared"])
    assert {one["field"] for one in value["compared"]} == {"second_moment", "chi_over_T", "chi"}
    layer = value["layers"][0]
    assert layer["tied"] is None
    assert set(layer["untied"]) >= NUMBERS | {"standard_error"}
    expected = json.loads(spec)["layers"][0]["predicted"]["untied"]
    assert layer["untied"]["second_moment"] == pytest.approx(expected["second_moment"], rel=0.03)
    assert run(*measure, "--json", stdin=spec.encode()).out == result.out
    assert run(*measure, "--seed", "1", "--json", stdin=spec.encode()).out != result.out
    assert layer["predicted"]["untied"] == expected
    assert len(layer["lyapunov"]["untied"]["exponents"]) > 0

    value = json.loads(spec)
    value["layers"][0]["predicted"]["untied"]["chi"] *= 1.5
    wrong = run(*measure, "--json", stdin=json.dumps(value).encode())
    assert (wrong.code, json.loads(wrong.out)["prediction_holds"]) == (3, False)
    (miss,) = (one for one in json.loads(wrong.out)["compared"] if not one["holds"])
    assert (miss["where"], miss["reading"]) == ("layers.0.untied.chi", "untied")
    assert miss["name"] == "time scale after many steps"
    assert miss["expected"] == pytest.approx(-1.0 / math.log(1.5 * expected["chi"]))
    assert miss["found"] == pytest.approx(expected["time_scale"], rel=0.05)
    assert only_line(wrong.err).startswith("missed: layers.0.untied.chi: time scale after many steps: predicted ")
    table = run(*measure, stdin=spec.encode())
    assert table.out.endswith("measured on 6 networks of 300 units: the prediction holds\n")
    assert "docs/glossary.md" in table.out


COUPLED = [
    *("spec", "--cell", "peephole_lstm", "--T", "30", "--set", "layers.0.gates.*.bias.distribution=constant"),
    *("--set", "layers.0.gates.*.bias.mean=0", "--set", "layers.0.gates.*.recurrent.variance=0.4"),
    *("--set", "layers.0.gates.*.input.variance=0.5"),
]
"""A network whose weights matter: untied theory is far off."""


def test_the_full_tied_theory_decides_instead_of_the_fast_estimate(run: Run) -> None:
    value = json.loads(run(*COUPLED).out)
    measure = ["simulate", "-", "--width", "400", "--steps", "60", "--weights", "tied", "--json"]
    assert value["layers"][0]["predicted"]["tied"]["notes"][0].startswith("fast estimate")
    result = run(*measure, stdin=json.dumps(value).encode())
    found = json.loads(result.out)
    assert (result.code, found["prediction_holds"]) == (0, True)
    tied = found["layers"][0]["predicted"]["tied"]
    assert tied["notes"][0] == "by the full tied theory"
    full = json.loads(run("analyze", "-", "--weights", "tied", "--json", stdin=json.dumps(value).encode()).out)
    assert tied["second_moment"] == pytest.approx(full["layers"][0]["tied"]["second_moment"], rel=0.01)
    table = run(*measure[:-1], stdin=json.dumps(value).encode()).out
    assert "predicted: by the full tied theory\n" in table
    stated = value["layers"][0]["predicted"]["tied"]
    left = stated["chi_over_T"] ** 2
    stated |= {"chi_over_T": left, "retention": left ** value["T"], "time_scale_over_T": -1.0 / math.log(left)}
    for _ in range(2):  # a prediction of one's own stands as it is, whatever it calls itself
        own = run(*measure, stdin=json.dumps(value).encode())
        assert own.code == 3
        assert json.loads(own.out)["layers"][0]["predicted"]["tied"]["notes"][0] == "as the spec states"
        stated.pop("notes", None)


@pytest.mark.parametrize(
    ("rate", "scheme", "words"),
    [("1e-3", "memory", "which bears this rate without limits"), ("0.03", "critical", "which needs no limits")],
)
def test_a_learning_rate_chooses_the_scheme_and_says_so(run: Run, rate: str, scheme: str, words: str) -> None:
    arguments = ("spec", "--cell", "gru", "--T", "100", "--learning-rate", rate)
    result = run(*arguments)
    assert result.code == 0
    assert result.out == run(*arguments[:-2], "--scheme", scheme).out
    assert f"note: learning rate {float(rate):g} over 100 steps: the scheme {scheme}, {words}" in result.err
    own = run(*arguments, "--set", "layers.0.gates.update.bias.mean=3") if scheme == "critical" else result
    assert f"the scheme {scheme}" in own.err
    refused = run(*arguments, "--scheme", scheme)
    assert refused.code != 0
    assert "--learning-rate" in refused.err
    assert ("--scheme memory" in result.err) == (scheme == "critical")
    other = run("spec", "--cell", "rnn", *arguments[3:])
    assert "the scheme critical, which needs no limits\n" in other.err  # memory does not suit this cell


def test_compare_withholds_tied_numbers_of_inputs_that_are_correlated_in_time(run: Run) -> None:
    arguments = ("--cell", "gru", "--T", "50", "--input-autocorrelation", "0.9")
    text = " ".join(run("compare", *arguments).out.split())
    assert "none: theory has no number at once" in text
    assert "where critinit analyze samples the tied numbers" in text
    rows = json.loads(run("compare", *arguments, "--json").out)["schemes"]
    assert all(row["layers"][0]["tied"] == {} for row in rows)
    assert all("correlated in time" in row["layers"][0]["untied"]["notes"][0] for row in rows)


def test_compare_says_where_a_number_is_sampled_coarsely(run: Run, tmp_path: Path) -> None:
    """A habit of some labs: orthogonal kernels and a forget bias of 2."""
    file = tmp_path / "lab.py"
    file.write_text(
        "from critinit.schemes import Scheme, bias, gate, kernel\n\n\n"
        "def gates(layer):\n"
        "    two = lambda name: bias(2.0 if name == 'forget' else 0.0)\n"
        "    return {n: gate(layer.orthogonal(), kernel('normal', 1.0), two(n)) for n in layer.cell.gates}\n\n\n"
        "lab = Scheme('lab', 'orthogonal kernels, forget bias 2', gates)\n"
    )
    found = run("compare", "--cell", "lstm", "--T", "50", "--scheme", str(file), "--input-variance", "0.3")
    assert "lab, tied: sampled coarsely, as the fast estimate does not hold here" in " ".join(found.out.split())
    assert "orthogonal, tied: " not in found.out


def test_analyze_says_whether_the_two_theories_agree(run: Run) -> None:
    spec = run(*COUPLED).out
    lines = run("analyze", "-", stdin=spec.encode()).out.splitlines()
    (verdict,) = (line for line in lines if line.startswith("Untied and tied theory"))
    assert verdict.startswith("Untied and tied theory disagree. ")
    assert lines[-1].startswith("  time scale after many steps: ")
    assert any("docs/glossary.md" in line for line in lines)
    assert "disagree" not in run("analyze", "-", "--weights", "tied", stdin=spec.encode()).out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--width", "0"], "--width: found 0; allowed: 5 to 100,000; a network follows 4 perturbations"),
        (["--width", "many"], "--width: found many; allowed: an integer"),
        (["--width", "50", "--networks", "1"], "--networks: found 1; allowed: at least 2"),
        (["--width", "50", "--seed", "-1"], "--seed: found -1; allowed: 0 to"),
        (["--width", "50", "--weights", "loose"], "--weights: found loose; allowed: untied, tied, both"),
        (["--width", "50", "--steps", "1"], "--steps: found 1; allowed: an integer of at least"),
        (["--width", "3"], "--width: found 3; allowed: 5 to 100,000"),
        (["--width", "1000000000"], "--width: found 1000000000; allowed: 5 to 100,000"),
        ([], "--width: found nothing; allowed: units"),
    ],
)
def test_simulate_refuses_bad_options(run: Run, spec_file: Path, arguments: list[str], says: str) -> None:
    result = run("simulate", str(spec_file), *arguments)
    assert (result.code, result.out) == (2, "")
    assert says in only_line(result.err)


@pytest.mark.parametrize(
    "command",
    ["spec", "validate", "predict", "analyze", "simulate", "compare", "plot", "materialize", "check", "schema"],
)
def test_help_has_examples(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"critinit {command}" in result.out.split("Examples:")[1]


def test_no_command_is_answered_with_the_help(run: Run) -> None:
    result = run()
    assert result.code == 2
    names = ("spec", "validate", "predict", "analyze", "simulate", "compare", "schema")
    assert all(name in result.out for name in names)
    assert run("--version").out.startswith("critinit")
    unknown = run("brew")
    assert unknown.code == 2
    assert "No such command 'brew'" in only_line(unknown.err)


def test_simulate_says_where_its_error_is_too_large_to_tell(run: Run) -> None:
    """Two small networks with few slow units each scatter by more than half of the rate: no verdict, and no failure."""
    spec = run("spec", "--cell", "gru", "--T", "1000", "--scheme", "uniform_gate").out.encode()
    options = ("--width", "24", "--networks", "2", "--steps", "1000", "--weights", "untied")
    result = run("simulate", "-", *options, stdin=spec)
    assert (result.code, result.err) == (0, "")
    assert "layers.0.untied.chi_over_T: time scale over 1000 steps: predicted 85.7" in result.out
    assert result.out.rstrip().endswith("cannot be decided; take more networks, or wider ones")
    found = json.loads(run("simulate", "-", *options, "--json", stdin=spec).out)
    assert found["prediction_holds"] is None
    assert {one["field"]: (one["holds"], one["decides"]) for one in found["compared"]}["chi_over_T"] == (True, False)


def test_silent_inputs_are_noted(run: Run) -> None:
    result = run("spec", "--cell", "gru", "--T", "20", "--input-variance", "0")
    assert result.code == 0
    assert result.err.startswith("note: an input variance of 0 says that every input is zero: the prediction is for a")
    assert run("spec", "--cell", "gru", "--T", "20", "--input-variance", "1e-9").err == ""


def test_a_question_ends_with_one_mark(run: Run) -> None:
    assert run("sepc").err == "error: No such command 'sepc'. Did you mean 'spec'? See critinit --help\n"
