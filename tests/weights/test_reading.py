"""Files of every kind, whole and damaged: real ones are read, bad ones are one clear line."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from critinit import check, materialize
from critinit.errors import CritinitError, FileError, MissingExtraError, WeightsError
from critinit.weights.materializing import save
from critinit.weights.reading import open_weights
from tests.adapters.specs import make_spec
from tests.cli.conftest import environment

h5py = pytest.importorskip("h5py")
encode = pytest.importorskip("safetensors.numpy").save
SPEC = make_spec("gru")
RATE = 1e-6


# ---- whole files -----------------------------------------------------------------------------------------


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
    return encode(materialize(SPEC, "torch", input_size=5, hidden_size=16))


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
    tensors = materialize(SPEC, "keras", input_size=5, hidden_size=16, ending=".weights.h5")
    save(path, tensors, spec=SPEC, framework="keras", seed=0)
    return path.read_bytes()[:5000]


BAD = {
    "empty": (lambda _: b"", "an empty file"),
    "text": (
        lambda _: b"hello, world, this is no file of weights",
        "found a file of another kind, or a damaged one; allowed: safetensors",
    ),
    "pickle": (lambda _: pickle.dumps({"weight": 1.0}), "a pickle, which could run any code"),
    "truncated safetensors": (lambda _: good()[:-40], "a damaged file"),
    "header only": (lambda _: good()[:60], "a damaged file"),
    "huge header": (lambda _: (10**12).to_bytes(8, "little") + b"{}" * 9, "a damaged file"),
    "JSON": (lambda _: b'{"model_type": "x"}', "found JSON that is no such index, or cut short; allowed: an index of"),
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
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_clear_line(tmp_path, kind):
    make, message = BAD[kind]
    path = tmp_path / "bad"
    path.write_bytes(make(tmp_path))
    with pytest.raises(WeightsError) as caught:
        check(SPEC, path)
    assert caught.value.source == str(path)
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
    (tmp_path / "w.keras").write_bytes(zipped(**{"model.weights.h5": (tmp_path / "keras.h5").read_bytes()}))
    return {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def damaged_lines(tmp_path, files):
    """Lines said of files cut short or with some bytes changed, 60 of each kind: each has an answer, or one line."""
    rng = np.random.default_rng(3)
    lines = []
    for name, data in files.items():
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
    assert not [line for line in lines if "\n" in line or len(line) > 500]
    return lines


def test_damage_anywhere_is_a_clear_line_or_none(tmp_path):
    assert len(damaged_lines(tmp_path, whole_files(tmp_path))) > 150


def test_a_pickle_is_never_run(tmp_path):
    """One that would write a file leaves nothing, bare and in an npz."""
    witness = tmp_path / "witness"

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(witness),)

    attack = pickle.dumps(Attack())
    array = np.empty(1, dtype=object)
    array[0] = Attack()
    (tmp_path / "bare").write_bytes(attack)
    (tmp_path / "npz").write_bytes(zipped(**{"w.npy": npy(array, allow_pickle=True)}))
    for name in ("bare", "npz"):
        with pytest.raises(WeightsError):
            check(SPEC, tmp_path / name)
        assert not witness.exists()
    pickle.loads(attack)
    assert witness.exists()  # the attack is one


def test_what_cannot_be_opened(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(FileError, match=r"found no such file or folder; allowed: a file of weights that can be read"):
        check(SPEC, path)
    path.mkdir()
    with pytest.raises(
        WeightsError, match=r"found a folder without a file of weights; allowed: a folder with one file"
    ):
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


def hide(monkeypatch, module):
    """Make a module that cannot be imported."""
    for name in [n for n in sys.modules if n == module or n.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("module", ["safetensors", "h5py"])
def test_a_missing_library_is_said(tmp_path, monkeypatch, module):
    path = tmp_path / "weights"
    if module == "h5py":
        with h5py.File(path, "w") as file:
            file["a"] = np.zeros(3)
    else:
        path.write_bytes(good())
    hide(monkeypatch, module)
    with pytest.raises(MissingExtraError, match=rf"{module}.* not installed; .*pip install 'critinit\[weights\]'"):
        check(SPEC, path)


def test_errors_of_the_caller_are_not_taken_for_damage(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(good())
    with pytest.raises(ZeroDivisionError), open_weights(str(path)):
        raise ZeroDivisionError
    assert not issubclass(ZeroDivisionError, CritinitError)


def test_neither_command_imports_a_framework(tmp_path):
    """Reading, writing and checking every kind of file but those that only a framework reads."""
    numbered = materialize(SPEC, "keras", input_size=5, hidden_size=16, ending=".weights.h5")
    save(tmp_path / "k.weights.h5", numbered, spec=SPEC, framework="keras", seed=0)
    (tmp_path / "k.keras").write_bytes(zipped(**{"model.weights.h5": (tmp_path / "k.weights.h5").read_bytes()}))
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
