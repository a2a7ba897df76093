"""Files that frameworks write themselves, of every type of number, and what only a framework reads."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from critinit import apply, check, materialize
from critinit.errors import MissingExtraError, WeightsError
from critinit.weights.reading import open_weights
from tests.adapters.specs import make_spec
from tests.weights.test_reading import damaged_lines, hide, zipped

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
save_file = pytest.importorskip("safetensors.torch").save_file
pytestmark = [
    pytest.mark.frameworks,
    # Keras' own way of reading a TensorFlow variable is deprecated by NumPy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
SPEC = make_spec("gru")
RATE = 1e-6


def torch_model(dtype=torch.float32):
    model = torch.nn.ModuleDict({"rnn": torch.nn.GRU(5, 16), "head": torch.nn.Linear(16, 2)})
    apply(SPEC, model, seed=1)
    return model.to(dtype)


def keras_model(both=False):
    one = keras.layers.GRU(16, return_sequences=True)
    layer = keras.layers.Bidirectional(one) if both else one
    model = keras.Sequential([keras.Input((None, 5)), layer, keras.layers.Dense(3)])
    model.compile("adam", "mse")
    apply(SPEC, model, seed=1)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_torch_models_of_every_type(tmp_path, kind, dtype):
    path = tmp_path / "model"
    if kind == "safetensors":
        save_file(torch_model(dtype).state_dict(), path)
    else:
        torch.save({"state_dict": torch_model(dtype).state_dict(), "epoch": 3}, path)
    checked = check(SPEC, path, false_alarm_rate=RATE)
    assert checked.matches, [row for row in checked.rows if not row.matches]
    prefix = "" if kind == "safetensors" else "state_dict."
    assert f"{prefix}rnn.weight_hh_l0" in {name for row in checked.rows for name in row.tensors}


def test_a_bfloat16_tensor_is_read_bit_for_bit(tmp_path):
    path = tmp_path / "m.safetensors"
    tensor = torch.randn(3, 5).bfloat16()
    save_file({"a": torch.zeros(7), "b": tensor}, path)
    with open_weights(str(path)) as entries:
        assert entries["b"].dtype == "bfloat16"
        np.testing.assert_array_equal(entries["b"].load(), tensor.float().numpy())


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_files_of_keras(tmp_path, suffix, both):
    path = tmp_path / f"model{suffix}"
    model = keras_model(both)
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    checked = check(SPEC, path, false_alarm_rate=RATE)
    assert checked.matches
    assert {row.direction for row in checked.rows} == ({0, 1} if both else {0})
    assert all("/vars/" in name for row in checked.rows for name in row.tensors)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_files_of_keras_of_other_types(tmp_path, dtype):
    model = keras.Sequential([keras.Input((None, 5)), keras.layers.GRU(16, dtype=dtype, recurrent_initializer="zeros")])
    apply(SPEC, model, seed=1)
    model.save_weights(tmp_path / "m.weights.h5")
    with open_weights(str(tmp_path / "m.weights.h5")) as entries:
        assert {entry.dtype for entry in entries.values()} == {dtype}
    assert check(SPEC, tmp_path / "m.weights.h5", false_alarm_rate=RATE).matches


def test_a_file_of_torch_that_holds_code_is_one_clear_line(tmp_path):
    path = tmp_path / "bad"
    members = {"archive/data.pkl": pickle.dumps(print), "archive/version": b"3"}
    path.write_bytes(zipped(archive__data__pkl=b"", **members))
    with pytest.raises(WeightsError, match="found a file that torch refuses to read") as caught:
        check(SPEC, path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < 500


def test_damage_anywhere_in_a_file_of_torch_is_a_clear_line_or_none(tmp_path):
    tensors = materialize(SPEC, "torch", input_size=3, hidden_size=8)
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, tmp_path / "torch")
    assert len(damaged_lines(tmp_path, {"torch": (tmp_path / "torch").read_bytes()})) > 20


def test_a_pickle_in_a_file_of_torch_is_never_run(tmp_path):
    witness = tmp_path / "witness"

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(witness),)

    torch.save({"weight_hh_l0": Attack()}, tmp_path / "torch")
    with pytest.raises(WeightsError, match=r"a file that torch refuses to read \(it holds \S*mkdir"):
        check(SPEC, tmp_path / "torch")
    assert not witness.exists()


def test_torch_that_is_missing_is_said(tmp_path, monkeypatch):
    torch.save(torch_model().state_dict(), tmp_path / "weights")
    hide(monkeypatch, "torch")
    with pytest.raises(MissingExtraError, match=r"torch.* not installed; .*pip install 'critinit\[torch\]'"):
        check(SPEC, tmp_path / "weights")
