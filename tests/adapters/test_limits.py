"""Limits on the learning rate: what ``apply`` returns of them, and optimizers that keep them."""

from __future__ import annotations

import copy
import gc
import importlib.util
import io
import json
import pickle
import subprocess
import sys
import weakref

import pytest

pytest.importorskip("torch")

import torch
from critinit_adapters.torch import step_groups
from critinit_adapters.torch.limits import hooks_of
from torch import nn
from torch.func import functional_call
from torch.nn.utils import prune

import critinit
from critinit.errors import ArgumentError
from critinit.tensors.application import StepLimit
from critinit.tensors.limiting import NOTE
from tests.adapters.specs import make_spec
from tests.cli.conftest import environment

pytestmark = pytest.mark.frameworks
M, H, T, B = 3, 4, 6, 2
RATE = 0.05
SETTINGS = [
    "layers.*.gates.candidate.recurrent.max_learning_rate=1e-4",
    "layers.*.gates.update.recurrent.max_learning_rate=2e-3",
    "layers.*.gates.reset.input.max_learning_rate=0.5",
    "layers.*.gates.update.bias.max_learning_rate=1e-3",
    "layers.*.gates.candidate.bias.max_learning_rate=3e-3",
]
SPEC = critinit.generate("gru", T=T, settings=SETTINGS)
WHOLE = critinit.generate("gru", T=T, settings=["layers.*.gates.*.recurrent.max_learning_rate=1e-3"])
ROWS = {"reset": slice(0, H), "update": slice(H, 2 * H), "candidate": slice(2 * H, 3 * H)}
RATES = {
    "weight_ih_l0": {},
    "weight_hh_l0": {"candidate": 1e-4, "update": 2e-3},
    "bias_ih_l0": {"update": 1e-3, "candidate": 3e-3},
    "bias_hh_l0": {"update": 1e-3, "candidate": 3e-3},
}
"""The effective rates of the parts that SPEC limits below RATE, the second bias inside the candidate included."""
INPUT = torch.randn(T, B, M, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def loss_of(output):
    return (output[0][-1] - 0.3).square().sum() + output[0].abs().sum()


def gru(seed=0, dtype=torch.float64, spec=SPEC):
    model = nn.GRU(M, H, dtype=dtype)
    return model, critinit.apply(spec, model, seed=seed)


def trained(model, optimizer, steps=8, *, each=lambda: None):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model(INPUT.to(model.weight_hh_l0.dtype))).backward()
        optimizer.step()
        each()
    return [parameter.detach().clone() for parameter in model.parameters()]


def by_hand(made, steps=8, rates=RATES, each=lambda optimizer: None):
    """The same training where every gate's part is a parameter of its own, in a group of its own rate."""
    model, _ = gru()
    parts = {
        (name, gate): nn.Parameter(parameter[rows].detach().clone())
        for name, parameter in model.named_parameters()
        for gate, rows in ROWS.items()
    }
    rate = {key: rates.get(key[0], {}).get(key[1], RATE) for key in parts}
    optimizer = made([{"params": [part], "lr": rate[key]} for key, part in parts.items()])

    def whole():
        return {name: torch.cat([parts[name, gate] for gate in ROWS]) for name, _ in model.named_parameters()}

    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(functional_call(model, whole(), INPUT)).backward()
        optimizer.step()
        each(optimizer)
    return [tensor.detach() for tensor in whole().values()]


def same(ours, others, rtol=1e-9):
    for one, other in zip(ours, others, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol)


# ---- what apply returns ----------------------------------------------------------------------------------


def test_apply_returns_the_limits_of_every_part_that_states_one():
    _, applied = gru()
    rows = (slice(2 * H, 3 * H),)
    assert StepLimit("weight_hh_l0", rows, 1e-4) in applied.limits
    found = {(limit.tensor, limit.index[0].start // H): limit.limit for limit in applied.limits}
    expected = {
        ("weight_hh_l0", 2): 1e-4,
        ("weight_hh_l0", 1): 2e-3,
        ("weight_ih_l0", 0): 0.5,
        **{(name, 1): 1e-3 for name in ("bias_ih_l0", "bias_hh_l0")},
        **{(name, 2): 3e-3 for name in ("bias_ih_l0", "bias_hh_l0")},
    }
    assert found == expected
    assert len(applied.limits) == len(expected)
    assert NOTE in applied.report.notes


def test_a_coupled_bias_has_its_own_limit():
    coupled = {"bias": {"distribution": "coupled", "to": "forget", "sign": -1, "max_learning_rate": 1e-3}}
    model = nn.LSTM(M, H)
    limits = critinit.apply(make_spec("lstm", input=coupled), model, seed=0).limits
    assert {(limit.tensor, limit.index[0].start, limit.limit) for limit in limits} == {
        ("bias_ih_l0", 0, 1e-3),
        ("bias_hh_l0", 0, 1e-3),
    }


def test_a_spec_without_limits_has_none_and_changes_no_optimizer():
    model, applied = gru(spec=critinit.generate("gru", T=T))
    assert applied.limits == ()
    assert NOTE not in applied.report.notes
    optimizer = torch.optim.Adam(model.parameters())
    assert critinit.limit_steps(optimizer, applied) is optimizer
    assert hooks_of(optimizer) is None


def test_step_limits_are_those_of_apply_and_change_nothing():
    model = nn.GRU(M, H)
    before = copy.deepcopy(model.state_dict())
    found = critinit.step_limits(SPEC, model)
    assert found.model is model
    assert found.limits == gru()[1].limits
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ArgumentError, match=r"include: found \[\]"):
        critinit.step_limits(SPEC, model, include=[])


# ---- torch -----------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": {},
    "SGD, momentum": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "Adam": {"weight_decay": 0.1},
    "Adam, foreach": {"foreach": True, "amsgrad": True},
    "Adam, fused": {"fused": True},
    "AdamW": {"weight_decay": 0.1},
    "AdamW, fused": {"weight_decay": 0.1, "fused": True},
    "RMSprop": {"centered": True, "momentum": 0.5},
    "Adagrad": {"lr_decay": 0.1},
    "NAdam": {"weight_decay": 0.1, "decoupled_weight_decay": True},
    "RAdam": {"weight_decay": 0.1},
    "Adamax": {},
    "Adadelta": {},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_part_trains_as_a_parameter_with_the_smaller_rate(name):
    def made(parameters):
        return getattr(torch.optim, name.partition(",")[0])(parameters, lr=RATE, **OPTIMIZERS[name])

    model, applied = gru()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    ours = trained(model, critinit.limit_steps(made(model.parameters()), applied))
    # a fused kernel computes in another order
    same(ours, by_hand(made), rtol=1e-7 if "fused" in name else 1e-9)
    assert all(
        not torch.equal(old[rows], new[rows]) for old, new in zip(before, ours, strict=True) for rows in ROWS.values()
    )


def test_schedulers_and_groups_are_followed_step_by_step():
    def made(parameters):
        return torch.optim.Adam(parameters, lr=RATE)

    model, applied = gru()
    optimizer = critinit.limit_steps(made(model.parameters()), applied)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)  # ends below the larger limits
    ours = trained(model, optimizer, each=scheduler.step)
    rate = [RATE]

    def each(optimizer):
        rate[0] *= 0.5
        for group in optimizer.param_groups:
            group["lr"] = min(rate[0], group["initial"])

    def with_limits(groups):
        return made([{**group, "initial": group["lr"]} for group in groups])

    same(ours, by_hand(with_limits, each=each))


def test_a_limit_that_does_not_bind_changes_no_bit_and_copies_nothing():
    plain, _ = gru(dtype=torch.float32)
    limited, applied = gru(dtype=torch.float32)
    optimizer = critinit.limit_steps(torch.optim.Adam(limited.parameters(), lr=1e-4), applied)
    ours = trained(limited, optimizer)
    theirs = trained(plain, torch.optim.Adam(plain.parameters(), lr=1e-4))
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert hooks_of(optimizer)._kept == {}


def test_the_other_parts_change_no_bit():
    plain, _ = gru(dtype=torch.float32)
    limited, applied = gru(dtype=torch.float32)
    ours = trained(limited, critinit.limit_steps(torch.optim.Adam(limited.parameters(), RATE), applied), 1)
    theirs = trained(plain, torch.optim.Adam(plain.parameters(), RATE), 1)
    for (name, _), one, other in zip(limited.named_parameters(), ours, theirs, strict=True):
        for gate, rows in ROWS.items():
            assert torch.equal(one[rows], other[rows]) == (gate not in RATES[name])


def test_twice_is_once_and_another_spec_adds_its_limits():
    once, applied = gru()
    expected = trained(once, critinit.limit_steps(torch.optim.Adam(once.parameters(), RATE), applied))
    twice, applied = gru()
    optimizer = critinit.limit_steps(torch.optim.Adam(twice.parameters(), RATE), applied)
    assert critinit.limit_steps(optimizer, applied) is optimizer
    same(trained(twice, optimizer), expected, rtol=0)

    both = nn.ModuleList([nn.GRU(M, H), nn.GRU(M, H)])
    optimizer = torch.optim.SGD(both.parameters(), lr=1.0)
    for number in range(2):
        critinit.limit_steps(optimizer, critinit.apply(WHOLE, both, seed=0, include=str(number)))
    before = [module.weight_hh_l0.detach().clone() for module in both]
    for module in both:
        loss_of(module(INPUT.float())).backward()
    optimizer.step()
    for module, old in zip(both, before, strict=True):
        torch.testing.assert_close(module.weight_hh_l0, old - 1e-3 * module.weight_hh_l0.grad, rtol=1e-5, atol=1e-7)


def test_a_resumed_run_goes_on_as_if_it_was_not_interrupted():
    def made(model):
        return torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.1)

    whole, applied = gru()
    expected = trained(whole, critinit.limit_steps(made(whole), applied), 8)
    first, applied = gru()
    optimizer = critinit.limit_steps(made(first), applied)
    trained(first, optimizer, 4)
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict()))
    second = nn.GRU(M, H, dtype=torch.float64)
    second.load_state_dict(saved[0])
    resumed = critinit.limit_steps(made(second), critinit.step_limits(SPEC, second))
    resumed.load_state_dict(saved[1])
    same(trained(second, resumed, 4), expected, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own parts
def test_a_compiled_step_keeps_the_limits():
    plain, applied = gru()
    expected = trained(plain, critinit.limit_steps(torch.optim.SGD(plain.parameters(), RATE, 0.9), applied), 3)
    model, applied = gru()
    optimizer = critinit.limit_steps(torch.optim.SGD(model.parameters(), RATE, 0.9), applied)
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model(INPUT)).backward()
        step()
    same([parameter.detach() for parameter in model.parameters()], expected)


def test_a_rate_in_a_tensor_and_a_closure_are_fine():
    plain, applied = gru()
    expected = trained(plain, critinit.limit_steps(torch.optim.Adam(plain.parameters(), RATE), applied), 3)
    model, applied = gru()
    rate = torch.tensor(RATE, dtype=torch.float64)
    optimizer = critinit.limit_steps(torch.optim.Adam(model.parameters(), rate), applied)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model(INPUT))
        loss.backward()
        return loss

    for _ in range(3):
        assert optimizer.step(closure) > 0
    same([parameter.detach() for parameter in model.parameters()], expected)


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_that_skips_a_step_skips_it(fused):
    model, applied = gru(dtype=torch.float32)
    optimizer = critinit.limit_steps(torch.optim.Adam(model.parameters(), RATE, fused=fused), applied)
    scaler = torch.amp.GradScaler("cpu")
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for bad in (True, False):
        optimizer.zero_grad()
        scaler.scale(loss_of(model(INPUT.float()))).backward()
        if bad:
            model.weight_hh_l0.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        after = [parameter.detach().clone() for parameter in model.parameters()]
        assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True)) == bad
    moved = (after[1] - before[1]).abs()
    assert 9e-5 < moved[ROWS["candidate"]].max() < 1.1e-4
    assert moved[ROWS["reset"]].max() > 0.04


def test_several_optimizers_share_the_limits_and_one_of_other_tensors_is_refused():
    model = nn.ModuleDict({"rnn": nn.GRU(M, H, dtype=torch.float64), "head": nn.Linear(H, 1)})
    applied = critinit.apply(SPEC, model, seed=0)
    rnn = model["rnn"]
    biases = [parameter for name, parameter in rnn.named_parameters() if "bias" in name]
    kernels = [parameter for name, parameter in rnn.named_parameters() if "bias" not in name]
    optimizers = [torch.optim.Adam(own, RATE) for own in (biases, kernels)]
    for optimizer in optimizers:
        critinit.limit_steps(optimizer, applied)
    loss_of(rnn(INPUT)).backward()
    for optimizer in optimizers:
        optimizer.step()
    ours = [parameter.detach() for parameter in rnn.parameters()]
    same(ours, by_hand(lambda groups: torch.optim.Adam(groups), steps=1), rtol=1e-8)
    other = torch.optim.Adam(model["head"].parameters())
    with pytest.raises(ArgumentError, match=r"an optimizer of head.weight, head.bias; .*rnn.weight_ih_l0.*model="):
        critinit.limit_steps(other, applied)
    later = torch.optim.Adam([*model["head"].parameters(), biases[0]])
    later.add_param_group({"params": kernels, "lr": 1.0})
    critinit.limit_steps(later, applied)  # what it does not train is left out


def test_a_copy_of_the_model_is_named():
    model, applied = gru()
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(twin.parameters(), RATE)
    with pytest.raises(ArgumentError, match="an optimizer of other tensors"):
        critinit.limit_steps(optimizer, applied)
    critinit.limit_steps(optimizer, applied, model=twin)
    same(trained(twin, optimizer), by_hand(lambda groups: torch.optim.Adam(groups)))


def saved(whole):
    stream = io.BytesIO()
    torch.save(whole, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda whole: pickle.loads(pickle.dumps(whole)),
    "saved": saved,
    "a copy of a copy": lambda whole: copy.deepcopy(pickle.loads(pickle.dumps(copy.deepcopy(whole)))),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("begun", [False, True])
def test_a_copy_of_the_optimizer_keeps_the_limits(copied, begun):
    model, applied = gru()
    optimizer = critinit.limit_steps(torch.optim.Adam(model.parameters(), RATE), applied)
    optimizer.register_step_post_hook(lambda *_: None)  # of others, which PyTorch drops, as no pickle holds it
    if begun:
        trained(model, optimizer, 3)
    twin, other = copied((model, optimizer))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    steps = 5 if begun else 8
    ours = trained(twin, other, steps)
    same(ours, by_hand(lambda groups: torch.optim.Adam(groups)))
    assert all(torch.equal(one, old) for one, old in zip(model.parameters(), before, strict=True))
    assert critinit.limit_steps(other, applied, model=twin) is other  # and once is twice
    same(trained(model, optimizer, steps), ours)


def test_hooks_in_a_new_process_take_no_place_of_a_copys(monkeypatch):
    model, applied = gru()
    optimizer = critinit.limit_steps(torch.optim.SGD(model.parameters(), RATE), applied)
    twin, other = copy.deepcopy((model, optimizer))
    monkeypatch.setattr(torch.utils.hooks.RemovableHandle, "next_id", 0)  # as it counts in a new process
    for _ in range(1000):
        other.register_step_pre_hook(lambda *_: None)
    same(trained(twin, other, 3), trained(model, optimizer, 3))
    assert hooks_of(other) is not hooks_of(optimizer)


def test_a_shallow_copy_trains_the_same_parameters_with_the_limits():
    model, applied = gru()
    optimizer = critinit.limit_steps(torch.optim.Adam(model.parameters(), RATE), applied)
    same(trained(model, copy.copy(optimizer)), by_hand(lambda groups: torch.optim.Adam(groups)))


def test_limits_keep_no_optimizer_alive():
    model, applied = gru()
    gone = weakref.ref(critinit.limit_steps(torch.optim.Adam(model.parameters(), RATE), applied))
    gc.disable()
    try:
        assert gone() is None
    finally:
        gc.enable()


class ScheduleFree(torch.optim.SGD):
    """Looks like an optimizer that averages its weights."""

    def train(self):
        """Go to the weights that are trained."""

    def eval(self):
        """Go to the averages."""


class DAdaptAdam(torch.optim.Adam):
    """Looks like an optimizer that finds its rate itself."""


class OwnRate(torch.optim.SGD):
    """Looks like transformers' Adafactor, whose rate may be None."""

    def __init__(self, parameters):
        super().__init__(parameters)
        self.param_groups[0]["lr"] = None


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (DAdaptAdam, "finds the size of its steps itself"),
        (OwnRate, "state no learning rate: make it with lr="),
        (torch.optim.LBFGS, "searches along a line"),
        (torch.optim.Rprop, "rate is only that of the first step"),
        (torch.optim.ASGD, "keeps an average"),
        (ScheduleFree, "second copy of the weights"),
    ],
)
def test_optimizers_for_which_it_means_nothing_are_refused(made, reason):
    model, applied = gru()
    optimizer = made(model.parameters())
    with pytest.raises(ArgumentError, match=rf"found {made.__name__}; allowed: .* proportional .*{reason}"):
        critinit.limit_steps(optimizer, applied)
    assert hooks_of(optimizer) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": torch.optim.Adam}, "give an optimizer, not its class"),
        ({"optimizer": 3}, "optimizer: found a builtins.int"),
        ({"applied": nn.GRU(1, 1)}, "applied: found GRU; allowed: what critinit.apply"),
        ({"learning_rate": 0.1}, "the optimizer states its own"),
        ({"model": "model"}, "model: found str"),
    ],
)
def test_wrong_arguments_say_what_is_right(change, said):
    model, applied = gru()
    given = {"optimizer": torch.optim.Adam(model.parameters()), "applied": applied, **change}
    with pytest.raises(ArgumentError, match=said):
        critinit.limit_steps(**given)


def test_a_tensor_of_another_shape_is_refused():
    applied = gru()[1]
    flat = nn.GRU(M, H - 1)
    with pytest.raises(ArgumentError, match="flat parameters"):
        critinit.limit_steps(torch.optim.Adam(flat.parameters()), applied, model=flat)


def test_a_network_that_a_model_has_no_more_needs_no_limits():
    model = nn.ModuleDict({"encoder": nn.GRU(M, H), "decoder": nn.GRU(M, H)})
    applied = critinit.apply(SPEC, model, seed=0)
    del model["decoder"]
    optimizer = critinit.limit_steps(torch.optim.SGD(model.parameters(), lr=1.0), applied)
    assert hooks_of(optimizer).regions.keys() <= {id(parameter) for parameter in model.parameters()}


def test_a_model_that_lost_a_limited_tensor_is_refused_as_its_steps_would_have_no_limit():
    model, applied = gru()
    before = torch.optim.Adam(model.parameters())
    critinit.limit_steps(before, applied)
    nn.utils.parametrizations.weight_norm(model, "weight_hh_l0")
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(ArgumentError, match=r"model: found none with the name weight_hh_l0, .*parametrization"):
        critinit.limit_steps(optimizer, applied)
    assert hooks_of(optimizer) is None


def test_a_pruned_model_is_limited_too():
    model, applied = gru()
    prune.random_unstructured(model, "weight_hh_l0", 0.5)
    before = model.weight_hh_l0_orig.detach().clone()
    optimizer = critinit.limit_steps(torch.optim.Adam(model.parameters(), RATE), applied)
    loss_of(model(INPUT)).backward()
    optimizer.step()
    moved = (model.weight_hh_l0_orig.detach() - before).abs()[ROWS["candidate"]]
    assert 0 < moved.max() <= 1e-4 * (1 + 1e-6)


def test_groups_do_the_same_where_limits_are_of_whole_tensors():
    model, applied = gru(spec=WHOLE)
    limited = trained(model, critinit.limit_steps(torch.optim.AdamW(model.parameters(), RATE), applied))
    model, applied = gru(spec=WHOLE)
    groups = step_groups(applied, RATE)
    assert [("lr" in group, len(group["params"])) for group in groups] == [(False, 3), (True, 1)]
    same(trained(model, torch.optim.AdamW(groups, RATE)), limited)
    assert [len(group["params"]) for group in step_groups(applied, 1e-3)] == [4]
    whole = nn.ModuleDict({"rnn": model, "head": nn.Linear(H, 1)})
    for outer in (whole, nn.Sequential(whole)):
        assert [len(group["params"]) for group in step_groups(applied, RATE, model=outer)] == [5, 1]
    assert [len(group["params"]) for group in step_groups(applied, RATE, model=copy.deepcopy(model))] == [3, 1]
    _, parts = gru()
    with pytest.raises(ArgumentError, match=r"limits of parts of weight_ih_l0; .*limit_steps"):
        step_groups(parts, RATE)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_keeps_a_limit_of_a_whole_tensor_as_a_group_does():
    ours, theirs = (gru(spec=WHOLE, dtype=torch.float32) for _ in range(2))
    matrices = [[p for p in model.parameters() if p.ndim == 2] for model, _ in (ours, theirs)]
    limited = critinit.limit_steps(torch.optim.Muon(matrices[0], lr=RATE, weight_decay=0.1), ours[1])
    recurrent, inputs = theirs[0].weight_hh_l0, theirs[0].weight_ih_l0
    grouped = torch.optim.Muon([{"params": [recurrent], "lr": 1e-3}, {"params": [inputs]}], lr=RATE, weight_decay=0.1)
    same(trained(ours[0], limited), trained(theirs[0], grouped), rtol=1e-5)


# ---- the three kinds of optimizers together --------------------------------------------------------------

NEEDED = ("jax", "flax", "optax", "keras")
BACKENDS = [name for name in ("jax", "torch", "tensorflow") if importlib.util.find_spec(name)]


def run(*arguments, backend):
    own = {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.adapters.limited_training", *arguments],
        env={**environment(), **own},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(not all(map(importlib.util.find_spec, NEEDED)), reason="needs all three")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.slow
def test_the_curves_are_the_same_in_torch_optax_and_keras(backend):
    for curves in json.loads(run("curves", backend=backend).splitlines()[-1]).values():
        assert curves["torch"][-1] < 0.6 * curves["torch"][0]
        for other in ("optax", "keras"):
            # Keras keeps its rate and Adam's constants in single precision
            assert curves[other] == pytest.approx(curves["torch"], abs=1e-4 if other == "keras" else 1e-9)


@pytest.mark.skipif(not all(map(importlib.util.find_spec, NEEDED)), reason="needs all three")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.slow
def test_a_saved_keras_model_keeps_its_limits_in_another_process(backend, tmp_path):
    run("save", str(tmp_path), backend=backend)
    run("load", str(tmp_path), backend=backend)
