"""Materialized weights: their numbers, their files, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from critinit import materialize
from critinit.errors import ArgumentError, FileError
from critinit.tensors.layouts import layouts
from critinit.tensors.sampling import draw
from critinit.weights.materializing import save
from tests.adapters.specs import GATES, make_spec

INPUT, HIDDEN, SEED = 5, 12, 7


@pytest.mark.parametrize("cell", GATES)
def test_canonical_holds_every_cell_bit_for_bit(cell):
    spec = make_spec(cell, layers=2)
    found = materialize(
        spec, "canonical", input_size=INPUT, hidden_size=HIDDEN, seed=SEED, bidirectional=True, dtype="float64"
    )
    weights = draw(spec, INPUT, HIDDEN, seed=SEED, directions=2)
    assert len(found) == 2 * 2 * 3 * len(GATES[cell])
    for name, array in found.items():
        _, layer, direction, gate, part = name.split(".")
        wanted = getattr(weights.layers[int(layer)][int(direction)].gates[gate], part)
        assert array.dtype == np.float64
        assert array.tobytes() == wanted.tobytes()


def test_the_file_says_where_it_comes_from_and_is_the_same_each_time(tmp_path):
    safe_open = pytest.importorskip("safetensors").safe_open
    spec = make_spec("gru")
    contents = set()
    for n in range(6):
        tensors = materialize(spec, "keras", input_size=INPUT, hidden_size=HIDDEN, seed=SEED)
        assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in tensors.values())
        path = tmp_path / f"{n}.safetensors"
        save(path, tensors, spec=spec, framework="keras", seed=SEED)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    with safe_open(path, "numpy") as file:
        origin = json.loads(file.metadata()["critinit"])
    assert (origin["framework"], origin["seed"], origin["spec"]) == ("keras", SEED, json.loads(spec.to_json()))


def test_arrays_that_are_not_contiguous_are_saved_right(tmp_path):
    """``safetensors.numpy`` writes a transposed array's memory as it lies; ours is copied first."""
    load_file = pytest.importorskip("safetensors.numpy").load_file
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3).T
    path = tmp_path / "t.safetensors"
    save(path, {"a": array}, spec=make_spec("rnn"), framework="canonical", seed=0)
    np.testing.assert_array_equal(load_file(path)["a"], array)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"framework": "haiku"},
            r"^framework: found haiku, which has no gru; allowed: .*; haiku has lstm, gru_reset_before",
        ),
        ({"input_size": 0}, r"^input_size: found 0; allowed: an integer of at least 1"),
        ({"hidden_size": 2.0}, r"^hidden_size: found 2\.0"),
        ({"seed": -1}, r"^seed: found -1"),
        ({"ending": ".weights.h5"}, r"^ending: found '\.weights\.h5'; allowed: of torch: \.safetensors"),
        ({"dtype": "int8"}, r"^dtype: found 'int8'; allowed: float32, float64, float16"),
    ],
)
def test_bad_arguments(changes, message):
    arguments = {"framework": "torch", "input_size": 3, "hidden_size": 4} | changes
    with pytest.raises(ArgumentError, match=message):
        materialize(make_spec("gru"), arguments.pop("framework"), **arguments)


def test_an_unknown_framework_is_said():
    with pytest.raises(ArgumentError) as caught:
        materialize(make_spec("gru"), "chainer", input_size=3, hidden_size=4)
    assert (caught.value.where, caught.value.found) == ("framework", "'chainer'")
    assert set(caught.value.allowed.split(", ")) == set(layouts())


def test_numbers_that_the_type_cannot_hold_are_refused():
    spec = make_spec("rnn", bias={"distribution": "constant", "mean": 1e6, "variance": 0.0})
    with pytest.raises(
        ArgumentError, match=r"^dtype: found float16, which cannot hold the numbers of bias_ih_l0; allowed: a wider"
    ):
        materialize(spec, "torch", input_size=3, hidden_size=4, dtype="float16")
    assert math.isclose(materialize(spec, "torch", input_size=3, hidden_size=4)["bias_ih_l0"][0], 1e6)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    pytest.importorskip("safetensors")
    tensors = materialize(make_spec("rnn"), "torch", input_size=3, hidden_size=4)
    with pytest.raises(FileError, match="a directory"):
        save(tmp_path, tensors, spec=make_spec("rnn"), framework="torch", seed=0)
    assert list(tmp_path.iterdir()) == []
