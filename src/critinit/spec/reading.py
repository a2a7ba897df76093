"""From bytes to an InitSpec, with one clear message where that fails."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from critinit.errors import ArgumentError, Problem, SpecError
from critinit.spec.distributions import BIAS_DISTRIBUTIONS
from critinit.spec.mappings import plain
from critinit.spec.model import InitSpec

__all__ = ["MAX_BYTES", "decode", "parse", "problems_of", "show", "validate_object"]

MAX_BYTES = 4 * 2**20
"""A spec of the largest allowed number of layers takes less; larger files are refused unread."""

_UNION_TAGS = {"constant", "normal", "spread", "coupled", "numbers", "nothing"}


class _DuplicateKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(key)
            seen.add(key)
    return data


def show(found: Any) -> str:
    """What was found, short enough for a line and in printable ASCII."""
    if isinstance(found, float) and not math.isfinite(found):
        return "NaN" if math.isnan(found) else ("infinity" if found > 0 else "-infinity")
    if isinstance(found, dict):
        return f"an object with {len(found)} keys" if found else "an empty object"
    if isinstance(found, (list, tuple)):
        return f"a list of {len(found)}"
    try:
        text = json.dumps(found)
    except (TypeError, ValueError):
        text = ascii(found)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def parse(data: bytes | str | Mapping[str, Any], source: str = "") -> InitSpec:
    """The spec in ``data``: JSON, or a mapping of the same structure (a dict, OmegaConf's DictConfig).

    Raises ``SpecError``, naming ``source``, for anything that is not a valid spec: bytes that are not UTF-8,
    text that is not JSON, a key given twice, a value that cannot be read, a wrong structure, or values out of range;
    and ``ArgumentError`` for data of another type.
    """
    if isinstance(data, Mapping):
        return validate_object(plain(data, source), source)
    if not isinstance(data, (bytes, str)):
        allowed = "JSON text or a mapping (critinit.load reads a file)"
        raise ArgumentError(f"data: found {type(data).__name__}; allowed: {allowed}")
    return validate_object(decode(data, source), source)


def validate_object(data: Any, source: str = "") -> InitSpec:
    """The spec in a decoded JSON value; raises ``SpecError``."""
    try:
        return InitSpec.model_validate(data)
    except ValidationError as error:
        raise SpecError(problems_of(error), source) from None


def _refuse(source: str, found: str, allowed: str) -> NoReturn:
    raise SpecError([Problem("", found, allowed)], source) from None


def decode(data: bytes | str, source: str = "") -> Any:
    """The JSON value in ``data``; raises ``SpecError`` for what is not JSON, or has a key twice."""
    if len(data) > MAX_BYTES:
        _refuse(source, f"{len(data):,} bytes", f"a spec has at most {MAX_BYTES:,}")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(source, f"byte {error.start} that is not UTF-8", "a spec is JSON in UTF-8")
    if not text.strip():
        _refuse(source, "nothing", "a spec is a JSON object")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except _DuplicateKeyError as error:
        _refuse(source, f"the key {show(str(error))} twice in one object", "each key stands once")
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        _refuse(source, f"no JSON at {where} ({error.msg})", "a spec is a JSON object")
    except RecursionError:
        _refuse(source, "JSON nested too deeply", "a spec nests at most 8 levels")
    except ValueError:  # an integer of thousands of digits
        _refuse(source, "a number with too many digits", "numbers are at most 1e100")


def problems_of(error: ValidationError) -> list[Problem]:
    """pydantic's errors as field path, found and allowed; the deepest and most telling first."""
    details = error.errors(include_url=False)
    if len(details) > 1:  # a failed item also makes its list too short: say it once
        details = [d for d in details if d["type"] != "too_short"] or details
    return [_problem(detail) for detail in details]


def _problem(detail: ErrorDetails) -> Problem:
    context = detail.get("ctx") or {}
    parts = list(detail["loc"])
    path = [_step(part) for n, part in enumerate(parts) if not _is_tag(parts, n)]
    found: Any = detail["input"]
    if "field" in context:
        field = str(context["field"])
        if field:
            path.append(field)
        for key in field.split(".") if field else ():
            found = _child(found, key)
    kind = detail["type"]
    if kind == "missing":
        return Problem(".".join(path), "nothing", _missing(detail, context))
    if kind == "extra_forbidden":
        return Problem(".".join(path), "an unknown key", "remove it")
    if kind.startswith("union_tag"):
        if not isinstance(found, dict):
            return Problem(".".join(path), show(found), "allowed: an object")
        path.append("distribution")
        value = found.get("distribution")
        return Problem(".".join(path), show(value), f"allowed: {', '.join(BIAS_DISTRIBUTIONS)}")
    if kind == "float_type" and type(found) is int:  # one that no float can hold
        return Problem(".".join(path), show(found), "allowed: a number of at most 1e100")
    return Problem(".".join(path), show(found), _allowed(detail, context))


def _step(part: int | str) -> str:
    """One step of a path; a key of the file that is no plain name is quoted and cut like a value."""
    text = str(part)
    return text if (text.isidentifier() and len(text) <= 60) or isinstance(part, int) else show(text)


def _is_tag(parts: list[int | str], n: int) -> bool:
    """Whether part n of a location is pydantic's name of a union's member and no key of the file."""
    before = parts[n - 1] if n else None
    return parts[n] in _UNION_TAGS and before in ("bias", "untied", "tied")


def _child(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, (list, tuple)) and key.isdigit():
        return value[int(key)]
    return getattr(value, key, None)


def _missing(detail: ErrorDetails, context: dict[str, Any]) -> str:
    if "names" in context:
        return detail["msg"]
    return "this field is required"


# pydantic's error type -> what is allowed, from its context
_ALLOWED = {
    "greater_than": "allowed: more than {gt}",
    "greater_than_equal": "allowed: at least {ge}",
    "less_than": "allowed: less than {lt}",
    "less_than_equal": "allowed: at most {le}",
    "finite_number": "allowed: a finite number",
    "float_type": "allowed: a number",
    "float_parsing": "allowed: a number",
    "int_type": "allowed: an integer",
    "int_parsing_size": "allowed: an integer of at most 19 digits",
    "int_from_float": "allowed: an integer",
    "string_type": "allowed: a string",
    "string_unicode": "allowed: a string of whole characters",
    "string_too_short": "allowed: at least {min_length} character",
    "string_too_long": "allowed: at most {max_length} characters",
    "literal_error": "allowed: {expected}",
    "tuple_type": "allowed: a list",
    "too_short": "allowed: at least {min_length}",
    "too_long": "allowed: at most {max_length}",
    "model_type": "allowed: an object",
    "model_attributes_type": "allowed: an object",
    "dict_type": "allowed: an object",
    "none_required": "this cell has no reset gate to place; leave it out",
}


def _allowed(detail: ErrorDetails, context: dict[str, Any]) -> str:
    template = _ALLOWED.get(detail["type"])
    if template is None:
        message = detail["msg"]
        return message if message.startswith("allowed") else f"allowed: {message}"
    return template.format(**context)
