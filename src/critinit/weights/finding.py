"""The recurrent networks in a file: found by the names and shapes of its tensors.

A module is taken for a form where its tensors have that form's names and shapes.  Modules whose paths differ in
nothing but forward and backward are two directions of one layer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from critinit.cells import find_cell
from critinit.errors import ArgumentError, WeightsError
from critinit.spec import InitSpec
from critinit.tensors.layouts import LAYOUTS, Address, Form, Layout, Sizes, Stored, layouts
from critinit.tensors.selecting import matches
from critinit.tensors.stacking import Stack, natural_key, stacks
from critinit.weights.nearest import Nearly, nearly

__all__ = ["DIRECTIONS", "FoundLayer", "FoundNetwork", "fragments_of", "networks_of"]

DIRECTIONS = ("forward", "backward")
Shapes = Mapping[str, tuple[int, ...]]
_Places = dict[tuple[int, int], dict[str, str]]

# Names of tensors that layers of other kinds have too
_COMMON = re.compile(r"(linear/)?[wb]|([hi]/)?(kernel|bias)")
_SHOWN = 3
"""How many tensors a message names where no network was found: enough to recognize the file."""


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """One recurrent layer in one direction, found in a file.

    Attributes:
        framework: The framework whose layout it has.
        form: The form of that layout.
        module: The path of its network.
        layer: Its number within the network or, once ``numbered``, within the spec.
        direction: 0 forward, 1 backward.
        sizes: Its widths.
        tensors: Its tensors by their names in the file.
    """

    framework: str
    form: Form
    module: str
    layer: int
    direction: int
    sizes: Sizes
    tensors: Mapping[str, Stored]

    @property
    def kind(self) -> str:
        """The framework and its class, in words."""
        return f"{self.framework} {self.form.name.removeprefix(self.framework).strip()}"

    @property
    def place(self) -> str:
        """The layer and the direction, in words."""
        return f"layer {self.layer} {DIRECTIONS[self.direction]}"

    def __str__(self) -> str:
        widths = f"input {self.sizes.input}, hidden {self.sizes.hidden}"
        widths += f", projection {self.sizes.projection}" if self.sizes.projection is not None else ""
        widths += f", window {'x'.join(map(str, self.sizes.window))}" if self.sizes.window else ""
        where = self.module or "the top of the file"
        return f"layer {self.layer}, {DIRECTIONS[self.direction]}: {where} ({self.kind}, {widths})"


@dataclass(frozen=True, slots=True)
class FoundNetwork:
    """A stack of layers of one form, found at the path ``module``; at least one layer."""

    module: str
    layers: tuple[FoundLayer, ...]

    @property
    def framework(self) -> str:
        """The framework whose layout it has."""
        return self.layers[0].framework

    @property
    def form(self) -> Form:
        """The form of its layers."""
        return self.layers[0].form

    @property
    def depth(self) -> int:
        """Number of layers."""
        return 1 + max(layer.layer for layer in self.layers)

    @property
    def directions(self) -> int:
        """Number of directions."""
        return 1 + max(layer.direction for layer in self.layers)

    @property
    def lacks(self) -> str:
        """In words the layers and directions that are missing between those there are."""
        found = {(layer.layer, layer.direction) for layer in self.layers}
        every = [(layer, way) for layer in range(self.depth) for way in range(self.directions)]
        one = self.directions == 1
        return ", ".join(
            f"layer {layer}{'' if one else f' {DIRECTIONS[way]}'}" for layer, way in every if (layer, way) not in found
        )

    @property
    def stack(self) -> Stack:
        """Its layers, and the widths that it reads and gives."""
        first, last = (end(self.layers, key=lambda layer: layer.layer).sizes for end in (min, max))
        return Stack(self.depth, first.input, self.directions * (last.projection or last.hidden))

    @property
    def names(self) -> frozenset[str]:
        """The names of its tensors in the file."""
        return frozenset(name for layer in self.layers for name in layer.tensors)

    def numbered(self, start: int) -> Iterator[FoundLayer]:
        """Return its layers with their numbers in the spec, where the first is the spec's layer ``start``."""
        return (replace(layer, layer=start + layer.layer) for layer in self.layers)

    def __str__(self) -> str:
        return repr(self.module) if self.module else "the top of the file"


def networks_of(
    shapes: Shapes, spec: InitSpec, *, framework: str | None, modules: Sequence[str], source: str
) -> list[list[FoundNetwork]]:
    """Find the networks that a spec describes.

    Args:
        shapes: The shapes of a file's tensors, by name.
        spec: The spec.
        framework: The framework whose layout the file has, or None where names and shapes decide.
        modules: Patterns of the networks' paths, in the order of the layers; none: all networks of the spec's cell.
        source: The file, for messages.

    Returns:
        Lists of networks; those in one list take the spec's layers together, in this order.

    Raises:
        WeightsError: There is no network that the spec could be for.
        ArgumentError: There is a choice to be made.
    """
    known = layouts() if framework is None else {framework: LAYOUTS.get(framework)}
    readings = [
        network for layout in known.values() for network in _networks(layout, shapes, framework is not None, modules)
    ]
    # a reading of fewer tensors, of whatever cell, is a piece of the other
    best = [one for one in readings if not any(one.names < other.names for other in readings)]
    found = _chosen([network for network in best if network.form.cell == spec.cell], modules, source)
    if not found:
        raise _no_network(spec, readings, source) if readings else _unknown(spec, known.values(), shapes, source)
    found = _settled(found, source)
    for network in found:
        if network.lacks:
            what = f"{network.framework} {network.form.name} of {network.depth} layers without {network.lacks}"
            allowed = "every layer, in the same directions"
            raise WeightsError(str(network), found=what, allowed=allowed, source=source)
    return _stacked(found, len(spec.layers), ordered=bool(modules), source=source)


def _stacked(found: Sequence[FoundNetwork], depth: int, *, ordered: bool, source: str) -> list[list[FoundNetwork]]:
    """The networks that take the spec's layers together; refuses where that is not clear."""
    together = stacks([network.stack for network in found], depth, ordered=ordered)
    if together is not None:
        return [[found[index] for index in stack] for stack in together]
    counts = ", ".join(f"{network} has {network.depth}" for network in found)
    allowed = f"{_layers(depth)}, as the spec has"
    if len(found) == 1:
        raise WeightsError("layers", found=counts, allowed=allowed, source=source)
    hint = "choose with module (the paths in the order of the layers)"
    raise ArgumentError(
        "module", found=f"networks of these layers: {counts}", allowed=allowed, hint=hint, source=source
    )


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def _networks(layout: Layout, shapes: Shapes, surely: bool, modules: Sequence[str]) -> Iterator[FoundNetwork]:
    """Every network that a layout's forms find, two directions joined."""
    (groups, others), forms = _groups(layout, shapes), tuple(layout.forms)
    found: dict[tuple[str, Form], FoundNetwork] = {}
    for module, places in groups.items():
        for form in forms:
            # a pattern that happens to match a path does not say what stands there; the path itself does
            named = surely or module in modules or re.search(form.path, module) is not None
            if not named or {f"{module}/{child}".lstrip("/").replace(".", "/") for child in form.children} & others:
                continue  # a part of it holds more than this form's does
            layers = [_layer(layout, form, module, place, names, shapes) for place, names in sorted(places.items())]
            fitting = tuple(layer for layer in layers if layer is not None)
            if len(fitting) == len(layers):
                found[module, form] = FoundNetwork(module, fitting)
    for (module, form), network in sorted(found.items(), key=lambda item: natural_key(item[0][0])):
        if _other_way(module, "backward", "forward", form, found) is None:
            backward = _other_way(module, "forward", "backward", form, found)
            yield network if backward is None else _joined(network, backward)


def _groups(layout: Layout, shapes: Shapes) -> tuple[dict[str, _Places], set[str]]:
    """Tensors by their modules and places in them, and the paths at which there are others."""
    groups: dict[str, _Places] = defaultdict(lambda: defaultdict(dict))
    others = set()
    for name in shapes:
        address = layout.split(name)
        if address is None:
            others.add(name.replace(".", "/").rpartition("/")[0])
        else:
            groups[address.module][address.layer, address.direction][address.tensor] = name
    return groups, others


def fragments_of(shapes: Shapes, networks: Sequence[FoundNetwork]) -> list[str]:
    """Return in words the modules that hold tensors of such a network as these, but not all of one."""
    known, words = layouts(), {}
    for framework, form in dict.fromkeys((network.framework, network.form) for network in networks):
        layout = known[framework]
        whole = {name for network in _networks(layout, shapes, False, ()) for name in network.names}
        taken = whole.union(*(network.names for network in networks))
        for module, places in _groups(layout, shapes)[0].items():
            names = [name for place in places.values() for name in place.values()]
            if not taken & set(names) and any(
                _tells(form, *item) for place in places.values() for item in place.items()
            ):
                words[module] = (
                    f"{module or 'the top of the file'}: not checked; found "
                    f"{', '.join(sorted(names, key=natural_key))}, which is not all that {framework} {form.name} has"
                )
    return [words[module] for module in sorted(words, key=natural_key)]


def _tells(form: Form, tensor: str, name: str) -> bool:
    """Whether a tensor's name in the file says that it is of such a form: a number in place of the name does not."""
    path = name.replace(".", "/")
    return tensor in form.names and tensor.replace(".", "/") in path and not _COMMON.fullmatch(tensor)


def _layer(
    layout: Layout, form: Form, module: str, place: tuple[int, int], names: Mapping[str, str], shapes: Shapes
) -> FoundLayer | None:
    """The layer that these tensors are in this form, or None."""
    if not set(names) <= set(form.names):
        return None
    try:
        sizes = form.sizes({tensor: shapes[name] for tensor, name in names.items()})
    except (KeyError, IndexError, TypeError, ValueError):  # a tensor is missing, or has other axes
        return None
    if sizes is None or min(sizes[:2]) < 1:
        return None
    tensors = {stored.name: stored for stored in form.tensors(sizes)}
    if any(stored.name not in names and not stored.optional for stored in tensors.values()):
        return None
    if any(tensor not in tensors or tensors[tensor].shape != shapes[name] for tensor, name in names.items()):
        return None
    stored = {name: tensors[tensor] for tensor, name in names.items()}
    return FoundLayer(layout.framework, form, module, *place, sizes, stored)


def _other_way(
    module: str, old: str, new: str, form: Form, found: Mapping[tuple[str, Form], FoundNetwork]
) -> FoundNetwork | None:
    """The network whose path has ``new`` where this one has ``old``, once."""
    if module.count(old) != 1:
        return None
    other = found.get((module.replace(old, new), form))
    return other if other is not None and {layer.direction for layer in other.layers} == {0} else None


def _joined(forward: FoundNetwork, backward: FoundNetwork) -> FoundNetwork:
    """Two networks as the two directions of one."""
    layers = [*forward.layers, *(replace(layer, direction=1) for layer in backward.layers)]
    return FoundNetwork(forward.module, tuple(sorted(layers, key=lambda layer: (layer.layer, layer.direction))))


def _chosen(networks: Sequence[FoundNetwork], modules: Sequence[str], source: str) -> list[FoundNetwork]:
    """Those that the patterns name, in the order of the patterns; all where there is none."""
    if not modules:
        return list(networks)
    chosen: list[FoundNetwork] = []
    for pattern in modules:
        matching = [n for n in networks if any(matches(layer.module, pattern) for layer in n.layers)]
        if not matching:
            names = ", ".join(dict.fromkeys(map(str, networks))) or "none, as there is none of the spec's cell"
            raise ArgumentError("module", found=repr(pattern), allowed=names, source=source)
        chosen += [network for network in matching if network not in chosen]
    return chosen


def _settled(networks: Sequence[FoundNetwork], source: str) -> list[FoundNetwork]:
    """One reading of every tensor; refuses where two readings of the spec's cell differ."""
    settled: list[FoundNetwork] = []
    for network in networks:
        rival = next((other for other in settled if other.names & network.names), None)
        if rival is None:
            settled.append(network)
        elif [layer.tensors for layer in rival.layers] != [layer.tensors for layer in network.layers]:
            raise ArgumentError(
                "framework",
                found=f"{network}, which could be {rival.layers[0].kind} or {network.layers[0].kind}",
                allowed=f"{rival.framework}, {network.framework}",
                hint="choose with framework",
                source=source,
            )
    return settled


def _no_network(spec: InitSpec, readings: Sequence[FoundNetwork], source: str) -> WeightsError:
    """The error that says which networks there are instead of one of the spec's cell."""
    found = ", ".join(dict.fromkeys(f"{n.form.cell} at {n} ({n.framework} {n.form.name})" for n in readings))
    alike = next((n.form.cell for n in readings if find_cell(n.form.cell).gates == find_cell(spec.cell).gates), None)
    hint = alike and f"the two cells have the same gates but other dynamics, so write the spec for cell {alike}"
    return WeightsError("cell", found=found, allowed=f"{spec.cell}, the spec's cell", hint=hint or "", source=source)


def _unknown(spec: InitSpec, known: Iterable[Layout], shapes: Shapes, source: str) -> WeightsError:
    """The error that says what keeps the tensors from being a network."""
    parametrized = next((name for name in shapes if "parametrizations." in name), None)
    if parametrized is not None:
        hint = "a parametrized tensor: remove the parametrization before saving"
        return WeightsError(found=parametrized, hint=hint, source=source)
    near = [one for one in _nearest(known, shapes) if one[0].score >= (one[0].form.cell != spec.cell)]
    if near:  # the spec's cell is meant, wherever its tensors are near enough
        best = max(near, key=lambda one: (one[0].form.cell == spec.cell, one[0].score))
        return _misfit(*best, shapes, source)
    found = f"no recurrent network that a layout knows ({_first(shapes) or 'no tensor'})"
    hint = "if there is one, framework= (--framework) and module= (--module) say what it is and where"
    return WeightsError(found=found, hint=hint, source=source)


def _nearest(
    known: Iterable[Layout], shapes: Shapes
) -> Iterator[tuple[Nearly, Layout, tuple[str, int, int], Mapping[str, str]]]:
    """What is wrong with tensors whose names are those of a recurrent layer, where they are, and their names there."""
    for layout in known:
        for module, places in _groups(layout, shapes)[0].items():
            for form, (place, names) in product(layout.forms, places.items()):
                if any(_tells(form, *item) for item in names.items()):
                    found = nearly(form, {tensor: shapes[name] for tensor, name in names.items()})
                    if found is not None and (found.shapes or found.missing):
                        yield found, layout, (module, *place), names


def _misfit(
    found: Nearly, layout: Layout, place: tuple[str, int, int], names: Mapping[str, str], shapes: Shapes, source: str
) -> WeightsError:
    """The error that names the tensor of another shape, or the one that is missing."""
    whole = f"{layout.framework} {found.form.name.removeprefix(layout.framework).strip()}"
    if found.shapes:
        (tensor, wanted), *others = found.shapes.items()
        also = ", ".join(names[other] for other, _ in others)
        return WeightsError(
            names[tensor],
            found=f"shape {shapes[names[tensor]]}",
            allowed=f"{wanted}, to go with the other tensors of a {whole} of {found.sizes.hidden} units",
            hint=f"the shape of {also} does not fit either" if also else "",
            source=source,
        )
    lacking = ", ".join(layout.join(Address(*place, tensor)) for tensor in found.missing)
    found_here = f"{_first(names.values())}, but no {lacking}"
    return WeightsError(found=found_here, allowed=f"every tensor of a {whole}", source=source)


def _first(names: Iterable[str]) -> str:
    """The first few of these names, in their natural order, and how many more there are."""
    ordered = sorted(names, key=natural_key)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
