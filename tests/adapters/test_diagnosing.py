"""Real layers of all frameworks, diagnosed: their weights are read right, and nothing of a model changes."""

from __future__ import annotations

import importlib.util
import random
from typing import Any

import numpy as np
import pytest

import critinit
from critinit.diagnosis import course
from critinit.errors import ApplyError, ArgumentError, DataError
from critinit.tensors.application import find_adapter
from tests.adapters.frameworks import Row, build, inputs, rows, run, tensors
from tests.adapters.texts import text, text_model

MODULES = {
    "torch": "torch",
    "keras": "keras",
    "linen": "flax",
    "nnx": "flax",
    "equinox": "equinox",
    "haiku": "haiku",
}
INSTALLED = [name for name, module in MODULES.items() if importlib.util.find_spec(module)]
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="no framework is installed"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
ROWS = [row for name in INSTALLED for row in rows(name)]
STEPS = 8


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_layers_that_were_read_give_what_the_model_gives(row: Row) -> None:
    built, x = build(row), inputs(STEPS)
    options = {name: value for name, value in built.options.items() if name != "framework"}
    adapter: Any = find_adapter(built.model, row.framework, built.options)
    before = {name: np.array(tensor).tobytes() for name, tensor in tensors(built, built.model).items()}
    networks = adapter.trace(built.model, lambda model, *_: run(built, model, x), options).networks
    layers = adapter.layers(built.model, options, cell=row.cell)
    given = x
    for network in networks:
        for layer in range(network.layers):
            own = layers[network.name]
            ways = [
                own[layer, way].run(given[:: -1 if way else 1])[:: -1 if way else 1] for way in (0, 1)[: row.directions]
            ]
            given = np.concatenate(ways, axis=-1)
    np.testing.assert_allclose(given, run(built, built.model, x), atol=2e-6)
    found = critinit.diagnose(
        built.model, x, call=lambda model, _: run(built, model, x), framework=row.framework, cell=row.cell, **options
    )
    assert len(found) == row.layers * row.directions
    assert {layer.numbers.steps for layer in found} == {STEPS}
    after = {name: np.array(tensor).tobytes() for name, tensor in tensors(built, built.model).items()}
    assert before == after


# ---- PyTorch ---------------------------------------------------------------------------------------------


def test_a_network_that_passes_nothing_on_is_said_to_forget_without_a_warning() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.RNN(3, 6, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        model.weight_hh_l0.zero_()
    (layer,) = critinit.diagnose(model, torch.randn(8, 30, 3))
    assert layer.numbers.retention == 0.0
    assert layer.numbers.standard_error["chi_over_T"] is None
    assert "forgets after 1 of 29 steps" in layer.verdict


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning")
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN", "projected", "packed", "time first", "one sequence"])
def test_what_torch_gave_is_taken_for_the_states(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every layer and direction, which changes no number; what another state led to is not."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    name = kind if kind in ("GRU", "RNN") else "LSTM"
    more = {"proj_size": 4} if kind == "projected" else {}
    model = getattr(torch.nn, name)(
        3, 6, num_layers=2, bidirectional=True, batch_first=kind != "time first", dropout=0.5, **more
    )
    batch: Any = torch.randn(8, 20, 3)
    if kind == "packed":
        lengths = torch.tensor([20, 7, 15, 9, 20, 5, 12, 11])
        batch = torch.nn.utils.rnn.pack_padded_sequence(batch, lengths, batch_first=True, enforce_sorted=False)
    batch = {"time first": lambda x: x.transpose(0, 1), "one sequence": lambda x: x[0]}.get(kind, lambda x: x)(batch)
    taken: list[bool] = []
    followed = course._followed
    monkeypatch.setattr(course, "_followed", lambda *a: (taken.append(followed(*a) is not None), followed(*a))[1])
    found = critinit.diagnose(model, batch)
    assert taken == [True] * 4
    monkeypatch.setattr(course, "_followed", lambda *_: None)
    for layer, other in zip(found, critinit.diagnose(model, batch), strict=True):
        for number in ("second_moment", "retention", "chi_over_T", "largest_singular_value", "lyapunov"):
            np.testing.assert_allclose(getattr(layer.numbers, number), getattr(other.numbers, number), rtol=1e-3)
    if kind == "LSTM":
        monkeypatch.setattr(course, "_followed", lambda *a: (taken.append(followed(*a) is not None), followed(*a))[1])
        state = torch.ones(4, 8, 6)
        critinit.diagnose(model, (batch, (state, state)))
        critinit.diagnose(model.bfloat16(), batch.bfloat16())
        assert taken[4:] == [False] * 8


def test_torch_reads_packed_sequences_to_their_ends() -> None:
    torch = pytest.importorskip("torch")
    model = text_model()
    x, lengths = map(torch.from_numpy, text())
    packed = critinit.diagnose(model, {"tokens": x, "lengths": lengths}, sequences=16)
    assert [(layer.network, layer.layer, layer.direction) for layer in packed] == [
        ("lstm", 0, 0), ("lstm", 0, 1), ("lstm", 1, 0), ("lstm", 1, 1), ("gru", 0, 0)
    ]  # fmt: skip
    assert (packed[0].numbers.steps, packed[0].numbers.shortest) == (20, int(lengths.min()))
    # padding that is read is a part of what the network does
    assert critinit.diagnose(model, x, sequences=16)[0].numbers.shortest == 20


def test_the_growth_is_that_of_torchs_own_gradients() -> None:
    """The gradient of a random direction of the last state, by autograd, against the sweep's mean over directions."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    model = torch.nn.GRU(4, 6, batch_first=True).double()
    x = torch.randn(1, 12, 4, dtype=torch.float64)
    found = critinit.diagnose(model, x, exponents=6)[0].numbers
    states = [torch.zeros(1, 1, 6, dtype=torch.float64)]
    for t in range(12):
        states.append(model(x[:, t : t + 1], states[-1])[1].requires_grad_())
        states[-1].retain_grad()
    jacobian = torch.stack([torch.autograd.grad(states[-1][0, 0, k], states[1], retain_graph=True)[0][0, 0]
                            for k in range(6)])  # fmt: skip
    # all six directions of the memory were followed forward
    assert found.perturbation[-1] == pytest.approx(float((jacobian**2).sum() / 6), rel=1e-4)
    largest = float(torch.linalg.svdvals(jacobian)[0])
    assert found.largest_singular_value_over_T == pytest.approx(largest, rel=1e-4)


def test_torch_is_left_as_it_was_also_by_a_failure() -> None:
    torch = pytest.importorskip("torch")
    model = text_model()
    model.drop.eval()
    x = torch.from_numpy(text()[0])
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for batch, raises in ((x, None), (x[:, :2], DataError), (torch.zeros(3, 4, 5), ArgumentError)):
        flags = [module.training for module in model.modules()]
        generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
        if raises is None:
            critinit.diagnose(model, batch)
        else:
            with pytest.raises(raises):
                critinit.diagnose(model, batch)
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert flags == [module.training for module in model.modules()]
        assert torch.equal(generators[0], torch.get_rng_state())
        assert generators[1] == random.getstate()
        assert generators[2] == np.random.get_state()[1].tobytes()  # noqa: NPY002
        assert all(not module._forward_pre_hooks and not module._forward_hooks for module in model.modules())
        assert all(parameter.grad is None for parameter in model.parameters())


def refused(model: Any, batch: Any, kind: type[Exception] = ApplyError, **options: Any) -> str:
    with pytest.raises(kind) as error:
        critinit.diagnose(model, batch, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_an_initial_state_is_noted_and_so_is_another_length() -> None:
    torch = pytest.importorskip("torch")
    model, x = torch.nn.GRU(3, 5, batch_first=True), torch.randn(4, 9, 3)
    assert critinit.diagnose(model, (x, torch.zeros(1, 4, 5))).notes == ()
    (note,) = critinit.diagnose(model, (x, torch.ones(1, 4, 5))).notes
    assert "began at another state than zero" in note
    length, few = critinit.diagnose(model, x, critinit.generate("gru", T=50)).notes
    assert length == "the spec is for T = 50; over 8 steps no retention is predicted"
    assert few == (
        "the model itself: predicted is for inputs of many features; critinit analyze --features 3 predicts for the "
        "3 features that are read"
    )


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("size", [1, 7])
def test_pieces_that_hand_on_their_state_are_one_sequence(kind: str, size: int) -> None:
    """As a layer is called step by step, or piece by piece; a state that was changed in between begins anew."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    whole = getattr(torch.nn, kind)(3, 6, num_layers=2, batch_first=True)

    class Pieces(torch.nn.Module):
        def __init__(self, factor: float = 1.0) -> None:
            super().__init__()
            self.net, self.factor = whole, factor

        def forward(self, x: Any) -> Any:
            state, outputs = None, []
            for piece in x.split(size, 1):
                y, state = self.net(piece, state)
                outputs.append(y)
                state = tuple(h * self.factor for h in state) if kind == "LSTM" else state * self.factor
            return torch.cat(outputs, 1)

    x = torch.randn(8, 21, 3)
    pieces, expected = critinit.diagnose(Pieces(), x), critinit.diagnose(whole, x)
    assert pieces.notes == ()
    for one, other in zip(pieces, expected, strict=True):
        assert one.numbers.steps == other.numbers.steps == 21
        np.testing.assert_allclose(one.numbers.lyapunov, other.numbers.lyapunov, rtol=1e-4)
    assert critinit.measure(Pieces(), x)["net"].layers[1].steps == (21,) * 8
    if size > 1:
        changed = critinit.diagnose(Pieces(0.5), x)
        assert changed[0].numbers.steps == 7
        assert "began at another state than zero" in changed.notes[0]
    else:
        assert "call= may run a model on whole sequences" in refused(Pieces(0.5), x, DataError)


def test_a_model_that_changes_its_input_leaves_the_batch_as_it_was() -> None:
    torch = pytest.importorskip("torch")

    class Standardized(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.GRU(3, 5, batch_first=True)

        def forward(self, x: Any, more: Any) -> Any:
            more["scale"] *= 2.0
            return self.net(x.sub_(x.mean()))

    x, scale = torch.ones(4, 9, 3), torch.ones(1)
    critinit.diagnose(Standardized(), (x, {"scale": scale}))
    critinit.measure(Standardized(), (x, {"scale": scale}))
    assert torch.equal(x, torch.ones(4, 9, 3))
    assert torch.equal(scale, torch.ones(1))


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype stage:UserWarning")
def test_nested_tensors_which_torch_cannot_run_are_refused_in_one_line() -> None:
    torch = pytest.importorskip("torch")
    batch = torch.nested.nested_tensor([torch.randn(n, 3) for n in (5, 4)])
    assert "the model fails" in refused(torch.nn.GRU(3, 5, batch_first=True), batch, ArgumentError)


@pytest.mark.filterwarnings("ignore")
def test_torch_refuses_what_it_cannot_see_in_one_line() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(4, 9, 3)
    scripted = torch.jit.script(torch.nn.GRU(3, 5, batch_first=True))
    assert "ScriptModule" in refused(scripted, x)
    if "onednn" in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = "onednn"
    quantized = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.LSTM(3, 5)), {torch.nn.LSTM})
    assert "quantized to integers" in refused(quantized, x)
    parametrized = torch.nn.GRU(3, 5, batch_first=True)
    torch.nn.utils.parametrizations.weight_norm(parametrized, "weight_hh_l0")
    assert "remove_parametrizations" in refused(parametrized, x)

    class Other(torch.nn.GRU):
        def forward(self, x: Any, hx: Any = None) -> Any:
            return super().forward(2 * x, hx)

    other = Other(3, 5, batch_first=True)
    assert "trust=True" in refused(other, x)
    assert len(critinit.diagnose(other, x, trust=True)) == 1
    assert "no recurrent layer" in refused(torch.nn.Linear(3, 5), x)
    assert "lstm" in refused(
        torch.nn.GRU(3, 5, batch_first=True), x, ArgumentError, spec=critinit.generate("lstm", T=9)
    )
    assert "not finite" in refused(torch.nn.GRU(3, 5, batch_first=True), x * float("nan"), DataError)
    assert "an integer" in refused(torch.nn.GRU(3, 5, batch_first=True), x, ArgumentError, exponents=0)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_torch_takes_projections_and_stacks_of_modules() -> None:
    torch = pytest.importorskip("torch")
    spec = critinit.generate("lstm", T=12, layers=2)

    class Stack(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.LSTM(3, 8, proj_size=5, batch_first=True)
            self.second = torch.nn.LSTM(5, 8, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.second(self.first(x)[0])[0]

    model = Stack()
    critinit.apply(spec, model, seed=0)
    found = critinit.diagnose(model, torch.randn(4, 13, 3), spec)
    # the states below are correlated in time, so a spec has no fast tied estimate of the second layer
    assert (found[0].predicted, found[1].predicted) == (spec.layers[0].predicted.tied, spec.layers[1].predicted.untied)
    assert found.is_fine, found.verdict


# ---- Keras -----------------------------------------------------------------------------------------------


def test_keras_masks_and_layers_that_go_backwards() -> None:
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 9, 3)).astype("float32")
    x[:, 6:] = 0.0
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Masking(), keras.layers.GRU(5)])
    assert critinit.diagnose(model, x)[0].numbers.steps == 6
    backward = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(5, go_backwards=True)])
    backward.layers[0].set_weights(model.layers[-1].get_weights())
    whole = rng.standard_normal((6, 9, 3)).astype("float32")
    found = critinit.diagnose(backward, whole[:, ::-1].copy())[0].numbers
    forward = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(5)])
    forward.layers[0].set_weights(model.layers[-1].get_weights())
    assert found.perturbation == pytest.approx(critinit.diagnose(forward, whole)[0].numbers.perturbation)


def test_keras_runs_stateful_layers_from_zero_and_leaves_them_their_state() -> None:
    """As in a callback in the middle of a training, where no state can be reset."""
    keras = pytest.importorskip("keras")
    layers = [keras.layers.GRU(5, stateful=True, return_sequences=True), keras.layers.LSTM(4, stateful=True)]
    model = keras.Sequential([keras.Input((7, 3), batch_size=4), *layers])
    x = np.random.default_rng(0).standard_normal((4, 7, 3)).astype("float32")
    expected = critinit.diagnose(model, x)
    model(x)
    states = [state for layer in layers for state in layer.states]
    before = [np.array(keras.ops.convert_to_numpy(state)) for state in states]
    assert all(state.any() for state in before)
    found = critinit.diagnose(model, x)
    assert [layer.numbers.perturbation for layer in found] == [layer.numbers.perturbation for layer in expected]
    assert found.notes == ()
    critinit.measure(model, x)
    for old, state in zip(before, states, strict=True):
        assert np.array_equal(old, keras.ops.convert_to_numpy(state))
