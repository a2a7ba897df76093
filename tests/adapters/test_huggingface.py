"""The Hugging Face helper in real ``PreTrainedModel``s: made from a configuration, saved, loaded whole and in part."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")
pytest.importorskip("safetensors")

from pathlib import Path

import torch
from critinit_adapters.torch.huggingface import LimitSteps, init_weights
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, TrainerControl, TrainerState, set_seed
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

import critinit

pytestmark = pytest.mark.frameworks
SPEC = critinit.generate("gru", T=50, layers=2)


class TaggerConfig(PretrainedConfig):
    model_type = "tagger"


class Tagger(PreTrainedModel):
    """Two towers of two layers, one built of two single ones, and what is not recurrent."""

    config_class = TaggerConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(20, 6)
        self.one = nn.GRU(6, 16, num_layers=2)
        self.two = nn.GRU(6, 16, num_layers=2)
        self.other = nn.LSTM(6, 4)
        self.head = nn.Linear(16, 3)
        self.post_init()

    def _init_weights(self, module):
        if not init_weights(SPEC, self, module, seed=5):
            super()._init_weights(module)


def recurrent(model):
    return {name: value for name, value in model.state_dict().items() if name.startswith(("one", "two"))}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def expected():
    bare = nn.ModuleDict({"one": nn.GRU(6, 16, num_layers=2), "two": nn.GRU(6, 16, num_layers=2)})
    critinit.apply(SPEC, bare, seed=5)
    return bare.state_dict()


def trained() -> Tagger:
    """A model whose every tensor differs from what initialization gives."""
    model = Tagger(TaggerConfig())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    return model


def test_a_new_model_has_the_specs_weights() -> None:
    model = Tagger(TaggerConfig())
    assert same(recurrent(model), expected())
    assert not torch.equal(model.one.weight_hh_l0, model.two.weight_hh_l0)
    assert model.head.bias.count_nonzero() == 0  # transformers' own
    assert model.other.bias_ih_l0.count_nonzero() == 0


class Unseeded(Tagger):
    """Follows ``transformers.set_seed``."""

    def _init_weights(self, module):
        if not init_weights(SPEC, self, module):
            PreTrainedModel._init_weights(self, module)


def test_without_a_seed_the_weights_follow_set_seed(tmp_path: Path) -> None:
    def made(seed):
        set_seed(seed)
        return Unseeded(TaggerConfig())

    one, again, other = made(1), made(1), made(2)
    assert one.critinit_seed == again.critinit_seed != other.critinit_seed
    assert same(recurrent(one), recurrent(again))
    assert not torch.equal(one.one.weight_hh_l0, other.one.weight_hh_l0)
    bare = nn.ModuleDict({"one": nn.GRU(6, 16, num_layers=2), "two": nn.GRU(6, 16, num_layers=2)})
    critinit.apply(SPEC, bare, seed=one.critinit_seed)
    assert same(recurrent(one), bare.state_dict())
    one.save_pretrained(tmp_path)
    loaded = Unseeded.from_pretrained(tmp_path)
    assert same(recurrent(loaded), recurrent(one))
    assert not hasattr(loaded, "critinit_seed")  # nothing was drawn


def test_what_was_loaded_stays(tmp_path: Path) -> None:
    saved = trained()
    saved.save_pretrained(tmp_path)
    loaded = Tagger.from_pretrained(tmp_path)
    assert same(loaded.state_dict(), saved.state_dict())


@pytest.mark.parametrize("missing", ["two.", "two.weight_hh_l1", "one.bias"])
def test_what_is_missing_is_drawn_and_the_rest_stays(missing: str, tmp_path: Path) -> None:
    saved = trained()
    saved.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if not name.startswith(missing)}
    save_file(kept, file, metadata={"format": "pt"})
    loaded = Tagger.from_pretrained(tmp_path).state_dict()
    drawn = expected()
    assert 0 < len(kept) < len(loaded)
    for name, value in loaded.items():
        assert torch.equal(value, drawn[name] if name.startswith(missing) else saved.state_dict()[name]), name


def test_modules_marked_as_a_whole_are_left_alone() -> None:
    model = trained()
    before = {name: value.clone() for name, value in recurrent(model).items()}
    for module in (model.one, model.two):
        module._is_hf_initialized = True
        assert init_weights(SPEC, model, module)
    assert same(recurrent(model), before)


def test_other_modules_are_left_to_the_model() -> None:
    model = Tagger(TaggerConfig())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not any(init_weights(SPEC, model, module) for module in (model.head, model.embed, model.other, model))
    assert same(model.state_dict(), before)


def test_a_spec_that_does_not_fit_is_refused() -> None:
    model = Tagger(TaggerConfig())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(critinit.ApplyError, match="'one' has 2"):
        init_weights(critinit.generate("gru", T=50, layers=3), model, model.one)
    assert same(model.state_dict(), before)


def test_a_spec_that_states_the_projection():
    spec = critinit.generate("projection_lstm", T=50)

    class Projecting(PreTrainedModel):
        config_class = TaggerConfig

        def __init__(self, config):
            super().__init__(config)
            self.lstm = nn.LSTM(6, 16, proj_size=8)
            self.post_init()

        def _init_weights(self, module):
            if not init_weights(spec, self, module, seed=5):
                super()._init_weights(module)

    model = nn.ModuleDict({"lstm": nn.LSTM(6, 16, proj_size=8)})
    critinit.apply(spec, model, seed=5)
    for name, value in Projecting(TaggerConfig()).state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


class WithItsOwnStep(nn.GRU):
    def forward(self, input, hx=None):
        return super().forward(input, hx)


@pytest.mark.parametrize(
    "arguments", [{}, {"trust": True}, {"include": ["rnn"], "trust": True}, {"include": ["other"]}]
)
def test_the_ways_out_of_apply_are_those_of_the_helper(arguments):
    class Model(PreTrainedModel):
        config_class = TaggerConfig

        def __init__(self, config):
            super().__init__(config)
            self.rnn, self.other = WithItsOwnStep(6, 16, num_layers=2), nn.GRU(6, 16, num_layers=2)
            self.post_init()

        def _init_weights(self, module):
            self.answers = getattr(self, "answers", ())
            if isinstance(module, nn.GRU):
                self.answers += (init_weights(SPEC, self, module, **arguments),)

    if not arguments:
        with pytest.raises(critinit.ApplyError, match=r"'rnn': found a WithItsOwnStep, whose forward .*trust=True"):
            Model(TaggerConfig())
        return
    taken = arguments.get("include", ["rnn", "other"])
    assert Model(TaggerConfig()).answers == ("rnn" in taken, "other" in taken)


def test_for_a_module_that_is_left_out_no_seed_is_taken():
    model = Tagger(TaggerConfig())
    vars(model).pop("critinit_seed", None)
    for one in (*model.modules(), *model.parameters()):
        one._is_hf_initialized = False
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert not init_weights(SPEC, model, model.one, include=["two"])
    assert torch.equal(torch.get_rng_state(), state)
    assert not hasattr(model, "critinit_seed")
    assert init_weights(SPEC, model, model.two, include=["two"])
    assert not torch.equal(torch.get_rng_state(), state)


LIMITED = critinit.generate("gru", T=50, layers=2, settings=["layers.*.gates.*.recurrent.max_learning_rate=1e-4"])


def moved(model, callback, optimizer):
    """The largest step of each tensor after what a trainer does: it makes an optimizer, begins, and takes a step."""
    CallbackHandler([DefaultFlowCallback(), callback], model, None, optimizer, None).on_train_begin(
        None, TrainerState(), TrainerControl()
    )
    before = {name: value.clone() for name, value in recurrent(model).items()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {name: (value - before[name]).abs().max().item() for name, value in recurrent(model).items()}


@pytest.mark.parametrize("include", [None, ["two"]])
def test_the_callback_limits_the_trainers_optimizer(include):
    model = Tagger(TaggerConfig())
    steps = moved(model, LimitSteps(LIMITED, include=include), torch.optim.Adam(model.parameters(), lr=0.01))
    for name, step in steps.items():
        limited = "weight_hh" in name and (include is None or name.startswith("two"))
        assert step == pytest.approx(1e-4 if limited else 1e-2, rel=1e-3), name


def test_the_callback_leaves_an_optimizer_alone_where_nothing_is_limited_and_refuses_what_cannot_be():
    model = Tagger(TaggerConfig())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    assert all(step == pytest.approx(1e-2, rel=1e-3) for step in moved(model, LimitSteps(SPEC), optimizer).values())
    with pytest.raises(critinit.ArgumentError, match="one that trains at least one of the limited tensors"):
        moved(model, LimitSteps(LIMITED), torch.optim.Adam(model.head.parameters()))
    with pytest.raises(critinit.ArgumentError, match="spec"):
        LimitSteps("spec.json")
