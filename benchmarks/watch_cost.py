"""What the numbers while training cost: the share of the training time that ``critinit.Watch`` and the callbacks take.

``python -m benchmarks watch_cost`` trains a GRU of 64 units for some seconds in a plain loop of PyTorch, in Lightning,
with Hugging Face's trainer and in Keras (on the backend that ``KERAS_BACKEND`` names).  What is measured is all the
time within the callback, logging included, beside the time of the whole run without it.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import critinit

__all__ = ["main"]

_SEQUENCES, _STEPS, _INPUTS, _UNITS = 32, 100, 8, 64
_X = np.random.default_rng(0).standard_normal((_SEQUENCES, _STEPS, _INPUTS)).astype("float32")
_Y = _X[:, 0, :1].copy()


class _Clock:
    """Time within functions.

    Attributes:
        spent: Seconds so far.
    """

    def __init__(self) -> None:
        self.spent = 0.0

    def around(self, owner: Any, *names: str) -> None:
        """Count the time in methods of an object."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                self.spent += time.perf_counter() - start

        return timed


def _net() -> Any:
    """The model in PyTorch; it also returns a loss where it is given what to learn."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch.nn.GRU(_INPUTS, _UNITS, batch_first=True)
            self.head = torch.nn.Linear(_UNITS, 1)

        def forward(self, x: Any, labels: Any = None) -> Any:
            out = self.head(self.rnn(x)[0][:, -1])
            return out if labels is None else {"loss": ((out - labels) ** 2).mean(), "out": out}

    return Net()


def _plain(seconds: float, clock: _Clock) -> critinit.Watch:
    import torch

    model, x, y = _net(), torch.from_numpy(_X), torch.from_numpy(_Y)
    optimizer, watch = torch.optim.Adam(model.parameters()), critinit.Watch(x)
    clock.around(watch, "counted", "measured")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        optimizer.zero_grad()
        model(x, y)["loss"].backward()
        optimizer.step()
        watch(model)
    return watch


def _lightning(seconds: float, clock: _Clock) -> critinit.Watch:
    import lightning.pytorch as lightning
    import torch
    from critinit_adapters.torch import DiagnoseTraining

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = _net()

        def forward(self, x: Any) -> Any:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Any:
            return self.net(*batch)["loss"]

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    watching = DiagnoseTraining()
    clock.around(watching, "on_train_batch_start", "on_train_batch_end")
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_time={"seconds": seconds}, accelerator="cpu", callbacks=[watching], enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder,
        )  # fmt: skip
        data = torch.utils.data.TensorDataset(torch.from_numpy(_X), torch.from_numpy(_Y))
        trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=_SEQUENCES))
    assert watching.watch is not None
    return watching.watch


def _huggingface(seconds: float, clock: _Clock) -> critinit.Watch:
    import torch
    import transformers
    from critinit_adapters.torch import diagnose_training

    transformers.logging.set_verbosity_error()
    data = [{"x": torch.from_numpy(x), "labels": torch.from_numpy(y)} for x, y in zip(_X, _Y, strict=True)]
    end = time.perf_counter() + seconds

    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            control.should_training_stop = time.perf_counter() > end

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, max_steps=10**6, per_device_train_batch_size=_SEQUENCES, report_to="none", use_cpu=True,
            save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = transformers.Trainer(_net(), arguments, train_dataset=data, callbacks=[Stop()])
        trainer.remove_callback(transformers.PrinterCallback)
        watch = diagnose_training(trainer, {"x": torch.from_numpy(_X), "labels": torch.from_numpy(_Y)})
        clock.around(trainer.callback_handler.callbacks[-1], "on_step_end")
        trainer.train()
    return watch


def _keras(seconds: float, clock: _Clock) -> critinit.Watch:
    import keras
    from critinit_adapters.keras import DiagnoseTraining

    model = keras.Sequential([keras.Input((_STEPS, _INPUTS)), keras.layers.GRU(_UNITS), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    watching = DiagnoseTraining(_X)
    clock.around(watching, "on_train_begin", "on_train_batch_end", "on_epoch_end")

    def batches() -> Iterator[Any]:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            yield _X, _Y

    model.fit(batches(), verbose=0, callbacks=[watching])
    return watching.watch


_LOOPS = {"plain": _plain, "lightning": _lightning, "huggingface": _huggingface, "keras": _keras}


def main(arguments: Sequence[str]) -> int:
    """Print a row for each kind of loop.

    Args:
        arguments: Those of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks watch_cost", description=__doc__)
    parser.add_argument("--loop", choices=_LOOPS, nargs="+", default=tuple(_LOOPS))
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each trains")
    options = parser.parse_args(arguments)
    print("loop         seconds  measurements  share of the training time")
    for name in options.loop:
        clock, start = _Clock(), time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watch = _LOOPS[name](options.seconds, clock)
        training = time.perf_counter() - start - clock.spent
        share = 100 * clock.spent / training
        print(f"{name:11}  {training:7.1f}  {len(watch.history):12}  {share:24.2f} %", flush=True)
    return 0
