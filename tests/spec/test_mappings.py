"""Specs from Hydra configurations, and mappings of any kind as specs."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest

import critinit
from critinit.errors import ArgumentError, SpecError

hydra = pytest.importorskip("hydra")
OmegaConf = pytest.importorskip("omegaconf").OmegaConf
instantiate = pytest.importorskip("hydra.utils").instantiate
InstantiationException = pytest.importorskip("hydra.errors").InstantiationException

SPEC = critinit.generate("lstm", T=40, layers=2)

CONFIG = """
length: 40
model:
  _target_: torch.nn.LSTM
  input_size: 3
  hidden_size: 8
  num_layers: 2
init:
  _target_: critinit.generate
  cell: lstm
  T: ${length}
  layers: ${model.num_layers}
"""


@pytest.mark.frameworks
def test_generate_through_instantiate():
    config = OmegaConf.create(CONFIG)
    model, spec = instantiate(config.model), instantiate(config.init)
    assert spec == SPEC
    assert critinit.apply(spec, model).model is model


def test_a_composed_application(tmp_path):
    (tmp_path / "train.yaml").write_text(CONFIG)
    with hydra.initialize_config_dir(str(tmp_path), version_base=None):
        config = hydra.compose("train", overrides=["length=90", "+init.scheme=chrono"])
    assert instantiate(config.init) == critinit.generate("lstm", T=90, layers=2, scheme="chrono")


@pytest.mark.frameworks
def test_the_callback_with_its_spec_inside():
    from critinit_adapters.torch.lightning import CriticalInit

    config = OmegaConf.create({"_target_": "critinit_adapters.torch.lightning.CriticalInit", "seed": 3})
    config.spec = OmegaConf.create(CONFIG).init
    config = OmegaConf.merge(OmegaConf.create({"length": 40, "model": {"num_layers": 2}}), {"callback": config})
    callback = instantiate(config.callback)
    assert isinstance(callback, CriticalInit)
    assert (callback.spec, callback.seed) == (SPEC, 3)


def test_a_wrong_value_is_named():
    with pytest.raises(InstantiationException, match=r"cell: found 'gruu'; allowed: .*did you mean 'gru'\?"):
        instantiate({"_target_": "critinit.generate", "cell": "gruu", "T": 3})


@pytest.mark.parametrize("wrap", [OmegaConf.create, MappingProxyType, dict])
def test_a_mapping_is_a_spec(wrap):
    assert critinit.parse(wrap(json.loads(SPEC.to_json()))) == SPEC


def test_a_spec_in_a_configuration_with_interpolations(tmp_path):
    data = json.loads(SPEC.to_json())
    data["T"] = "${length}"
    config = OmegaConf.create({"length": 40, "spec": data})
    OmegaConf.save(config, tmp_path / "config.yaml")
    read = OmegaConf.load(tmp_path / "config.yaml")
    assert critinit.parse(read.spec) == SPEC  # YAML keeps every digit
    read.init = {"_target_": "critinit.parse", "data": "${spec}"}
    assert instantiate(read.init) == SPEC


def spoiled(change):
    config = OmegaConf.create(json.loads(SPEC.to_json()))
    change(config)
    return config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            spoiled(lambda c: c.update(T="???")),
            "T: found a value that cannot be read (Missing mandatory value: T); allowed: a value",
        ),
        (
            spoiled(lambda c: c.update(T="${nowhere}")),
            "T: found a value that cannot be read (Interpolation key 'nowhere' not found); allowed: a value",
        ),
        (spoiled(lambda c: c.update(T=0)), "T: found 0; allowed: at least 1"),
        (
            spoiled(lambda c: c.layers[1].gates.pop("input")),
            "layers.1.gates.input: found nothing; this field is required",
        ),
        (OmegaConf.create({1: 2}), "found the key 1; allowed: keys that are strings"),
        (
            OmegaConf.create({}),
            "schema_version: found nothing; this field is required (and 4 more: cell, scheme, T, …)",
        ),
    ],
)
def test_a_container_that_holds_no_spec_gives_one_line(data, message):
    with pytest.raises(SpecError) as error:
        critinit.parse(data, "app.yaml")
    assert str(error.value) == f"app.yaml: {message}"


def test_a_mapping_that_holds_itself_is_refused():
    data = {"cell": "gru"}
    data["layers"] = [data]
    with pytest.raises(SpecError, match=r"^layers\.0: found values nested too deeply; allowed: at most 8 levels$"):
        critinit.parse(data)


@pytest.mark.parametrize("data", [None, 3, OmegaConf.create([1]), Path])
def test_what_is_neither_text_nor_mapping_is_refused(data):
    with pytest.raises(ArgumentError, match=r"^data: found \w+; allowed: JSON text or a mapping"):
        critinit.parse(data)
