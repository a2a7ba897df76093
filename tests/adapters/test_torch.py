"""The PyTorch adapter: forward passes against plain recurrences, and every known way to get it wrong."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import copy
import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from critinit_adapters.torch.adapter import TorchAdapter
from critinit_adapters.torch.layout import GATES as TORCH_GATES
from critinit_adapters.torch.layout import blocks as torch_blocks
from scipy import stats
from torch import nn
from torch.nn.utils import parametrize

from critinit.errors import ApplyError, ArgumentError, PluginWarning
from critinit.schemes.generating import generate
from critinit.tensors.application import apply
from critinit.tensors.sampling import draw
from tests.adapters import torch_sharded
from tests.adapters.numpy_reference import forward
from tests.adapters.specs import GATES, make_spec

pytestmark = pytest.mark.frameworks
M, H, B = 5, 12, 3  # widths of input and state, batch
CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
SINGLE = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
ZERO_BIAS = {"distribution": "constant", "mean": 0.0, "variance": 0.0}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.1, torch.float16: 0.02}


def inputs(time, size=M, seed=0):
    return np.random.default_rng(seed).standard_normal((time, B, size))


def outputs(module, x):
    """(time, batch, features) of an RNN, or of a Cell run step by step."""
    parameter = next(module.parameters())
    x = torch.tensor(x, dtype=parameter.dtype)
    with torch.no_grad():
        if isinstance(module, nn.RNNBase):
            return module(x)[0].double().numpy()
        state, seen = None, []
        for step in x:
            state = module(step, state)
            seen.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(seen).double().numpy()


def check(spec, module, *, seed=0, directions=1, projection_size=None, tolerance=1e-5, index=0):
    """The conformance check: one step and twenty steps of the module against the plain recurrence."""
    weights = draw(
        spec,
        module.input_size,
        module.hidden_size,
        seed=seed,
        directions=directions,
        projection_size=projection_size,
        module=index,
    )
    for time in (1, 20):
        x = inputs(time, module.input_size)
        expected = forward(spec.cell, weights, x)
        np.testing.assert_allclose(outputs(module, x), expected, atol=tolerance, rtol=0)


def bits(model):
    """Every tensor's bytes, by name."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        name: t.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes() for name, t in tensors.items()
    }


# ---- conformance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_conformance(cell, layers, directions, bias):
    spec = make_spec(cell, layers=layers, bias=None if bias else ZERO_BIAS)
    module = CELLS[cell](M, H, layers, bias=bias, bidirectional=directions == 2)
    applied = apply(spec, module, seed=3)
    assert applied.model is module
    check(spec, module, seed=3, directions=directions)
    assert len(applied.report) == layers * directions * len(GATES[cell]) * (3 if bias else 2)


@pytest.mark.parametrize("recurrent", ["uniform", "orthogonal", "identity"])
@pytest.mark.parametrize("cell", CELLS)
def test_conformance_of_kernels(cell, recurrent):
    spec = make_spec(cell, recurrent=recurrent)
    module = CELLS[cell](M, H)
    report = apply(spec, module, seed=0).report
    check(spec, module)
    errors = [row.orthogonality_error for row in report if row.part == "recurrent"]
    assert all(error is None if recurrent == "uniform" else error < 1e-6 for error in errors)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", SINGLE)
def test_conformance_of_cells(cell, bias):
    spec = make_spec(cell, bias=None if bias else ZERO_BIAS)
    module = SINGLE[cell](M, H, bias=bias)
    apply(spec, module, seed=3)
    check(spec, module, seed=3)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("directions", [1, 2])
def test_conformance_of_a_spec_that_states_the_projection(directions):
    import critinit

    spec = critinit.generate("projection_lstm", T=20, layers=2)
    module = nn.LSTM(M, H, 2, proj_size=H // 2, bidirectional=directions == 2)
    report = critinit.apply(spec, module, seed=0).report
    check(spec, module, directions=directions)
    assert not any("projection" in note for note in report.notes)
    assert [row.part for row in report].count("projection") == 2 * directions
    narrow = nn.LSTM(M, H, 2, proj_size=H // 2 - 1)
    with pytest.raises(
        critinit.ApplyError, match=rf"found a projection to {H // 2 - 1} coordinates; allowed: {H // 2} of {H} units"
    ):
        critinit.apply(spec, narrow)
    with pytest.raises(critinit.ApplyError, match="found lstm at"):
        critinit.apply(spec, nn.LSTM(M, H, 2))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("directions", [1, 2])
def test_conformance_of_projection(directions):
    spec = make_spec("lstm", layers=2)
    module = nn.LSTM(M, H, 2, proj_size=4, bidirectional=directions == 2)
    report = apply(spec, module, seed=0).report
    check(spec, module, directions=directions, projection_size=4)
    assert any("projection to 4" in note for note in report.notes)
    assert [row.part for row in report].count("projection") == 2 * directions
    assert all(row.orthogonality_error < 1e-6 for row in report if row.part == "projection")


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_types(dtype):
    spec = make_spec("gru")
    module = nn.GRU(M, H, dtype=dtype)
    apply(spec, module, seed=0)
    assert {p.dtype for p in module.parameters()} == {dtype}
    check(spec, module, tolerance=TOLERANCE[dtype])
    weights = draw(spec, M, H).layers[0][0].gates["reset"].input
    cast = torch.from_numpy(weights).to(dtype)  # cast once: exactly the rounded float64 number
    assert torch.equal(module.weight_ih_l0[:H], cast)


def test_a_number_that_the_type_cannot_hold():
    module = nn.GRU(M, H, dtype=torch.float16)
    before = bits(module)
    with pytest.raises(ApplyError, match=r"bias_ih_l0: found numbers of layers\.0\.gates\.reset\.bias that"):
        apply(make_spec("gru", bias={"distribution": "constant", "mean": 1e5, "variance": 0.0}), module)
    assert bits(module) == before


# ---- adapters that lie fail the same check ---------------------------------------------------------------


class Doubled(TorchAdapter):
    """Writes the bias into both vectors."""

    def store_portable(self, write):
        super().store_portable(write)
        tensor = write.tensor
        if tensor.name == "bias_hh_l0":
            tensor.handle.data.copy_(self.target.bias_ih_l0)


class FusedOrthogonal(TorchAdapter):
    """Draws one orthogonal matrix for all gates, as ``torch.nn.init.orthogonal_`` on the tensor does."""

    def store_portable(self, write):
        super().store_portable(write)
        tensor = write.tensor
        if tensor.name == "weight_hh_l0":
            nn.init.orthogonal_(tensor.handle.data)


class FirstLayerOnly(TorchAdapter):
    def store_portable(self, write):
        if "l1" not in write.tensor.name:
            super().store_portable(write)


class ForwardOnly(TorchAdapter):
    def store_portable(self, write):
        if "reverse" not in write.tensor.name:
            super().store_portable(write)


class CandidateBiasInside(TorchAdapter):
    """Writes the GRU candidate's bias where the reset gate scales it."""

    def store_portable(self, write):
        super().store_portable(write)
        tensor = write.tensor
        if tensor.name == "bias_hh_l0":
            hidden, data = self.target.hidden_size, self.target.bias_ih_l0.data
            tensor.handle.data[2 * hidden :] = data[2 * hidden :]
            data[2 * hidden :] = 0


def lie(adapter, module, spec):
    adapter.target = module
    return adapter.apply(spec, module, seed=0, sampler="portable", include=None, options={})


@pytest.mark.parametrize(
    ("liar", "cell"),
    [
        (Doubled, "rnn"),
        (Doubled, "gru"),
        (Doubled, "lstm"),
        (FusedOrthogonal, "gru"),
        (FusedOrthogonal, "lstm"),
        (FirstLayerOnly, "lstm"),
        (ForwardOnly, "gru"),
        (CandidateBiasInside, "gru"),
    ],
)
def test_a_lying_adapter_fails(liar, cell):
    spec = make_spec(cell, layers=2, recurrent="orthogonal")
    module = CELLS[cell](M, H, 2, bidirectional=True)
    honest = lie(TorchAdapter(), module, spec).report
    check(spec, module, directions=2)
    module = CELLS[cell](M, H, 2, bidirectional=True)
    report = lie(liar(), module, spec).report
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(spec, module, directions=2)
    if liar is FusedOrthogonal:  # and the report tells the truth about what stands there
        assert max(row.orthogonality_error or 0 for row in honest) < 1e-6
        assert max(row.orthogonality_error or 0 for row in report) > 0.1


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_swapped_gate_order_fails(cell, monkeypatch, request):
    order = TORCH_GATES[cell]
    request.addfinalizer(torch_blocks.cache_clear)
    for swapped in itertools.permutations(order):
        monkeypatch.setitem(TORCH_GATES, cell, swapped)
        torch_blocks.cache_clear()
        module = CELLS[cell](M, H)
        apply(make_spec(cell), module, seed=0)
        if swapped == order:
            check(make_spec(cell), module)
        else:
            with pytest.raises(AssertionError, match="Not equal to tolerance"):
                check(make_spec(cell), module)


# ---- what is found, and what is left alone ---------------------------------------------------------------


class Model(nn.Module):
    """Two GRUs, an LSTM, and much that is none of an initializer's business."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, M)
        self.encoder = nn.ModuleDict({"gru": nn.GRU(M, H), "norm": nn.BatchNorm1d(H)})
        self.decoder = nn.GRU(H, H)
        self.memory = nn.LSTM(M, H)
        self.again = self.decoder
        self.scale = nn.Parameter(torch.randn(3))
        self.register_buffer("steps", torch.tensor(4))


def test_a_tensor_of_one_number_is_a_number():
    data = torch.randn(50, 20, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    stated = generate("gru", torch.tensor(20), input_variance=data.pow(2).mean())
    assert stated == generate("gru", 20, input_variance=data.pow(2).mean().item())
    with pytest.raises(ArgumentError, match="input_variance: found tensor"):
        generate("gru", 20, input_variance=torch.ones((), device="meta"))


def test_a_model_with_other_things():
    model = Model()
    before = bits(model)
    report = apply(make_spec("gru"), model, seed=5).report
    after = bits(model)
    changed = {name for name in before if before[name] != after[name]}
    ours = {name for name in before if name.startswith(("encoder.gru.", "decoder."))}
    assert changed == ours
    assert set(report.untouched) == set(before) - ours
    assert {row.tensor for row in report} | set(report.zeroed) == ours
    assert any("'memory': a lstm" in note for note in report.notes)
    # the same seed gives separate networks independent weights; the shared module counts once
    check(make_spec("gru"), model.encoder["gru"], seed=5, index=0)
    check(make_spec("gru"), model.decoder, seed=5, index=1)


@pytest.mark.parametrize("include", ["decoder", ["dec*"], ("decoder", "nothing*")])
def test_include(include):
    model, spec = Model(), make_spec("gru")
    if len(include) == 2:
        with pytest.raises(ApplyError, match=r"include: found 'nothing\*'; allowed: .*'encoder.gru', 'decoder'"):
            apply(spec, model, seed=0, include=include)
        return
    before = bits(model)
    report = apply(spec, model, seed=0, include=include).report
    after = bits(model)
    assert {name for name in before if before[name] != after[name]} == {n for n in before if n.startswith("decoder")}
    assert "encoder.gru.weight_ih_l0" in report.untouched
    check(spec, model.decoder, index=1)  # narrowing does not change what a network gets


def test_include_matches_what_lies_below():
    model = Model()
    apply(make_spec("gru"), model, seed=0, include="encoder")
    check(make_spec("gru"), model.encoder["gru"])


@pytest.mark.parametrize("include", [[], [3], 3])
def test_bad_include(include):
    with pytest.raises(ArgumentError, match="include: found"):
        apply(make_spec("gru"), Model(), include=include)


def test_chained_single_layers_take_the_layers_in_turn():
    spec, chain = (
        make_spec("rnn", layers=3),
        nn.Sequential(nn.RNNCell(M, H), nn.RNNCell(H, H), nn.RNNCell(H, H)),
    )
    apply(spec, chain, seed=2)
    x = inputs(20)
    seen = torch.tensor(x, dtype=torch.float32)
    for module in chain:
        seen = torch.tensor(outputs(module, seen.numpy()), dtype=torch.float32)
    np.testing.assert_allclose(seen, forward("rnn", draw(spec, M, H, seed=2), x), atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "module", "message"),
    [
        (2, nn.GRU(M, H), "found 1 layer; allowed: 2, as the spec has; write the spec with layers=1 ."),
        (1, nn.GRU(M, H, 2), "found 2 layers; allowed: 1, as the spec has; write the spec with layers=2 ."),
        (
            2,
            nn.ModuleList([nn.GRUCell(M, H) for _ in range(3)]),
            "'0' has 1.*allowed: the spec's 2 in each module, or in all.*include=",
        ),
        (
            2,
            nn.ModuleList([nn.GRU(M, H, 2), nn.GRUCell(M, H)]),
            "'0' has 2, '1' has 1.*allowed: the spec's 2 in each module",
        ),
    ],
)
def test_layers_that_do_not_fit(layers, module, message):
    before = bits(module)
    with pytest.raises(ApplyError, match=message):
        apply(make_spec("gru", layers=layers), module)
    assert bits(module) == before


@pytest.mark.parametrize(
    ("cell", "layers", "module"),
    [
        ("gru", 2, nn.GRU(M, H)),
        ("gru", 1, nn.GRU(M, H, 3)),
        ("gru", 2, nn.ModuleList([nn.GRUCell(M, H), nn.GRUCell(H, H), nn.GRUCell(H, H)])),
        ("gru", 2, nn.ModuleList([nn.GRU(M, H, 2), nn.GRUCell(H, H)])),
        ("lstm", 1, nn.GRU(M, H)),
        ("rnn", 1, nn.LSTM(M, H)),
        ("gru_reset_before", 1, nn.GRU(M, H)),
    ],
)
def test_the_hint_about_the_spec_helps(cell, layers, module):
    with pytest.raises(ApplyError) as raised:
        apply(make_spec(cell, layers=layers), module)
    given = dict(re.findall(r"--(cell|layers) (\w+)", raised.value.hint))
    assert len(given) == 1
    better = make_spec(given.get("cell", cell), layers=int(given.get("layers", layers)))
    parameters = list(module.parameters())
    report = apply(better, module).report
    assert not report.untouched
    assert len({row.tensor for row in report}) + len(report.zeroed) == len(parameters)


def test_shared_modules_are_written_once():
    gru = nn.GRU(M, H)
    shared = nn.ModuleList([gru, nn.Linear(2, 2), gru])
    assert len(apply(make_spec("gru"), shared, seed=0).report) == 9
    check(make_spec("gru"), gru)


def test_networks_that_share_all_parameters_are_one():
    a, b = nn.GRUCell(M, H), nn.GRUCell(M, H)
    for name, parameter in a.named_parameters():
        setattr(b, name, parameter)
    assert len(apply(make_spec("gru"), nn.ModuleList([a, b]), seed=0).report) == 9
    check(make_spec("gru"), b)


def test_networks_that_share_some_parameters_are_refused():
    a, b = nn.GRUCell(M, H), nn.GRUCell(M, H)
    b.weight_hh = a.weight_hh
    with pytest.raises(ApplyError, match=r"1\.weight_hh: found a tensor shared with '0'.*untie"):
        apply(make_spec("gru"), nn.ModuleList([a, b]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_compiled_wrapper():
    model = Model()
    compiled = torch.compile(model)
    applied = apply(make_spec("gru"), compiled, seed=0)
    assert applied.model is compiled
    assert "encoder.gru.weight_ih_l0" in {row.tensor for row in applied.report}
    assert "embed.weight" in applied.report.untouched
    check(make_spec("gru"), model.encoder["gru"])


def test_frozen_parameters_and_gradients():
    module = nn.GRU(M, H).requires_grad_(False)
    apply(make_spec("gru"), module, seed=0)
    assert not any(p.requires_grad for p in module.parameters())
    module.requires_grad_(True)
    flat = [p.data_ptr() for p in module._flat_weights]
    apply(make_spec("gru"), module, seed=0)
    assert all(p.is_leaf and p.grad is None and p.requires_grad for p in module.parameters())
    assert [p.data_ptr() for p in module._flat_weights] == flat
    module(torch.randn(2, B, M))[0].sum().backward()
    check(make_spec("gru"), module)


# ---- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "module", "message"),
    [
        (
            make_spec("rnn"),
            nn.RNN(M, H, nonlinearity="relu"),
            "found relu_rnn at the model itself; allowed: a layer of the spec's cell, rnn; .* --cell relu_rnn$",
        ),
        (make_spec("rnn"), nn.RNNCell(M, H, nonlinearity="relu"), "found relu_rnn at .* --cell relu_rnn$"),
        (make_spec("relu_rnn"), nn.RNN(M, H), "found rnn at the model itself; .*cell, relu_rnn; .* --cell rnn$"),
        (make_spec("relu_rnn"), nn.RNNCell(M, H), "found rnn at the model itself; .* --cell rnn$"),
        (
            make_spec("gru_reset_before"),
            nn.GRU(M, H),
            "found gru at the model itself; .*cell, gru_reset_before; .* --cell gru$",
        ),
        (
            make_spec("peephole_lstm"),
            nn.LSTM(M, H),
            "cell, peephole_lstm; this framework has layers for rnn, gru, lstm",
        ),
        (
            make_spec("minimal_rnn"),
            nn.RNN(M, H),
            "cell, minimal_rnn; this framework has layers for rnn, gru, lstm",
        ),
        (make_spec("lstm"), nn.GRU(M, H), "found gru at the model itself; .*cell, lstm"),
        (
            make_spec("lstm"),
            nn.Linear(M, H),
            "found no recurrent layer that is known; .*cell, lstm; for a module .*where=",
        ),
        (
            make_spec("gru"),
            nn.GRU(M, H, bias=False),
            r"found no bias for gate update; layers\.0\.gates\.update\.bias",
        ),
        (
            make_spec("gru"),
            nn.GRU(M, H, device="meta"),
            r"weight_ih_l0: found a parameter on the meta device.*to_empty",
        ),
        (
            make_spec("gru"),
            nn.GRUCell(M, H, device="meta"),
            r"weight_ih: found a parameter on the meta device.*to_empty",
        ),
        (
            make_spec("lstm", recurrent="orthogonal"),
            nn.LSTM(M, H, proj_size=3),
            r"layers\.0\.gates\.input\.recurrent: .*\(12, 3\).*the theory does not hold",
        ),
    ],
)
def test_refused(spec, module, message):
    with pytest.raises(ApplyError, match=message) as raised:
        apply(spec, module)
    assert "\n" not in str(raised.value)


def test_parametrized_weights_are_refused():
    for change in (
        lambda m: nn.utils.parametrizations.orthogonal(m, "weight_hh_l0"),
        lambda m: nn.utils.parametrizations.weight_norm(m, "weight_hh_l0"),
    ):
        module = nn.GRU(M, H)
        change(module)
        before = bits(module)
        with pytest.raises(ApplyError, match="weight_hh_l0: found a parametrized tensor"):
            apply(make_spec("gru"), module)
        assert bits(module) == before
        # a refusal counts only for what would be written
        both = nn.ModuleDict({"a": module, "b": nn.GRU(M, H)})
        apply(make_spec("gru"), both, include="b")


def test_after_to_empty():
    module = nn.GRU(M, H, device="meta").to_empty(device="cpu")
    apply(make_spec("gru"), module, seed=0)
    check(make_spec("gru"), module)


def test_bidirectional_input_kernel_that_is_not_square():
    data = make_spec("gru", layers=2).model_dump(mode="json")
    data["layers"][1]["gates"]["candidate"]["input"] = {"distribution": "orthogonal", "variance": 1.0}
    spec = type(make_spec("gru")).model_validate(data)
    apply(spec, nn.GRU(M, H, 2))
    with pytest.raises(ApplyError, match=r"layers\.1\.gates\.candidate\.input: .*\(12, 24\)"):
        apply(spec, nn.GRU(M, H, 2, bidirectional=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed: found -1"),
        ({"seed": 0.5}, "seed: found 0.5"),
        ({"sampler": "fast"}, "sampler: found 'fast'; allowed: portable, native"),
        ({"framework": "numpy"}, "framework: found 'numpy'; allowed: .*torch"),
        ({"gates": 3}, "gates: found no option of the torch adapter; allowed: none"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        apply(make_spec("gru"), nn.GRU(M, H), **arguments)


def test_bad_targets():
    with pytest.raises(ArgumentError, match="spec: found dict; allowed: an InitSpec"):
        apply({"cell": "gru"}, nn.GRU(M, H))
    with pytest.raises(ApplyError, match=r"found a builtins\.int; .*no adapter for it; adapters found: .*torch"):
        apply(make_spec("gru"), 3)


@pytest.mark.parametrize("framework", [None, "torch"])
@pytest.mark.parametrize(
    ("target", "found", "hint"),
    [
        (nn.GRU, r"the class torch\.nn\.modules\.rnn\.GRU", r"make a model of it first: model = GRU\(\.\.\.\)"),
        ("model.safetensors", r"a builtins\.str", "give a model, not a file"),
        (
            nn.GRU(M, H).parameters(),
            r"a builtins\.generator",
            "an iterator, such as .* returns, is no model",
        ),
        (Path("model.pt"), r"a pathlib\.\w+", "give a model, not a file"),
    ],
)
def test_what_people_give_instead_of_a_model(target, found, hint, framework):
    with pytest.raises(ApplyError, match=rf"^target: found {found}; allowed: a model; {hint}"):
        apply(make_spec("gru"), target, framework=framework)


def test_a_state_dict_is_no_model():
    weights = nn.GRU(M, H).state_dict()
    with pytest.raises(ApplyError, match="this looks like a state_dict; give the model itself; no adapter for it"):
        apply(make_spec("gru"), weights)
    with pytest.raises(ApplyError, match=r"target: found a OrderedDict; allowed: a torch\.nn\.Module"):
        apply(make_spec("gru"), weights, framework="torch")


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ([nn.GRU(M, H)], "it holds models of torch; give a model that holds them, or each by itself"),
        ({"a": nn.GRU(M, H), "n": 3}, "it holds models of torch; give a model that holds them, or each by itself"),
        (torch.optim.Adam(nn.GRU(M, H).parameters()), r"give the model itself, an nn\.Module"),
        (list(nn.GRU(M, H).parameters()), r"give the model itself, an nn\.Module"),
        (nn.GRU(M, H).weight_hh_l0, r"give the model itself, an nn\.Module"),
    ],
)
def test_what_holds_a_model_or_is_a_part_of_one(target, hint):
    with pytest.raises(ApplyError, match=f"; {hint}; no adapter for it"):
        apply(make_spec("gru"), target, seed=0)


@pytest.mark.parametrize("scheme", ["critical", "memory"])
def test_the_way_out_for_a_layer_without_biases_works(scheme):
    with pytest.raises(ApplyError) as refused:
        apply(generate("lstm", T=50, scheme=scheme, layers=2), nn.LSTM(M, 16, 2, bias=False), seed=0)
    setting = refused.value.hint.partition("--set '")[2].rstrip("'")
    spec = generate("lstm", T=50, scheme=scheme, layers=2, settings=[setting])
    assert apply(spec, nn.LSTM(M, 16, 2, bias=False), seed=0).report.rows


# ---- all or nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["portable", "native"])
def test_an_unwritable_last_tensor_leaves_everything_as_it_was(sampler):
    model = nn.ModuleDict({"a": nn.LSTM(M, H, 2, bidirectional=True), "b": nn.LSTM(M, H, 2, bias=True)})
    with torch.inference_mode():  # a tensor made here may not be changed elsewhere
        model["b"].bias_hh_l1 = nn.Parameter(torch.zeros(4 * H), requires_grad=False)
    before = bits(model)
    with pytest.raises(ApplyError, match=r"^b\.bias_hh_l1: cannot be written .*nothing was changed$"):
        apply(make_spec("lstm", layers=2), model, sampler=sampler)
    assert bits(model) == before


def test_failing_in_the_middle_of_writing_restores_bit_for_bit(monkeypatch):
    """Whatever write fails, after however many succeeded, and an interrupt too; more than fits in memory."""
    module = nn.GRU(300, 700, 2)  # 21 MB: the journal goes to disk
    with torch.no_grad():
        module.bias_hh_l0[0], module.bias_hh_l0[1] = math.nan, -0.0
    before, store = bits(module), TorchAdapter.store_portable
    spec = make_spec("gru", layers=2)
    for fail_at, error in ((0, RuntimeError("full")), (5, MemoryError()), (7, KeyboardInterrupt())):
        calls = itertools.count()

        def failing(self, write, calls=calls, fail_at=fail_at, error=error):
            store(self, write)
            if next(calls) == fail_at:
                raise error

        monkeypatch.setattr(TorchAdapter, "store_portable", failing)
        with pytest.raises(KeyboardInterrupt if fail_at == 7 else ApplyError):
            apply(spec, module)
        assert bits(module) == before


def test_no_half_application_across_networks():
    """A second network that does not fit is found before the first is written."""
    model = nn.ModuleDict({"a": nn.GRU(M, H), "b": nn.GRU(M, H, bias=False)})
    before = bits(model)
    with pytest.raises(ApplyError, match="'b': found no bias"):
        apply(make_spec("gru"), model)
    assert bits(model) == before


# ---- randomness ------------------------------------------------------------------------------------------


def test_without_a_seed_the_weights_follow_torchs_generator():
    def applied(seed, count=1):
        torch.manual_seed(seed)
        return [apply(make_spec("gru"), nn.GRU(M, H)) for _ in range(count)]

    def kernel(one):
        return one.model.weight_hh_l0

    first, second = applied(3, 2)
    assert first.seed == first.report.seed != second.seed
    assert f"\nseed: {first.seed}\n" in str(first.report)
    assert not torch.equal(kernel(first), kernel(second))
    again = applied(3, 2)
    assert [one.seed for one in again] == [first.seed, second.seed]
    assert torch.equal(kernel(again[1]), kernel(second))
    assert applied(4)[0].seed != first.seed
    assert torch.equal(kernel(apply(make_spec("gru"), nn.GRU(M, H), seed=first.seed)), kernel(first))


def test_a_seed_is_one_number_of_the_generator():
    module = nn.GRU(M, H)
    torch.manual_seed(3)
    seed = apply(make_spec("gru"), module).seed
    after = torch.rand(4)
    torch.manual_seed(3)
    assert int(torch.randint(2**53, ())) == seed
    assert torch.equal(torch.rand(4), after)
    with torch.device("meta"):  # a default device changes nothing
        torch.manual_seed(3)
        assert apply(make_spec("gru"), module).seed == seed


@pytest.mark.parametrize("sampler", ["portable", "native"])
def test_global_random_state_is_untouched(sampler):
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    apply(make_spec("lstm", recurrent="orthogonal"), nn.LSTM(M, H, dtype=torch.bfloat16), seed=0, sampler=sampler)
    model = nn.LSTM(M, H)
    state = torch.get_rng_state()
    apply(make_spec("lstm", recurrent="orthogonal"), model, seed=0, sampler=sampler)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002


@pytest.mark.parametrize("sampler", ["portable", "native"])
def test_the_seed_decides(sampler):
    def run(seed):
        module = nn.LSTM(M, H, 2)
        apply(make_spec("lstm", layers=2), module, seed=seed, sampler=sampler)
        return bits(module)

    assert run(1) == run(1)
    assert run(1)["weight_hh_l1"] != run(2)["weight_hh_l1"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("recurrent", ["normal", "uniform", "orthogonal", "identity"])
def test_native_moments(recurrent, dtype):
    """Means and variances within 4.4 standard errors (1e-5 per number), biases the portable sampler's."""
    width = 160
    spec = make_spec("lstm", layers=2, recurrent=recurrent)
    module = nn.LSTM(90, width, 2, bidirectional=True, dtype=dtype)
    report = apply(spec, module, seed=1, sampler="native").report
    assert len(report) == 2 * 2 * 4 * 3
    for row in report:
        if row.part == "bias" or row.distribution == "identity":
            continue
        size = width * (width if row.part == "recurrent" else 90 if row.layer == 0 else 2 * width)
        fan_in = size / width
        kurtosis = {"normal": 3, "uniform": 1.8, "orthogonal": 3}[row.distribution]
        rounding = 2e-4 if dtype == torch.bfloat16 else 1e-6
        assert abs(row.realised_mean) < 4.4 * math.sqrt(row.variance / fan_in / size) + rounding
        if row.distribution != "orthogonal":
            assert abs(row.realised_variance / row.variance - 1) < 4.4 * math.sqrt((kurtosis - 1) / size) + rounding
        else:
            limit = 0.02 if dtype == torch.bfloat16 else 1e-5
            assert row.orthogonality_error < limit
            # the variance is about the mean, whose square is of order 1/width² of it
            assert abs(row.realised_variance / row.variance - 1) < limit + 4.4**2 / width**2
    weights = draw(spec, 90, width, seed=1, directions=2)
    for layer, direction in itertools.product((0, 1), (0, 1)):
        bias = getattr(module, f"bias_ih_l{layer}{'_reverse' * direction}")
        expected = [weights.layers[layer][direction].gates[gate].bias for gate in TORCH_GATES["lstm"]]
        assert torch.equal(bias, torch.from_numpy(np.concatenate(expected)).to(dtype))
        assert not getattr(module, f"bias_hh_l{layer}{'_reverse' * direction}").any()


def test_native_distributions_and_independence():
    """Kolmogorov–Smirnov per kernel at 1e-5; correlations of all gates, layers, directions, networks."""
    width = 64
    spec = make_spec("gru", layers=2)
    modules = nn.ModuleList([nn.GRU(width, width, 2, bidirectional=True) for _ in range(2)])
    apply(spec, modules, seed=4, sampler="native")
    kernels = []
    for module, layer, suffix in itertools.product(modules, (0, 1), ("", "_reverse")):
        for n, stem in itertools.product(range(3), ("weight_hh", "weight_ih")):
            block = getattr(module, f"{stem}_l{layer}{suffix}")[n * width : (n + 1) * width].detach()
            kernels.append(block[:, :width].flatten().numpy())
            gate = spec.layers[layer].gates[TORCH_GATES["gru"][n]]
            kernel = gate.recurrent if stem == "weight_hh" else gate.input
            sigma = math.sqrt(kernel.variance / block.shape[1])
            bound = sigma * math.sqrt(3)
            expected = stats.norm(0, sigma) if kernel.distribution == "normal" else stats.uniform(-bound, 2 * bound)
            assert stats.kstest(block.flatten().numpy(), expected.cdf).pvalue > 1e-5
    correlation = np.corrcoef(np.stack(kernels)) - np.eye(len(kernels))
    assert len(kernels) == 2 * 2 * 2 * 6
    assert np.abs(correlation).max() < 5.5 / math.sqrt(width * width)


def test_native_orthogonal_is_haar():
    """E tr Q = 0 and E (tr Q)² = 1, which a QR without the sign fix misses."""
    spec = make_spec("rnn", hidden={"recurrent": {"distribution": "orthogonal", "variance": 1.0}})
    cells = nn.ModuleList([nn.RNNCell(1, 4) for _ in range(1500)])
    apply(spec, cells, sampler="native")
    traces = np.array([cell.weight_hh.trace().item() for cell in cells])
    assert abs(traces.mean()) < 4.4 / math.sqrt(len(traces))
    assert abs((traces**2).mean() - 1) < 4.4 * math.sqrt(2 / len(traces))


def test_native_projection():
    module = nn.LSTM(M, 60, proj_size=20)
    report = apply(make_spec("lstm"), module, sampler="native").report
    w = module.weight_hr_l0.detach()
    assert torch.allclose(w @ w.mT, torch.eye(20), atol=1e-5)
    assert [row.variance for row in report if row.part == "projection"] == [1.0]


# ---- sharded ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_shards_equal_slices_of_the_unsharded_result(tmp_path):
    """Two gloo processes; both samplers, even and uneven shards, FSDP2 and plain DTensors; see the worker."""
    torch.multiprocessing.spawn(torch_sharded.worker, (str(tmp_path / "store"),), nprocs=2)


# ---- the report ------------------------------------------------------------------------------------------


def test_report():
    model = Model()
    report = apply(make_spec("gru"), model, include="decoder").report
    text = str(report)
    assert text.splitlines()[0].split()[:4] == ["tensor", "layer", "dir", "gate"]
    assert "set to 0: decoder.bias_hh_l0" in text
    assert "left as it was: scale, embed.weight" in text
    assert len(list(report)) == len(report.rows) == 9
    spread = next(row for row in report if row.part == "bias" and row.gate == "reset")
    bias = model.decoder.bias_ih_l0[:H].detach().double().numpy()
    assert spread.distribution == "log_uniform_time"
    assert spread.realised_mean == pytest.approx(bias.mean(), rel=1e-5)
    assert spread.realised_variance == pytest.approx(bias.var(), rel=1e-5)
    kernel = next(row for row in report if row.part == "input" and row.gate == "candidate")
    values = model.decoder.weight_ih_l0[2 * H :].detach().double().numpy()
    assert kernel.realised_variance == pytest.approx(values.var() * H, rel=1e-5)
    assert kernel.variance == 0.5


def test_finding_an_adapter_imports_no_framework():
    code = (
        "import sys\n"
        "from critinit.errors import ApplyError\n"
        "from critinit.tensors.application import apply\n"
        "from tests.adapters.specs import make_spec\n"
        "try:\n    apply(make_spec('gru'), object())\n"
        "except ApplyError as error:\n    print(error)\n"
        "frameworks = {'torch', 'keras', 'jax', 'flax', 'tensorflow', 'haiku', 'equinox'}\n"
        "print(sorted(frameworks & set(sys.modules)))\n"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert "imported: none of these" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_an_adapter_that_does_not_load_is_passed_over(install):
    """Somebody's broken adapter neither stops ours nor goes unsaid where nothing else fits."""
    install("critinit.adapters", sys="no_such_module:ADAPTER")
    with pytest.warns(PluginWarning, match=r"adapter sys of no_such_module:ADAPTER was skipped: ModuleNotFoundError"):
        apply(make_spec("gru"), nn.GRU(M, H))
    with pytest.raises(ApplyError, match=r"skipped sys: ModuleNotFoundError"):
        apply(make_spec("gru"), 3)


def test_two_adapters_that_claim_a_target(install):
    source = """
        from critinit_adapters.torch import TorchAdapter
        class Own(TorchAdapter):
            framework, module = "own", "sys"
        ADAPTER = Own()
    """
    install("critinit.adapters", {"own_torch.py": source}, sys="own_torch:ADAPTER")
    with pytest.raises(ApplyError, match=r"could be of several frameworks; say framework= and one of (own|torch), "):
        apply(make_spec("gru"), nn.GRU(M, H))
    for framework in ("torch", "own"):
        assert len(apply(make_spec("gru"), nn.GRU(M, H), framework=framework).report) == 9


def test_applying_twice_gives_the_same():
    module = nn.LSTM(M, H)
    apply(make_spec("lstm"), module, seed=0)
    first = copy.deepcopy(bits(module))
    apply(make_spec("lstm"), module, seed=0)
    assert bits(module) == first


def test_numbers_that_lie_in_one_place_are_one_tensor():
    """Two parameters over the same memory: refused within a network, one network where all are shared, else named."""
    torn = nn.GRU(M, H)
    torn.bias_hh_l0.data = torn.bias_ih_l0.data
    with pytest.raises(ApplyError, match=r"found one tensor that serves two places"):
        apply(make_spec("gru"), torn)
    first, second = nn.GRU(M, H), nn.GRU(M, H)
    second.load_state_dict(first.state_dict(), assign=True)
    report = apply(make_spec("gru"), nn.ModuleList([first, second])).report
    assert {row.tensor.partition(".")[0] for row in report} == {"0"}
    assert report.untouched == ()


def test_a_tensor_shared_with_another_layer_is_named():
    model = nn.ModuleDict({"head": nn.Linear(H, 3 * H), "rnn": nn.GRU(M, H)})
    model["rnn"].weight_hh_l0 = model["head"].weight
    report = apply(make_spec("gru"), model).report
    assert report.untouched == ("head.bias",)
    assert report.notes == ("head.weight: the same tensor as rnn.weight_hh_l0, so it was written too",)


def test_layers_are_in_the_order_in_which_their_widths_fit():
    spec = make_spec("gru", layers=3)
    model = nn.ModuleDict({"top": nn.GRU(H, H), "middle": nn.GRU(2 * H, H), "bottom": nn.GRU(M, 2 * H)})
    rows = apply(spec, model, seed=4).report
    assert {row.tensor.partition(".")[0]: row.layer for row in rows} == {"bottom": 0, "middle": 1, "top": 2}
    took = "'bottom' took layer 0, 'middle' took layer 1, 'top' took layer 2"
    assert rows.notes == (f"the modules took the spec's layers in the order in which their widths fit: {took}",)
    # where widths leave it open, the order in which they were added
    same = nn.ModuleDict({name: nn.GRU(H, H) for name in "cab"})
    report = apply(spec, same).report
    assert {row.tensor[0]: row.layer for row in report} == {"c": 0, "a": 1, "b": 2}
    took = "'c' took layer 0, 'a' took layer 1, 'b' took layer 2"
    assert report.notes == (f"the modules took the spec's layers in the order of the model: {took}",)


def test_layers_whose_widths_fit_in_no_order():
    """A chain is formed only where the user says the order, as each hint says."""
    apart = nn.ModuleDict({"one": nn.GRU(M, H, 2), "two": nn.GRU(M, H)})
    before = bits(apart)
    with pytest.raises(ApplyError, match=r"say the order of the layers: include=\['one', 'two'\]$"):
        apply(make_spec("gru", layers=3), apart)
    assert bits(apart) == before
    spec = make_spec("gru", layers=2)
    pair = nn.ModuleDict({"one": nn.GRU(M, H), "two": nn.GRU(M, H)})
    hint = r"include=\['one', 'two'\]; if each is a network of its own, write the spec with layers=1 \(--layers 1\)$"
    with pytest.raises(ApplyError, match=hint):
        apply(spec, pair)
    with pytest.raises(ApplyError, match="none reads what another gives"):  # a pattern for both says no order
        apply(spec, pair, include="*")
    assert len(apply(make_spec("gru"), pair).report) == 18
    for order in (["one", "two"], ["two", "one"]):
        report = apply(spec, pair, include=order).report
        assert {row.tensor[:3]: row.layer for row in report} == {order[0]: 0, order[1]: 1}
        why = "in the order that you say, although not each reads as many numbers as the one before gives"
        assert any(note.startswith(f"the modules took the spec's layers {why}: '{order[0]}'") for note in report.notes)


def test_one_layer_of_a_spec_on_stacked_layers_is_noted_with_the_way_out():
    model = nn.ModuleDict({"lower": nn.GRU(M, H, bidirectional=True), "upper": nn.GRU(2 * H, H)})
    (note,) = apply(make_spec("gru"), model).report.notes
    assert "each of 'lower', 'upper' took the whole spec" in note
    assert note.endswith("critinit.generate(..., layers=2), and apply it with include=['lower', 'upper']")
    report = apply(make_spec("gru", layers=2), model, include=["lower", "upper"]).report
    assert {row.tensor[:5]: row.layer for row in report} == {"lower": 0, "upper": 1}
    apart = nn.ModuleDict({"one": nn.GRU(M, H), "other": nn.GRU(M, H)})
    assert apply(make_spec("gru"), apart).report.notes == ()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda cell: parametrize.register_parametrization(cell, "bias_ih", nn.Identity()),
            "bias_ih: found a parametrized tensor",
        ),
        (
            lambda cell: setattr(cell, "weight_hh", nn.UninitializedParameter()),
            "weight_hh: found a parameter that has no shape yet",
        ),
        (lambda cell: _as_buffer(cell, "bias_hh"), "bias_hh: found a buffer; allowed: a parameter"),
        (lambda cell: delattr(cell, "bias_hh"), "bias_hh: found none; allowed: a parameter"),
    ],
)
def test_what_is_no_parameter_is_refused(spoil, message):
    cell = nn.GRUCell(M, H)
    spoil(cell)
    with pytest.raises(ApplyError, match=message):
        apply(make_spec("gru"), cell)


def _as_buffer(cell, name):
    value = getattr(cell, name).data
    delattr(cell, name)
    cell.register_buffer(name, value)


def test_patterns_match_all_below():
    model = nn.ModuleDict({name: nn.ModuleList([nn.GRU(M, H)]) for name in ("block1", "block2", "other")})
    for pattern, found in (("block?", {"block1", "block2"}), ("block1", {"block1"}), ("*.0", set(model))):
        rows = apply(make_spec("gru"), model, include=[pattern]).report
        assert {row.tensor.partition(".")[0] for row in rows} == found


def test_networks_of_two_cells_get_weights_of_their_own_from_one_seed():
    model = nn.ModuleDict({"gru": nn.GRU(M, 64), "lstm": nn.LSTM(M, 64)})
    for cell in model:
        apply(make_spec(cell), model, seed=0)
    kernels = [network.weight_hh_l0[:64].flatten() for network in model.values()]
    assert abs(torch.corrcoef(torch.stack(kernels))[0, 1].item()) < 5 / 64  # the same numbers would give 1
