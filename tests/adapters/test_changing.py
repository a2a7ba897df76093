"""A run that was compiled is used again only where the model's own code still reads the same."""

from __future__ import annotations

import abc
import argparse
import gc
import logging
import random
import threading
import types
import weakref
from collections import deque
from functools import partial
from typing import Any

import numpy as np
import pytest
from critinit_adapters.shared.changing import state_of

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


class Scheduled(abc.ABC):  # noqa: B024
    """A class of the user's that derives from a library's."""

    def __init__(self) -> None:
        self.gain = 1.0


class Slotted:
    """One with slots."""

    __slots__ = ("gain",)

    def __init__(self) -> None:
        self.gain = 1.0


class Indirect:
    """One whose property reads a global."""

    @property
    def own(self) -> float:
        return GAIN


class Static:
    """One whose static method does."""

    @staticmethod
    def own() -> float:
        return GAIN


def reads(x: float) -> float:
    return x * GAIN


def is_seen(held: Any, change: Any) -> bool:
    before = state_of(held)
    assert state_of(held) == before
    change()
    return bool(state_of(held) != before)


def test_what_is_held_indirectly_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for held in (Scheduled(), Slotted(), types.SimpleNamespace(gain=1.0), argparse.Namespace(gain=1.0)):
        assert is_seen(held, lambda held=held: setattr(held, "gain", 3.0))
    many = deque([1.0])
    assert is_seen([many], lambda: many.append(2.0))
    objects = np.array([{"gain": 1.0}, None], dtype=object)
    assert is_seen(objects, lambda: objects[0].update(gain=2.0))
    words = {str(k): k for k in range(30_000)}
    assert is_seen(words, lambda: words.update({"7": 8}))
    for number, held in enumerate((Indirect(), Static(), partial(reads, 3.0), lambda x: reads(x))):
        assert is_seen([held], lambda number=number: monkeypatch.setattr(f"{__name__}.GAIN", 5.0 + number))


def test_another_choice_among_the_same_objects_is_seen() -> None:
    one, other = Settings(), Settings()
    held = types.SimpleNamespace(options=[one, other], selected=one)
    assert is_seen(held, lambda: setattr(held, "selected", other))


def test_what_cannot_be_looked_at_has_no_key() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    linked: Any = None
    for _ in range(3000):
        linked = types.SimpleNamespace(below=linked)
    for held in ({Rude(), Rude()}, linked):
        with pytest.raises(TypeError):
            hash(state_of(held))
    kind = type("Odd", (), {})
    kind.__module__ = 7  # type: ignore[assignment]
    hash(state_of([kind, kind(), logging.getLogger("a"), threading.Lock(), (x for x in "a"), random.Random(0)]))


def test_big_tables_are_not_kept_alive() -> None:
    held = [Settings() for _ in range(2000)]
    alive = weakref.ref(held[0])
    key = state_of(held)
    del held
    gc.collect()
    assert alive() is None
    assert hash(key) is not None
