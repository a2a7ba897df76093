"""The Lightning callback in real trainings: before the first step, under what is restored, and never twice."""

from __future__ import annotations

import pytest

pytest.importorskip("lightning.pytorch")

import pickle
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from critinit_adapters.torch.lightning import CriticalInit
from lightning.pytorch.callbacks import BaseFinetuning, Callback, ModelCheckpoint
from lightning.pytorch.tuner import Tuner
from torch import nn

import critinit
from tests.cli.conftest import environment

SPEC = critinit.generate("gru", T=20)
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*"),
]


class Memory(pl.LightningModule):
    """Says the first input's sign after 20 steps."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 8, batch_first=True)
        self.head = nn.Linear(8, 1)

    def training_step(self, batch, _):
        x, y = batch
        return nn.functional.binary_cross_entropy_with_logits(self.head(self.gru(x)[0][:, -1])[:, 0], y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)

    def train_dataloader(self):
        x = torch.zeros(64, 20, 1)
        x[:, 0, 0] = torch.randn(64, generator=torch.Generator().manual_seed(0))
        data = torch.utils.data.TensorDataset(x, (x[:, 0, 0] > 0).float())
        return torch.utils.data.DataLoader(data, batch_size=64)  # one batch: resumed or not, every step sees the same


class Later(Memory):
    """Makes its network in ``configure_model``."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = None

    def configure_model(self):
        if self.gru is None:
            self.gru = nn.GRU(1, 8, batch_first=True)


class Witness(Callback):
    """The recurrent weights as the first step finds them."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not hasattr(self, "seen"):
            self.seen = weights(pl_module)


def weights(module):
    return {name: value.clone() for name, value in module.gru.state_dict().items()}


def expected(seed=0, spec=SPEC):
    model = Memory()
    critinit.apply(spec, model, seed=seed)
    return weights(model)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def fit(module, folder, *callbacks, steps=4, ckpt_path=None):
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, default_root_dir=folder, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(module, ckpt_path=ckpt_path)
    return trainer


def checkpoints(folder):
    return ModelCheckpoint(folder, filename="end", save_last=True)


@pytest.mark.parametrize("kind", [Memory, Later])
def test_the_first_step_finds_the_specs_weights(kind, tmp_path: Path) -> None:
    module, callback, witness = kind(), CriticalInit(SPEC, seed=3), Witness()
    fit(module, tmp_path, callback, witness, checkpoints(tmp_path))
    assert same(witness.seen, expected(3))
    assert not same(weights(module), expected(3))  # it was trained
    assert len(callback.report) == 9
    assert "head.weight" in callback.report.untouched


@pytest.mark.parametrize("kind", [Memory, Later])
def test_without_a_seed_the_weights_follow_seed_everything(kind, tmp_path: Path) -> None:
    def run(seed):
        pl.seed_everything(seed, verbose=False)
        callback, witness = CriticalInit(SPEC), Witness()
        fit(kind(), tmp_path, callback, witness, checkpoints(tmp_path))
        return callback.report.seed, witness.seen

    (seed, first), (again, second), (other, third) = run(1), run(1), run(2)
    assert seed == again != other
    assert same(first, second)
    assert not same(first, third)
    assert same(first, expected(seed))


@pytest.mark.parametrize("kind", [Memory, Later])
def test_a_resumed_run_goes_on_where_it_stopped(kind, tmp_path: Path) -> None:
    first = kind()
    made = CriticalInit(SPEC)
    fit(first, tmp_path, made, checkpoints(tmp_path))
    saved = tmp_path / "last.ckpt"
    stored = torch.load(saved, weights_only=True)
    kept = stored["callbacks"]["CriticalInit{'cell': 'gru'}"]
    assert (kept["spec"], kept["seed"]) == (SPEC.to_json(), made.report.seed)

    second, callback, witness = kind(), CriticalInit(SPEC), Witness()
    trainer = fit(second, tmp_path, callback, witness, checkpoints(tmp_path), steps=8, ckpt_path=saved)
    assert trainer.global_step == 8
    assert same(witness.seen, weights(first))
    assert callback.report is None
    assert not same(weights(second), weights(first))  # and it went on learning


def test_resumed_and_uninterrupted_runs_end_alike(tmp_path: Path) -> None:
    def fresh():
        torch.manual_seed(0)
        return Memory()

    whole, part, rest = fresh(), fresh(), fresh()
    fit(whole, tmp_path / "a", CriticalInit(SPEC, seed=0), checkpoints(tmp_path / "a"), steps=8)
    fit(part, tmp_path / "b", CriticalInit(SPEC, seed=0), checkpoints(tmp_path / "b"), steps=4)
    saved = tmp_path / "b" / "last.ckpt"
    fit(rest, tmp_path / "b", CriticalInit(SPEC, seed=9), checkpoints(tmp_path / "b"), steps=8, ckpt_path=saved)
    assert same(weights(rest), weights(whole))


@pytest.mark.parametrize("kind", [Memory, Later])
def test_the_optimizers_keep_the_specs_limits_also_in_a_resumed_run(kind, tmp_path: Path) -> None:
    spec = critinit.generate("gru", T=20, settings=["layers.0.gates.candidate.recurrent.max_learning_rate=1e-5"])

    class Two(kind):
        """Trains its head by an optimizer of its own, by hand."""

        automatic_optimization = False

        def training_step(self, *arguments):
            loss = super().training_step(*arguments)
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()

        def configure_optimizers(self):
            return [torch.optim.Adam(part.parameters(), 1e-2) for part in (self.gru, self.head)]

    for module, again in ((kind(), kind()), (Two(), Two())):
        folder = tmp_path / type(module).__name__
        callback, first, second = CriticalInit(spec, seed=3), Witness(), Witness()
        fit(module, folder, callback, first, checkpoints(folder))
        assert not any("limit" in note for note in callback.report.notes)  # there is nothing left to do
        fit(again, folder, CriticalInit(spec), second, checkpoints(folder), steps=8, ckpt_path=folder / "last.ckpt")
        for start, end in ((first.seen, weights(module)), (second.seen, weights(again))):
            moved = (end["weight_hh_l0"] - start["weight_hh_l0"]).abs()
            assert 0 < moved[16:].max() < 5e-5
            assert moved[:16].max() > 1e-2


class Searched(Memory):
    """Has a rate that Lightning can search."""

    def __init__(self) -> None:
        super().__init__()
        self.lr = 1e-2

    def configure_optimizers(self):
        return torch.optim.Adam([parameter for parameter in self.parameters() if parameter.requires_grad], self.lr)


LIMITED = critinit.generate("gru", T=20, settings=["layers.*.gates.*.recurrent.max_learning_rate=1e-5"])


def test_lightnings_search_for_a_rate_keeps_the_limits_and_what_is_known_of_the_weights(tmp_path: Path) -> None:
    moved = []

    class Steps(Searched):
        def on_train_batch_end(self, *arguments):
            moved.append((self.gru.weight_hh_l0.detach() - self.before).abs().max().item())

        def on_train_batch_start(self, *arguments):
            self.before = self.gru.weight_hh_l0.detach().clone()

    module, callback, saving = Steps(), CriticalInit(LIMITED), checkpoints(tmp_path)
    trainer = pl.Trainer(
        max_steps=2, accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False,
        log_every_n_steps=1, enable_model_summary=False, callbacks=[callback, saving],
    )  # fmt: skip
    Tuner(trainer).lr_find(module, num_training=20, update_attr=False, early_stop_threshold=None)
    seed = callback.report.seed
    trainer.fit(module)
    assert len(moved) > 20
    assert 0 < max(moved) < 2e-5
    assert callback.report.seed == seed
    saved = tmp_path / "last.ckpt"
    assert torch.load(saved)["callbacks"][callback.state_key]["seed"] == seed

    again = CriticalInit(LIMITED)
    fit(Steps(), tmp_path, again, checkpoints(tmp_path), steps=4, ckpt_path=saved)
    assert again.report is None
    assert torch.load(tmp_path / "last.ckpt")["callbacks"][again.state_key]["seed"] == seed


def test_what_an_optimizer_gets_to_train_later_has_its_limits(tmp_path: Path) -> None:
    """As a finetuning callback gives it the recurrent part when it is no longer frozen."""

    class Unfreeze(BaseFinetuning):
        def freeze_before_training(self, pl_module):
            self.freeze(pl_module.gru)

        def finetune_function(self, pl_module, epoch, optimizer):
            if epoch == 1:
                self.unfreeze_and_add_param_group(pl_module.gru, optimizer, lr=0.1)

    module, witness = Searched(), Witness()
    fit(module, tmp_path, Unfreeze(), CriticalInit(LIMITED, seed=3), witness, checkpoints(tmp_path), steps=4)
    moved = (module.gru.weight_hh_l0.detach() - witness.seen["weight_hh_l0"]).abs().max()
    assert 0 < moved < 5e-5


def test_what_becomes_of_limited_tensors_keeps_no_checkpoint_from_being_written(tmp_path: Path) -> None:
    class Prune(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            nn.utils.prune.l1_unstructured(pl_module.gru, "weight_hh_l0", 0.2)

        def on_train_end(self, trainer, pl_module):
            nn.utils.parametrizations.weight_norm(pl_module.gru, "weight_ih_l0")
            trainer.save_checkpoint(tmp_path / "end.ckpt")

    module, witness = Searched(), Witness()
    fit(module, tmp_path, CriticalInit(LIMITED, seed=3), witness, Prune(), checkpoints(tmp_path), steps=4)
    moved = (module.gru.weight_hh_l0_orig.detach() - witness.seen["weight_hh_l0"]).abs().max()
    assert 0 < moved < 5e-5
    assert "gru.weight_hh_l0_orig" in torch.load(tmp_path / "end.ckpt")["state_dict"]


def test_a_checkpoint_of_a_run_without_the_callback_is_resumed_too(tmp_path: Path) -> None:
    first, second, witness = Later(), Later(), Witness()
    fit(first, tmp_path, checkpoints(tmp_path))
    saved = tmp_path / "last.ckpt"
    fit(second, tmp_path, CriticalInit(SPEC), witness, checkpoints(tmp_path), steps=8, ckpt_path=saved)
    assert same(witness.seen, weights(first))


def test_fitting_the_same_model_again_keeps_what_it_learned(tmp_path: Path) -> None:
    module, callback = Memory(), CriticalInit(SPEC)
    fit(module, tmp_path, callback, checkpoints(tmp_path))
    learned, witness = weights(module), Witness()
    fit(module, tmp_path, callback, witness, checkpoints(tmp_path))
    assert same(witness.seen, learned)


def test_validation_alone_changes_nothing(tmp_path: Path) -> None:
    class Validated(Memory):
        def validation_step(self, batch, _):
            return self.training_step(batch, _)

        val_dataloader = Memory.train_dataloader

    module = Validated()
    before, callback = weights(module), CriticalInit(SPEC)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[callback]
    )
    trainer.validate(module, verbose=False)
    assert same(weights(module), before)
    assert callback.report is None


def test_a_spec_that_does_not_fit_ends_the_fit_before_it_starts(tmp_path: Path) -> None:
    module = Memory()
    before = weights(module)
    with pytest.raises(critinit.ApplyError, match=r"found gru at 'gru'; .*cell, lstm"):
        fit(module, tmp_path, CriticalInit(critinit.generate("lstm", T=20)), checkpoints(tmp_path))
    assert same(weights(module), before)
    with pytest.raises(critinit.ArgumentError, match="allowed: an InitSpec"):
        CriticalInit("spec.json")


class Pair(Memory):
    """An LSTM above the GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def training_step(self, batch, _):
        x, y = batch
        logits = self.head(self.lstm(self.gru(x)[0])[0][:, -1])[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(logits, y)


def test_a_callback_for_each_network_of_a_model(tmp_path: Path) -> None:
    module, witness = Pair(), Witness()
    pair = [CriticalInit(SPEC, 0), CriticalInit(critinit.generate("lstm", T=20), 1)]
    fit(module, tmp_path, *pair, witness, checkpoints(tmp_path))
    assert same(witness.seen, expected())
    assert pair[1].report.rows == critinit.apply(critinit.generate("lstm", T=20), Pair(), seed=1).report.rows
    again = [CriticalInit(SPEC, 0), CriticalInit(critinit.generate("lstm", T=20), 1)]
    before = Witness()
    fit(Pair(), tmp_path, *again, before, checkpoints(tmp_path), steps=5, ckpt_path=tmp_path / "last.ckpt")
    assert same(before.seen, weights(module))
    assert [callback.report for callback in again] == [None, None]
    halves = [CriticalInit(SPEC, include=name).state_key for name in ("encoder", "decoder")]
    assert len(set(halves)) == 2


def test_the_callback_is_of_the_lightning_in_use() -> None:
    assert issubclass(CriticalInit, pl.Callback)  # lightning.pytorch was imported first here
    pytest.importorskip("pytorch_lightning")
    code = "import pytorch_lightning as pl, critinit_adapters.torch.lightning as own\n"
    code += "print(issubclass(own.CriticalInit, pl.Callback))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("seed", [[3], []], ids=["seed", "no seed"])
def test_two_processes_start_from_the_specs_weights(seed: list[int], tmp_path: Path) -> None:
    """Without a seed from that of the first process, although their generators differ."""
    command = [sys.executable, "-m", "tests.adapters.lightning_processes", str(tmp_path), *map(str, seed)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert one["seed"] == two["seed"]
    assert same(one["first"], expected(*seed or [one["seed"]]))
    assert same(two["first"], one["first"])
    assert same(one["last"], two["last"])
    assert not same(one["last"], one["first"])


def test_the_callback_can_be_sent_to_another_process():
    callback = CriticalInit(SPEC, seed=3)
    sent = pickle.loads(pickle.dumps(callback))
    model = Memory()
    sent.on_fit_start(None, model)
    expected = critinit.apply(SPEC, nn.ModuleDict({"gru": nn.GRU(1, 8)}), seed=3).model
    assert torch.equal(model.gru.weight_ih_l0, expected["gru"].weight_ih_l0)


class OwnStep(nn.GRU):
    def forward(self, input, hx=None):
        return super().forward(input, hx)


def test_the_ways_out_of_apply_are_those_of_the_callback():
    model = Memory()
    model.gru = OwnStep(1, 8, batch_first=True)
    with pytest.raises(critinit.ApplyError, match="'gru': found a OwnStep, whose forward is not that of GRU"):
        CriticalInit(SPEC, seed=0).setup(None, model, "fit")
    names = {"input": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih", "second_bias": "bias_hh"}
    paths = {part: f"gru.{name}_l0" for part, name in names.items()}
    where = critinit.fused(["reset", "update", "candidate"], **paths)
    written = []
    for callback in (CriticalInit(SPEC, 0, trust=True), CriticalInit(SPEC, 0, where=where)):
        callback.setup(None, model, "fit")
        assert len(callback.report) == 9
        written.append(model.gru.weight_hh_l0.clone())
    assert torch.equal(*written)
