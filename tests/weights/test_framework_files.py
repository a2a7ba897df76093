"""Files that frameworks write themselves, of every type of number, and what only a framework reads."""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import pickle
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from critinit import apply, check, materialize
from critinit.errors import CritinitError, MissingExtraError, WeightsError
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


# ---- training checkpoints, old files, whole models -------------------------------------------------------


class Config:
    """A class that no library knows, as checkpoints of training scripts hold them."""

    def __init__(self):
        self.rate = 0.1


def trained_state():
    model = torch_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    return model.state_dict(), optimizer.state_dict()


def moments():
    """What an optimizer keeps of each weight, under the name of the weight."""
    return {name: torch.zeros_like(tensor) for name, tensor in trained_state()[0].items()}


CHECKPOINTS = {
    "bare": lambda weights: weights,
    "state_dict": lambda weights: {"state_dict": weights, "epoch": 3},
    "model": lambda weights: {"model": weights, "optimizer": trained_state()[1], "step": torch.tensor(4)},
    "module": lambda weights: {"module": weights, "lr_scheduler": {"last_epoch": 1}, "loss": 0.5},
    "wrapped": lambda weights: {"model": {f"module._orig_mod.{name}": w for name, w in weights.items()}},
    "moments by name": lambda weights: {"model": weights, "optimizer": {"momentum": moments()}},
    "Lightning": lambda weights: {
        "state_dict": {f"net.{name}": w for name, w in weights.items()},
        "optimizer_states": [trained_state()[1]],
        "hyper_parameters": {"width": 16},
        "callbacks": {},
        "pytorch-lightning_version": "2.6.0",
    },
    "a namespace": lambda weights: {"state_dict": weights, "args": argparse.Namespace(rate=0.1, out=Path("runs"))},
    "a path": lambda weights: {"model": weights, "best": Path("best.pt"), "at": datetime.datetime(2024, 1, 2)},
    "scalars": lambda weights: {"model": weights, "score": np.float64(0.5), "history": np.arange(4.0)},
    "a class of its own": lambda weights: {"model": weights, "config": Config(), "counts": Counter("abc")},
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_training_checkpoint_is_read(tmp_path, kind):
    torch.save(CHECKPOINTS[kind](torch_model().state_dict()), tmp_path / "last.ckpt")
    checked = check(SPEC, tmp_path / "last.ckpt", false_alarm_rate=RATE)
    assert checked.matches
    assert len(checked.networks) == 1
    assert not any("optimizer" in name for row in checked.rows for name in row.tensors)


def test_objects_of_a_checkpoint_are_never_made(tmp_path, monkeypatch):
    """What stands for them is inert: the class is neither imported nor called."""
    torch.save({"model": torch_model().state_dict(), "config": Config()}, tmp_path / "last.pt")

    def fail(*_):
        raise AssertionError("it was called")

    monkeypatch.setattr(Config, "__setstate__", fail, raising=False)
    monkeypatch.setattr(Config, "__new__", fail)
    assert check(SPEC, tmp_path / "last.pt", false_alarm_rate=RATE).matches
    monkeypatch.delitem(sys.modules, Config.__module__, raising=False)
    assert check(SPEC, tmp_path / "last.pt", false_alarm_rate=RATE).matches


def test_a_file_that_old_versions_wrote_is_read(tmp_path):
    torch.save(torch_model().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert check(SPEC, tmp_path / "old.pth", false_alarm_rate=RATE).matches


def scripted():
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(torch.nn.GRU(5, 16)), buffer)
    return buffer.getvalue()


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


HAND_OVER = (
    "allowed: tensors by name, as of a state_dict; save tensors alone, torch.save(model.state_dict(), FILE), "
    "or hand them over in Python: critinit.check(spec, model.state_dict())"
)
REFUSED = {
    "a whole model": (
        lambda: saved(torch.nn.GRU(5, 16)),
        f"found a whole pickled model of class torch.nn.modules.rnn.GRU; {HAND_OVER}",
    ),
    "a whole model in a checkpoint": (
        lambda: saved({"model": torch.nn.GRU(5, 16), "epoch": 3}),
        f"found no tensor, but torch.nn.modules.rnn.GRU at model; {HAND_OVER}",
    ),
    "an old whole model": (
        lambda: saved(torch.nn.GRU(5, 16), _use_new_zipfile_serialization=False),
        "found a file that torch refuses to read (it holds torch.nn.modules.rnn.GRU",
    ),
    "a list": (lambda: saved([torch.zeros(3)]), f"found a list; {HAND_OVER}"),
    "a tensor": (lambda: saved(torch.zeros(3)), f"found a Tensor; {HAND_OVER}"),
    "integers": (
        lambda: saved({name: torch.zeros(2, dtype=torch.int8) for name in "abcd"}),
        "found no dense tensor of floating-point numbers, but a tensor of int8 at a, a tensor of int8 at b, a tensor "
        f"of int8 at c, …; {HAND_OVER}",
    ),
    "no numbers": (
        lambda: saved({"a": torch.zeros(2, device="meta")}),
        f"found no dense tensor of floating-point numbers, but a tensor of no numbers (meta) at a; {HAND_OVER}",
    ),
    "nothing": (lambda: saved({}), f"found no tensor, but other things; {HAND_OVER}"),
    "a function": (lambda: saved({"model": {}, "f": exec}), "(it holds builtins.exec); allowed: tensors by name"),
    "TorchScript": (scripted, "found a TorchScript archive, which holds code; allowed: tensors alone; its tensors: "),
    "a half": (lambda: saved(torch_model().state_dict())[:4000], "found a damaged file (BadZipFile"),
    "half an old one": (
        lambda: saved(torch_model().state_dict(), _use_new_zipfile_serialization=False)[:4000],
        "it may be cut short",
    ),
    "the start of an old one": (
        lambda: pickle.dumps(119547037146038801333356, protocol=2),
        "found a pickle that ends too early; allowed: a whole file; it may be cut short: copy or save it again",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_no_tensors_by_name_is_one_line_with_the_way_out(tmp_path, kind):
    make, says = REFUSED[kind]
    (tmp_path / "model.pt").write_bytes(make())
    with pytest.raises(WeightsError) as caught:
        check(SPEC, tmp_path / "model.pt")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'model.pt'}: ")
    assert says in text
    assert "\n" not in text


# ---- shards and folders ----------------------------------------------------------------------------------


def shards(folder, write, ending, prefix="model", index=True):
    """Write a model's weights in three files and, perhaps, their index."""
    folder.mkdir(exist_ok=True)
    weights = torch_model().state_dict()
    placed = {}
    for n, part in enumerate(np.array_split(list(weights), 3)):
        file = f"{prefix}-{n + 1:05}-of-00003.{ending}"
        write({str(name): weights[str(name)] for name in part}, folder / file)
        placed |= {str(name): file for name in part}
    if index:
        text = json.dumps({"metadata": {"total_size": 1}, "weight_map": placed})
        (folder / f"{prefix}.{ending}.index.json").write_text(text)
    return folder


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize(
    ("write", "ending", "prefix"), [(save_file, "safetensors", "model"), (torch.save, "bin", "pytorch_model")]
)
def test_shards_are_read_as_one_file(tmp_path, write, ending, prefix, index):
    folder = shards(tmp_path / "model", write, ending, prefix, index)
    (folder / "config.json").write_text("{}")
    torch.save({"rate": 0.1}, folder / "optimizer.pt")
    torch.save({"rate": 0.1}, folder / "training_args.bin")
    paths = [folder, folder / f"{prefix}.{ending}.index.json"] if index else [folder]
    for path in paths:
        checked = check(SPEC, path, false_alarm_rate=RATE)
        assert checked.matches
        assert {name for row in checked.rows for name in row.tensors} == {
            f"rnn.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }


def test_a_folder_with_one_file_is_that_file(tmp_path):
    for ending, write in (("safetensors", save_file), ("pt", torch.save)):
        folder = tmp_path / ending
        folder.mkdir()
        write(torch_model().state_dict(), folder / f"model.{ending}")
        (folder / "config.json").write_text("{}")
        assert check(SPEC, folder, false_alarm_rate=RATE).matches


def test_shards_of_keras(tmp_path):
    model = keras.Sequential([keras.Input((None, 5)), keras.layers.GRU(16), keras.layers.Dense(300), *DENSE])
    apply(SPEC, model, seed=1)
    model.save_weights(tmp_path / "m.weights.json", max_shard_size=0.0005)
    assert len(list(tmp_path.glob("*.h5"))) > 1
    for path in (tmp_path, tmp_path / "m.weights.json"):
        assert check(SPEC, path, false_alarm_rate=RATE).matches


DENSE = [keras.layers.Dense(300) for _ in range(2)]


def lose(folder):
    next(folder.glob("*00002-of*")).unlink()


def swap(folder):
    one, _, three = sorted(folder.glob("*.safetensors"))
    one.write_bytes(three.read_bytes())


def cut(folder):
    path = next(folder.glob("*00002-of*"))
    path.write_bytes(path.read_bytes()[:-20])


def elsewhere(folder):
    path = next(folder.glob("*.json"))
    path.write_text(path.read_text().replace('"model-00001', '"../model-00001'))


def cut_index(folder):
    path = next(folder.glob("*.json"))
    path.write_text(path.read_text()[:60])


def drop_index(folder):
    next(folder.glob("*.json")).unlink()
    lose(folder)


def two(folder):
    drop_index(folder)
    save_file(torch_model().state_dict(), folder / "other.safetensors")


def nothing(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lose, "model-00002-of-00003.safetensors: found no such file or folder; allowed: a file of weights that can"),
        (swap, "found no such tensor in model-00001-of-00003.safetensors, where the index has it; allowed: every"),
        (cut, "model-00002-of-00003.safetensors: found a damaged file ("),
        (elsewhere, "found '../model-00001-of-00003.safetensors'; allowed: the name of a file in the same folder"),
        (cut_index, "found JSON that is no such index, or cut short; allowed: an index of shards, whose weight_map"),
        (drop_index, "found 2 of 3 shards, without number 2; allowed: all of them"),
        (two, "found a folder with 3 files of weights: model-00001-of-00003.safetensors, model-00003-of-00003.saf"),
        (nothing, "found a folder without a file of weights; allowed: a folder with one file of weights, or with"),
    ],
)
def test_what_is_wrong_with_shards_is_one_line(tmp_path, harm, says):
    folder = shards(tmp_path / "model", save_file, "safetensors")
    harm(folder)
    with pytest.raises(CritinitError) as caught:
        check(SPEC, folder)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (
            ".metadata",
            "found a distributed checkpoint, whose metadata are a pickle; allowed: a file of weights; torch.d",
        ),
        ("saved_model.pb", "found a SavedModel, which holds a program; allowed: a file of weights; model.save_weights"),
    ],
)
def test_folders_that_are_not_read_say_the_way_out(tmp_path, member, says):
    (tmp_path / member).write_bytes(b"x")
    with pytest.raises(WeightsError) as caught:
        check(SPEC, tmp_path)
    assert says in str(caught.value)


def test_files_of_flax(tmp_path):
    flax = pytest.importorskip("flax")
    found = materialize(SPEC, "linen", input_size=5, hidden_size=16)
    tree = flax.traverse_util.unflatten_dict(found, sep="/")
    state = {"params": tree["params"], "opt_state": {"mu": tree["params"]}, "step": np.int32(3)}
    (tmp_path / "state.msgpack").write_bytes(flax.serialization.msgpack_serialize(state))
    orbax = pytest.importorskip("orbax.checkpoint")
    with orbax.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", state)
    for name in ("state.msgpack", "orbax"):
        checked = check(SPEC, tmp_path / name, false_alarm_rate=RATE)
        assert checked.matches
        assert checked.networks == ("layer 0, forward: params/cell (linen GRUCell, input 5, hidden 16)",)
    (tmp_path / "half").write_bytes((tmp_path / "state.msgpack").read_bytes()[:300])
    with pytest.raises(
        WeightsError, match=r"found a file that linen refuses to read \(.*it may be cut short or damaged"
    ):
        check(SPEC, tmp_path / "half")
