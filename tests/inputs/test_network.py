"""What arrives at networks: padding, origins and what a spec states, with an adapter that only hands arrays over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from critinit.errors import ApplyError, ArgumentError, DataError, Problem
from critinit.inputs.network import measure
from critinit.inputs.stretches import described, shared_endings
from critinit.inputs.traced import Arrival, Embedding, Reached, Traced

N, T, F = 12, 40, 6
LENGTHS = np.array(
    [40, 20, 25, 30, 9, 17, 23, 31, 38, 9, 28, 33]
)  # of changing padding the shortest has to be there twice


def handing_over(*arrivals: Arrival, tables: tuple[Embedding, ...] = (), **changes: Any) -> Any:
    """An adapter whose one network was reached by these arrivals."""
    fields = {"name": "net", "cell": "gru", "hidden_size": 8, "layers": 1, "directions": 1, "arrivals": arrivals}

    def trace(model: Any, run: Callable[..., object], options: Mapping[str, Any], *, embeddings: bool) -> Traced:
        return Traced((Reached(**{**fields, **changes}),), tables)

    return SimpleNamespace(framework="toy", trace=trace)


def measured(x: np.ndarray, read: np.ndarray | None = None, mask: Any = None, batch: Any = (), **changes: Any) -> Any:
    adapter = handing_over(Arrival(0, x.astype(np.float32), read), **changes)
    return measure(object(), batch, framework=adapter, mask=mask)["net"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return 0.5 * rng.standard_normal((N, T, F))


def pad(x: np.ndarray, side: str, value: Any) -> np.ndarray:
    """``x`` padded outside of LENGTHS."""
    x = x.copy()
    for one, length in zip(x, LENGTHS, strict=True):
        spare = T - length
        before = {"left": spare, "right": 0, "both": spare // 2}[side]
        for t in [*range(before), *range(before + length, T)]:
            one[t] = value(t) if callable(value) else value
    return x


CODE = np.random.default_rng(8).standard_normal((T, F))
VALUES = {"silent": 0.0, "constant": 0.7, "noise": lambda t: CODE[t]}


@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("kind", VALUES)
def test_padding_is_found_on_both_sides(x: np.ndarray, side: str, kind: str) -> None:
    padded = pad(x, side, VALUES[kind])
    found = measured(padded)
    (layer,) = found.layers
    assert layer.lengths == tuple(LENGTHS)
    assert layer.steps == (T,) * N
    for name, stretch in (("left", layer.left), ("right", layer.right)):
        if side in (name, "both"):
            assert stretch.kind == kind
            assert stretch.share > 0.1
        else:
            assert stretch is None
    kept = np.concatenate([a[np.all(a == b, axis=1)] for a, b in zip(padded, x, strict=True)])
    assert len(kept) == LENGTHS.sum()
    assert found.second_moment == pytest.approx(np.mean(kept**2), rel=1e-6)
    shares = (layer.left.share if layer.left else 0.0) + (layer.right.share if layer.right else 0.0)
    assert shares == pytest.approx(1 - LENGTHS.mean() / T)


def test_only_padding_that_is_read_after_the_information_is_stated(x: np.ndarray) -> None:
    """Forward that is the right side, in two directions either."""
    left, right = pad(x, "left", 0.7), pad(x, "right", 0.7)
    assert measured(left).padding is None
    assert measured(left, directions=2).padding == {"variance": 0.49, "constant": True}
    assert measured(right).padding == {"variance": 0.49, "constant": True}
    assert measured(pad(x, "right", VALUES["noise"])).padding["constant"] is False
    read = np.arange(T) < LENGTHS[:, None]
    assert measured(right, read).padding is None


def test_steps_to_remember_reach_from_the_first_real_step_to_the_last_that_is_read(x: np.ndarray) -> None:
    short = LENGTHS.clip(max=30)
    x[:, 30:] = 0.0  # nobody is longer than 30
    assert measured(x).reach == T  # most begin at once and read to the end
    read = np.arange(T) < short[:, None]
    assert measured(x, read).reach == 30
    late = np.roll(x, 7, axis=1)  # silent are now the first 7 and the last 3 steps
    assert measured(late).reach == T - 7
    assert measured(late, directions=2).reach == T - 3  # from the end, the last ones come before


def test_chance_is_no_padding(x: np.ndarray) -> None:
    assert np.all(shared_endings(x.astype(np.float32)) == T)
    x[:3, -2:] = x[0, -1]  # two equal steps are too few
    assert np.all(shared_endings(x.astype(np.float32)) == T)
    x[:] = 1.5  # what never changes is input
    assert np.all(shared_endings(x.astype(np.float32)) == T)


def test_rounding_does_not_hide_padding_and_an_edge_does_not_change_its_kind(x: np.ndarray) -> None:
    padded = pad(x, "right", 0.7).astype(np.float32)
    padded[:, 35:] *= 1 + 1e-7
    assert measured(padded).layers[0].lengths == tuple(LENGTHS)
    edge = pad(x, "right", 0.7)
    edge[LENGTHS < T, -1] = 0.2  # a convolution reads other things at the very end
    edge[LENGTHS == T] = x[LENGTHS == T]
    stretch = measured(edge).layers[0].right
    assert stretch.kind == "constant"
    assert described(edge.astype(np.float32), np.zeros((N, T), dtype=bool)) is None


@pytest.mark.parametrize("factor", [0.1, 0.4, 2.5, 10.0])
def test_endings_of_another_power_are_asked_about_and_the_way_out_helps(
    x: np.ndarray, rng: np.random.Generator, factor: float
) -> None:
    lengths = rng.integers(20, 33, N)
    padded = np.where(np.arange(T)[:, None] < lengths[:, None, None], x, factor * x)
    found = measured(padded)
    assert found.ending is not None
    assert 5 <= found.ending.steps <= 20  # 8 steps are padding of all sequences
    assert (found.ending.power > found.ending.usual) == (factor > 1)
    assert [w for w in found.warnings() if "mask=, booleans of shape (N, T) or N lengths" in w]
    helped = measured(padded, mask=lengths)
    assert helped.ending is None
    assert helped.padding == {"variance": pytest.approx((0.5 * factor) ** 2, rel=0.2), "constant": False}
    assert not [w for w in helped.warnings() if "mask=" in w]


def test_endings_like_the_rest_and_strong_single_steps_are_not_asked_about(
    x: np.ndarray, rng: np.random.Generator
) -> None:
    marked, heavy = x.copy(), rng.standard_t(2.5, x.shape)
    marked[:, -2:] *= 10.0
    one = x.copy()
    one[0, -10:] *= 30.0
    padded = pad(x, "right", 0.0)
    for values in (x, marked, heavy, one, padded, x[:3] * np.where(np.arange(T)[:, None] < 30, 1.0, 0.1)):
        assert measured(values).ending is None
    assert measured(0.1 * x, read=np.arange(T) < LENGTHS[:, None]).ending is None


def test_a_mask_says_what_cannot_be_seen(x: np.ndarray, rng: np.random.Generator) -> None:
    x[np.arange(T) >= LENGTHS[:, None]] = 0.0
    noise = np.where((np.arange(T) < LENGTHS[:, None])[..., None], x, 2.0 * rng.standard_normal(x.shape))
    assert measured(noise).layers[0].right is None
    for mask in (LENGTHS, np.arange(T) < LENGTHS[:, None]):
        found = measured(noise, mask=mask)
        assert found.layers[0].right.kind == "noise"
        assert found.layers[0].lengths == tuple(LENGTHS)
        assert found.padding["variance"] == pytest.approx(4.0, rel=0.1)
        assert found.second_moment == pytest.approx(0.25, rel=0.1)
    with pytest.raises(ArgumentError, match=r"mask: found shape \(5,\), where 12 sequences of 40 steps arrive at net"):
        measured(noise, mask=LENGTHS[:5])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_where_the_input_comes_from(rng: np.random.Generator, dtype: str) -> None:
    table = (0.02 * rng.standard_normal((50, F))).astype(np.float32)
    tokens = rng.integers(0, 50, (N, T))
    rounded = table.astype(np.float16).astype(np.float32) if dtype == "float16" else table
    if dtype == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes")
        rounded = table.astype(ml_dtypes.bfloat16).astype(np.float32)
    arrival = Arrival(0, rounded[tokens], dtype=dtype)

    def found(*embeddings: Embedding, batch: Any = tokens, arrival: Arrival = arrival, **changes: Any) -> Any:
        adapter = handing_over(arrival, tables=embeddings, **changes)
        return measure(object(), batch, framework=adapter)["net"]

    own = found(Embedding("emb", table, True))
    assert (own.origin, own.embedding, own.trains) == ("embedding", "emb", True)
    assert own.input_variance == pytest.approx(1 / F, rel=1e-5)  # 4e-4 is not stated
    frozen = found(Embedding("emb", table, False))
    assert frozen.trains is False
    assert frozen.input_variance == pytest.approx(np.mean(rounded[tokens] ** 2), rel=1e-4)
    other = found(Embedding("other", table[:10], True))
    assert (other.origin, other.embedding, other.trains) == ("layers", None, True)
    assert found(trains=False).trains is False
    raw = found(batch={"x": rounded[tokens]})
    assert (raw.origin, raw.trains) == ("data", False)


def test_unequal_features_are_said_loudly_with_a_way_out(x: np.ndarray) -> None:
    (warning,) = measured(x * [1, 1, 1, 1, 100, 0.01], batch=x * [1, 1, 1, 1, 100, 0.01]).warnings()
    assert "net: FEATURES OF UNEQUAL SCALE" in warning.replace("'", "")
    assert "feature 4 (" in warning
    assert ", 5 (" in warning
    assert "standardize: subtract" in warning
    (warning,) = measured(x * [1, 1, 1, 1, 100, 0.01]).warnings()  # of a layer's outputs small ones are common
    assert "LayerNorm" in warning
    assert "feature 4 (" in warning
    assert ", 5 (" not in warning
    (warning,) = measured(20 * x).warnings()
    assert "mean square is 1" in warning
    assert measured(x).warnings() == ()
    (warning,) = measured(0 * x).warnings()
    assert "all inputs are zero" in warning


def test_inputs_from_which_nothing_is_learned_are_said_with_a_way_out(x: np.ndarray) -> None:
    tiny = (1e-6 * x).astype(np.float32)
    (warning,) = measured(tiny, batch=tiny).warnings()
    assert "hardly learn from them; standardize" in warning
    one_hot = np.eye(F, dtype=np.float32)[np.random.default_rng(0).integers(0, F, (N, T))] * 0.1
    assert not [w for w in measured(one_hot, batch=one_hot).warnings() if "hardly learn" in w]
    assert measured(tiny, batch=x.astype(np.float32)).warnings() == ()  # from layers, which learn too


def test_what_is_no_number_is_named(x: np.ndarray) -> None:
    x[3, 4, 2] = np.nan
    with pytest.raises(DataError, match="what arrives at net, layer 0: found a number that is not finite"):
        measured(x)


def test_a_batch_that_reaches_nothing_is_refused() -> None:
    with pytest.raises(
        ArgumentError, match=r"batch: found a batch that reaches none of these networks: net; call= says"
    ):
        measure(object(), 1, framework=handing_over())


def test_what_cannot_be_measured_is_refused() -> None:
    refusal = Problem("nonlinearity", "relu", "tanh", "the theory of the rnn cell is for tanh")
    with pytest.raises(ApplyError, match="net: found relu; allowed: tanh; the theory"):
        measure(object(), 1, framework=handing_over(refusal=refusal))
    with pytest.raises(ArgumentError, match="framework: found an adapter, toy, that cannot run models; measure arrays"):
        measure(object(), 1, framework=SimpleNamespace(framework="toy"))  # type: ignore[arg-type]


def test_several_passes_are_taken_together(x: np.ndarray) -> None:
    short = x[:, :10].astype(np.float32)
    adapter = handing_over(Arrival(0, x.astype(np.float32)), Arrival(0, short))
    found = measure(object(), (), framework=adapter)["net"]
    assert found.layers[0].lengths == (T,) * N + (10,) * N
    assert found.reach == T
    whole = np.concatenate([x.reshape(-1), short.reshape(-1)])
    assert found.second_moment == pytest.approx(np.mean(whole**2), rel=1e-5)


def test_it_prints_as_a_table(x: np.ndarray) -> None:
    adapter = handing_over(Arrival(0, pad(x, "right", 0.7).astype(np.float32)))
    found = measure(object(), (), framework=adapter)
    text = str(found)
    assert "constant 0.49, 36.9" in text
    assert "9 to 40" in text
    assert "12×40×6" in text
    assert "<td>12×40×6</td>" in found._repr_html_()
    with pytest.raises(KeyError):
        found["other"]


def test_the_spectrum_is_that_of_the_first_layer_and_only_where_it_is_asked_for(x: np.ndarray) -> None:
    arrivals = [Arrival(number, x.astype(np.float32), None) for number in range(2)]
    for asked in (True, False):
        found = measure(object(), (), framework=handing_over(*arrivals, layers=2), spectrum=asked)["net"]
        assert [layer.statistics.spectrum is not None for layer in found.layers] == [asked, False]
