"""One process saves Keras models with declared initializers, another loads them as docs/frameworks/keras.md says.

Run it with ``python -m tests.adapters.keras_saved save FOLDER``, then ``... load FOLDER``, ``KERAS_BACKEND`` set.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

MODELS = ("native", "portable", "chaotic")
UNITS, WIDTH = 6, 4


def save(folder: Path) -> None:
    from critinit_adapters.keras import initializers

    import critinit
    from tests.adapters.specs import GATES, make_spec

    keras.utils.set_random_seed(1)
    chaos = {
        "recurrent": {"distribution": "normal", "variance": 100.0},
        "input": {"distribution": "normal", "variance": 0.01},
        "bias": {"distribution": "constant", "mean": 0.0},
    }
    chaotic = critinit.predict(make_spec("lstm", **dict.fromkeys(GATES["lstm"], chaos)))
    assert chaotic.layers[0].predicted.untied.time_scale is None
    made = {
        "native": [layers.Bidirectional(layers.LSTM(UNITS, **initializers(critinit.generate("lstm", T=50))))],
        "portable": [layers.GRU(UNITS, **initializers(critinit.generate("gru", T=50), seed=7))],
        "chaotic": [layers.LSTM(UNITS, **initializers(chaotic))],
    }
    for name, recurrent in made.items():
        model = keras.Sequential([keras.Input((None, WIDTH)), *recurrent, layers.Dense(1)])
        model.save(folder / f"{name}.keras")
        np.savez(folder / f"{name}.npz", *model.get_weights(), answer=np.asarray(_answer(model)))


def load(folder: Path) -> None:
    with pytest.raises(ValueError, match="SpecInitializer"):
        keras.models.load_model(folder / "native.keras")

    from critinit_adapters.keras import SpecInitializer  # as the page says

    for name in MODELS:
        model = keras.models.load_model(folder / f"{name}.keras")
        saved = np.load(folder / f"{name}.npz")
        weights = model.get_weights()
        assert all(np.array_equal(saved[f"arr_{n}"], one) for n, one in enumerate(weights))
        assert np.allclose(saved["answer"], _answer(model), atol=1e-6)
        layer = model.layers[0]
        cell = getattr(layer, "forward_layer", layer).cell
        assert isinstance(cell.recurrent_initializer, SpecInitializer)
        assert cell.recurrent_initializer.place.seed == {"portable": 7}.get(name)
        copy = keras.models.clone_model(model)
        same = [np.array_equal(one, other) for one, other in zip(weights, copy.get_weights(), strict=True)]
        assert same[0] == same[1] == (name == "portable")
        json.dumps(model.get_config())


def _answer(model: keras.Model) -> np.ndarray:
    x = np.linspace(-1.0, 1.0, 2 * 5 * WIDTH, dtype="float32").reshape(2, 5, WIDTH)
    return keras.ops.convert_to_numpy(model(x))


if __name__ == "__main__":
    {"save": save, "load": load}[sys.argv[1]](Path(sys.argv[2]))
