"""Networks found in models as the frameworks build them, and in arrays of theirs."""

from __future__ import annotations

import pytest

from critinit import apply, check, materialize
from critinit.errors import ArgumentError
from tests.adapters import frameworks
from tests.adapters.frameworks import build, rows
from tests.adapters.specs import make_spec

torch = pytest.importorskip("torch")
jnp = pytest.importorskip("jax.numpy")
FRAMEWORKS = ("torch", "keras", "linen", "nnx", "equinox", "haiku")
for module in ("keras", "flax", "equinox", "haiku"):
    pytest.importorskip(module)
pytestmark = pytest.mark.frameworks


def fresh(framework, spec, **changes):
    return materialize(spec, framework, **{"input_size": 5, "hidden_size": 16, "seed": 2, **changes})


BUILT = [
    row
    for name in FRAMEWORKS
    for row in rows(name)
    if row.layers * row.directions in (3, 4) or row.kind or not row.bias
]


@pytest.mark.parametrize("row", BUILT, ids=str)
def test_models_as_each_framework_builds_them(row):
    """Every row of the conformance table: stacks, cells, two directions, no biases, written by ``apply``."""
    bias = None if row.bias else {"distribution": "constant", "mean": 0.0, "variance": 0.0}
    spec = make_spec(row.cell, layers=row.layers, bias=bias)
    built = build(row, hidden=16)
    tensors = frameworks.tensors(built, apply(spec, built.model, seed=5, **built.options).model)
    # nothing says which two of Equinox's cells are two directions, nor that l0_forward is an LSTM of Haiku's
    stacks = (
        [["0/0", "1/0"], ["0/1", "1/1"]] if row.framework == "equinox" and row.layers * row.directions == 4 else [()]
    )
    framework = "haiku" if row.framework == "haiku" else None
    for modules in stacks:
        checked = check(spec, tensors, framework=framework, module=modules, false_alarm_rate=1e-6)
        assert checked.matches, [r for r in checked.rows if not r.matches]
        assert {r.layer for r in checked.rows} == set(range(row.layers))
    if row.directions == 2 and row.framework != "equinox":
        assert {r.direction for r in checked.rows} == {0, 1}


def test_arrays_that_numpy_cannot_take_are_named():
    tensors = {"weight_hh_l0": torch.zeros(3, 1, device="meta")}
    message = r"^weights: found weight_hh_l0, which NumPy cannot take \(NotImplementedError: "
    with pytest.raises(ArgumentError, match=message):
        check(make_spec("gru"), tensors)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_parameters_of_pytorch_as_they_are(dtype):
    spec = make_spec("gru")
    tensors = {
        n: torch.nn.Parameter(torch.tensor(a).to(getattr(torch, dtype))) for n, a in fresh("torch", spec).items()
    }
    assert check(spec, tensors, false_alarm_rate=1e-6).matches
    tensors["weight_hh_l0"] = torch.nn.Parameter(3 * tensors["weight_hh_l0"])
    assert not check(spec, tensors).matches
    with pytest.raises(ArgumentError, match=r"found GRU; allowed: a path, or arrays by name; its state_dict\(\) has"):
        check(spec, torch.nn.GRU(3, 4))


def test_bfloat16_arrays_of_jax():
    spec = make_spec("gru")
    tensors = {name: jnp.asarray(array, jnp.bfloat16) for name, array in fresh("linen", spec).items()}
    assert check(spec, tensors, false_alarm_rate=1e-6).matches
