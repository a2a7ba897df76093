"""Modules of one's own in PyTorch: every layout by ``where=``, and every wrong one caught by ``verify=``."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from torch import nn

import critinit
from critinit import Slice, fused, joined, separate
from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.sampling import draw
from tests.adapters.numpy_reference import forward
from tests.adapters.specs import make_spec
from tests.adapters.test_torch import bits

pytestmark = pytest.mark.frameworks
M, H, B = 5, 6, 3  # widths of input and state, batch
GATES = ("input", "forget", "cell", "output")
WORDS = {"input": "i", "forget": "f", "cell": "g", "output": "o"}


def lstm(i, f, g, o, c):
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return h, c


class Step(nn.Module):
    """One step; sequences are run from zero states."""

    def run(self, x):
        state = tuple(torch.zeros(x.shape[1], H) for _ in range(2))
        seen = []
        for step in x:
            state = self(step, state)
            seen.append(state[0])
        return torch.stack(seen)


class OfLinears(Step):
    """A Linear for each gate and each of x and h; both have a bias."""

    def __init__(self):
        super().__init__()
        for word in WORDS.values():
            self.add_module(f"x{word}", nn.Linear(M, H))
            self.add_module(f"h{word}", nn.Linear(H, H))

    def forward(self, x, state):
        h, c = state
        return lstm(*(getattr(self, f"x{w}")(x) + getattr(self, f"h{w}")(h) for w in WORDS.values()), c)


class OneLinear(Step):
    """One Linear on [h, x] for all gates in another order."""

    def __init__(self):
        super().__init__()
        self.gates = nn.Sequential(nn.Linear(H + M, 4 * H))

    def forward(self, x, state):
        o, f, g, i = self.gates(torch.cat([state[0], x], -1)).chunk(4, -1)
        return lstm(i, f, g, o, state[1])


class LinearOfEachGate(Step):
    """One Linear on [x, h] for each gate, in a dictionary; the forget gate is stored as 1 − f, less 2."""

    def __init__(self):
        super().__init__()
        self.by_gate = nn.ModuleDict({word: nn.Linear(M + H, H) for word in WORDS.values()})

    def forward(self, x, state):
        i, f, g, o = (self.by_gate[word](torch.cat([x, state[0]], -1)) for word in WORDS.values())
        return lstm(i, -(f + 2), g, o, state[1])


class Augmented(Step):
    """AllenNLP's layout: six chunks of the input, five of the state, of which a plain LSTM uses four."""

    def __init__(self):
        super().__init__()
        self.input_linearity = nn.Linear(M, 6 * H)
        self.state_linearity = nn.Linear(H, 5 * H, bias=False)

    def forward(self, x, state):
        u, w = self.input_linearity(x), self.state_linearity(state[0])
        return lstm(*(u[:, n * H : (n + 1) * H] + w[:, n * H : (n + 1) * H] for n in range(4)), state[1])


class Stacked(Step):
    """Parameters (4, fan-in, H) in a ParameterDict, and two rows of biases that are added."""

    def __init__(self):
        super().__init__()
        shapes = {"W": (4, M, H), "U": (4, H, H), "b": (2, 4 * H)}
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()})

    def forward(self, x, state):
        u = torch.einsum("bi,gih->bgh", x, self.weights["W"]) + torch.einsum("bk,gkh->bgh", state[0], self.weights["U"])
        u = u.flatten(1) + self.weights["b"].sum(0)
        return lstm(*u.chunk(4, -1), state[1])


class Derived(nn.LSTMCell):
    """The names of torch's cell, its forget bias one higher by itself."""

    def forward(self, x, state=None):
        u = nn.functional.linear(x, self.weight_ih, self.bias_ih)
        u = u + nn.functional.linear(state[0], self.weight_hh, self.bias_hh)
        i, f, g, o = u.chunk(4, -1)
        return lstm(i, f + 1, g, o, state[1])

    run = Step.run


TORCH = {"input": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih", "second_bias": "bias_hh"}
LAYOUTS = {
    OfLinears: separate(WORDS, input="x{}.weight", recurrent="h{}.weight", bias="x{}.bias", second_bias="h{}.bias"),
    OneLinear: fused(
        ["output", "forget", "cell", "input"],
        input=Slice("gates.0.weight", columns=(H, H + M)),
        recurrent=Slice("gates.0.weight", columns=(0, H)),
        bias="gates.0.bias",
    ),
    LinearOfEachGate: separate(
        WORDS,
        input=Slice("by_gate.{}.weight", columns=(0, M)),
        recurrent=Slice("by_gate.{}.weight", columns=(M, M + H)),
        bias="by_gate.{}.bias",
        sign={"forget": -1},
        offset={"forget": -2},
    ),
    Augmented: joined(
        fused([*GATES, None, None], input="input_linearity.weight", bias="input_linearity.bias"),
        fused([*GATES, None], recurrent="state_linearity.weight"),
    ),
    Stacked: fused(
        GATES,
        input="weights.W",
        recurrent="weights.U",
        bias=Slice("weights.b", at=(0,)),
        second_bias=Slice("weights.b", at=(1,)),
        transposed=True,
    ),
    Derived: fused(GATES, **TORCH, offset={"forget": -1}),
}


def make(kind):
    return kind(M, H) if kind is Derived else kind()


@pytest.mark.parametrize("sampler", ["portable", "native"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts(kind, sampler):
    """The module gives the outputs of a plain recurrence with the numbers that the report says."""
    spec, module = make_spec("lstm"), make(kind)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    applied = critinit.apply(spec, module, where=LAYOUTS[kind], seed=3, verify=True, sampler=sampler)
    assert applied.model is module
    assert len(applied.report) == 12
    assert applied.report.untouched == ()
    assert any(note.startswith("verified: the model computes what lstm does") for note in applied.report.notes)
    for row in applied.report:
        assert abs(row.realised_variance - row.variance) < 0.8 * row.variance + 1e-6, row
    if sampler == "portable":
        x = np.random.default_rng(0).standard_normal((20, B, M))
        with torch.no_grad():
            found = module.run(torch.tensor(x, dtype=torch.float32)).numpy()
        np.testing.assert_allclose(found, forward("lstm", draw(spec, M, H, seed=3), x), atol=1e-5)
    if kind is Augmented:  # the chunks that no gate has
        assert torch.equal(module.input_linearity.weight[4 * H :], before["input_linearity.weight"][4 * H :])
        assert torch.equal(module.state_linearity.weight[4 * H :], before["state_linearity.weight"][4 * H :])


# ---- wrong mappings --------------------------------------------------------------------------------------


def swapped(layer, one, other, part):
    """The layer with a part of two gates exchanged."""
    return {
        **layer,
        one: {**layer[one], part: layer[other][part]},
        other: {**layer[other], part: layer[one][part]},
    }


def changed(layer, gate, part, **change):
    from dataclasses import replace

    return {**layer, gate: {**layer[gate], part: replace(layer[gate][part], **change)}}


RIGHT = LAYOUTS[OfLinears]
WRONG = {
    **{
        f"{part} of {one} and {other} swapped": swapped(RIGHT, one, other, part)
        for part in ("input", "recurrent", "bias")
        for one, other in itertools.combinations(GATES, 2)
    },
    **{f"recurrent of {gate} transposed": changed(RIGHT, gate, "recurrent", transposed=True) for gate in GATES},
    **{
        f"sign of {gate}'s {part}": changed(RIGHT, gate, part, sign=-1)
        for gate in GATES
        for part in ("input", "recurrent", "bias")
    },
    **{f"offset of {gate}": changed(RIGHT, gate, "bias", offset=1) for gate in GATES},
    **{
        f"second bias of {gate} forgotten": {
            **RIGHT,
            gate: {part: place for part, place in RIGHT[gate].items() if part != "second_bias"},
        }
        for gate in GATES
    },
}


@pytest.mark.parametrize("mistake", WRONG)
def test_every_wrong_mapping_fits_by_its_shapes_and_is_caught_by_one_step(mistake):
    module = OfLinears()
    with torch.no_grad():
        for word in WORDS.values():
            getattr(module, f"h{word}").bias.fill_(0.5)
    before = bits(module)
    with pytest.raises(
        ApplyError, match=r"^verify: found outputs that differ from those of lstm by up to .*nothing was"
    ):
        critinit.apply(make_spec("lstm"), module, where=WRONG[mistake], verify=True, seed=0)
    assert bits(module) == before
    critinit.apply(make_spec("lstm"), module, where=WRONG[mistake], seed=0)  # so it is the step that catches it


def test_a_bias_that_no_place_names_is_named():
    for gate, word in WORDS.items():
        where = WRONG[f"second bias of {gate} forgotten"]
        with pytest.raises(ApplyError, match=rf"no place names h{word}\.bias, .*second_bias= or zero$"):
            critinit.apply(make_spec("lstm"), OfLinears(), where=where, verify=True, seed=0)
        helped = {**where, "zero": [f"h{word}.bias"]}
        critinit.apply(make_spec("lstm"), OfLinears(), where=helped, verify=True, seed=0)


def test_a_spec_whose_recurrent_kernels_are_nearly_0_hides_nothing():
    spec = critinit.generate("lstm", T=500)
    wrong = swapped(RIGHT, "input", "output", "recurrent")
    with pytest.raises(ApplyError, match="verify: found outputs that differ"):
        critinit.apply(spec, OfLinears(), where=wrong, verify=True, seed=0)
    assert critinit.apply(spec, OfLinears(), where=RIGHT, verify=True, seed=0).report.rows


@pytest.mark.parametrize(
    "step",
    [
        lambda i, f, g, o, c: lstm(i, f, nn.functional.layer_norm(g, (H,)), o, c),
        lambda i, f, g, o, c: lstm(i, f + 0.3 * c, g, o, c),
        lambda i, f, g, o, c: (torch.sigmoid(o) * c, lstm(i, f, g, o, c)[1]),
        lambda i, f, g, o, c: lstm(i, f, nn.functional.relu(g), o, c),
    ],
    ids=["normalized", "peephole", "no tanh", "relu"],
)
def test_a_module_that_computes_something_else_is_caught(step):
    class Other(OfLinears):
        def forward(self, x, state):
            return step(
                *(getattr(self, f"x{w}")(x) + getattr(self, f"h{w}")(state[0]) for w in WORDS.values()), state[1]
            )

    with pytest.raises(ApplyError, match="or the module computes something else"):
        critinit.apply(make_spec("lstm"), Other(), where=RIGHT, verify=True, seed=0)


# ---- several layers, both directions ---------------------------------------------------------------------


class PrivateLinear(nn.Linear):
    """The class that opacus gives its kernels; only its name differs from Linear."""


class PrivateCell(nn.Module):
    """The layout of opacus' DPLSTMCell."""

    def __init__(self, inputs):
        super().__init__()
        self.ih, self.hh = PrivateLinear(inputs, 4 * H), PrivateLinear(H, 4 * H)

    def forward(self, x, h, c):
        return lstm(*(self.ih(x) + self.hh(h)).chunk(4, -1), c)


class PrivateLSTM(nn.Module):
    """The layout of opacus' DPLSTM of two layers and two directions."""

    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList([PrivateCell(width) for width in (M, M, 2 * H, 2 * H)])
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, state=None):
        for layer in range(2):
            ways = []
            for way in range(2):
                h, c = torch.zeros(x.shape[1], H), torch.zeros(x.shape[1], H)
                seen = []
                for step in x.flip(0) if way else x:
                    h, c = self.cells[2 * layer + way](step, h, c)
                    seen.append(h)
                ways.append(torch.stack(seen).flip(0) if way else torch.stack(seen))
            x = self.dropout(torch.cat(ways, -1))
        return x, state


def private(number):
    cell = f"cells.{number}"
    parts = {"input": "ih.weight", "recurrent": "hh.weight", "bias": "ih.bias", "second_bias": "hh.bias"}
    return fused(GATES, **{part: f"{cell}.{name}" for part, name in parts.items()})


PRIVATE = [(private(0), private(1)), (private(2), private(3))]


def test_layers_and_directions():
    spec, module = make_spec("lstm", layers=2), PrivateLSTM()
    applied = critinit.apply(spec, module, where=PRIVATE, seed=1, verify=lambda model, x: model(x))
    assert module.training
    assert module.dropout.training
    assert len(applied.report) == 48
    assert set(applied.report.zeroed) == {f"cells.{n}.hh.bias" for n in range(4)}
    took = "in the order that you say: 'where[0]' took layer 0, 'where[1]' took layer 1"
    assert any(took in note for note in applied.report.notes)
    x = np.random.default_rng(0).standard_normal((7, B, M))
    with torch.no_grad():
        found = module.eval()(torch.tensor(x, dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(found, forward("lstm", draw(spec, M, H, seed=1, directions=2), x), atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        [(private(1), private(0)), PRIVATE[1]],
        [PRIVATE[0], (private(3), private(2))],
    ],
    ids=["first layer's directions", "second layer's directions"],
)
def test_directions_that_are_swapped_are_caught(wrong):
    module = PrivateLSTM()
    before = bits(module)
    with pytest.raises(ApplyError, match=r"verify: found outputs that differ from those of lstm by .* within 4 steps"):
        critinit.apply(make_spec("lstm", layers=2), module, where=wrong, verify=lambda model, x: model(x)[0], seed=0)
    assert bits(module) == before


def test_torchs_quantizable_lstm_and_its_own():
    def layer(number):
        cell = f"layers.{number}.layer_fw.cell"
        bias = {"bias": f"{cell}.igates.bias", "second_bias": f"{cell}.hgates.bias"}
        return fused(GATES, input=f"{cell}.igates.weight", recurrent=f"{cell}.hgates.weight", **bias)

    spec, other = make_spec("lstm", layers=2), nn.LSTM(M, H, 2)
    module = torch.ao.nn.quantizable.LSTM(M, H, 2)
    where = [layer(0), layer(1)]
    critinit.apply(spec, module, where=where, seed=5, verify=lambda model, x: model(x)[0])
    critinit.apply(spec, other, seed=5, verify=lambda model, x: model(x)[0])
    x = torch.randn(7, B, M)
    with torch.no_grad():
        torch.testing.assert_close(module(x)[0], other(x)[0], atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_script_module():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(M, H)

        def forward(self, x):
            return self.rnn(x)[0]

    module = torch.jit.script(Wrapped())
    with pytest.raises(ApplyError, match=r"looks recurrent: LSTM at 'rnn' \(a ScriptModule.*where="):
        critinit.apply(make_spec("lstm"), module, seed=0)
    where = fused(GATES, **{part: f"rnn.{name}_l0" for part, name in TORCH.items()})
    for sampler in ("portable", "native"):
        critinit.apply(
            make_spec("lstm"), module, where=where, sampler=sampler, verify=lambda model, x: model(x), seed=0
        )


def test_a_projection_and_a_cell_of_ones_own():
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.x, self.h, self.p = nn.Linear(M, 4 * H), nn.Linear(3, 4 * H), nn.Linear(H, 3, bias=False)

        def forward(self, x, state):
            h, c = lstm(*(self.x(x) + self.h(state[0])).chunk(4, -1), state[1])
            return self.p(h), c

    layer = fused(GATES, input="x.weight", recurrent="h.weight", bias="x.bias", second_bias="h.bias")
    spec = critinit.generate("projection_lstm", T=20)
    report = critinit.apply(spec, Projected(), where={**layer, "projection": "p.weight"}, verify=True, seed=0).report
    assert [row.part for row in report].count("projection") == 1
    with pytest.raises(ArgumentError, match="where: found no 'projection'"):
        critinit.apply(spec, Projected(), where=layer, seed=0)

    class Leaky(critinit.Cell):
        name, gates, candidate_gate = "leaky", ("hidden",), "hidden"

        def keep(self, u):
            return 0.9

        def write(self, u):
            return 0.1

        def candidate(self, u):
            return np.tanh(u["hidden"])

    class LeakyModule(nn.Module):
        def __init__(self, leak):
            super().__init__()
            self.x, self.h, self.leak = nn.Linear(M, H), nn.Linear(H, H, bias=False), leak

        def forward(self, x, h):
            return self.leak * h + (1 - self.leak) * torch.tanh(self.x(x) + self.h(h))

    critinit.register_cell(Leaky)
    spec = critinit.generate("leaky", T=20, scheme="orthogonal")
    where = separate({"hidden": ""}, input="x.weight", recurrent="h.weight", bias="x.bias")
    assert critinit.apply(spec, LeakyModule(0.9), where=where, verify=True, seed=0).report.rows
    with pytest.raises(ApplyError, match="differ from those of leaky"):
        critinit.apply(spec, LeakyModule(0.8), where=where, verify=True, seed=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types(dtype):
    spec, module = make_spec("lstm"), OfLinears().to(dtype)
    critinit.apply(spec, module, where=RIGHT, verify=True, seed=0)
    weights = draw(spec, M, H).layers[0][0].gates["forget"].recurrent
    assert torch.equal(module.hf.weight, torch.from_numpy(weights).to(dtype))
    with pytest.raises(ApplyError, match="verify: found outputs that differ"):
        critinit.apply(spec, module, where=changed(RIGHT, "forget", "recurrent", transposed=True), verify=True, seed=0)


# ---- what is refused -------------------------------------------------------------------------------------


def without(layer, part):
    return {gate: {name: place for name, place in parts.items() if name != part} for gate, parts in layer.items()}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            separate(WORDS, input="x{}.wieght", recurrent="h{}.weight"),
            r"where\['input'\]\['input'\]: found 'xi.wieght', where there is no tensor; allowed: .*'xi.weight'",
        ),
        (separate(WORDS, input="x{}", recurrent="h{}.weight"), "found 'xi', where .* such as 'xi.weight', 'xi.bias'"),
        (separate(WORDS, input="h{}.weight", recurrent="h{}.weight"), "a place in hi.weight that overlaps another"),
        (
            separate(WORDS, input="h{}.weight", recurrent="x{}.weight", bias="x{}.bias"),
            r"xi.weight: found a place of shape \(6, 5\); allowed: \(6, 6\), for layers.0.gates.input.recurrent",
        ),
        (without(RIGHT, "bias"), "found no bias for gate input; .*asks for mean"),
        (
            {**RIGHT, "cell": {**RIGHT["cell"], "input": Slice("xg.weight", rows=(0, 4))}},
            r"xg.weight: found 10 of 30 numbers that no place names; .*'kept': \['xg.weight'\]",
        ),
        (
            {**RIGHT, "cell": {**RIGHT["cell"], "input": Slice("xg.weight", rows=(0, 9))}},
            r"where\['cell'\]\['input'\]: xg.weight: found a tensor of shape \(6, 5\); allowed: one that reaches to 9",
        ),
        ({**RIGHT, "cell": {**RIGHT["cell"], "bias": "xg.weight"}}, "of which 2 axes are left; allowed: 1, for a bias"),
    ],
)
def test_refused(where, message):
    module = OfLinears()
    before = bits(module)
    with pytest.raises(ApplyError, match=message) as raised:
        critinit.apply(make_spec("lstm"), module, where=where, seed=0)
    assert "\n" not in str(raised.value)
    assert bits(module) == before


def test_the_hint_for_numbers_that_no_place_names_works():
    class Wide(OfLinears):
        def __init__(self):
            super().__init__()
            self.xg = nn.Linear(M, H + 2)

    module = Wide()
    part = {"input": Slice("xg.weight", rows=(0, H)), "bias": Slice("xg.bias", rows=(0, H))}
    where = {**RIGHT, "cell": {**RIGHT["cell"], **part}}
    for tensor in ("xg.bias", "xg.weight"):
        with pytest.raises(ApplyError, match=r"add 'kept': \['xg\.(weight|bias)'\] to the layer in where="):
            critinit.apply(make_spec("lstm"), module, where={**where, "kept": [tensor]}, seed=0)
    rest = module.xg.weight[H:].clone()
    critinit.apply(make_spec("lstm"), module, where={**where, "kept": ["xg.weight", "xg.bias"]}, seed=0)
    assert torch.equal(module.xg.weight[H:], rest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"include": "x*"}, r"include: found 'x\*'; allowed: nothing beside where"),
        ({"trust": 1}, "trust: found 1; allowed: True, False"),
        ({"verify": 1}, "verify: found 1; allowed: True, False, or a function that runs the model"),
        ({"verify": lambda model: model}, r"verify: found a function of 1 arguments; allowed: \(model, x, state\)"),
        ({"where": [RIGHT, RIGHT]}, "where: found 2 layers; allowed: 1, as the spec has"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        critinit.apply(make_spec("lstm"), OfLinears(), **{"where": RIGHT, **arguments}, seed=0)


@pytest.mark.parametrize(
    ("verify", "message"),
    [
        (lambda model, x, state: model(x), "found a model that does not run (TypeError: .*; for one step verify takes"),
        (lambda model, x: model(x), "found a model that does not run .*; for sequences verify takes"),
        (lambda model, x, state: x, r"found no array of shape \(4, 6\) in what a step gives"),
        (
            lambda model, x: model.run(x)[1:],
            r"found outputs of shape \(3, 4, 6\); allowed: outputs of shape \(4, 4, 6\)",
        ),
        (lambda model, x: None, "found outputs of shape nothing"),
        (lambda model, x, state: model(x, state)[1], "found outputs that differ"),  # the memory alone
        (
            lambda model, x, state: (torch.full_like(state[0], torch.nan),),
            "found outputs that differ from those of lstm by numbers that are",
        ),
    ],
)
def test_a_function_that_does_not_run_the_model(verify, message):
    module = OfLinears()
    before = bits(module)
    with pytest.raises(ApplyError, match=f"verify: {message}".replace("run (", r"run \(")):
        critinit.apply(make_spec("lstm"), module, where=RIGHT, verify=verify, seed=0)
    assert bits(module) == before


def test_axes_and_states_in_another_order_are_recognized_and_the_hints_work():
    spec, module = make_spec("lstm"), OfLinears()

    def batch_first(model, x):
        return model.run(x.transpose(0, 1)).transpose(0, 1)

    with pytest.raises(
        ApplyError, match=r"the model takes the batch first: hand it x with its first two axes exchanged"
    ):
        critinit.apply(spec, module, where=RIGHT, verify=batch_first, seed=0)
    critinit.apply(
        spec, module, where=RIGHT, verify=lambda model, x: batch_first(model, x.transpose(0, 1)).transpose(0, 1), seed=0
    )

    def memory_first(model, x, state):
        return model(x, state[::-1])[::-1]

    with pytest.raises(ApplyError, match=r"the module takes the memory first: hand it \(s, h\), and return \(h, s\)"):
        critinit.apply(spec, module, where=RIGHT, verify=memory_first, seed=0)
    critinit.apply(
        spec, module, where=RIGHT, verify=lambda model, x, state: memory_first(model, x, state[::-1])[::-1], seed=0
    )


def test_an_interrupt_while_the_model_runs_leaves_it_as_it_was():
    def interrupted(model, x, state):
        raise KeyboardInterrupt

    module = OfLinears()
    before = bits(module)
    with pytest.raises(KeyboardInterrupt):
        critinit.apply(make_spec("lstm"), module, where=RIGHT, verify=interrupted, seed=0)
    assert bits(module) == before


def test_a_step_for_layers_and_several_networks():
    with pytest.raises(ArgumentError, match=r"verify: found one step, for 2 layers in 2 directions; .*\(model, x\)"):
        critinit.apply(make_spec("lstm", layers=2), PrivateLSTM(), where=PRIVATE, verify=True, seed=0)
    two = nn.ModuleList([nn.LSTMCell(M, H), nn.LSTMCell(M, H)])
    with pytest.raises(ArgumentError, match="choose one with include="):
        critinit.apply(make_spec("lstm"), two, verify=lambda model, x, state: model[1](x, state), seed=0)
    critinit.apply(make_spec("lstm"), two, include="1", verify=lambda model, x, state: model[1](x, state), seed=0)


def test_known_layers_are_verified_too():
    for cell, module in (("gru", nn.GRUCell(M, H)), ("lstm", nn.LSTMCell(M, H)), ("rnn", nn.RNNCell(M, H))):
        assert critinit.apply(make_spec(cell), module, verify=True, seed=0).report.notes
    module = nn.GRU(M, H, 2, bidirectional=True)
    critinit.apply(make_spec("gru", layers=2), module, verify=lambda model, x: model(x), seed=0)
    with pytest.raises(ApplyError, match="differ from those of gru"):
        critinit.apply(make_spec("gru", layers=2), module, verify=lambda model, x: model(2 * x), seed=0)


def test_where_tensors_that_cannot_be_written():
    module = OfLinears()
    module.xi.weight = nn.Parameter(torch.zeros(H, M, device="meta"))
    with pytest.raises(ApplyError, match=r"xi\.weight: found a parameter on the meta device"):
        critinit.apply(make_spec("lstm"), module, where=RIGHT, seed=0)
    module = OfLinears()
    nn.utils.parametrizations.weight_norm(module.hi)
    with pytest.raises(ApplyError, match=r"hi\.weight: found a tensor that is computed from others"):
        critinit.apply(make_spec("lstm"), module, where=RIGHT, seed=0)
