"""Weights in several files: which files an index names, and which files of a folder hold weights."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence

from critinit import files
from critinit.errors import WeightsError

__all__ = ["indexed", "parts_of"]

_LONGEST = 2**28
"""Bytes of an index: far more than one of a million tensors."""
_INDEX = (".index.json", ".weights.json")
"""How the names of indices end."""
_ENDINGS = ((".safetensors",), (".h5", ".keras"), (".npz",), (".pt", ".pth", ".bin", ".ckpt", ".msgpack"))
"""How the names of files of weights end; of a folder those of one group are read, the first that it has."""
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)\.\w+")
_NO_WEIGHTS = re.compile(r"(optim|sched|training_args|rng_state|scaler|random_states)", re.IGNORECASE)
"""Files of a training run that are not the model's."""
_SHOWN = 4
"""How many files a message names."""


def indexed(path: str) -> Mapping[str, Sequence[str]]:
    """Return the files that an index names, by their paths, and the tensors that each has to have.

    Args:
        path: JSON with a ``weight_map`` from the names of tensors to files, or from groups of tensors to lists of
            files.

    Raises:
        WeightsError: It is no index, or names files elsewhere.
        FileError: It cannot be read.
    """
    try:
        weight_map = json.loads(files.read(path, _LONGEST))["weight_map"]
        pairs = [(name, file) for name, item in weight_map.items() for file in _listed(item)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        allowed = "an index of shards, whose weight_map names the file of each tensor"
        raise WeightsError(found="JSON that is no such index, or cut short", allowed=allowed, source=path) from None
    if not pairs:
        raise WeightsError("weight_map", found="no tensor", allowed="at least one", source=path)
    parts: dict[str, list[str]] = {}
    for name, file in pairs:
        if os.path.basename(file) != file or file in ("", ".", ".."):
            allowed = "the name of a file in the same folder"
            raise WeightsError(f"weight_map.{name}", found=repr(file), allowed=allowed, source=path)
        names = parts.setdefault(os.path.join(os.path.dirname(path), file), [])
        if isinstance(weight_map[name], str):
            names.append(name)
    return parts


def _listed(item: object) -> list[str]:
    """The files of one entry of an index."""
    found = [item] if isinstance(item, str) else item
    if not isinstance(found, list) or not all(isinstance(file, str) for file in found):
        raise ValueError
    return found


def parts_of(folder: str, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return the files of a folder that hold a model's weights, as ``indexed`` does.

    Args:
        folder: The folder.
        names: The names of what it holds.

    Raises:
        WeightsError: There is none, or it is not clear which.
    """
    indices = sorted((name for name in names if name.endswith(_INDEX)), key=lambda name: "safetensors" not in name)
    if indices:
        return indexed(os.path.join(folder, indices[0]))
    for endings in _ENDINGS:
        found = sorted(name for name in names if name.lower().endswith(endings) and not _NO_WEIGHTS.match(name))
        if found:
            return {os.path.join(folder, name): () for name in _one_model(folder, found)}
    allowed = "a folder with one file of weights, or with shards of one"
    raise WeightsError(found="a folder without a file of weights", allowed=allowed, source=folder)


def _one_model(folder: str, names: Sequence[str]) -> Sequence[str]:
    """The files, if they are of one model: a single one, or all shards."""
    if len(names) == 1 and not _SHARD.fullmatch(names[0]):
        return names
    shards = [_SHARD.fullmatch(name) for name in names]
    of_one = {(shard["stem"], int(shard["count"])) if shard else None for shard in shards}
    if len(of_one) > 1 or None in of_one:
        listed = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        found = f"a folder with {len(names)} files of weights: {listed}"
        raise WeightsError(found=found, allowed="one", hint="name the file", source=folder)
    ((_, count),) = (item for item in of_one if item is not None)
    missing = sorted(set(range(1, count + 1)) - {int(shard["number"]) for shard in shards if shard})
    if missing:
        found = f"{len(names)} of {count} shards, without number {missing[0]}"
        raise WeightsError(found=found, allowed="all of them", source=folder)
    return names
