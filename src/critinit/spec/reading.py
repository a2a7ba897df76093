"""From bytes to an InitSpec, with one clear message where that fails."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from critinit import files
from critinit.errors import ArgumentError, Problem, SpecError
from critinit.spec.mappings import plain
from critinit.spec.model import InitSpec

__all__ = [
    "MAX_BYTES",
    "checked_spec",
    "decode",
    "load",
    "parse",
    "problems_of",
    "read_stream",
    "show",
    "validate_object",
]

MAX_BYTES = 4 * 2**20
"""A spec of the largest allowed number of layers takes less than 4 MiB; larger files are refused unread."""

_UNION_TAGS = {"numbers", "nothing"}


def checked_spec(spec: object) -> InitSpec:
    """Return what is an ``InitSpec``.

    Args:
        spec: What a caller gave as one.

    Raises:
        ArgumentError: It is something else, such as a path or the dictionary of a spec.
    """
    if not isinstance(spec, InitSpec):
        hint = "critinit.load reads one from a file, critinit.parse from text or a dictionary"
        raise ArgumentError("spec", found=type(spec).__name__, allowed="an InitSpec", hint=hint)
    return spec


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
    """Return what was found, short enough for a line and in printable ASCII."""
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


def load(path: str | os.PathLike[str]) -> InitSpec:
    """Read a spec from a file, and check it.

    Args:
        path: A JSON file, such as ``critinit spec -o FILE`` writes.

    Raises:
        FileError: The file cannot be read.
        SpecError: It holds no valid spec.
        ArgumentError: It is no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        hint = "critinit.parse reads text or a dictionary"
        raise ArgumentError("path", found=type(path).__name__, allowed="the path of a file", hint=hint)
    try:
        return parse(files.read(path, MAX_BYTES), os.fspath(path))
    except files.TooLongError as error:
        _refuse(error.source, error.found, f"a spec of {error.allowed}", _other_file(error.start))


def read_stream(stream: Any, name: str) -> InitSpec:
    """Return the spec on a binary stream; ``name`` is what messages call it."""
    try:
        return parse(files.read_stream(stream, MAX_BYTES, name), name)
    except files.TooLongError as error:
        _refuse(error.source, error.found, f"a spec of {error.allowed}", _other_file(error.start))


def parse(data: bytes | str | Mapping[str, Any], source: str = "") -> InitSpec:
    """Read a spec from text or from a dictionary, and check it.

    Args:
        data: JSON, or a mapping of the same structure (a dict, OmegaConf's DictConfig).
        source: The file that it comes from, for messages.

    Raises:
        SpecError: It is not a valid spec: bytes that are not UTF-8, text that is not JSON, a key given twice, a value
            that cannot be read, a wrong structure, or values out of range.
        ArgumentError: Data of another type.
    """
    if isinstance(data, Mapping):
        return validate_object(plain(data, source), source)
    if not isinstance(data, (bytes, str)):
        allowed = "JSON text or a mapping"
        raise ArgumentError("data", found=type(data).__name__, allowed=allowed, hint="critinit.load reads a file")
    return validate_object(decode(data, source), source)


def validate_object(data: Any, source: str = "") -> InitSpec:
    """Return the spec in a decoded JSON value; raises ``SpecError``."""
    try:
        return InitSpec.model_validate(data)
    except ValidationError as error:
        raise SpecError(problems_of(error, data), source) from None


_UTF_16 = "it is UTF-16, as > writes it in PowerShell: write the spec with -o FILE instead"
_WEIGHTS = "it looks like a file of weights: give the spec here, which is JSON"
_OTHER_FILES = {
    b"PK\x03\x04": _WEIGHTS,
    b"\x89HDF": _WEIGHTS,
    b"\x1f\x8b": "it is compressed: unpack it with gunzip",
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
}
"""Files that are no text in UTF-8, by how they begin, and the way out."""


def _other_file(data: bytes | str) -> str:
    """What to do about a file that is no text, by how it begins."""
    if isinstance(data, str):
        return ""
    if data[6:10] == b'\0\0{"':  # safetensors: a length of eight bytes, then JSON
        return _WEIGHTS
    return next((hint for start, hint in _OTHER_FILES.items() if data.startswith(start)), "")


def _refuse(source: str, found: str, allowed: str, hint: str = "") -> NoReturn:
    raise SpecError([Problem("", found, allowed, hint)], source) from None


def decode(data: bytes | str, source: str = "") -> Any:
    """Return the JSON value in ``data``; raises ``SpecError`` for what is not JSON, or has a key twice."""
    if len(data) > MAX_BYTES:
        _refuse(source, f"{len(data):,} bytes", f"a spec of at most {MAX_BYTES:,}", _other_file(data))
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")  # editors may put a mark in front
    except UnicodeDecodeError as error:
        _refuse(source, f"byte {error.start} that is not UTF-8", "JSON in UTF-8", _other_file(data))
    if not text.strip():
        _refuse(source, "nothing", "a JSON object")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except _DuplicateKeyError as error:
        _refuse(source, f"the key {show(str(error))} twice in one object", "each key once")
    except json.JSONDecodeError as error:
        why = "a text that does not end" if error.msg.startswith("Unterminated") else error.msg
        is_cut = why != error.msg or error.pos >= len(text.rstrip())
        found = f"no JSON at line {error.lineno} column {error.colno} ({why})"
        is_second = error.msg == "Extra data" and text.lstrip().startswith("{")
        hint = "more follows the first spec: one a file" if is_second else "it may be cut short" if is_cut else ""
        if isinstance(data, str) and text.strip().endswith(".json"):
            hint = "critinit.load reads a file"
        _refuse(source, found, "a JSON object", hint)
    except RecursionError:
        _refuse(source, "JSON nested too deeply", "at most 8 levels")
    except ValueError:  # an integer of thousands of digits
        _refuse(source, "a number with too many digits", "numbers of at most 1e100")


def problems_of(error: ValidationError, data: Any = None) -> list[Problem]:
    """Return pydantic's errors as problems, in the order of the models' fields.

    Args:
        error: What validation raised.
        data: The JSON value that was validated; paths are given as it has them.
    """
    details = error.errors(include_url=False)
    return [_problem(detail, data) for detail in details if not _follows(detail, details)]


def _follows(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Whether an error is only that a list lacks an item which failed itself."""
    place = detail["loc"]
    within = (other["loc"] for other in details if other is not detail)
    return detail["type"] == "too_short" and any(loc[: len(place)] == place for loc in within)


def _problem(detail: ErrorDetails, data: Any) -> Problem:
    context = detail.get("ctx") or {}
    path = _path(detail, data)
    found: Any = detail["input"]
    field = str(context.get("field", ""))
    for key in field.split(".") if field else ():
        path.append(_step(key))
        found = _child(found, key)
    where, hint = ".".join(path), str(context.get("hint", ""))
    match detail["type"]:
        case "missing":
            return Problem(where, "nothing", str(context.get("names", "")), hint or "this field is required")
        case "extra_forbidden":
            return Problem(where, "an unknown key", "", hint or "remove it")
        case "float_type" if type(found) is int:  # one that no float can hold
            return Problem(where, show(found), "a number of at most 1e100")
        case _:
            return Problem(where, show(found), _allowed(detail, context), hint)


def _path(detail: ErrorDetails, data: Any) -> list[str]:
    """The path of an error in the file, whose layers of one group have no "groups"."""
    parts = list(detail["loc"])
    if parts[:1] == ["layers"] and parts[2:4] == ["groups", 0]:
        layer = _child(_child(data, "layers"), str(parts[1]))
        if isinstance(layer, dict) and "groups" not in layer:
            del parts[2:4]
    return [_step(part) for n, part in enumerate(parts) if not _is_tag(parts, n)]


def _step(part: int | str) -> str:
    """One step of a path; a key of the file that is no plain name is quoted and cut like a value."""
    text = str(part)
    return text if (text.isidentifier() and len(text) <= 60) or isinstance(part, int) else show(text)


def _is_tag(parts: list[int | str], n: int) -> bool:
    """Whether part n of a location is pydantic's name of a union's member and no key of the file."""
    before = parts[n - 1] if n else None
    return parts[n] in _UNION_TAGS and before in ("untied", "tied")


def _child(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, (list, tuple)) and key.isdigit():
        return value[int(key)] if int(key) < len(value) else None
    return getattr(value, key, None)


# pydantic's error type -> what is allowed, from its context
_ALLOWED = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "an integer",
    "int_parsing_size": "an integer of at most 19 digits",
    "int_from_float": "an integer",
    "bool_type": "true or false",
    "string_type": "a string",
    "string_unicode": "a string of whole characters",
    "string_too_short": "at least {min_length} character",
    "string_too_long": "at most {max_length} characters",
    "literal_error": "{expected}",
    "tuple_type": "a list",
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
}


def _allowed(detail: ErrorDetails, context: dict[str, Any]) -> str:
    template = _ALLOWED.get(detail["type"])
    return detail["msg"] if template is None else template.format(**context)
