"""Any spec that validates has one canonical form; anything else raises a SpecError and nothing else."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from critinit.distributions.numbers import StrictModel
from critinit.errors import ArgumentError, SpecError
from critinit.frozen import FrozenMapping
from critinit.spec import InitSpec, load, parse
from critinit.spec.reading import validate_object
from critinit.spec.schema import json_schema
from tests.spec.strategies import spec_objects, spoiled

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
ROBUST = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@given(spec_objects())
@ROBUST
def test_every_valid_spec_round_trips_byte_for_byte(value: dict[str, Any]) -> None:
    spec = parse(json.dumps(value))
    again = parse(spec.to_bytes())
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.to_bytes() == spec.to_bytes()
    assert "-0.0" not in spec.to_json().split()
    assert isinstance(spec, InitSpec)
    assert InitSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert InitSpec.model_validate_json(spec.to_json()) == spec


@given(spec_objects())
@ROBUST
def test_the_schema_accepts_every_valid_spec(value: dict[str, Any]) -> None:
    VALIDATOR.validate(json.loads(parse(json.dumps(value)).to_bytes()))
    VALIDATOR.validate(value)


@given(spec_objects())
@ROBUST
def test_the_order_of_keys_in_a_file_does_not_matter(value: dict[str, Any]) -> None:
    def reverse(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: reverse(node[key]) for key in reversed(node)}
        return [reverse(item) for item in node] if isinstance(node, list) else node

    assert parse(json.dumps(reverse(value))).to_bytes() == parse(json.dumps(value)).to_bytes()


@given(spoiled())
@settings(ROBUST, max_examples=300)
def test_a_spoiled_spec_raises_spec_error_or_is_still_valid(value: Any) -> None:
    """And what our reader accepts, the schema accepts: the schema is never the stricter one."""
    for attempt in (lambda: validate_object(value), lambda: parse(json.dumps(value))):
        spec, refusal = _attempt(attempt)
        if spec is not None:
            assert parse(spec.to_bytes()) == spec
            VALIDATOR.validate(json.loads(spec.to_bytes()))
        if refusal is not None:
            assert refusal.problems
            assert all(problem.allowed or problem.hint for problem in refusal.problems)
            assert "\n" not in str(refusal)


def _attempt(read: Callable[[], InitSpec]) -> tuple[InitSpec | None, SpecError | None]:
    try:
        return read(), None
    except SpecError as error:
        return None, error


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"", b"  \n", b"{", b"[" * 10_000, b"9" * 5000, b'{"a":1,"a":2}', b"\x00"]
)
def test_bytes_that_are_no_spec_are_refused(data: bytes) -> None:
    with pytest.raises(SpecError) as caught:
        parse(data, "file.json")
    assert str(caught.value).startswith("file.json: found ")


@given(spec_objects())
@settings(ROBUST, max_examples=50)
def test_a_spec_is_pickled_and_copied(value: dict[str, Any]) -> None:
    """As processes that are spawned get it; the parts of it too."""
    spec = validate_object(value)
    for same in (pickle.loads(pickle.dumps(spec)), copy.copy(spec), copy.deepcopy(spec), spec.model_copy(deep=True)):
        assert type(same) is type(spec)
        assert same.to_bytes() == spec.to_bytes()
        assert same == spec
        assert hash(same) == hash(spec)
    for part in (spec.layers[0], spec.layers[0].groups[0].gates, spec.layers[0].predicted, spec.generated):
        for same in (pickle.loads(pickle.dumps(part)), copy.copy(part), copy.deepcopy(part)):
            assert same == part
            assert hash(same) == hash(part)


@given(spec_objects())
@settings(ROBUST, max_examples=50)
def test_a_copy_of_every_part_is_valid_and_equal(value: dict[str, Any]) -> None:
    """What a copy is made of is validated like what a file holds, down to each number."""
    spec = validate_object(value)

    def copied(part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(map(copied, part))
        if isinstance(part, FrozenMapping):
            return type(part)({name: copied(item) for name, item in part.items()})
        if not isinstance(part, StrictModel):
            return part
        stated = part.model_copy(update={name: copied(item) for name, item in part})
        assert stated == part
        assert hash(stated) == hash(part)
        return stated

    assert copied(spec).to_bytes() == spec.to_bytes()


@given(spec_objects())
@settings(ROBUST, max_examples=50)
def test_a_spec_survives_a_container_of_a_configuration(value: dict[str, Any]) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    spec = validate_object(value)
    data = spec.to_dict()
    if "${" not in spec.to_json():  # which would be read as an interpolation
        assert parse(omegaconf.OmegaConf.create(data)).to_bytes() == spec.to_bytes()


@pytest.mark.parametrize("given", [None, 3, {"cell": "gru"}])
def test_what_is_no_path_is_refused_with_the_way_out(given: object) -> None:
    with pytest.raises(
        ArgumentError, match=r"^path: found .*; allowed: the path of a file; critinit\.parse reads text"
    ):
        load(given)  # type: ignore[arg-type]


def test_a_path_where_a_text_is_read_is_refused_with_the_way_out() -> None:
    with pytest.raises(SpecError, match=r"allowed: a JSON object; critinit\.load reads a file"):
        parse("folder/spec.json")
