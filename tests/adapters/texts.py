"""A model of PyTorch that has all that models have, and texts for it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

__all__ = ["text", "text_model"]


def text_model() -> Any:
    """Return the model, the same at every call."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Text(nn.Module):
        """Tokens, an embedding, dropout, two layers in both directions, batch normalization, and a second network."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(30, 10, padding_idx=0)
            self.drop = nn.Dropout(0.5)
            self.lstm = nn.LSTM(10, 7, 2, batch_first=True, bidirectional=True, dropout=0.5)
            self.norm = nn.BatchNorm1d(14)
            self.gru = nn.GRU(14, 5)
            self.head = nn.Linear(5, 2)

        def forward(self, tokens: Any, lengths: Any = None) -> Any:
            x = self.drop(self.embed(tokens))
            if lengths is not None:
                x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            y, _ = self.lstm(x)
            if lengths is not None:
                y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
            y = self.norm(y.transpose(1, 2)).permute(2, 0, 1)
            random.random(), np.random.standard_normal(), torch.rand(1)  # noqa: NPY002 - as models do
            return self.head(self.gru(y)[0][-1])

    torch.manual_seed(0)
    return Text()


def text(n: int = 16, steps: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Tokens padded with 0, and their lengths."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(6, steps, n)
    lengths[0] = steps
    tokens = rng.integers(1, 30, (n, steps))
    tokens[np.arange(steps) >= lengths[:, None]] = 0
    return tokens, lengths
