"""Networks found by names and shapes: inside larger models, several, in files of every framework."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from critinit import check, materialize
from critinit.errors import ArgumentError, PluginWarning, WeightsError
from critinit.tensors.layouts import LAYOUTS, Address, layouts
from critinit.tensors.selecting import matches
from tests.adapters.specs import make_spec

CELLS = {
    "torch": ["rnn", "relu_rnn", "gru", "lstm"],
    "keras": ["rnn", "relu_rnn", "gru", "gru_reset_before", "lstm"],
    "linen": ["rnn", "relu_rnn", "gru", "lstm"],
    "nnx": ["rnn", "relu_rnn", "gru", "lstm"],
    "equinox": ["gru", "lstm"],
    "haiku": ["gru_reset_before", "lstm", "relu_rnn"],
    "canonical": ["minimal_rnn", "peephole_lstm", "gru_reset_before"],
}
ROWS = [(framework, cell) for framework, cells in CELLS.items() for cell in cells]


def fresh(framework, spec, **changes):
    return materialize(spec, framework, **{"input_size": 5, "hidden_size": 16, "seed": 2, **changes})


def test_the_published_layouts():
    assert set(layouts()) == set(CELLS)


@pytest.mark.parametrize("separator", ["/", "."])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(("framework", "cell"), ROWS)
def test_what_is_materialized_is_found_and_matches(framework, cell, layers, both, separator):
    """Also deep in a larger model, between other tensors, and with dots for slashes."""
    spec = make_spec(cell, layers=layers)
    tensors = fresh(framework, spec, bidirectional=both)
    inside = {f"model/net/{name}".replace("/", separator): array for name, array in tensors.items()}
    others = {
        f"model{separator}head{separator}kernel": np.zeros((16, 4)),
        f"model{separator}head{separator}bias": np.zeros(4),
        f"model{separator}norm{separator}weight": np.ones(16),
        f"model{separator}embed{separator}weight": np.ones((48, 16)),
        "step": np.array(3),
    }
    checked = check(spec, inside | others, false_alarm_rate=1e-6)
    assert checked.matches, [row for row in checked.rows if not row.matches]
    assert {(row.layer, row.direction) for row in checked.rows} == {
        (layer, way) for layer in range(layers) for way in range(1 + both)
    }
    assert all(framework in network for network in checked.networks)
    used = {name for row in checked.rows for name in row.tensors}
    assert used == set(inside)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "state_dict.encoder.rnn."])
def test_wrappers_of_torch(prefix):
    spec = make_spec("lstm")
    tensors = {f"{prefix}{name}": array for name, array in fresh("torch", spec).items()}
    assert check(spec, tensors, false_alarm_rate=1e-6).matches


def test_torch_cells_have_no_suffix():
    spec = make_spec("gru")
    tensors = {name.removesuffix("_l0"): array for name, array in fresh("torch", spec).items()}
    checked = check(spec, tensors, false_alarm_rate=1e-6)
    assert checked.matches
    assert "torch" in checked.networks[0]


def test_torch_with_a_projection():
    spec = make_spec("lstm")
    rng = np.random.default_rng(0)
    tensors = fresh("torch", spec)
    projection = np.linalg.qr(rng.standard_normal((16, 6)))[0].T
    variances = [spec.layers[0].gates[g].recurrent.variance for g in ("input", "forget", "cell", "output")]
    blocks = [np.sqrt(v / 6) * rng.standard_normal((16, 6)) for v in variances]
    tensors |= {"weight_hr_l0": projection, "weight_hh_l0": np.concatenate(blocks)}
    checked = check(spec, tensors, false_alarm_rate=1e-6)
    assert checked.matches
    assert "projection 6" in checked.networks[0]
    assert not check(spec, tensors | {"weight_hr_l0": 2 * projection}).matches


def test_marks_that_frameworks_add_to_names_are_seen_through():
    spec = make_spec("gru")
    for framework, mark in (("keras", ":0"), ("linen", "/value"), ("nnx", ".value"), ("nnx", "/raw_value")):
        tensors = {f"{name}{mark}": array for name, array in fresh(framework, spec).items()}
        assert check(spec, tensors, false_alarm_rate=1e-6).matches


class Point:
    """An entry point of a package that is not there."""

    def __init__(self, name, load):
        self.name, self.value, self.load = name, f"{name}.layout:LAYOUT", load


@pytest.fixture
def published(monkeypatch):
    """Publish entry points beside critinit's own, or instead of them; all are forgotten afterwards."""
    ours = LAYOUTS._points()

    def publish(*points, ours=ours):
        monkeypatch.setattr(LAYOUTS, "_points", lambda: {**ours, **{point.name: point for point in points}})
        monkeypatch.setattr(LAYOUTS, "_registered", {})
        monkeypatch.setattr(LAYOUTS, "_broken", {})

    return publish


def _no_such_module():
    raise ModuleNotFoundError("No module named 'no_such_module'")


def test_a_layout_of_somebody_elses(published):
    """A third party's entry point is used like critinit's own."""
    spec = make_spec("gru")
    split = _split_theirs
    own = replace(layouts()["torch"], framework="theirs", join=lambda a: f"w/{a.layer}/{a.tensor}", split=split)
    published(Point("theirs", lambda: own))
    tensors = fresh("theirs", spec)
    assert set(tensors) == {f"w/0/{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    assert check(spec, tensors, false_alarm_rate=1e-6).matches


@pytest.mark.parametrize(
    ("load", "reason"),
    [(_no_such_module, "ModuleNotFoundError: No module named 'no_such_module'"), (object, "found object; allowed: a")],
)
def test_a_broken_layout_is_skipped_with_a_warning_and_all_others_work(published, load, reason):
    spec = make_spec("gru")
    published(Point("broken", load))
    with pytest.warns(PluginWarning, match=rf"^framework broken of broken\.layout:LAYOUT was skipped: .*{reason}"):
        assert "broken" not in layouts()
    tensors = fresh("torch", spec)
    assert check(spec, tensors, false_alarm_rate=1e-6).matches
    with pytest.raises(ArgumentError) as caught:
        check(spec, tensors, framework="broken")
    assert caught.value.where == "framework"
    assert "skipped broken: " in caught.value.hint


def test_no_layout_at_all_is_said(published):
    published(ours={})
    with pytest.raises(ArgumentError, match=r"^layouts: found none"):
        check(make_spec("gru"), {})


def _split_theirs(name):
    _, layer, tensor = name.split("/")
    return Address("", int(layer), 0, tensor)


def test_a_missing_bias_is_zero():
    zero = {"distribution": "constant", "mean": 0.0, "variance": 0.0}
    for framework, cell in (("torch", "gru"), ("keras", "lstm"), ("equinox", "gru")):
        spec = make_spec(cell, bias=zero)
        tensors = {n: a for n, a in fresh(framework, spec).items() if "bias" not in n}
        assert check(spec, tensors, false_alarm_rate=1e-6).matches
        wanted = make_spec(cell, bias=zero | {"mean": 1.0})
        checked = check(wanted, tensors, false_alarm_rate=1e-6)
        wrong = [row for row in checked.rows if not row.matches]
        assert {row.part for row in wrong} == {"bias"}
        assert {row.found for row in wrong} == {"none in the file"}
        assert "there is no bias tensor" in checked.hints[0]


def test_several_networks_each_take_the_spec_or_all_together():
    one, two = make_spec("gru", layers=1), make_spec("gru", layers=2)
    several = {f"{part}.{n}": a for part in ("a", "b") for n, a in fresh("torch", one).items()}
    assert {row.layer for row in check(one, several, false_alarm_rate=1e-6).rows} == {0}
    stack = fresh("torch", two)
    together = {f"a.{n}": a for n, a in stack.items() if "_l0" in n}
    together |= {f"b.{n.replace('_l1', '_l0')}": a for n, a in stack.items() if "_l1" in n}
    checked = check(two, together, false_alarm_rate=1e-6)
    assert checked.matches
    assert [(row.module, row.layer) for row in checked.rows if row.gate == "reset"][::3] == [("a", 0), ("b", 1)]
    swapped = check(two, together, module=["b", "a"], false_alarm_rate=1e-6)
    assert {(row.module, row.layer) for row in swapped.rows} == {("b", 0), ("a", 1)}


def test_a_choice_to_be_made_is_said():
    spec = make_spec("gru", layers=2)
    tensors = {f"{part}.{n}": a for part in "abc" for n, a in fresh("torch", make_spec("gru")).items()}
    with pytest.raises(ArgumentError) as caught:
        check(spec, tensors)
    error = caught.value
    assert (error.where, error.allowed) == ("module", "2 layers, as the spec has")
    assert error.found == "networks of these layers: 'a' has 1, 'b' has 1, 'c' has 1"
    assert error.hint == "choose with module (the paths in the order of the layers)"
    assert len(check(spec, tensors, module=["a", "c"]).networks) == 2
    with pytest.raises(ArgumentError, match=r"^the weights: module: found 'd'; allowed: 'a', 'b', 'c'"):
        check(spec, tensors, module="d")
    with pytest.raises(WeightsError, match=r"layers: found 'a' has 1; allowed: 2 layers, as the spec has$"):
        check(spec, tensors, module="a")


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("enc?", ["enc1.rnn", "enc2.rnn"]),
        ("enc1", ["enc1.rnn"]),
        ("enc1.rnn", ["enc1.rnn"]),
        ("*.rnn", ["dec.rnn", "enc1.rnn", "enc2.rnn"]),
        (["enc2", "dec*"], ["enc2.rnn", "dec.rnn"]),
    ],
)
def test_patterns_of_modules_are_those_of_apply(pattern, chosen):
    spec = make_spec("gru")
    tensors = {f"{part}.rnn.{n}": a for part in ("enc1", "enc2", "dec") for n, a in fresh("torch", spec).items()}
    checked = check(spec, tensors, module=pattern)
    assert list(dict.fromkeys(row.module for row in checked.rows)) == chosen
    patterns = [pattern] if isinstance(pattern, str) else pattern
    assert all(any(matches(path, one) for one in patterns) == (path in chosen) for path in ("enc1.rnn", "dec.rnn"))
    with pytest.raises(ArgumentError):
        check(spec, tensors, module="enc")


def test_a_path_that_looks_like_a_pattern_names_itself():
    spec = make_spec("gru")
    tensors = {f"cells[{index}].{name}": array for index in (0, 1) for name, array in fresh("torch", spec).items()}
    assert {row.module for row in check(spec, tensors, module="cells[1]").rows} == {"cells[1]"}


def test_a_linear_layer_is_taken_for_haikus_lstm_only_where_that_is_said():
    spec = make_spec("lstm")
    tensors = {n.replace("lstm/", "core/"): a for n, a in fresh("haiku", spec).items()}
    with pytest.raises(WeightsError, match=r"found no recurrent network .*framework= .* and module= .* say what it is"):
        check(spec, tensors)
    assert check(spec, tensors, module="core", false_alarm_rate=1e-6).matches
    assert check(spec, tensors, framework="haiku", false_alarm_rate=1e-6).matches


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("lstm", ""),
        ("gru_reset_before", "the two cells have the same gates but other dynamics, so write the spec for cell gru"),
    ],
)
def test_another_cell_is_said(cell, hint):
    tensors = fresh("torch", make_spec("gru"))
    with pytest.raises(WeightsError) as caught:
        check(make_spec(cell), tensors)
    error = caught.value
    assert (error.where, error.found) == ("cell", "gru at the top of the file (torch nn.GRU)")
    assert (error.allowed, error.hint) == (f"{cell}, the spec's cell", hint)


def test_tensors_that_fit_both_grus_are_settled_by_the_specs_cell():
    """Without biases Keras' two GRUs have the same tensors, and so have critinit's own at all times."""
    zero = {"distribution": "constant", "mean": 0.0, "variance": 0.0}
    for cell in ("gru", "gru_reset_before"):
        spec = make_spec(cell, bias=zero)
        without = {name: array for name, array in fresh("keras", spec).items() if "bias" not in name}
        for tensors in (without, fresh("canonical", spec)):
            checked = check(spec, tensors, false_alarm_rate=1e-6)
            assert checked.matches
            assert all(name in checked.networks[0] for name in ("layer 0", "gru" if tensors is not without else "GRU"))


@pytest.mark.parametrize(("found", "wanted"), [("gru", "gru_reset_before"), ("gru_reset_before", "gru")])
def test_the_other_gru_is_refused(found, wanted):
    """The shape of Keras' bias tells the two apart, also where one of two directions has none."""
    tensors = fresh("keras", make_spec(found), bidirectional=True)
    partly = {name: array for name, array in tensors.items() if "backward" not in name or "bias" not in name}
    for weights in (tensors, partly):
        with pytest.raises(WeightsError, match=rf"cell: found .*{found} at .*; allowed: {wanted}, the spec's cell"):
            check(make_spec(wanted), weights)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, r"found no recurrent network that a layout knows \(no tensor\)"),
        ({"w": np.zeros((3, 3))}, r"\(w\)"),
        ({f"w{n}": np.zeros(3) for n in range(5)}, r"\(w0, w1, w2 and 2 more\)"),
        ({"rnn.parametrizations.weight_hh_l0.original0": np.zeros(3)}, r"remove the parametrization before saving"),
        (
            {"weight_hh_l0": np.zeros((12, 4))},
            r"found weight_hh_l0, but no weight_ih_l0; allowed: every tensor",
        ),
        ({"weight_hh_l0": np.zeros((13, 4)), "weight_ih_l0": np.zeros((13, 4))}, r"found no recurrent network"),
        ({"weight_hh_l0": np.zeros((2, 12, 4)), "weight_ih_l0": np.zeros((2, 12, 4))}, r"found no recurrent network"),
        ({"weight_hh_l0": np.zeros((0, 0)), "weight_ih_l0": np.zeros((0, 3))}, r"found no recurrent network"),
    ],
)
def test_no_network_is_said(tensors, message):
    with pytest.raises(WeightsError, match=message):
        check(make_spec("gru"), tensors)


RECURRENT = {
    "torch": "weight_hh_l0",
    "keras": "sequential/gru/gru_cell/recurrent_kernel",
    "linen": "params/cell/hz/kernel",
    "equinox": "weight_hh",
    "canonical": "layers.0.0.reset.recurrent",
}
"""A recurrent kernel of a GRU in the files of each framework."""


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("framework", RECURRENT)
def test_a_tensor_of_another_shape_is_named(framework, axis):
    """With the shape that goes with the others, inside a larger model too."""
    whole, name = fresh(framework, make_spec("gru")), RECURRENT[framework]
    for where in ("", "net/"):
        tensors = {f"{where}{key}": array for key, array in whole.items()}
        tensors |= {f"{where}{name}": np.delete(whole[name], 0, axis), "head/kernel": np.zeros((16, 4))}
        with pytest.raises(WeightsError) as caught:
            check(make_spec("gru"), tensors)
        assert (caught.value.where, caught.value.found) == (f"{where}{name}", f"shape {tensors[where + name].shape}")
        assert caught.value.allowed.startswith(f"{whole[name].shape}, to go with the other tensors of a {framework} ")
        assert caught.value.allowed.endswith(" of 16 units")


@pytest.mark.parametrize("framework", sorted(RECURRENT.keys() - {"keras"}))  # without it Keras' names say nothing
def test_a_missing_tensor_is_named(framework):
    tensors = fresh(framework, make_spec("gru"))
    del tensors[RECURRENT[framework]]
    message = f"but no {re.escape(RECURRENT[framework])}; allowed: every tensor of a {framework}"
    with pytest.raises(WeightsError, match=message):
        check(make_spec("gru"), tensors)


def test_several_tensors_of_other_shapes_are_named():
    tensors = fresh("torch", make_spec("lstm"))
    tensors |= {name: tensors[name][1:] for name in ("weight_hh_l0", "bias_hh_l0")}
    with pytest.raises(WeightsError, match=r"weight_hh_l0: .*; the shape of bias_hh_l0 does not fit either"):
        check(make_spec("lstm"), tensors)


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, float("nan"), 1, "0.1"])
def test_bad_rate(rate):
    with pytest.raises(ArgumentError, match=r"^false_alarm_rate: found .*; allowed: a number between 0 and 1"):
        check(make_spec("gru"), {}, false_alarm_rate=rate)


def test_an_unknown_framework_is_said():
    with pytest.raises(ArgumentError) as caught:
        check(make_spec("gru"), {}, framework="mxnet")
    assert (caught.value.where, caught.value.found) == ("framework", "'mxnet'")
    assert set(caught.value.allowed.split(", ")) == set(CELLS)


def test_integers_are_no_weights():
    tensors = {n: a.astype(np.int8) for n, a in fresh("torch", make_spec("gru")).items()}
    with pytest.raises(WeightsError, match=r"found type int8; allowed: float64, float32, float16, bfloat16"):
        check(make_spec("gru"), tensors)


@pytest.mark.parametrize(
    ("left_out", "lacks"),
    [
        ("_l1", "layer 1 forward, layer 1 backward"),
        ("_l0", "layer 0 forward, layer 0 backward"),
        ("_l2_reverse", "layer 2 backward"),
    ],
)
def test_a_layer_that_is_missing_is_said(left_out, lacks):
    spec = make_spec("gru", layers=3)
    tensors = {n: a for n, a in fresh("torch", spec, bidirectional=True).items() if left_out not in n}
    with pytest.raises(WeightsError, match=f"found torch nn.GRU of 3 layers without {lacks}; allowed: every layer"):
        check(spec, tensors)
    forward = {n: a for n, a in fresh("torch", spec, bidirectional=True).items() if "reverse" in n}
    with pytest.raises(WeightsError, match="without layer 0 forward, layer 1 forward, layer 2 forward"):
        check(spec, forward)


def test_layers_are_in_the_order_in_which_their_widths_fit():
    spec = make_spec("gru", layers=2)
    stack = fresh("torch", spec)
    lower = {f"lower.{n}": a for n, a in stack.items() if "_l0" in n}
    deeper = {f"deeper.{n.replace('_l1', '_l0')}": a for n, a in stack.items() if "_l1" in n}
    checked = check(spec, lower | deeper, false_alarm_rate=1e-6)
    assert checked.matches
    assert {row.module: row.layer for row in checked.rows} == {"lower": 0, "deeper": 1}
    # of one width the paths decide, and where that goes wrong it is said
    same = fresh("torch", spec, input_size=16, hidden_size=16)
    alike = {f"lower.{n}": a for n, a in same.items() if "_l0" in n}
    alike |= {f"deeper.{n.replace('_l1', '_l0')}": 2.0 * a for n, a in same.items() if "_l1" in n}
    checked = check(spec, alike, false_alarm_rate=1e-6)
    assert checked.hints[-1] == "the layers were taken in this order: 'deeper', 'lower'; module gives another"


def test_a_network_that_is_not_whole_is_named():
    spec = make_spec("gru")
    whole = {f"enc.{n}": a for n, a in fresh("torch", spec).items()}
    part = {f"dec.{n}": a for n, a in fresh("torch", spec).items() if n != "weight_hh_l0"}
    checked = check(spec, whole | part, false_alarm_rate=1e-6)
    names = "dec.bias_hh_l0, dec.bias_ih_l0, dec.weight_ih_l0"
    assert checked.notes == (f"dec: not checked; found {names}, which is not all that torch nn.GRU has",)
    # an LSTM beside it is another network, and whoever names a module wants no other
    other = {f"dec.{n}": a for n, a in fresh("torch", make_spec("lstm")).items()}
    assert check(spec, whole | other).notes == ()
    assert check(spec, whole | part, module="enc").notes == ()


def test_a_module_that_holds_more_is_another():
    tensors = fresh("linen", make_spec("gru"))
    prefix = next(iter(tensors)).rpartition("/")[0].rpartition("/")[0]
    for separator in "/.":
        more = {n.replace("/", separator): a for n, a in (tensors | {f"{prefix}/hr/bias": np.zeros(16)}).items()}
        with pytest.raises(WeightsError, match="found no recurrent network"):
            check(make_spec("gru"), more, framework="linen")


def test_numbers_that_are_not_finite_are_named_and_large_ones_differ():
    spec = make_spec("gru")
    tensors = {n: a.astype(np.float64) for n, a in fresh("torch", spec).items()}
    tensors["bias_hh_l0"][-1] = np.nan
    checked = check(spec, tensors)
    assert not checked.matches
    assert checked.hints == ("numbers that are not finite in bias_hh_l0",)
    for large in (1e200, 1e308):
        tensors = {n: a.astype(np.float64) for n, a in fresh("torch", spec).items()}
        tensors["weight_hh_l0"][5, 5:7] = large
        wrong = [(row.gate, row.part, row.found) for row in check(spec, tensors).rows if not row.matches]
        assert wrong == [("reset", "recurrent", "variance inf")]


@pytest.mark.parametrize(
    ("spec", "weights", "module", "message"),
    [
        ("gru", {}, (), "spec: found str; allowed: an InitSpec"),
        (make_spec("gru"), None, (), "weights: found NoneType; allowed: a path, or arrays by name"),
        (make_spec("gru"), {}, None, "module: found None; allowed: a path or pattern, or several"),
        (make_spec("gru"), {}, [1], r"module: found \[1\]; allowed: a path or pattern, or several"),
    ],
)
def test_bad_arguments(spec, weights, module, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        check(spec, weights, module=module)
