"""A framework of one's own is one folder: a layout and an adapter, found through their entry points."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

import critinit
from critinit.errors import ApplyError, ArgumentError, PluginWarning
from critinit.tensors.layouts import layouts
from critinit.tensors.sampling import draw
from tests.adapters.specs import make_spec

FRAMEWORK = '''
"""The framework: a cell that keeps W and U in one matrix with columns [h; x]."""
import numpy as np

class Cell:
    def __init__(self, inputs, units):
        self.units, self.w, self.b = units, np.zeros((units, units + inputs), np.float32), np.zeros(units, np.float32)
'''
LAYOUT = """
from critinit.tensors.blocks import Block
from critinit.tensors.layouts import Form, Layout, Sizes, Stored, path_splitter

def blocks(name, units):
    if name == "b":
        return (Block("hidden", "bias"),)
    recurrent = Block("hidden", "recurrent", (slice(None), slice(0, units)))
    return (recurrent, Block("hidden", "input", (slice(None), slice(units, None))))

def tensors(sizes):
    shapes = {"w": (sizes.hidden, sizes.hidden + sizes.input), "b": (sizes.hidden,)}
    return tuple(Stored(name, shape, blocks(name, sizes.hidden)) for name, shape in shapes.items())

def sizes(shapes):
    units, columns = shapes["w"]
    return Sizes(columns - units, units) if columns > units else None

FORMS = (Form("Cell", "rnn", ("w", "b"), tensors, sizes),)
LAYOUT = Layout(
    framework="toy",
    forms=FORMS,
    path=lambda form, layers, directions, layer, direction: f"cell{layer}",
    split=path_splitter(FORMS),
    model="a Cell",
)
"""
ADAPTER = """
import toy
from critinit.distributions import Kernel, NumpyDrawing
from critinit_adapters.shared.adapter import InPlaceAdapter, assemble
from critinit_adapters.shared.survey import LayerSlot, RecurrentModule, Survey, Tensor
from toy_critinit.layout import blocks

class ToyAdapter(InPlaceAdapter):
    framework, module, cells = "toy", "toy", ("rnn",)

    def claims(self, target, options):
        return isinstance(target, toy.Cell)

    def survey(self, target, options):
        handles = {name: getattr(target, name) for name in ("w", "b")}
        tensors = tuple(Tensor(n, a.shape, a, blocks(n, target.units)) for n, a in handles.items())
        slot = LayerSlot(0, 0, target.w.shape[1] - target.units, tensors)
        return Survey((RecurrentModule("", "rnn", target.units, (slot,)),), tuple(handles))

    def read(self, tensor):
        return tensor.handle

    def restore(self, tensor, values):
        tensor.handle[...] = values

    store = restore

    def store_native(self, write):
        self.store(write.tensor, assemble(write))

    def view(self, tensor):
        return tensor.handle

ADAPTER = ToyAdapter()
"""
FOLDER = {
    "toy/__init__.py": FRAMEWORK,
    "toy_critinit/__init__.py": "",
    "toy_critinit/layout.py": LAYOUT,
    "toy_critinit/adapter.py": ADAPTER,
}
SPEC = make_spec("rnn")


@pytest.fixture(autouse=True)
def _imported_anew(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("toy", "toy_critinit")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def toy(install):
    """The framework, imported, with its folder installed."""
    install("critinit.adapters", FOLDER, toy="toy_critinit.adapter:ADAPTER")
    install("critinit.layouts", toy="toy_critinit.layout:LAYOUT")
    return importlib.import_module("toy")


@pytest.mark.parametrize("sampler", ["portable", "native"])
def test_apply_check_and_materialize(toy, sampler):
    cell = toy.Cell(5, 40)
    applied = critinit.apply(SPEC, cell, seed=3, sampler=sampler)
    assert applied.model is cell
    assert applied.seed == 3
    assert [row.part for row in applied.report] == ["recurrent", "input", "bias"]
    gate = draw(SPEC, 5, 40, seed=3).layers[0][0].gates["hidden"]
    assert np.array_equal(cell.w, np.hstack([gate.recurrent, gate.input]).astype(np.float32))
    assert np.array_equal(cell.b, gate.bias.astype(np.float32))

    made = critinit.materialize(SPEC, "toy", input_size=5, hidden_size=40, seed=3)
    assert {name: array.tobytes() for name, array in made.items()} == {
        "cell0/w": cell.w.tobytes(),
        "cell0/b": cell.b.tobytes(),
    }
    assert critinit.check(SPEC, made, framework="toy").matches
    cell.w[:, 40:] *= 2.0
    assert not critinit.check(SPEC, {"w": cell.w, "b": cell.b}, framework="toy").matches


def test_an_adapter_that_is_not_published_is_passed(install):
    install("some.other.group", FOLDER)
    toy, adapter = importlib.import_module("toy"), importlib.import_module("toy_critinit.adapter").ADAPTER
    cell = toy.Cell(5, 4)
    with pytest.raises(ApplyError, match=r"found a toy\.Cell; .*no adapter for it"):
        critinit.apply(SPEC, cell, seed=0)
    assert len(critinit.apply(SPEC, cell, seed=0, framework=adapter).report) == 3
    assert cell.w.any()


def test_it_refuses_as_every_adapter_does(toy):
    cell = toy.Cell(5, 4)
    with pytest.raises(
        ApplyError, match=r"found rnn at the model itself; .*has layers for rnn; .*--cell rnn$"
    ) as found:
        critinit.apply(make_spec("gru"), cell, seed=0)
    assert found.value.where == "target"
    assert found.value.allowed == "a layer of the spec's cell, gru"
    with pytest.raises(ArgumentError, match=r"^speed: found no option of the toy adapter; allowed: none$"):
        critinit.apply(SPEC, cell, seed=0, speed=3)
    with pytest.raises(ArgumentError, match=r"framework: found 'tay'; allowed: .*toy"):
        critinit.apply(SPEC, cell, seed=0, framework="tay")
    assert not cell.w.any()


BROKEN = {
    "adapter of an import that fails": ("critinit.adapters", "sys", "no_such_module:ADAPTER", "ModuleNotFoundError"),
    "adapter that is none": ("critinit.adapters", "sys", "string:digits", "found no framework; allowed: an adapter"),
    "adapter of another name": ("critinit.adapters", "sys", "toy_critinit.adapter:ADAPTER", "name: found 'toy'"),
    "layout of an import that fails": ("critinit.layouts", "sys", "no_such_module:LAYOUT", "ModuleNotFoundError"),
    "layout that is none": ("critinit.layouts", "sys", "string:digits", "found str; allowed: a critinit"),
    "layout of another name": ("critinit.layouts", "sys", "toy_critinit.layout:LAYOUT", "name: found 'toy'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_skipped_and_named_and_all_else_works(toy, install, case):
    group, name, target, reason = BROKEN[case]
    install(group, **{name: target})
    cell = toy.Cell(5, 4)
    kind = "adapter" if group == "critinit.adapters" else "framework"
    with pytest.warns(PluginWarning, match=f"{kind} {name} of {target} was skipped: .*{reason}") as warned:
        everything_works(cell)
    assert len(warned) == 1
    everything_works(cell)  # said once


def everything_works(cell):
    assert len(critinit.apply(SPEC, cell, seed=0).report) == 3
    assert {"toy", "canonical", "torch"} <= set(layouts())
    made = critinit.materialize(SPEC, "canonical", input_size=5, hidden_size=4)
    assert critinit.check(SPEC, made).matches
