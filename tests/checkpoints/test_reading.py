"""Files of every kind, whole and damaged: real ones are read, bad ones are one clear line."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from critinit import apply, check, materialize
from critinit.weights.materializing import save
from critinit.weights.reading import open_weights
from critinit.errors import CritinitError, FileError, MissingExtraError, WeightsError
from tests.adapters.specs import make_spec
from tests.cli.conftest import environment

# Keras' own way of reading a TensorFlow variable is deprecated by NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
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


# ---- whole files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_torch_models_of_every_type(tmp_path, kind, dtype):
    path = tmp_path / "model"
    if kind == "safetensors":
        safetensors.torch.save_file(torch_model(dtype).state_dict(), path)
    else:
        torch.save({"state_dict": torch_model(dtype).state_dict(), "epoch": 3}, path)
    checked = check(SPEC, path, false_alarm_rate=RATE)
    assert checked.matches, [row for row in checked.rows if not row.matches]
    prefix = "" if kind == "safetensors" else "state_dict."
    assert f"{prefix}rnn.weight_hh_l0" in {name for row in checked.rows for name in row.tensors}


def test_a_bfloat16_tensor_is_read_bit_for_bit(tmp_path):
    path = tmp_path / "m.safetensors"
    tensor = torch.randn(3, 5).bfloat16()
    safetensors.torch.save_file({"a": torch.zeros(7), "b": tensor}, path)
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


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    path = tmp_path / "w.npz"
    tensors = materialize(SPEC, "linen", input_size=5, hidden_size=16)
    save(path, **tensors)
    assert check(SPEC, path, false_alarm_rate=RATE).matches
    with open_weights(str(path)) as entries:
        assert set(entries) == set(tensors)


def test_what_a_file_is_its_content_says(tmp_path):
    """The ending plays no part."""
    path = tmp_path / "weights.pt"
    tensors = materialize(SPEC, "equinox", input_size=5, hidden_size=16)
    save(path, tensors, spec=SPEC, framework="equinox", seed=0)
    assert check(SPEC, path, false_alarm_rate=RATE).matches


# ---- bad files -------------------------------------------------------------------------------------------


def zipped(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return data.getvalue()


def npy(array, **options):
    data = io.BytesIO()
    np.lib.format.write_array(data, array, **options)
    return data.getvalue()


def good():
    return safetensors.numpy.save(materialize(SPEC, "torch", input_size=5, hidden_size=16))


def lying_header():
    """A .npy member whose header claims 10^15 numbers."""
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(data, {"descr": "<f4", "fortran_order": False, "shape": (10**8, 10**7)})
    return zipped(**{"weight_hh_l0.npy": data.getvalue() + bytes(40)})


def hdf5_with_links(tmp_path):
    path = tmp_path / "links.h5"
    with h5py.File(path, "w") as file:
        file["a"] = h5py.ExternalLink("/etc/passwd", "/")
        file["b"] = h5py.SoftLink("/b")
        file["loop"] = file["/"]
    return path.read_bytes()


def truncated_hdf5(tmp_path):
    path = tmp_path / "whole.weights.h5"
    keras_model().save_weights(path)
    return path.read_bytes()[:5000]


BAD = {
    "empty": (lambda _: b"", "an empty file"),
    "text": (lambda _: b"hello, world, this is no file of weights", "no kind of file that holds weights"),
    "pickle": (lambda _: pickle.dumps({"weight": 1.0}), "a pickle, which could run any code"),
    "old torch": (lambda _: pickle.dumps(119547037146038801333356, protocol=2), "a pickle"),
    "truncated safetensors": (lambda _: good()[:-40], "a damaged file"),
    "header only": (lambda _: good()[:60], "a damaged file"),
    "huge header": (lambda _: (10**12).to_bytes(8, "little") + b"{}" * 9, "a damaged file"),
    "header no JSON": (lambda _: (16).to_bytes(8, "little") + b"{" * 40, "a damaged file"),
    "empty zip": (lambda _: zipped(), "a zip archive of 0 files that are no weights"),
    "other zip": (lambda _: zipped(**{"readme.txt": b"hi"}), "a zip archive of 1 files that are no weights"),
    "half a zip": (lambda _: zipped(**{"w.npy": npy(np.zeros(99))})[:150], "a damaged file"),
    "npz of objects": (
        lambda _: zipped(**{"w.npy": npy(np.array([{}]), allow_pickle=True)}),
        "w: found Python objects, which only a pickle holds",
    ),
    "npz of lies": (lambda _: lying_header(), "a damaged file"),
    "npz of text": (lambda _: zipped(**{"w.npy": b"no array"}), "a damaged file"),
    "keras without HDF5": (lambda _: zipped(**{"model.weights.h5": b"nothing"}), "a damaged file"),
    "truncated HDF5": (truncated_hdf5, "a damaged file"),
    "HDF5 of links": (hdf5_with_links, "contains itself"),
    "torch of code": (
        lambda _: zipped(archive__data__pkl=b"", **{"archive/data.pkl": pickle.dumps(print), "archive/version": b"3"}),
        "torch refuses to read it",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_clear_line(tmp_path, kind):
    make, message = BAD[kind]
    path = tmp_path / "bad"
    path.write_bytes(make(tmp_path))
    with pytest.raises(WeightsError) as caught:
        check(SPEC, path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert "\n" not in text
    assert len(text) < 500


def whole_files(tmp_path):
    """A good file of every kind, by kind."""
    tensors = materialize(SPEC, "torch", input_size=3, hidden_size=8)
    save(tmp_path / "safetensors", tensors, spec=SPEC, framework="torch", seed=0)
    numbered = materialize(SPEC, "keras", input_size=3, hidden_size=8, ending=".weights.h5")
    save(tmp_path / "keras.h5", numbered, spec=SPEC, framework="keras", seed=0)
    np.savez(tmp_path / "w.npz", **tensors)
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, tmp_path / "torch")
    (tmp_path / "w.keras").write_bytes(zipped(**{"model.weights.h5": (tmp_path / "keras.h5").read_bytes()}))
    return {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_damage_anywhere_is_a_clear_line_or_none(tmp_path):
    """Files cut short, and files with some bytes changed, 60 of each kind: an answer, or one line."""
    rng = np.random.default_rng(3)
    lines = []
    for name, data in whole_files(tmp_path).items():
        assert check(SPEC, tmp_path / name, false_alarm_rate=RATE).matches
        for n in range(60):
            damaged = bytearray(data)
            if n % 3 == 0:
                damaged = damaged[: rng.integers(0, len(data))]
            else:  # n % 3 == 2: among the first bytes, where the structure stands
                for _ in range(3):
                    damaged[rng.integers(0, len(data) if n % 3 == 1 else 400)] = rng.integers(0, 256)
            (tmp_path / "damaged").write_bytes(damaged)
            try:
                check(SPEC, tmp_path / "damaged")
            except WeightsError as error:
                lines.append(str(error))
    assert len(lines) > 150
    assert not [line for line in lines if "\n" in line or len(line) > 500]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_files_of_keras_of_other_types(tmp_path, dtype):
    model = keras.Sequential([keras.Input((None, 5)), keras.layers.GRU(16, dtype=dtype, recurrent_initializer="zeros")])
    apply(SPEC, model, seed=1)
    model.save_weights(tmp_path / "m.weights.h5")
    with open_weights(str(tmp_path / "m.weights.h5")) as entries:
        assert {entry.dtype for entry in entries.values()} == {dtype}
    assert check(SPEC, tmp_path / "m.weights.h5", false_alarm_rate=RATE).matches


def test_a_pickle_is_never_run(tmp_path):
    """One that would write a file leaves nothing, bare, in an npz and in a file of torch."""
    witness = tmp_path / "witness"

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(witness),)

    attack = pickle.dumps(Attack())
    array = np.empty(1, dtype=object)
    array[0] = Attack()
    torch.save({"weight_hh_l0": Attack()}, tmp_path / "torch")
    (tmp_path / "bare").write_bytes(attack)
    (tmp_path / "npz").write_bytes(zipped(**{"w.npy": npy(array, allow_pickle=True)}))
    for name in ("bare", "npz", "torch"):
        with pytest.raises(WeightsError):
            check(SPEC, tmp_path / name)
        assert not witness.exists()
    pickle.loads(attack)
    assert witness.exists()  # the attack is one


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.mkdir(), "a directory"),
    ],
)
def test_what_cannot_be_opened(tmp_path, make, message):
    path = tmp_path / "w.safetensors"
    make(path)
    with pytest.raises(FileError, match=f"found {message}; allowed: a file of weights that can be read"):
        check(SPEC, path)


def test_no_permission(tmp_path, monkeypatch):
    """Who is root may read everything, so the refusal is the system's own error, raised here."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(good())
    path.chmod(0)
    if os.access(path, os.R_OK):
        real = open

        def refuse(name, *rest, **more):
            if name == str(path):
                raise PermissionError(13, "Permission denied")
            return real(name, *rest, **more)

        monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(FileError, match="found no permission"):
        check(SPEC, path)


@pytest.mark.parametrize(("module", "make"), [("safetensors", good), ("h5py", None), ("torch", None)])
def test_a_missing_library_is_said(tmp_path, monkeypatch, module, make):
    path = tmp_path / "weights"
    if module == "torch":
        torch.save(torch_model().state_dict(), path)
    elif module == "h5py":
        with h5py.File(path, "w") as file:
            file["a"] = np.zeros(3)
    else:
        path.write_bytes(make())
    for name in [n for n in sys.modules if n == module or n.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    extra = "torch" if module == "torch" else "weights"
    with pytest.raises(MissingExtraError, match=rf"{module}.* not installed; .*pip install 'critinit\[{extra}\]'"):
        check(SPEC, path)


def test_errors_of_the_caller_are_not_taken_for_damage(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(good())
    with pytest.raises(ZeroDivisionError), open_weights(str(path)):
        raise ZeroDivisionError
    assert not issubclass(ZeroDivisionError, CritinitError)


def test_neither_command_imports_a_framework(tmp_path):
    """Reading, writing and checking every kind of file but torch's own."""
    keras_model().save_weights(tmp_path / "k.weights.h5")
    keras_model().save(tmp_path / "k.keras")
    (tmp_path / "spec.json").write_text(SPEC.to_json())
    code = f"""
import sys, numpy
from critinit_cli.main import run
at = {str(tmp_path)!r} + "/"
for name in ("torch", "keras", "linen", "nnx", "equinox", "canonical"):
    made = ["materialize", at + "spec.json", "--framework", name, "--input-size", "5", "--hidden-size", "16"]
    assert run([*made, "-o", at + name]) == 0
    assert run(["check", at + "spec.json", at + name, "--false-alarm-rate", "1e-6"]) == 0
for name in ("k.weights.h5", "k.keras"):
    assert run(["check", at + "spec.json", at + name, "--false-alarm-rate", "1e-6"]) == 0
frameworks = ("torch", "jax", "tensorflow", "keras", "flax", "equinox", "haiku")
print(*(name for name in frameworks if name in sys.modules), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"\n")
