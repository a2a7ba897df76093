"""Starts, layers and rates beside the schemes: groups set by hand, other peers, a readout rate, limits."""

# ruff: noqa: E402 (what is imported below needs torch)

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="trains networks")

import critinit
from benchmarks import normalized
from benchmarks.training.groups import Grouped, grouped, phases_of, response
from benchmarks.training.models import Model
from benchmarks.training.peers import Diagonal, NormalizedLstm
from benchmarks.training.run import CHRONO_BIASES, DIAGONAL, NORMALIZED, Run
from benchmarks.training.starts import identity, inputs_of, spec_of
from benchmarks.training.tasks import TASKS
from benchmarks.training.train import train
from critinit.errors import ArgumentError
from critinit.tensors.sampling import draw

pytestmark = pytest.mark.frameworks

SMALL = Run("gru", "adding", 40, "groups", 1e-2, hidden=16, batch=4, steps=1, every=1)
DATA = TASKS["adding"].make(40, ())


def moved(run, monkeypatch):
    """How far each tensor of a run's model moved in its one step."""
    models = []
    init = Model.__init__

    def kept(self, *arguments):
        init(self, *arguments)
        models.append((self, {name: p.detach().clone() for name, p in self.named_parameters()}))

    monkeypatch.setattr(Model, "__init__", kept)
    train([run])
    ((model, before),) = models
    return {name: (p.detach() - before[name]).abs() for name, p in model.named_parameters()}


@pytest.mark.parametrize("ratio", [1.0, 3.0])
def test_the_readout_has_its_own_rate(ratio, monkeypatch):
    steps = moved(replace(SMALL, scheme="chrono", readout_ratio=ratio), monkeypatch)
    assert steps["readout.weight"].max() == pytest.approx(ratio * 1e-2, rel=1e-3)  # Adam's first step is the rate
    assert steps["layer.weight_ih_l0"].max() == pytest.approx(1e-2, rel=1e-3)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_group_set_by_hand_keeps_its_limits(cell, monkeypatch):
    steps = moved(replace(SMALL, cell=cell, scheme="groups share=0.5 into=0.002 gated=0.005 kappa=0.1"), monkeypatch)
    loop = 0.1 / (40 * 8)
    for name, memory in (("weight_hh_l0", loop), ("weight_ih_l0", 0.002), ("bias_ih_l0", 0.002)):
        parts = steps[f"layer.{name}"].unflatten(0, (-1, 16))
        assert parts[:, :8].max() == pytest.approx(memory, rel=0.05)
        assert parts[:, 8:].max() == pytest.approx(0.005, rel=1e-3)
    assert steps["readout.weight"].max() == pytest.approx(1e-2, rel=1e-3)


def test_a_file_whose_spec_has_limits_is_trained_with_them(tmp_path, monkeypatch):
    settings = ["layers.0.gates.candidate.recurrent.max_learning_rate=1e-4"]
    file = tmp_path / "limited.json"
    file.write_text(critinit.generate("gru", 40, settings=settings).to_json())
    steps = moved(replace(SMALL, scheme=str(file)), monkeypatch)["layer.weight_hh_l0"]
    assert steps[32:].max() == pytest.approx(1e-4, rel=0.05)
    assert steps[:32].max() == pytest.approx(1e-2, rel=0.05)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("phases", ["haar", "1", "spectrum"])
def test_a_memory_group_keeps_what_it_is_told(cell, phases):
    """The derivative of a later state by an earlier one has the singular values of an orthogonal matrix."""
    run = replace(SMALL, cell=cell, scheme=f"groups share=0.5 phases={phases}")
    model = Model(run, DATA).double()
    x = torch.zeros(30, 1, 2, dtype=torch.float64)
    opened = 1 / (1 + np.exp(-5.0))

    def last(h):
        start = (h[None, None], h[None, None] / opened) if cell == "lstm" else h[None, None]
        return model.layer(x, start)[0][-1, 0, :8]

    jacobian = torch.autograd.functional.jacobian(last, torch.zeros(16, dtype=torch.float64))
    values = torch.linalg.svdvals(jacobian[:, :8]).numpy()
    np.testing.assert_allclose(values, 1.0, rtol=1e-4)
    assert jacobian[:, 8:].abs().max() == 0.0  # groups do not read each other


def test_time_constants_and_input_variance_are_what_the_numbers_say():
    start = Grouped(share=0.5, phases=1.0, decay=2.0, input="response", reach=0.5)
    layer = torch.nn.GRU(2, 64)
    x = torch.from_numpy(DATA.sample(np.random.default_rng(5), 200).x)
    moments = []
    for seed in range(10):
        start.apply(layer, "gru", 40, DATA, critinit.generate("gru", 40), seed)
        kernel = layer.weight_hh_l0[128:160, :32].detach().double().numpy()
        keep, opened = 1 / (1 + np.exp(7.0)), 1 / (1 + np.exp(-5.0))
        turned = np.linalg.eigvals(keep * np.eye(32) + opened * (1 - keep) * kernel)
        np.testing.assert_allclose(np.abs(turned), np.exp(-1 / 80), rtol=1e-5)
        angles = np.sort(np.angle(turned)[np.angle(turned) > 0])
        np.testing.assert_allclose(angles, np.pi * (np.arange(16) + 0.5) / 16, atol=1e-4)
        moments.append(layer(x)[0][:, :, :32].square().mean((1, 2)).max().item())
    # each mode is largest at a time of its own
    assert 0.5 * 0.5 / 40 < np.mean(moments) < 1.05 * 0.5 / 40


def test_the_response_is_the_sum_it_stands_for():
    phases, gains = np.array([0.3, 2.0]), np.array([0.9, 0.99])
    x = DATA.sample(np.random.default_rng(0), 256).x.astype(np.float64)
    for found, phase, gain in zip(response(phases, gains, DATA, 40), phases, gains, strict=True):
        moments = []
        for t in range(40):
            weights = gain ** np.arange(t, -1, -1) * np.exp(1j * phase * np.arange(t, -1, -1))
            moments.append(np.mean(np.abs(np.tensordot(weights, x[: t + 1], 1)) ** 2))
        assert found == pytest.approx(max(moments), rel=1e-9)


def test_phases_follow_the_spectrum():
    class Slow:
        def sample(self, rng, n):
            x = np.cumsum(rng.standard_normal((200, n, 1)), axis=0)
            return type("Batch", (), {"x": x})

    slow = phases_of("spectrum", 16, Slow(), 200)
    assert (np.diff(slow) >= 0).all()
    assert slow.max() < 0.5 < phases_of(1.0, 16, Slow(), 200).mean()


def test_a_name_says_all_numbers():
    assert grouped("critical") is None
    assert grouped("groups") == Grouped()
    found = grouped("groups share=.5 phases=spectrum input=equal spread=1 shut=-9")
    assert found == Grouped(share=0.5, phases="spectrum", input="equal", spread=True, shut=-9.0)
    assert len({Grouped().fingerprint, found.fingerprint, replace(found, share=0.25).fingerprint}) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("groups size=3", "scheme: found size in 'groups size=3'; allowed: share, phases"),
        ("groups share=half", "share: found 'half' in 'groups share=half'; allowed: a number"),
        ("groups phases=slow", "allowed: a number, haar, spectrum"),
        ("groups input=3", "allowed: fixed, response, equal"),
        ("groups rest=best", "rest: found 'best'"),
        ("groups into=-1", "into: found '-1'"),
        ("groups kappa=nan", "kappa: found 'nan'"),
        ("groups share=1.5", "share: found '1.5'"),
    ],
)
def test_numbers_that_no_start_has_are_refused(name, message):
    with pytest.raises(ArgumentError, match=message):
        replace(SMALL, scheme=name)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scheme": NORMALIZED}, "'layer norm' for gru of 1 layer"),
        ({"scheme": "groups", "layers": 2}, "allowed: gru, lstm of 1"),
        ({"scheme": "groups", "cell": "rnn"}, "allowed: gru, lstm of 1"),
        ({"scheme": DIAGONAL, "layers": 2}, "allowed: rnn, gru, lstm of 1"),
        ({"task": "mnist", "stop_at_target": True}, "stop_at_target: found mnist; allowed: a task with a target"),
    ],
)
def test_starts_that_a_run_cannot_have_are_refused(changed, message):
    with pytest.raises(ArgumentError, match=message):
        replace(SMALL, **changed)


def test_chrono_biases_are_chronos_on_torchs_kernels():
    run = replace(SMALL, scheme=CHRONO_BIASES)
    inputs = inputs_of(run.task, run.T, ())
    found, torchs, chronos = (
        spec_of(replace(run, scheme=name), inputs).layers[0].gates for name in (CHRONO_BIASES, "torch", "chrono")
    )
    for gate in found:
        assert (found[gate].recurrent, found[gate].input) == (torchs[gate].recurrent, torchs[gate].input)
        assert found[gate].bias == chronos[gate].bias
    assert len({identity(replace(run, scheme=name))[2] for name in (CHRONO_BIASES, "torch", "chrono")}) == 3


def test_the_normalized_lstm_is_the_one_of_the_other_benchmark():
    spec = critinit.generate("layernorm_lstm", 12, scheme="orthogonal")
    layer = NormalizedLstm(spec, 3, 8, seed=4).double()
    drawn = draw(spec, 3, 8, seed=4).layers[0][0]
    parts = {
        (gate, part): torch.tensor(getattr(drawn.gates[gate], part)).float().double()
        for gate in drawn.gates
        for part in ("recurrent", "input", "bias", "recurrent_gain", "input_gain")
    } | {("", "memory_gain"): torch.tensor(drawn.memory_gain).float().double()}
    x = torch.randn(12, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0][-1], normalized.last_state("layernorm_lstm", parts, x), rtol=1e-5, atol=1e-6)


def test_the_normalized_lstm_learns_from_sequences_that_begin_with_silence():
    spec = critinit.generate("layernorm_lstm", 30, scheme="orthogonal")
    layer = NormalizedLstm(spec, 3, 8, seed=4)
    x = torch.randn(30, 5, 3)
    x[:25] = 0.0  # silence before it begins
    layer(x)[0][-1].square().sum().backward()
    late = NormalizedLstm(spec, 3, 8, seed=4)
    late(x[25:])[0][-1].square().sum().backward()
    assert torch.isfinite(layer.bias.grad).all()  # it reaches the memory in silence too
    for part in ("recurrent", "input", "recurrent_gain", "input_gain", "memory_gain"):
        now, without = (getattr(module, part).grad for module in (layer, late))
        torch.testing.assert_close(now, without, rtol=1e-5, atol=1e-6)


def test_the_diagonal_recurrence_is_its_loop():
    layer = Diagonal(3, 8, T=20, seed=1).double()
    x = torch.randn(20, 5, 3, dtype=torch.float64)
    rate = torch.exp(-torch.exp(layer.nu) + 1j * layer.theta)
    scale = torch.sqrt(1 - rate.abs() ** 2)
    h = torch.zeros(5, 8, dtype=torch.complex128)
    states = []
    for now in x:
        h = rate * h + scale * (now @ layer.into[0].T + 1j * (now @ layer.into[1].T))
        y = torch.nn.functional.gelu((h @ (layer.out[0] + 1j * layer.out[1]).T).real + now @ layer.skip.T)
        states.append(y * torch.sigmoid(layer.gate(y)))
    torch.testing.assert_close(layer(x)[0], torch.stack(states), rtol=1e-9, atol=1e-9)


def test_all_kinds_of_layers_train_side_by_side():
    schemes = ("critical", "groups", DIAGONAL, NORMALIZED, CHRONO_BIASES)
    runs = [replace(SMALL, cell="lstm", scheme=scheme, steps=3) for scheme in schemes]
    together = train(runs)
    for run, found in zip(runs, together, strict=True):
        (alone,) = train([run])
        assert found.loss == pytest.approx(alone.loss, rel=1e-4)
        assert found.start == identity(run)[2]
    assert len({found.loss for found in together}) == len(runs)


def test_the_other_group_follows_the_scheme_that_is_named():
    run = replace(SMALL, scheme="groups share=0.5 rest=orthogonal")
    kernel = Model(run, DATA).layer.weight_hh_l0.detach().unflatten(0, (3, 16))[0, 8:, 8:]
    torch.testing.assert_close(kernel @ kernel.T, torch.eye(8), rtol=1e-5, atol=1e-5)
    assert identity(run)[2] != identity(replace(run, scheme="groups share=0.5"))[2]
