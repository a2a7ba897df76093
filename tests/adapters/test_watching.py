"""Numbers while models train, by the frameworks' own logging."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import critinit
from critinit.errors import ArgumentError

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]
X = np.random.default_rng(0).standard_normal((16, 12, 3)).astype("float32")
Y = X[:, 0, :1].copy()


class Loop:
    """A plain loop of torch, of steps that take so long."""

    def __init__(self) -> None:
        self.torch = pytest.importorskip("torch")
        self.torch.manual_seed(0)
        self.model = self.torch.nn.GRU(3, 8, batch_first=True)
        self.x = self.torch.from_numpy(X)

    def run(self, watch: Any, steps: int, seconds: float = 0.0) -> list[dict[str, float]]:
        found = []
        for _ in range(steps):
            time.sleep(seconds)
            found.append(watch(self.model))
        return found


def test_a_loop_measures_at_first_and_at_every_nth_step() -> None:
    loop = Loop()
    watch = critinit.Watch(loop.x, every=4)
    found = loop.run(watch, 9)
    assert [bool(numbers) for numbers in found] == [True, False, False, False] * 2 + [True]
    assert [step for step, _ in watch.history] == [1, 5, 9]
    assert set(found[0]) == {*watch.history[0][1].scalars(), "critinit/not_finite"}
    assert found[0]["critinit/0/log10_retention"] == pytest.approx(
        np.log10(critinit.diagnose(loop.model, loop.x)[0].numbers.retention)
    )


def test_a_loop_keeps_its_share_of_the_time() -> None:
    loop = Loop()
    watch = critinit.Watch(loop.x, share=0.2)
    loop.run(watch, 150, seconds=0.004)
    assert len(watch.history) >= 2
    assert watch.cost <= 0.2


def test_weights_that_are_no_numbers_are_logged_and_end_no_training() -> None:
    loop = Loop()
    watch = critinit.Watch(loop.x, every=1)
    assert watch(loop.model)["critinit/not_finite"] == 0.0
    loop.model.weight_hh_l0.data.fill_(float("nan"))
    with pytest.warns(UserWarning, match="not finite"):
        assert watch(loop.model) == {"critinit/not_finite": 1.0}


def test_arguments_out_of_range_are_refused() -> None:
    for bad in ({"every": 0}, {"share": 0.0}, {"share": 2}, {"exponents": 0}):
        with pytest.raises(ArgumentError):
            critinit.Watch(X, **bad)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("batches", [1, 2])
def test_lightning_logs_to_its_loggers(batches: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At steps of the optimizer, of however many batches."""
    torch = pytest.importorskip("torch")
    lightning = pytest.importorskip("lightning.pytorch")
    from critinit_adapters.torch import CriticalInit, DiagnoseTraining
    from lightning.pytorch.loggers import CSVLogger

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = torch.nn.GRU(3, 8, batch_first=True), torch.nn.Linear(8, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0][:, -1])

        def training_step(self, batch: Any, index: int) -> Any:
            return ((self(batch[0]) - batch[1]) ** 2).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    spec = critinit.generate("gru", T=11)
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    watching = DiagnoseTraining(every=3)
    logger, logged = CSVLogger(tmp_path), []
    monkeypatch.setattr(CSVLogger, "log_metrics", lambda self, metrics, step: logged.append((step, metrics)))
    trainer = lightning.Trainer(
        max_steps=8, accelerator="cpu", logger=logger, callbacks=[CriticalInit(spec, seed=0), watching],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        accumulate_grad_batches=batches,
    )  # fmt: skip
    trainer.fit(Net(), torch.utils.data.DataLoader(data, batch_size=4))
    assert [step for step, _ in watching.watch.history] == [1, 4, 7]
    assert watching.watch.history[0][1].is_fine
    assert watching.watch.spec is spec  # that of the start
    assert [step for step, metrics in logged if "critinit/rnn/0/log10_retention" in metrics] == [0, 3, 6]
    assert "critinit/rnn/0/findings" in trainer.callback_metrics


def test_keras_has_the_numbers_in_its_logs() -> None:
    keras = pytest.importorskip("keras")
    from critinit_adapters.keras import DiagnoseTraining

    model = keras.Sequential([keras.Input((12, 3)), keras.layers.GRU(8, name="memory"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    watching = DiagnoseTraining(X[:8], every=2)
    history = model.fit(X, Y, epochs=2, batch_size=4, verbose=0, callbacks=[watching]).history
    assert [step for step, _ in watching.watch.history] == [1, 3, 5, 7, 9]
    (name,) = [name for name in history if name.endswith("/log10_retention")]
    assert len(history[name]) == 2
    found = [diagnosis[0].numbers.retention for _, diagnosis in watching.watch.history]
    assert history[name] == pytest.approx(np.log10([found[2], found[4]]))
    assert found[0] != found[4]  # what is measured are the weights of the step


@pytest.mark.filterwarnings("ignore")
def test_a_hugging_face_trainer_logs_them(tmp_path: Any) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from critinit_adapters.torch import diagnose_training

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = torch.nn.GRU(3, 8, batch_first=True), torch.nn.Linear(8, 1)

        def forward(self, x: Any, labels: Any = None) -> Any:
            out = self.head(self.rnn(x)[0][:, -1])
            return {"loss": ((out - labels) ** 2).mean(), "out": out}

    data = [{"x": torch.from_numpy(x), "labels": torch.from_numpy(y)} for x, y in zip(X, Y, strict=True)]
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=5, per_device_train_batch_size=4, report_to="none", use_cpu=True,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(Net(), arguments, train_dataset=data)
    batch = {"x": torch.from_numpy(X[:8]), "labels": torch.from_numpy(Y[:8])}
    watch = diagnose_training(trainer, batch, every=2)
    trainer.train()
    assert [step for step, _ in watch.history] == [1, 3, 5]
    logged = [entry for entry in trainer.state.log_history if "critinit/rnn/0/log10_retention" in entry]
    assert [entry["step"] for entry in logged] == [1, 3, 5]
