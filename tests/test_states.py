"""Initial states: sizes, second moments, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import critinit
from critinit.errors import ArgumentError
from tests.adapters.numpy_reference import forward
from tests.theory import points

UNITS = 4000


@pytest.mark.parametrize(("cell", "count"), [("gru", 1), ("lstm", 2), ("peephole_lstm", 1), ("projection_lstm", 2)])
def test_second_moments(cell, count):
    spec = critinit.generate(cell, T=20, layers=2)
    for layer, asked in enumerate(spec.layers):
        tied, untied = asked.predicted.tied, asked.predicted.untied
        numbers = tied if isinstance(tied, critinit.Numbers) else untied
        state = critinit.initial_state(spec, UNITS, layer=layer, seed=3)
        assert len(state) == count
        wanted = (numbers.second_moment, numbers.cell_second_moment)
        for part, moment in zip(state, wanted, strict=False):
            assert np.mean(part**2) == pytest.approx(moment, rel=6 * (2 / len(part)) ** 0.5)
    sizes = {"projection_lstm": (UNITS // 2, UNITS)}.get(cell, (UNITS,) * count)
    assert tuple(map(len, state)) == sizes
    first = critinit.initial_state(spec, UNITS, seed=3)
    assert not np.array_equal(first[0], state[0])
    assert np.array_equal(first[0], critinit.initial_state(spec, UNITS, seed=3)[0])


def test_a_network_that_ran_for_long_has_such_states():
    from critinit.tensors.sampling import draw

    spec = critinit.predict(points.gru("gru"))
    x = np.random.default_rng(0).standard_normal((60, 8, 200))
    ran = forward("gru", draw(spec, 200, 200, seed=0), x)[30:]
    start = critinit.initial_state(spec, UNITS)[0]
    assert np.mean(ran**2) == pytest.approx(np.mean(start**2), rel=0.1)


def test_refused():
    spec = critinit.generate("gru", T=20)
    for name, given in (("layer", {"layer": 1}), ("hidden_size", {"hidden_size": 0}), ("seed", {"seed": -1})):
        with pytest.raises(ArgumentError, match=rf"^{name}: found"):
            critinit.initial_state(spec, **{"hidden_size": 5, **given})
    with pytest.raises(ArgumentError, match=r"spec: found no prediction for layer 0.*critinit\.predict"):
        critinit.initial_state(points.gru(), 5)
