"""A run that was compiled is used again only where the model's own code still reads the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import critinit

pytestmark = pytest.mark.frameworks
X = np.random.default_rng(0).standard_normal((8, 12, 3)).astype("float32")
GAIN = 1.0
TABLE = {"gain": 1.0}


class Settings:
    """An object that a model holds."""

    gain = 1.0


def second_moment(model: Any) -> float:
    return float(critinit.diagnose(model, X)[0].numbers.second_moment)


def of_nnx() -> Any:
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rnn = nnx.RNN(nnx.GRUCell(3, 5, rngs=nnx.Rngs(0)))
            self.settings = Settings()

        def __call__(self, x: Any) -> Any:
            return self.rnn(x * GAIN * TABLE["gain"] * self.settings.gain)

    return Net()


def of_equinox() -> Any:
    eqx = pytest.importorskip("equinox")
    import jax

    class Net(eqx.Module):  # type: ignore[misc]
        cell: Any
        settings: Any = eqx.field(static=True)

        def __call__(self, x: Any) -> Any:
            x = x * GAIN * TABLE["gain"] * self.settings.gain
            return jax.lax.scan(lambda h, u: (self.cell(u, h),) * 2, jax.numpy.zeros(5), x)[1]

    return Net(eqx.nn.GRUCell(3, 5, key=jax.random.key(0)), Settings())


def of_keras() -> Any:
    keras = pytest.importorskip("keras")

    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = keras.layers.GRU(5)
            self.settings = Settings()

        def call(self, x: Any) -> Any:
            return self.rnn(x * GAIN * TABLE["gain"] * self.settings.gain)

    keras.utils.set_random_seed(0)
    model = Net()
    model(X)
    return model


@pytest.mark.parametrize("make", [of_nnx, of_equinox, of_keras])
def test_what_a_model_reads_is_read_anew(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    before = second_moment(model)
    assert second_moment(model) == before
    found = []
    for change in (
        lambda patch: patch.setattr(f"{__name__}.GAIN", 5.0),
        lambda patch: patch.setitem(TABLE, "gain", 5.0),
        lambda patch: patch.setattr(model.settings, "gain", 5.0),
    ):
        with monkeypatch.context() as patch:
            change(patch)
            found.append(second_moment(model))
        assert second_moment(model) == before
    assert found == [pytest.approx(found[0])] * 3
    assert found[0] > 1.5 * before


@pytest.mark.parametrize("make", [of_nnx, of_equinox])
def test_what_reads_the_same_is_not_compiled_again(make: Any) -> None:
    jax = pytest.importorskip("jax")
    from critinit_adapters.shared import jax_compiling

    model = make()
    second_moment(model)
    known = list(jax_compiling._PROGRAMS.values())
    second_moment(model)
    second_moment(jax.tree.unflatten(*reversed(jax.tree.flatten(model))))
    assert [program for (program,) in jax_compiling._PROGRAMS.values()] == [program for (program,) in known]


def test_a_layer_of_keras_that_is_changed_is_read_anew() -> None:
    keras = pytest.importorskip("keras")
    layer = keras.layers.Rescaling(1.0)
    model = keras.Sequential([keras.Input((12, 3)), layer, keras.layers.GRU(5)])
    before = second_moment(model)
    layer.scale = 5.0
    assert second_moment(model) > 1.5 * before
