"""What ``where=`` says: layouts written by hand in NumPy, and every way to say it wrong."""

from __future__ import annotations

import numpy as np
import pytest

from critinit import ArgumentError, Slice, fused, joined, separate
from critinit.errors import Problem
from critinit.tensors.blocks import fill
from critinit.tensors.places import read_where

GATES = ("input", "forget", "cell", "output")
I, H = 5, 3  # noqa: E741 - the widths of input and state, as the papers call them
RNG = np.random.default_rng(0)
CANONICAL = {
    gate: {"input": RNG.normal(size=(H, I)), "recurrent": RNG.normal(size=(H, H)), "bias": RNG.normal(size=H)}
    for gate in GATES
}
ORDER = ("forget", "input", "output", "cell")


class Known:
    """A draw whose numbers are given."""

    def __init__(self, values):
        self.values = values

    def sample(self):
        return self.values


def written(layer, shapes):
    """All tensors, filled through the blocks of a layer, with 7 where nobody writes."""
    tensors = {name: np.full(shape, 7.0) for name, shape in shapes.items()}
    for place in read_where(layer, GATES, 1, projects=False)[0][0]:
        if place.part == "kept":
            continue
        name = place.slice.tensor
        block = place.slice.block(place.gate, place.part, shapes[name])
        draw = None if place.part == "zero" else Known(CANONICAL[place.gate][place.part])
        tensors[name] = fill(shapes[name], [(block, draw)], tensors[name])
    return tensors


def side_by_side(part, order=ORDER):
    return np.concatenate([CANONICAL[gate][part] for gate in order])


LAYOUTS = {
    "gates along rows": (
        fused(ORDER, input="W", recurrent="U", bias="b", second_bias="d"),
        {
            "W": side_by_side("input"),
            "U": side_by_side("recurrent"),
            "b": side_by_side("bias"),
            "d": np.zeros(4 * H),
        },
    ),
    "gates along columns": (
        fused(ORDER, input="W", recurrent="U", bias="b", axis=1),
        {"W": side_by_side("input").T, "U": side_by_side("recurrent").T, "b": side_by_side("bias")},
    ),
    "one matrix for [x; h]": (
        fused(ORDER, input=Slice("W", rows=(0, I)), recurrent=Slice("W", rows=(I, I + H)), bias="b", axis=1),
        {"W": np.vstack([side_by_side("input").T, side_by_side("recurrent").T]), "b": side_by_side("bias")},
    ),
    "a stack of matrices": (
        fused(ORDER, input="W", recurrent="U", bias="b"),
        {
            part: np.stack([CANONICAL[gate][name] for gate in ORDER])
            for part, name in zip("WUb", CANONICAL["cell"], strict=True)
        },
    ),
    "a stack of matrices that multiply from the right": (
        fused(ORDER, input="W", recurrent="U", bias="b", transposed=True),
        {
            "W": np.stack([CANONICAL[gate]["input"].T for gate in ORDER]),
            "U": np.stack([CANONICAL[gate]["recurrent"].T for gate in ORDER]),
            "b": np.stack([CANONICAL[gate]["bias"] for gate in ORDER]),
        },
    ),
    "a member of an ensemble": (
        fused(ORDER, input=Slice("W", at=(1,)), recurrent=Slice("U", at=(1,)), bias=Slice("b", at=(1,))),
        {
            "W": np.stack([np.full((4 * H, I), 7.0), side_by_side("input")]),
            "U": np.stack([np.full((4 * H, H), 7.0), side_by_side("recurrent")]),
            "b": np.stack([np.full(4 * H, 7.0), side_by_side("bias")]),
        },
    ),
    "a row of numbers": (
        fused(
            ORDER,
            input=Slice("w", rows=(0, 4 * H * I), shape=(4 * H, I)),
            recurrent=Slice("w", rows=(4 * H * I, 4 * H * (I + H)), shape=(4 * H, H)),
            bias=Slice("w", rows=(4 * H * (I + H), 4 * H * (I + H + 1))),
        ),
        {"w": np.concatenate([side_by_side(part).ravel() for part in ("input", "recurrent", "bias")])},
    ),
    "a row of matrices that multiply from the right": (
        fused(
            ORDER,
            input=Slice("w", rows=(0, 4 * H * I), shape=(4, I, H)),
            recurrent=Slice("w", rows=(4 * H * I, 4 * H * (I + H)), shape=(4, H, H)),
            bias="b",
            transposed=True,
        ),
        {
            "w": np.concatenate([CANONICAL[g][part].T.ravel() for part in ("input", "recurrent") for g in ORDER]),
            "b": side_by_side("bias"),
        },
    ),
    "tensors of each gate": (
        separate({gate: gate[0] for gate in GATES}, input="x_{}", recurrent="h_{}", bias="b_{}", transposed=True),
        {
            f"{kind}_{gate[0]}": CANONICAL[gate][part].T
            for kind, part in (("x", "input"), ("h", "recurrent"), ("b", "bias"))
            for gate in GATES
        },
    ),
    "two orders": (
        joined(fused(ORDER, input="W", bias="b"), fused(GATES, recurrent="U")),
        {"W": side_by_side("input"), "U": side_by_side("recurrent", GATES), "b": side_by_side("bias")},
    ),
    "chunks of no gate": (
        joined(fused((*ORDER, None, None), input="W"), fused((None, *ORDER), recurrent="U", bias="b")),
        {
            "W": np.vstack([side_by_side("input"), np.full((2 * H, I), 7.0)]),
            "U": np.vstack([np.full((H, H), 7.0), side_by_side("recurrent")]),
            "b": np.concatenate([np.full(H, 7.0), side_by_side("bias")]),
        },
    ),
    "signs and offsets": (
        fused(ORDER, input="W", recurrent="U", bias="b", sign={"forget": -1}, offset={"output": 2, "forget": -1}),
        {
            part: np.concatenate(
                [
                    CANONICAL[gate][name] * (-1 if gate == "forget" else 1)
                    + (name == "bias") * {"output": 2, "forget": -1}.get(gate, 0)
                    for gate in ORDER
                ]
            )
            for part, name in (("W", "input"), ("U", "recurrent"), ("b", "bias"))
        },
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    layer, expected = LAYOUTS[layout]
    found = written(layer, {name: array.shape for name, array in expected.items()})
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_is_read_again(layout):
    layer, expected = LAYOUTS[layout]
    for place in read_where(layer, GATES, 1, projects=False)[0][0]:
        if place.part not in ("kept", "zero"):
            tensor = expected[place.slice.tensor]
            block = place.slice.block(place.gate, place.part, tensor.shape)
            region = tensor[block.index]
            assert block.region(tensor.shape) == region.shape
            assert block.holds(tensor.shape) == CANONICAL[place.gate][place.part].shape
            np.testing.assert_allclose(block.canonical(region), CANONICAL[place.gate][place.part], atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tensor": 3}, "Slice.tensor: found 3"),
        ({"at": 1}, "Slice.at: found 1; allowed: a tuple of integers from 0"),
        ({"at": (-1,)}, "Slice.at"),
        ({"rows": (3, 3)}, r"Slice.rows: found \(3, 3\); allowed: \(begin, end\)"),
        ({"rows": slice(0, 3)}, "Slice.rows"),
        ({"columns": (0, 1, 2)}, "Slice.columns"),
        ({"shape": (2.5, 3)}, "Slice.shape"),
        ({"sign": 2}, "Slice.sign: found 2; allowed: 1 or -1"),
        ({"offset": float("nan")}, "Slice.offset"),
    ],
)
def test_a_slice_of_another_form_is_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        Slice(**{"tensor": "W", **arguments})


@pytest.mark.parametrize(
    ("place", "part", "shape", "message"),
    [
        (Slice("W", rows=(0, 9)), "input", (8, 5), "found a tensor of shape (8, 5); allowed: one that reaches to 9"),
        (Slice("W", columns=(0, 2)), "bias", (8,), "one that reaches to 2 along axis 1"),
        (Slice("W", at=(2,)), "bias", (2, 4), "one that reaches to 3 along axis 0"),
        (
            Slice("W", rows=(0, 6), shape=(2, 4)),
            "input",
            (9,),
            "allowed: 8 numbers along one axis, to be read in shape (2, 4)",
        ),
        (Slice("W", shape=(2, 4)), "input", (2, 4), "8 numbers along one axis"),
        (Slice("W"), "input", (8,), "of which 1 axes are left; allowed: 2, for a kernel"),
        (Slice("W"), "bias", (1, 8), "of which 2 axes are left; allowed: 1, for a bias; at= drops an axis"),
        (fused(["a", "b", "c"], input="W")["a"]["input"], "input", (8, 5), "allowed: 3 equal parts along axis 0"),
        (fused(["a", "b", "c"], input="W", axis=1)["a"]["input"], "input", (8,), "allowed: 2 axes or more"),
        (fused(["a", "b", "c"], input="W")["a"]["input"], "input", (2, 4, 4), "allowed: 3 along axis 0"),
        (
            fused(["a", "b"], input=Slice("W", shape=(2, 4)), axis=1)["a"]["input"],
            "input",
            (8,),
            "gates along the first axis of numbers in a row",
        ),
    ],
)
def test_a_place_that_does_not_fit_its_tensor(place, part, shape, message):
    found = place.block("a", part, shape)
    assert isinstance(found, Problem)
    assert message in str(found)


WHOLE = fused(GATES, input="W", recurrent="U", bias="b")


@pytest.mark.parametrize(
    ("where", "layers", "message"),
    [
        (3, 1, "where: found int; allowed: a mapping of gates"),
        ([], 1, "where: found list"),
        ("W", 1, "where: found str"),
        (WHOLE, 2, "where: found 1 layer; allowed: 2, as the spec has; write the spec with layers=1 .*, or name"),
        ([WHOLE, WHOLE], 1, "where: found 2 layers; allowed: 1, as the spec has; write the spec with layers=2 ."),
        ([3], 1, r"where\[0\]: found 3; allowed: a mapping .*, or a pair"),
        ([(WHOLE,)], 1, r"where\[0\]: found .*; allowed: .* a pair of these"),
        ([WHOLE, (WHOLE, WHOLE)], 2, "found layers of one direction and of two"),
        ({**WHOLE, "forgot": {}}, 1, "where: found 'forgot'; .*; did you mean 'forget'?"),
        ({gate: WHOLE[gate] for gate in GATES[:3]}, 1, "where: found no 'output'; allowed: a place for every gate"),
        ({**WHOLE, "cell": "W"}, 1, r"where\['cell'\]: found 'W'; allowed: a mapping of input, recurrent, bias"),
        ({**WHOLE, "cell": {"inputs": "W"}}, 1, r"where\['cell'\]: found 'inputs'; .*did you mean 'input'?"),
        ({**WHOLE, "cell": {"input": "W"}}, 1, r"where\['cell'\]: found no 'recurrent'; allowed: .*every kernel"),
        ({**WHOLE, "cell": {"input": 3, "recurrent": "U"}}, 1, r"where\['cell'\]\['input'\]: found 3; .*Slice"),
        ([(WHOLE, {**WHOLE, "zero": 3.0})], 1, r"where\[0\]\[1\]\['zero'\]: found 3.0"),
    ],
)
def test_where_of_another_form_is_refused(where, layers, message):
    with pytest.raises(ArgumentError, match=message):
        read_where(where, GATES, layers, projects=False)


def test_a_cell_that_projects_names_its_projection():
    with pytest.raises(ArgumentError, match="where: found no 'projection'"):
        read_where(WHOLE, GATES, 1, projects=True)
    (((*_, last),),) = read_where({**WHOLE, "projection": "P"}, GATES, 1, projects=True)
    assert (last.part, last.slice.tensor) == ("projection", "P")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fused("input"), "gates: found 'input'; allowed: a list of gates, each once"),
        (lambda: fused(["a", "a"]), "gates: found"),
        (lambda: fused([None]), "gates: found"),
        (lambda: fused(["a"], input="W", sign={"b": -1}), "sign: found 'b'; allowed: a"),
        (lambda: separate(["a"], input="W", offset={"b": -1}), "offset: found 'b'; allowed: a"),
        (lambda: fused(["a"], input="W", sign={"a": 0.5}), "Slice.sign: found 0.5"),
        (lambda: joined(WHOLE, fused(GATES, bias="c")), "input: found two places for its bias; allowed: one"),
    ],
)
def test_helpers_refuse_what_is_no_layer(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
