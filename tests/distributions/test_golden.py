"""Numbers that were drawn once: a seed gives the same weights from release to release."""

from __future__ import annotations

import numpy as np
import pytest

from critinit.distributions import BIASES, KERNELS, kernel
from critinit.tensors.sampling import draw
from tests.adapters.specs import make_spec

RECURRENT = {
    "normal": [0.19827224691263964, 0.0036556741682890067, -0.4264685151264491],
    "uniform": [-0.06482136299598024, -0.35431207676787563, -0.058697389226341656],
    "orthogonal": [0.21679776231515924, 0.003997241125670947, -0.4663154890155671],
    "identity": [0.5477225575051661, 0.0, 0.0],
}
BIAS = {
    "constant": [0.3, 0.3, 0.3, 0.3],
    "normal": [-0.10999147706670254, -0.04912367708997628, -0.5264883072663071, -0.20548660599494495],
    "log_uniform_time": [1.5639686608393897, 3.7254868706823143, 0.10514944623786165, 4.759307695121194],
    "uniform_time": [4.336968873741037, 5.241150263564355, 2.983023481374239, 5.506430223116484],
    "uniform_gate": [0.008670108797552483, 1.1091556305472376, -0.506111997198071, 1.987607896553608],
}
TRUNCATED = [0.09462035145783945, 0.36448415763325015, 0.2230570958391089]
ROTATION = [0.5272300345081374, -0.14841998084000754, 0.0]
SPARSE = [0.0005740390212364096, 0.13940668040044463, -0.12792374643273283]
PARAMETERS = {"constant": {"mean": 0.3}, "normal": {"mean": -0.4, "variance": 0.2}}
TIMES = {"min_time": 1.5, "max_time": 300.0}


@pytest.mark.parametrize("distribution", RECURRENT)
def test_recurrent_kernels(distribution: str) -> None:
    w = draw(make_spec("rnn", recurrent=distribution), 3, 4, seed=7).layers[0][0].gates["hidden"].recurrent
    assert w.ravel()[:3] == pytest.approx(RECURRENT[distribution], rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("distribution", BIAS)
def test_biases(distribution: str) -> None:
    bias = {"distribution": distribution, **PARAMETERS.get(distribution, TIMES)}
    b = draw(make_spec("rnn", bias=bias), 3, 4, seed=7).layers[0][0].gates["hidden"].bias
    assert b == pytest.approx(BIAS[distribution], rel=1e-13)


def test_a_stack_in_two_directions_with_a_projection() -> None:
    spec = make_spec("lstm", layers=2)
    found = draw(spec, 3, 4, seed=7, directions=2, projection_size=2).layers[1][1]
    forget = [0.8581572932939635, -0.6211646417001624, 3.2148217289913745, 2.075964819710952]
    assert found.projection is not None
    assert found.gates["forget"].bias == pytest.approx(forget, rel=1e-13)
    assert (found.gates["input"].bias == -found.gates["forget"].bias).all()
    cell = [-0.10158032944486108, -0.5562767511000489, 0.08002047167514571]
    assert found.gates["cell"].input.ravel()[:3] == pytest.approx(cell, rel=1e-13)
    projection = [0.44918925044733626, 0.06923135929419484, -0.5383527451727141]
    assert found.projection.ravel()[:3] == pytest.approx(projection, rel=1e-13)


def test_distributions_that_no_framework_draws() -> None:
    truncated = kernel("truncated_normal", 0.3).sample(np.random.default_rng(7), 4, 4)
    assert truncated.ravel()[:3] == pytest.approx(TRUNCATED, rel=1e-12)
    rotation = kernel("rotation", 0.3, concentration=0.5).sample(np.random.default_rng(7), 4, 4)
    assert rotation.ravel()[:3] == pytest.approx(ROTATION, rel=1e-12)
    sparse = kernel("spectral_radius", spectral_radius=0.9, density=0.5).sample(np.random.default_rng(7), 8, 8)
    assert sparse[sparse != 0][:3] == pytest.approx(SPARSE, rel=1e-9)


def test_every_distribution_has_its_golden_numbers() -> None:
    assert set(KERNELS.built_in) == {*RECURRENT, "truncated_normal", "rotation", "spectral_radius", "zero"}
    assert set(BIASES.built_in) == {*BIAS, "coupled"}
