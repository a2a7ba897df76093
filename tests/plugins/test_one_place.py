"""The proof that one file is enough: it is written, and everything that reads, draws, checks and compares knows it."""

from __future__ import annotations

import json
import math
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import critinit
from critinit.distributions import BIASES, KERNELS
from critinit.schemes import bias, gate, kernel
from critinit.simulation import simulate
from critinit.tensors.sampling import draw
from critinit.theory.analysis import deviations
from critinit.theory.requirements import requirements
from critinit.weights.checking import check
from critinit.weights.materializing import materialize
from tests.cli.conftest import Run
from tests.plugins.conftest import Publish
from tests.plugins.members import ADAPTER, BIAS, CELL, KERNEL, SCHEME


def write(folder: Path, code: str) -> str:
    (folder / "own.py").write_text(code, encoding="utf-8")
    return str(folder / "own.py")


def holds(spec: critinit.InitSpec) -> None:
    """A spec reads back, its prediction holds, its weights pass the check, and others' weights do not."""
    assert critinit.parse(spec.to_json()).to_bytes() == spec.to_bytes()
    assert deviations(critinit.parse(spec.to_json())) == []
    assert spec.generated is None or critinit.generate(**spec.generated.arguments).to_bytes() == spec.to_bytes()
    weights = materialize(spec, "canonical", input_size=6, hidden_size=48, seed=3)
    assert check(spec, weights).matches
    assert not check(spec, {name: 1.7 * x + 0.2 for name, x in weights.items()}).matches
    predicted = spec.layers[0].predicted
    assert critinit.analyze(spec, weights="untied").layers[0].untied == predicted.untied
    assert 0.0 <= requirements(spec).padding_retention <= 1.0
    assert spec.layers[0].gates[spec.find_cell().gates[0]].bias.describe() in spec._repr_html_()
    (measured,) = simulate(spec, width=100, seeds=2, steps=100)
    assert measured is not None
    assert isinstance(predicted.tied, critinit.Numbers)
    assert measured.numbers.chi_over_T == pytest.approx(predicted.tied.chi_over_T, rel=0.2)


def drawn_part(spec: critinit.InitSpec, part: str) -> np.ndarray:
    gate_weights = draw(spec, 3, 400, seed=5).layers[0][0].gates[spec.find_cell().gates[0]]
    return np.asarray(getattr(gate_weights, part))


def test_a_scheme_is_one_file(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path, SCHEME)
    made = run("spec", "--cell", "gru", "--T", "40", "--scheme", path)
    assert (made.code, made.err) == (0, "")
    data = json.loads(made.out)
    assert (data["scheme"], data["description"]) == ("toy", "an open keep gate, Glorot's input kernels")
    (tmp_path / "spec.json").write_text(made.out, encoding="utf-8")
    assert run("validate", str(tmp_path / "spec.json")).code == 0
    compared = run("compare", "--cell", "gru", "--T", "40", "--scheme", path)
    assert compared.code == 0
    assert "toy" in compared.out
    scheme = critinit.load_scheme(path)
    spec = critinit.generate("gru", 40, scheme="toy")
    assert spec.to_json() == made.out == critinit.generate("gru", 40, scheme=scheme).to_json()
    holds(spec)
    holds(critinit.generate("lstm", 40, scheme="toy"))


def test_a_scheme_that_fails_is_named(tmp_path: Path) -> None:
    critinit.load_scheme(write(tmp_path, SCHEME.replace("made = {}", "made = {}\n    1 / 0")))
    with pytest.raises(
        critinit.SchemeError, match=r"^scheme: found toy; .*gates raised ZeroDivisionError: division by"
    ):
        critinit.generate("gru", 40, scheme="toy")


def test_a_cell_is_one_file(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path, CELL)
    made = run("spec", "--cell", path, "--T", "40")
    assert (made.code, made.err) == (0, "")
    (tmp_path / "spec.json").write_text(made.out, encoding="utf-8")
    assert run("validate", str(tmp_path / "spec.json"), "--cell-file", path).code == 0
    assert "critical" in run("compare", "--cell", path, "--T", "40").out
    critinit.load_cell(path)
    for scheme in ("critical", "chrono", "orthogonal", "torch"):
        spec = critinit.generate("toy", 40, scheme=scheme)
        assert tuple(spec.layers[0].gates) == ("forget", "content")
        holds(spec)


def kernel_scheme() -> critinit.Scheme:
    def gates(layer: Any) -> dict[str, Any]:
        one = gate(kernel("toy", 0.6), kernel("toy", 1.0, fan="average"), bias(0.5))
        return dict.fromkeys(layer.cell.gates, one)

    return critinit.Scheme("toys", "kernels of the toy distribution", gates)


def test_a_kernel_distribution_is_one_file(tmp_path: Path) -> None:
    runpy.run_path(write(tmp_path, KERNEL), run_name="own")
    spec = critinit.generate("gru", 40, scheme=kernel_scheme())
    holds(spec)
    w = drawn_part(spec, "recurrent")
    assert w.var() * 400 == pytest.approx(0.6, rel=0.05)
    assert np.mean(w**4) / w.var() ** 2 == pytest.approx(6.0, rel=0.1)  # a Laplace distribution's
    gaussian = critinit.generate("gru", 40, scheme=kernel_scheme(), settings=normal_kernels())
    assert gaussian.layers[0].predicted == spec.layers[0].predicted
    changed = critinit.generate("gru", 40, settings=["layers.0.gates.*.recurrent.distribution=toy"])
    assert {g.recurrent.distribution for g in changed.layers[0].gates.values()} == {"toy"}
    assert changed.layers[0].gates["reset"].recurrent.describe() == "toy, variance 1e-05"
    with pytest.raises(critinit.SpecError, match=r"distribution: found \"toyy\"; allowed: .*toy; did you mean 'toy'"):
        critinit.parse(spec.to_json().replace('"toy"', '"toyy"'))


def normal_kernels() -> list[str]:
    return [f"layers.0.gates.*.{part}.distribution=normal" for part in ("recurrent", "input")]


def test_a_bias_distribution_is_one_file(tmp_path: Path) -> None:
    runpy.run_path(write(tmp_path, BIAS), run_name="own")
    part = {"distribution": "toy", "mean": 1.0, "variance": 0.3}
    spec = critinit.generate("lstm", 40, scheme="orthogonal", settings=[f"layers.0.gates.*.bias={json.dumps(part)}"])
    holds(spec)
    b = drawn_part(spec, "bias")
    assert b.mean() == pytest.approx(1.0, abs=4.9 * math.sqrt(0.3 / 400))
    assert np.abs(b - 1.0).max() <= math.sqrt(0.9)
    normal = json.dumps(part | {"distribution": "normal"})
    like = critinit.generate("lstm", 40, scheme="orthogonal", settings=[f"layers.0.gates.*.bias={normal}"])
    assert spec.layers[0].predicted.untied == like.layers[0].predicted.untied
    assert spec.layers[0].gates["input"].bias.describe() == "uniform, 0.05132 to 1.949"
    coupled = critinit.generate(
        "lstm",
        40,
        settings=[
            f"layers.0.gates.forget.bias={json.dumps(part)}",
            'layers.0.gates.input.bias={"distribution":"coupled","to":"forget","sign":-1}',
        ],
    )
    assert coupled.layers[0].gates["input"].bias.moments == (-1.0, 0.3)


def test_the_command_line_knows_installed_distributions(publish: Publish, tmp_path: Path, run: Run) -> None:
    codes = {"kernel": KERNEL, "bias": BIAS}
    for kind, code in codes.items():
        group = {"kernel": "critinit.kernels", "bias": "critinit.biases"}[kind]
        module = f"published_{kind}"
        publish(module, code.replace("@register_distribution\n", ""), {group: f"toy = {module}:Member"})
    assert "toy" in KERNELS.names()
    assert "toy" in BIASES.names()
    part = '{"distribution":"toy","mean":1,"variance":0.3}'
    settings = ("layers.0.gates.*.recurrent.distribution=toy", f"layers.0.gates.*.bias={part}")
    made = run("spec", "--cell", "gru", "--T", "40", *(x for setting in settings for x in ("--set", setting)))
    assert (made.code, made.err) == (0, "")
    pytest.importorskip("safetensors")
    path, weights = tmp_path / "spec.json", tmp_path / "weights.safetensors"
    path.write_text(made.out, encoding="utf-8")
    assert run("validate", str(path)).code == 0
    assert run("analyze", str(path)).code == 0
    sizes = ("--input-size", "5", "--hidden-size", "40")
    assert run("materialize", str(path), "--framework", "canonical", *sizes, "-o", str(weights)).code == 0
    assert run("check", str(path), str(weights)).code == 0


def test_an_adapter_is_found_where_its_framework_is_imported(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "toy", raising=False)  # a module of that name that another test left
    publish("published_toys", ADAPTER, {"critinit.adapters": "toy = published_toys:Member"})
    spec = critinit.generate("gru", 40)
    with pytest.raises(critinit.ApplyError, match="no adapter"):
        critinit.apply(spec, {"input": 3, "hidden": 4})
    monkeypatch.setitem(sys.modules, "toy", ModuleType("toy"))
    applied = critinit.apply(spec, {"input": 3, "hidden": 4}, seed=2)
    expected = draw(spec, 3, 4, seed=2).layers[0][0].gates["update"].recurrent
    assert (applied.model["weights"].layers[0][0].gates["update"].recurrent == expected).all()
    assert critinit.apply(spec, {"input": 3, "hidden": 4}, seed=2, framework="toys").model["hidden"] == 4


@pytest.mark.frameworks
@pytest.mark.parametrize("sampler", ["portable", "native"])
def test_new_distributions_are_applied_and_checked(tmp_path: Path, sampler: Any) -> None:
    torch = pytest.importorskip("torch")
    from critinit_adapters.torch.adapter import ADAPTER

    for code in (KERNEL, BIAS):
        runpy.run_path(write(tmp_path, code), run_name="own")
    part = '{"distribution":"toy","mean":1,"variance":0.3}'
    settings = [f"layers.0.gates.{name}.bias={part}" for name in ("update", "reset", "candidate")]
    spec = critinit.generate("gru", 40, scheme=kernel_scheme(), settings=settings)
    model = torch.nn.GRU(6, 64)
    applied = critinit.apply(spec, model, seed=1, sampler=sampler, framework=ADAPTER)
    assert {row.distribution for row in applied.report} == {"toy"}
    recurrent = next(row for row in applied.report if row.part == "recurrent")
    assert recurrent.realised_variance == pytest.approx(0.6, rel=0.2)
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    assert check(spec, weights).matches
    assert not check(critinit.generate("gru", 40), weights).matches
