"""Two processes that train one model and write what each saw first.

Run it with ``python -m tests.adapters.lightning_processes FOLDER [SEED]``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from critinit_adapters.torch.lightning import CriticalInit

from tests.adapters.test_lightning import SPEC, Memory, Witness, weights


class Recorder(Witness):
    """Keeps each process's weights before and after training."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        record = {"first": self.seen, "last": weights(pl_module), "seed": trainer.callbacks[0].report.seed}
        torch.save(record, Path(trainer.default_root_dir) / f"{trainer.global_rank}.pt")


if __name__ == "__main__":
    torch.manual_seed(int(os.environ.get("LOCAL_RANK", "0")))  # the processes' own weights differ
    pl.Trainer(
        max_steps=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, default_root_dir=sys.argv[1],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        callbacks=[CriticalInit(SPEC, *map(int, sys.argv[2:])), Recorder()],
    ).fit(Memory())  # fmt: skip
