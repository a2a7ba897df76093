"""What a compiled run of JAX records is what a run step by step records, and it is compiled once."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from critinit.inputs.network import runner
from critinit.inputs.traced import Traced
from critinit.tensors.application import find_adapter
from tests.adapters.frameworks import Row, build, inputs, rows

INSTALLED = [
    name
    for name, module in {"linen": "flax", "nnx": "flax", "equinox": "equinox", "haiku": "haiku"}.items()
    if importlib.util.find_spec(module)
]
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="no framework on JAX is installed"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
ROWS = [row for name in INSTALLED for row in rows(name)]
STEPS = 5


def both(monkeypatch: pytest.MonkeyPatch, model: Any, batch: Any, call: Any = None, **options: Any) -> list[Traced]:
    """What was recorded compiled, compiled again, and step by step."""
    from critinit_adapters.shared import jax_compiling

    monkeypatch.setattr(jax_compiling, "_PROGRAMS", type(jax_compiling._PROGRAMS)())
    adapter: Any = find_adapter(model, options.pop("framework", None), options)
    found = [adapter.trace(model, runner(batch, call), options) for _ in range(2)]
    (program,) = jax_compiling._PROGRAMS.values()
    assert program is not None
    run = runner(batch, call)
    return [*found, adapter.trace(model, lambda *given: run(*given), options)]


def same(found: list[Traced]) -> None:
    assert any(network.arrivals for network in found[0].networks)
    for other in found[1:]:
        assert len(found[0].networks) == len(other.networks)
        for one, two in zip(found[0].networks, other.networks, strict=True):
            assert (one.name, len(one.arrivals)) == (two.name, len(two.arrivals))
            for a, b in zip(one.arrivals, two.arrivals, strict=True):
                assert (a.layer, a.dtype, a.from_rest) == (b.layer, b.dtype, b.from_rest)
                np.testing.assert_allclose(a.values, b.values, atol=1e-5)
                assert (a.read is None) == (b.read is None)
                assert a.read is None or np.array_equal(a.read, b.read)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_compiled_run_records_the_same(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    built, x = build(row), inputs(STEPS).astype("float32")
    options = dict(built.options)
    if row.framework == "equinox":
        from tests.adapters.drivers.equinox import _scan

        def call(model: Any, x: Any) -> Any:
            import jax.numpy as jnp

            for cells in model:
                ways = [_scan(cells[0], x)]
                ways += [_scan(cells[1], x[::-1])[::-1]] if len(cells) == 2 else []
                x = jnp.concatenate(ways, axis=-1)
            return x

        same(both(monkeypatch, built.model, x, call, **options))
    elif row.framework == "nnx":
        same(both(monkeypatch, built.model, x.swapaxes(0, 1), **options))
    else:
        x = x.swapaxes(0, 1) if row.framework == "linen" else x
        from critinit_adapters.shared import jax_compiling

        if row.framework == "haiku":  # its functions are made of objects that could change
            monkeypatch.setattr(jax_compiling, "_frozen", lambda call: id(call))
        same(both(monkeypatch, built.model, x, built.definition.apply, **options))
