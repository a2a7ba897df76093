"""One spec, the same network in every framework: all layers against plain recurrences, and liars caught.

A row is (framework, cell, layers, directions, bias); ``frameworks.py`` and ``drivers/`` say how each
framework builds and runs it.  Keras' rows run on the backend of this process, and on the other two in
processes of their own.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MethodType

import numpy as np
import pytest
from critinit_adapters.shared.adapter import InPlaceAdapter, TreeAdapter, assemble

from critinit.errors import ApplyError
from critinit.tensors.application import ADAPTERS, apply
from critinit.tensors.sampling import draw
from tests.adapters.frameworks import INPUT, Row, build, inputs, rows, run, tensors
from tests.adapters.numpy_reference import forward
from tests.adapters.specs import GATES, make_grouped_spec, make_spec

ROOT = Path(__file__).parents[2]
MODULES = {
    "torch": "torch",
    "keras": "keras",
    "linen": "flax.linen",
    "nnx": "flax.nnx",
    "equinox": "equinox",
    "haiku": "haiku",
}
ONLY = os.environ.get("CONFORMANCE_OF")
"""The one framework to test, in a process of its own; such a process need not import the others."""
if ONLY == "keras" and os.environ.get("KERAS_BACKEND") != "tensorflow":
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # Keras looks for it, and importing it takes long
INSTALLED = [
    name for name, module in MODULES.items() if importlib.util.find_spec(module.split(".")[0]) and ONLY in (None, name)
]
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(not INSTALLED, reason="no framework is installed"),
]
ROWS = [row for name in INSTALLED for row in rows(name)]
FIRST = {(row.framework, row.cell): row for row in reversed(ROWS) if row.bias and not row.kind}
BACKENDS = ["tensorflow", "jax", "torch"]
OTHER_BACKENDS = [
    name for name in BACKENDS if importlib.util.find_spec(name) and os.environ.get("KERAS_BACKEND") is None
][1:]
ZERO_BIAS = {"distribution": "constant", "mean": 0.0, "variance": 0.0}
TOLERANCE = 1e-5  # fp32, outputs of order 1
SEED = 3


def spec_of(row: Row, **changes):
    return make_spec(row.cell, row.layers, bias=None if row.bias else ZERO_BIAS, **changes)


def expected(row, spec, time):
    weights = draw(spec, INPUT, hidden_size=12, seed=SEED, directions=row.directions)
    return forward(spec.cell, weights, inputs(time))


def check(row, built, model, spec):
    """One step and twenty steps of the framework's own network against the plain recurrence."""
    for time in (1, 20):
        found = run(built, model, inputs(time))
        np.testing.assert_allclose(found, expected(row, spec, time), atol=TOLERANCE, rtol=0)


@cache
def applied_outputs(row):
    """The report and the outputs of one step and of twenty, by number of steps."""
    built = build(row)
    applied = apply(spec_of(row), built.model, seed=SEED, **built.options)
    assert applied.seed == SEED
    return applied.report, {time: run(built, applied.model, inputs(time)) for time in (1, 20)}


def adapter_of(row):
    return ADAPTERS.get(MODULES[row.framework])


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_conformance(row):
    report, outputs = applied_outputs(row)
    for time, found in outputs.items():
        np.testing.assert_allclose(found, expected(row, spec_of(row), time), atol=TOLERANCE, rtol=0)
    assert len(report) == row.layers * row.directions * len(GATES[row.cell]) * (3 if row.bias else 2)


@pytest.mark.parametrize("row", FIRST.values(), ids=str)
def test_groups_of_units_read_themselves_alone(row):
    """Outputs are those of the plain recurrence, and natively drawn weights pass ``check``; groups do not mix."""
    spec = make_grouped_spec(row.cell, row.layers, bias=None if row.bias else ZERO_BIAS)
    built = build(row)
    applied = apply(spec, built.model, seed=SEED, **built.options)
    for time in (1, 20):
        found = run(built, applied.model, inputs(time))
        np.testing.assert_allclose(found, expected(row, spec, time), atol=TOLERANCE, rtol=0)
    assert {r.group for r in applied.report} == {"first", "second"}
    weights = draw(spec, INPUT, hidden_size=12, seed=SEED, directions=row.directions)
    for gate in weights.layers[0][0].gates.values():
        assert not gate.recurrent[:3, 3:].any()
        assert not gate.recurrent[3:, :3].any()
    built = build(row, 96, 64)
    native = apply(spec, built.model, seed=SEED, sampler="native", **built.options)
    for r in native.report:
        fan_in = (24 if r.group == "first" else 72) if r.part == "recurrent" else 64
        if r.part == "recurrent" and r.group == "first":
            assert r.orthogonality_error is not None
            assert r.orthogonality_error < 1e-5
        elif r.part != "bias":
            units = 24 if r.group == "first" else 72
            assert abs(r.realised_variance / r.variance - 1) < Z * math.sqrt(2.0 / (units * fan_in))


@pytest.mark.parametrize("row", FIRST.values(), ids=str)
def test_numbers_are_the_portable_ones(row):
    """Before the cast the same bits in every framework; in the model those bits, cast once."""
    built, spec = build(row), spec_of(row)
    made = adapter_of(row).plan(spec, built.model, SEED, None, built.options)
    canonical = draw(spec, INPUT, 12, seed=SEED)
    applied = apply(spec, built.model, seed=SEED, **built.options)
    stored = tensors(built, applied.model)
    for write in made.writes:
        for block, drawn in write.draws:
            if drawn is None:
                continue
            gate = canonical.layers[write.layer][write.direction].gates[block.gate]
            values = drawn.sample()
            assert values.dtype == np.float64
            assert values.tobytes() == getattr(gate, block.part).tobytes()
            values = block.sign * (values.T if block.transposed else values) + block.offset
            found = np.asarray(stored[write.tensor.name])[block.index]
            assert found.tobytes() == values.astype(np.float32).tobytes()


# ---- the same outputs everywhere -------------------------------------------------------------------------

SHARED = ["rnn", "relu_rnn", "gru", "gru_reset_before", "lstm"]


def outputs_of(framework, cell):
    """Twenty steps of two layers in two directions; None where the framework has no such layer."""
    wanted = (cell, 2, 2, True)
    found = (r for r in rows(framework) if (r.cell, r.layers, r.directions, r.bias) == wanted)
    row = next(found, None)
    return None if row is None else applied_outputs(row)[1][20]


@pytest.mark.skipif(len(INSTALLED) < 2, reason="frameworks are compared with each other")
@pytest.mark.parametrize("cell", SHARED)
def test_the_same_outputs_in_every_framework(cell):
    found = {name: outputs_of(name, cell) for name in INSTALLED}
    found = {name: outputs for name, outputs in found.items() if outputs is not None}
    assert len(found) >= 2
    for one in found.values():
        for other in found.values():
            np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=0)
    assert max(np.abs(outputs).max() for outputs in found.values()) > 0.5  # not trivially the same


@pytest.mark.slow
@pytest.mark.skipif(not OTHER_BACKENDS, reason="a Keras backend was chosen for this process")
@pytest.mark.parametrize("backend", OTHER_BACKENDS)
def test_keras_on_its_other_backends(backend):
    """All of Keras' rows and lies in a process with that backend."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "keras", __file__],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "CONFORMANCE_OF": "keras", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    passed = int(done.stdout.split(" passed")[0].split()[-1])
    assert passed > len(rows("keras"))


# ---- adapters that lie fail the same check ---------------------------------------------------------------


def relabelled(survey, change):
    """The survey with every block changed."""

    def of_tensor(tensor):
        return replace(tensor, blocks=tuple(map(change, tensor.blocks)))

    def of_slot(slot):
        return replace(slot, tensors=tuple(map(of_tensor, slot.tensors)))

    modules = (replace(module, slots=tuple(map(of_slot, module.slots))) for module in survey.modules)
    return replace(survey, modules=tuple(modules))


def swapped_gates(row, adapter):
    """Two gates in the wrong order."""
    one, other = GATES[row.cell][:2]
    names = {one: other, other: one}
    survey = adapter.survey
    adapter.survey = lambda *given: relabelled(
        survey(*given), lambda block: replace(block, gate=names.get(block.gate, block.gate))
    )


def flipped_sign(row, adapter):
    """A GRU that keeps the old state with z where the framework keeps it with 1−z, or the reverse."""
    survey = adapter.survey
    adapter.survey = lambda *given: relabelled(
        survey(*given), lambda block: replace(block, sign=-block.sign if block.gate == "update" else block.sign)
    )


def forgotten_offset(row, adapter):
    """An offset of 1 that the cell adds, or does not add, by itself."""
    survey = adapter.survey
    adapter.survey = lambda *given: relabelled(
        survey(*given),
        lambda block: (
            replace(block, offset=-1.0 - block.offset) if (block.gate, block.part) == ("forget", "bias") else block
        ),
    )


def changed_values(adapter, change):
    """Change what is written, whichever kind of adapter it is."""
    if isinstance(adapter, TreeAdapter):
        honest = adapter.leaf
        adapter.leaf = lambda tensor, values: honest(tensor, change(tensor, values))
    else:
        adapter.store_portable = lambda write: adapter.store(write.tensor, change(write.tensor, assemble(write)))


def doubled_bias(row, adapter):
    """The bias in two vectors that are added, so that twice the bias acts."""

    def double(tensor, values):
        for block in tensor.blocks:
            if block.part == "bias":
                values[block.index] *= 2
        return values

    changed_values(adapter, double)


def fused_orthogonal(row, adapter):
    """One orthogonal matrix for all gates of a tensor, as the frameworks' own initializers draw it."""

    def fuse(tensor, values):
        blocks = [block for block in tensor.blocks if block.part == "recurrent"]
        if len(blocks) > 1:
            rng = np.random.default_rng(0)
            q = np.linalg.qr(rng.standard_normal((12 * len(blocks), 12)))[0]
            for block, part in zip(blocks, np.split(q, len(blocks)), strict=True):
                values[block.index] = part.T if block.transposed else part
        return values

    changed_values(adapter, fuse)


GRUS = ("gru", "gru_reset_before")
LIES = {
    swapped_gates: (*GRUS, "ugrnn", "lstm"),
    flipped_sign: (*GRUS, "ugrnn"),
    forgotten_offset: ("lstm",),
    doubled_bias: ("rnn", "relu_rnn", *GRUS, "ugrnn", "lstm"),
    fused_orthogonal: (*GRUS, "lstm"),
}
SEPARATE = ("linen",)  # every gate a tensor of its own: nothing to fuse


@pytest.mark.parametrize(
    ("lie", "row"),
    [
        pytest.param(lie, row, id=f"{lie.__name__}-{row}")
        for lie, cells in LIES.items()
        for row in FIRST.values()
        if row.cell in cells and not (lie is fused_orthogonal and row.framework in SEPARATE)
    ],
)
def test_a_lying_adapter_fails(lie, row):
    spec = spec_of(row, recurrent="orthogonal")

    def applied(adapter):
        built = build(row)
        given = {"seed": SEED, "sampler": "portable", "include": None, "options": built.options}
        return built, adapter.apply(spec, built.model, **given)

    built, honest = applied(type(adapter_of(row))())
    check(row, built, honest.model, spec)
    liar = type(adapter_of(row))()
    if isinstance(liar, InPlaceAdapter):  # by the shared way, which minds every field of a block
        liar.store_portable = MethodType(InPlaceAdapter.store_portable, liar)
    lie(row, liar)
    built, false = applied(liar)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(row, built, false.model, spec)
    if lie is fused_orthogonal:  # and the report tells the truth about what stands there
        assert max(r.orthogonality_error or 0.0 for r in honest.report) < 1e-6
        assert max(r.orthogonality_error or 0.0 for r in false.report) > 0.1


# ---- all or nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["portable", "native"])
@pytest.mark.parametrize("framework", INSTALLED)
def test_nothing_is_changed_where_the_last_tensor_cannot_be_written(framework, sampler):
    row = FIRST[framework, "lstm"]
    built, spec = build(row), spec_of(row)
    before = {name: np.array(values) for name, values in tensors(built, built.model).items()}
    adapter = type(adapter_of(row))()
    last = adapter.plan(spec, built.model, SEED, None, built.options).writes[-1].tensor.name
    seen = []

    def failing(honest):
        def method(first, *rest):
            name = getattr(first, "tensor", first).name
            seen.append(name)
            result = honest(first, *rest)
            if name == last:
                raise MemoryError("no room left")
            return result

        return method

    for name in ("store_portable", "store_native", "leaf", "native_leaf"):
        if hasattr(adapter, name):
            setattr(adapter, name, failing(getattr(adapter, name)))
    with pytest.raises(ApplyError, match=r"no room left\); nothing was changed") as raised:
        adapter.apply(spec, built.model, seed=SEED, sampler=sampler, include=None, options=built.options)
    assert last in str(raised.value)
    assert "\n" not in str(raised.value)
    assert last in seen
    assert len(set(seen)) > 1  # others had been written by then
    after = tensors(built, built.model)
    assert {name: values.tobytes() for name, values in before.items()} == {
        name: np.asarray(values).tobytes() for name, values in after.items()
    }


# ---- native sampling -------------------------------------------------------------------------------------

WIDE, WIDE_INPUT = 96, 64
Z = 5.0  # standard errors; 6e-7 for each of some 500 comparisons: a false alarm in 3000 runs


@pytest.mark.parametrize("row", FIRST.values(), ids=str)
def test_native_sampling_has_the_distributions_of_the_spec(row):
    spec = spec_of(row)
    kinds = ("normal", "uniform", "orthogonal")
    gates = GATES[row.cell]
    for n, kind in enumerate(kinds):
        built = build(row, WIDE, WIDE_INPUT)
        spec = spec_of(row, recurrent=kind)
        report = apply(spec, built.model, seed=n, sampler="native", **built.options).report
        for r in report:
            if r.part == "bias":
                continue
            fan_in = WIDE if r.part == "recurrent" else WIDE_INPUT
            count = WIDE * fan_in
            assert abs(r.realised_mean) < Z * math.sqrt(r.variance / fan_in / count)
            if r.distribution == "orthogonal":
                assert r.orthogonality_error < 1e-5
                continue
            kurtosis = {"normal": 2.0, "uniform": 0.8}[r.distribution]  # E x⁴/(E x²)² − 1
            assert abs(r.realised_variance / r.variance - 1) < Z * math.sqrt(kurtosis / count)
        assert len({(r.gate, r.part) for r in report}) == 3 * len(gates)


SPARSE = {"distribution": "spectral_radius", "spectral_radius": 0.8, "density": 0.5}
TRUNCATED = {"distribution": "truncated_normal", "variance": 0.7}


@pytest.mark.parametrize("sampler", ["portable", "native"])
@pytest.mark.parametrize("framework", INSTALLED)
def test_what_no_framework_draws_by_itself(framework, sampler):
    """A reservoir's recurrent kernels and truncated input kernels: both samplers write NumPy's numbers, cast once."""
    row, units = FIRST[framework, "lstm"], 32
    kernels = {name: {"recurrent": SPARSE, "input": TRUNCATED} for name in GATES["lstm"]}
    spec = make_spec("lstm", **kernels)
    built = build(row, units, 64)
    made = adapter_of(row).plan(spec, built.model, SEED, None, built.options)
    applied = apply(spec, built.model, seed=SEED, sampler=sampler, **built.options)
    stored = tensors(built, applied.model)
    for write in made.writes:
        for block, drawn in write.draws:
            if drawn is None or drawn.part == "bias":
                continue
            found = block.canonical(np.asarray(stored[write.tensor.name])[block.index])
            assert np.array_equal(found, drawn.sample().astype(np.float32))
            if drawn.part == "recurrent":
                assert abs(np.abs(np.linalg.eigvals(found)).max() - 0.8) < 1e-5
                assert 0.4 < np.count_nonzero(found) / found.size < 0.6
            else:  # cut at two deviations of what had variance .7/.7737 before
                assert np.abs(found).max() <= 2.0 * math.sqrt(0.7 / 64 / 0.773741) * (1 + 1e-6)
                assert abs(found.var() * 64 / 0.7 - 1) < Z * math.sqrt(1.3 / found.size)  # E x⁴/(E x²)² − 1 < 1.4
    assert {r.distribution for r in applied.report if r.part != "bias"} == {"spectral_radius", "truncated_normal"}


@pytest.mark.parametrize("framework", INSTALLED)
def test_native_draws_are_independent_and_follow_the_seed(framework):
    """No two of the kernels' blocks, over gates, layers, directions and seeds, are correlated."""
    row = next(r for r in rows(framework) if (r.cell, r.layers, r.directions, r.bias) == ("lstm", 2, 2, True))
    spec = spec_of(row)

    def blocks(seed):
        built = build(row, 32, 64)
        made = adapter_of(row).plan(spec, built.model, seed, None, built.options)
        model = apply(spec, built.model, seed=seed, sampler="native", **built.options).model
        stored = tensors(built, model)
        for write in made.writes:
            for block, drawn in write.draws:
                if drawn is not None and drawn.part in ("input", "recurrent"):
                    values = np.asarray(stored[write.tensor.name], np.float64)[block.index]
                    yield values.ravel()[:1024] / values.std()

    first, again, other = (np.stack(list(blocks(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    together = np.concatenate([first, other])
    assert len(together) == 2 * 2 * 2 * 4 * 2
    correlation = together @ together.T / 1024 - np.eye(len(together))
    np.fill_diagonal(correlation, 0.0)
    # 2016 pairs, each ~ N(0, 1/1024): 6 standard errors happen by chance in 4e-6 of runs
    assert np.abs(correlation).max() < 6 / math.sqrt(1024)
