"""What a mismatch looks like: known mistakes planted in materialized weights, and weights that look trained."""

from __future__ import annotations

import numpy as np
import pytest

from critinit import check, generate
from tests.adapters.specs import make_spec
from tests.weights.faults import CONSTANT, H, found_wrong, fresh, orthogonal_spec


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_both_torch_biases(cell):
    spec = orthogonal_spec(cell)
    tensors = fresh("torch", spec)
    tensors["bias_hh_l0"] = tensors["bias_ih_l0"].copy()
    wrong, hints = found_wrong(spec, tensors)
    # the two of the LSTM that are coupled double together, and so stay coupled
    assert (
        wrong
        == {
            "rnn": {("hidden", "bias")},
            "gru": {("update", "bias"), ("reset", "bias")},
            "lstm": {("forget", "bias"), ("output", "bias")},
        }[cell]
    )
    assert "first bias vector alone is as asked; the second is added to it" in hints


def test_a_bias_within_the_reset_product():
    spec = orthogonal_spec("gru", candidate={**CONSTANT, "mean": 0.7})
    slots = {
        "torch": lambda t: (t["bias_ih_l0"][2 * H :], t["bias_hh_l0"][2 * H :]),
        "keras": lambda t: (
            t["sequential/gru/gru_cell/bias"][0, 2 * H :],
            t["sequential/gru/gru_cell/bias"][1, 2 * H :],
        ),
        "linen": lambda t: (t["params/cell/in/bias"], t["params/cell/hn/bias"]),
        "equinox": lambda t: (t["bias"][2 * H :], t["bias_n"]),
    }
    for framework, slot in slots.items():
        tensors = fresh(framework, spec)
        assert found_wrong(spec, tensors) == (set(), "")
        first, second = slot(tensors)
        second[:], first[:] = first.copy(), 0.0
        wrong, hints = found_wrong(spec, tensors)
        assert wrong == {("candidate", "bias"), ("candidate", "inner bias")}, framework
        assert "scaled by the reset gate" in hints


def reordered(array, axis, order):
    return np.concatenate([np.split(array, len(order), axis)[k] for k in order], axis)


@pytest.mark.parametrize("framework", ["torch", "keras", "nnx", "equinox", "haiku"])
def test_update_and_reset_exchanged(framework):
    """PyTorch's order written into Keras' places, and the other way round."""
    spec = orthogonal_spec("gru_reset_before" if framework == "haiku" else "gru")
    tensors = fresh(framework, spec)
    axis = 0 if framework in ("torch", "equinox") else -1
    for name, array in tensors.items():
        if array.shape[axis] == 3 * H:
            tensors[name] = reordered(array, axis, (1, 0, 2))
    wrong, hints = found_wrong(spec, tensors)
    assert wrong >= {("update", "bias"), ("reset", "bias")}
    if framework == "haiku":  # exchanged with the sign that only one of them has
        return
    assert "reset where update belongs, update where reset belongs" in hints
    assert ("keras" if framework != "keras" else "torch") in hints.partition("that is the order of")[2]


@pytest.mark.parametrize("framework", ["torch", "keras", "nnx", "equinox"])
def test_the_order_of_haikus_lstm_in_the_others(framework):
    """i, g, f, o where i, f, g, o belong."""
    spec = orthogonal_spec("lstm")
    tensors = fresh(framework, spec)
    axis = 0 if framework in ("torch", "equinox") else -1
    for name, array in tensors.items():
        tensors[name] = reordered(array, axis, (0, 2, 1, 3))
    wrong, hints = found_wrong(spec, tensors)
    assert wrong >= {("forget", "bias"), ("cell", "bias")}
    assert "cell where forget belongs, forget where cell belongs" in hints
    assert "that is the order of haiku" in hints


def test_linen_children_exchanged():
    spec = orthogonal_spec("gru")
    tensors = fresh("linen", spec)
    for child in ("kernel", "bias"):
        r, z = f"params/cell/ir/{child}", f"params/cell/iz/{child}"
        tensors[r], tensors[z] = tensors[z], tensors[r]
    wrong, hints = found_wrong(spec, tensors)
    assert wrong == {("update", "bias"), ("reset", "bias")}
    assert "reset where update belongs" in hints


@pytest.mark.parametrize(
    ("part", "factor", "hint"),
    [
        (
            "recurrent",
            0.3**0.5,
            "the variance of the recurrent kernel of hidden is 0.09: the spec's variance was taken",
        ),
        ("recurrent", 0.3**-0.25, "is 0.5477: the square root of the spec's variance was taken for the variance"),
        ("recurrent", H**0.5, "it was not divided by the fan-in"),
        ("recurrent", H**-0.5, "it was divided by the fan-in twice"),
        ("bias", 2.0, "the bias of hidden is twice what is asked"),
        ("bias", -1.0, "the bias of hidden has the opposite sign"),
        ("bias", 1.0 + 1.0 / 0.3, "the bias of hidden is 1 more than asked"),
        ("bias", 1.0 - 1.0 / 0.3, "the bias of hidden is 1 less than asked"),
    ],
)
def test_slips_are_named(part, factor, hint):
    """Recurrent variance .3, bias .3 in all units; the numbers multiplied by a factor."""
    spec = make_spec("rnn")
    tensors = fresh("canonical", spec)
    assert found_wrong(spec, tensors) == (set(), "")
    tensors[f"layers.0.0.hidden.{part}"] *= np.float32(factor)
    wrong, hints = found_wrong(spec, tensors)
    assert wrong == {("hidden", part)}
    assert hint in hints


def test_the_second_bias_vector_may_be_the_right_one():
    spec = make_spec("rnn")
    tensors = fresh("torch", spec)
    tensors["bias_hh_l0"] = tensors["bias_ih_l0"].copy()
    tensors["bias_ih_l0"] += np.random.default_rng(0).standard_normal(H).astype(np.float32)
    wrong, hints = found_wrong(spec, tensors)
    assert wrong == {("hidden", "bias")}
    assert "the second bias vector alone is as asked" in hints


def test_biases_divided_between_the_two_vectors_are_no_mistake():
    """Only the sum counts."""
    spec = make_spec("lstm")
    tensors = fresh("torch", spec)
    half = np.float32(0.5) * tensors["bias_ih_l0"]
    assert found_wrong(spec, tensors | {"bias_ih_l0": half, "bias_hh_l0": half}) == (set(), "")


def test_gates_of_one_distribution_can_change_places():
    spec = orthogonal_spec("gru", update=CONSTANT, reset=CONSTANT)
    tensors = {n: reordered(a, 0, (1, 0, 2)) for n, a in fresh("torch", spec).items()}
    assert found_wrong(spec, tensors) == (set(), "")


def test_orthogonal_kernels_a_little_off_are_not_taken_for_one_orthogonal_matrix():
    """Any orthogonal matrices of one gain, one above the other, have orthogonal columns of one length."""
    spec = orthogonal_spec("gru")
    tensors = fresh("torch", spec)
    tensors["weight_hh_l0"] *= np.float32(1.0 + 1e-3)
    wrong, hints = found_wrong(spec, tensors)
    assert wrong == {(gate, "recurrent") for gate in ("update", "reset", "candidate")}
    assert "orthogonal as a whole" not in hints


# ---- training --------------------------------------------------------------------------------------------


def moved(tensors, step, rng):
    """Every number moved by one amount up or down, as the first step of Adam does; both bias vectors alike."""
    signs = {name: np.where(rng.random(array.shape) < 0.5, -1, 1) for name, array in tensors.items()}
    for name in list(signs):
        if "bias_ih" in name:
            signs[name.replace("bias_ih", "bias_hh")] = signs[name]
    return {name: (array + step * signs[name]).astype(array.dtype) for name, array in tensors.items()}


@pytest.mark.parametrize("framework", ["canonical", "torch", "keras", "nnx"])
@pytest.mark.parametrize(("cell", "scheme"), [("gru", "critical"), ("lstm", "critical"), ("lstm", "orthogonal")])
def test_weights_that_moved_a_little_in_every_part_look_trained(cell, scheme, framework):
    spec = generate(cell, T=100, scheme=scheme)
    tensors = fresh(framework, spec)
    assert found_wrong(spec, tensors) == (set(), "")
    wrong, hints = found_wrong(spec, moved(tensors, 2e-3, np.random.default_rng(0)))
    assert wrong
    assert hints.startswith("every part differs a little, by about 0.002, and each unit by its own amount")
    assert "|" not in hints


def alike(tensors, rng):
    """Biases moved by one amount."""
    return {n: a + np.float32(0.01) if "bias" in n else a for n, a in tensors.items()}


def one_vector(tensors, rng):
    """The second bias vector alone."""
    return tensors | {"bias_hh_l0": rng.uniform(-0.05, 0.05, 3 * H).astype(np.float32)}


def far(tensors, rng):
    """Steps as large as the numbers."""
    return moved(tensors, 0.5, rng)


def default(tensors, rng):
    """The framework's own initial weights."""
    return {n: rng.uniform(-1, 1, a.shape).astype(np.float32) / np.float32(H**0.5) for n, a in tensors.items()}


def default_biases(tensors, rng):
    """The framework's own initial biases beside kernels that are as asked."""
    return {n: a if "weight" in n else default({n: a}, rng)[n] for n, a in tensors.items()}


@pytest.mark.parametrize("scheme", ["critical", "keras", "chrono"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_biases_left_at_the_default_are_named_and_do_not_look_trained(cell, scheme):
    spec = generate(cell, T=100, scheme=scheme)
    wrong, hints = found_wrong(spec, default_biases(fresh("torch", spec), np.random.default_rng(2)))
    assert {part for _, part in wrong} <= {"bias", "inner bias"}
    assert "biases look like U(-1/sqrt(H), 1/sqrt(H)), the default of torch" in hints
    assert "looks trained" not in hints


@pytest.mark.parametrize("change", [alike, one_vector, far, default])
def test_mistakes_do_not_look_trained(change):
    spec = orthogonal_spec("gru")
    wrong, hints = found_wrong(spec, change(fresh("torch", spec), np.random.default_rng(1)))
    assert wrong
    assert "looks trained" not in hints


# ---- what is said ----------------------------------------------------------------------------------------


def test_the_verdict_says_what_was_compared():
    spec = make_spec("rnn")
    tensors = fresh("canonical", spec)
    checked = check(spec, tensors)
    assert (checked.tests, checked.threshold) == (8, 1e-3 / 8)
    rule = "a part differs where a test's p is below 0.00013, so that at most 0.001 of all files with right weights"
    assert checked.verdict == f"the weights match the spec: 3 parts (8 tests; {rule} are said to differ)"
    wrong = check(spec, tensors | {"layers.0.0.hidden.bias": tensors["layers.0.0.hidden.bias"] + 1})
    assert wrong.verdict.startswith("the weights do not match the spec: 1 of 3 parts differ (8 tests; ")
    zero = {"distribution": "zero"}
    fixed = make_spec("rnn", hidden={"recurrent": zero, "input": zero, "bias": CONSTANT})
    rule = "nothing is left to chance, so every number was compared with the one that the spec asks for"
    assert check(fixed, fresh("canonical", fixed)).verdict == f"the weights match the spec: 3 parts ({rule})"


def test_the_table_says_what_its_columns_mean():
    spec = make_spec("rnn")
    tensors = fresh("canonical", spec)
    checked = check(spec, tensors | {"layers.0.0.hidden.recurrent": 2 * tensors["layers.0.0.hidden.recurrent"]})
    assert checked.explanation[:2] == (
        "test: the test of this part that has the smallest p",
        "p: the probability that weights drawn from the spec look at least as odd in this test",
    )
    assert "constant: all numbers with the one that is asked for" in checked.explanation
    assert [row.p for row in checked.rows if row.part == "bias"] == ["exact"]
    assert [row.p for row in checked.rows if row.part == "recurrent"] == ["< 1e-300"]
    html = checked._repr_html_()
    assert all(text in html for text in ("layer 0, forward", "DIFFERS", "smallest p", "do not match the spec"))


def test_the_legend_explains_only_what_is_there():
    """No p where nothing is left to chance, and no "exact" where no row says it."""
    zero = {"distribution": "zero"}
    fixed = make_spec("rnn", hidden={"recurrent": zero, "input": zero, "bias": CONSTANT})
    tensors = fresh("canonical", fixed)
    words = [line.partition(":")[0] for line in check(fixed, tensors).explanation]
    assert ("p" in words, "exact" in words) == (False, True)
    wrong = {name: np.ones_like(tensor) for name, tensor in tensors.items()}
    words = [line.partition(":")[0] for line in check(fixed, wrong).explanation]
    assert ("p" in words, "exact" in words) == (False, False)
    normal = make_spec("rnn", hidden={"bias": {"distribution": "normal", "mean": 0.0, "variance": 1.0}})
    words = [line.partition(":")[0] for line in check(normal, fresh("canonical", normal)).explanation]
    assert ("p" in words, "exact" in words) == (True, False)


def test_a_hint_names_the_network_where_there_are_several():
    spec = make_spec("gru")
    good = fresh("torch", spec)
    two = {f"{name}.{key}": value * (1 + (name == "dec")) for name in ("dec", "enc") for key, value in good.items()}
    hints = check(spec, two).hints
    assert hints
    assert all(hint.startswith("dec, layer 0 forward: ") for hint in hints)
