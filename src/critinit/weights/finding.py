"""The recurrent networks in a file: found by the names and shapes of its tensors.

A module is taken for a form where its tensors have that form's names and shapes.  Modules whose paths differ in
nothing but forward and backward are two directions of one layer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from critinit.errors import ArgumentError, WeightsError
from critinit.tensors.layouts import Form, Layout, Sizes, Stored, layouts
from critinit.tensors.stacking import Stack, natural, stacks
from critinit.spec import InitSpec

__all__ = ["DIRECTIONS", "Network", "Site", "fragments_of", "networks_of"]

DIRECTIONS = ("forward", "backward")
Shapes = Mapping[str, tuple[int, ...]]
_Places = dict[tuple[int, int], dict[str, str]]

# Names of tensors that layers of other kinds have too
_COMMON = re.compile(r"(linear/)?[wb]|([hi]/)?(kernel|bias)")


@dataclass(frozen=True, slots=True)
class Site:
    """One layer in one direction: its sizes and its tensors by their names in the file."""

    module: str
    layer: int
    direction: int
    sizes: Sizes
    tensors: Mapping[str, Stored]


@dataclass(frozen=True)
class Network:
    """A stack of layers, found at path ``module``, read as ``form`` of a framework."""

    framework: str
    form: Form
    module: str
    sites: tuple[Site, ...]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return 1 + max(site.layer for site in self.sites)

    @property
    def directions(self) -> int:
        """Number of directions."""
        return 1 + max(site.direction for site in self.sites)

    @property
    def lacks(self) -> str:
        """In words the layers and directions that are missing between those there are."""
        found = {(site.layer, site.direction) for site in self.sites}
        every = [(layer, way) for layer in range(self.layers) for way in range(self.directions)]
        one = self.directions == 1
        return ", ".join(
            f"layer {layer}{'' if one else f' {DIRECTIONS[way]}'}" for layer, way in every if (layer, way) not in found
        )

    @property
    def stack(self) -> Stack:
        """Its layers, and the widths that it reads and gives."""
        first, last = (end(self.sites, key=lambda site: site.layer).sizes for end in (min, max))
        return Stack(self.layers, first.input, self.directions * (last.projection or last.hidden))

    @property
    def names(self) -> frozenset[str]:
        """The names of its tensors in the file."""
        return frozenset(name for site in self.sites for name in site.tensors)

    def __str__(self) -> str:
        return repr(self.module) if self.module else "the top of the file"


def networks_of(
    shapes: Shapes, spec: InitSpec, *, framework: str | None, modules: Sequence[str], source: str
) -> list[list[Network]]:
    """The networks of the spec's cell, those in one list taking the spec's layers together.

    ``framework`` and ``modules`` narrow the choice.  Raises ``WeightsError`` where there is none that the spec could
    be for, and ``ArgumentError`` where there is a choice to be made.
    """
    known = layouts()
    if framework is not None and framework not in known:
        raise ArgumentError(f"framework: found {framework!r}; allowed: {', '.join(known)}")
    among = [known[framework]] if framework is not None else list(known.values())
    every = [network for layout in among for network in _networks(layout, shapes, framework is not None, modules)]
    found = _chosen([network for network in every if network.form.cell == spec.cell], modules, source)
    if not found:
        raise WeightsError(f"{source}: the spec is for cell {spec.cell}; {_others(every, shapes)}")
    found = _settled(found, spec, source)
    for network in found:
        if network.lacks:
            raise WeightsError(
                f"{source}: {network}: found {network.framework} {network.form.name} of {network.layers} layers "
                f"without {network.lacks}; allowed: every layer, in the same directions"
            )
    together = stacks([network.stack for network in found], len(spec.layers), ordered=bool(modules))
    if together is None:
        counts = ", ".join(f"{network} has {network.layers}" for network in found)
        wanted = "1 layer" if len(spec.layers) == 1 else f"{len(spec.layers)} layers"
        message = f"{source}: the spec has {wanted}; found {counts}"
        if len(found) == 1:
            raise WeightsError(message)
        raise ArgumentError(f"{message}; choose with module (the paths in the order of the layers)")
    return [[found[index] for index in stack] for stack in together]


def _networks(layout: Layout, shapes: Shapes, surely: bool, modules: Sequence[str]) -> Iterator[Network]:
    """Every network that a layout's forms find, two directions joined."""
    groups, others = _groups(layout, shapes)
    found: dict[tuple[str, Form], Network] = {}
    for module, places in groups.items():
        for form in layout.forms:
            named = surely or module in modules or re.search(form.path, module) is not None
            if {f"{module}/{child}".lstrip("/").replace(".", "/") for child in form.children} & others:
                continue  # a part of it holds more than this form's does
            sites = [_site(form, module, place, names, shapes) for place, names in sorted(places.items())]
            fitting = tuple(site for site in sites if site is not None)
            if named and len(fitting) == len(sites):
                found[module, form] = Network(layout.framework, form, module, fitting)
    for (module, form), network in sorted(found.items(), key=lambda item: natural(item[0][0])):
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


def fragments_of(shapes: Shapes, networks: Sequence[Network]) -> list[str]:
    """In words the modules that hold tensors of such a network as these, but not all of one."""
    known, words = layouts(), {}
    for framework, form in dict.fromkeys((network.framework, network.form) for network in networks):
        layout = known[framework]
        whole = {name for network in _networks(layout, shapes, False, ()) for name in network.names}
        taken = whole.union(*(network.names for network in networks))
        for module, places in _groups(layout, shapes)[0].items():
            names = [name for place in places.values() for name in place.values()]
            telling = [
                tensor
                for place in places.values()
                for tensor, name in place.items()
                # a number in place of the name, as in .weights.h5, says nothing
                if tensor in form.names and tensor in name.replace(".", "/") and not _COMMON.fullmatch(tensor)
            ]
            if telling and not taken & set(names):
                words[module] = (
                    f"{module or 'the top of the file'}: not checked; found {', '.join(sorted(names, key=natural))}, "
                    f"which is not all that {framework} {form.name} has"
                )
    return [words[module] for module in sorted(words, key=natural)]


def _site(form: Form, module: str, place: tuple[int, int], names: Mapping[str, str], shapes: Shapes) -> Site | None:
    """The site that these tensors are in this form, or None."""
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
    return Site(module, *place, sizes, {name: tensors[tensor] for tensor, name in names.items()})


def _other_way(
    module: str, old: str, new: str, form: Form, found: Mapping[tuple[str, Form], Network]
) -> Network | None:
    """The network whose path has ``new`` where this one has ``old``, once."""
    if module.count(old) != 1:
        return None
    other = found.get((module.replace(old, new), form))
    return other if other is not None and {site.direction for site in other.sites} == {0} else None


def _joined(forward: Network, backward: Network) -> Network:
    sites = [*forward.sites, *(replace(site, direction=1) for site in backward.sites)]
    return replace(forward, sites=tuple(sorted(sites, key=lambda site: (site.layer, site.direction))))


def _chosen(networks: Sequence[Network], modules: Sequence[str], source: str) -> list[Network]:
    """Those that the patterns name, in the order of the patterns; all where there is none."""
    if not modules:
        return list(networks)
    chosen: list[Network] = []
    for pattern in modules:
        matching = [n for n in networks if any(_matches(site.module, pattern) for site in n.sites)]
        if not matching:
            names = ", ".join(dict.fromkeys(map(str, networks))) or "none"
            raise ArgumentError(f"module: found {pattern!r}; networks of the spec's cell in {source}: {names}")
        chosen += [network for network in matching if network not in chosen]
    return chosen


def _matches(module: str, pattern: str) -> bool:
    return module == pattern or module.startswith((f"{pattern}.", f"{pattern}/")) or fnmatchcase(module, pattern)


def _settled(networks: Sequence[Network], spec: InitSpec, source: str) -> list[Network]:
    """One reading of every tensor.

    A reading that explains more tensors is better; so is one with the spec's reset variant.  Raises ``WeightsError``
    where there is none of that variant and ``ArgumentError`` where two readings differ and neither is better.
    """
    best = [n for n in networks if not any(n.names < other.names for other in networks)]
    fitting = [n for n in best if n.form.reset == spec.reset]
    missed = [n for n in best if not any(n.names & other.names for other in fitting)]
    if missed:
        raise WeightsError(
            f"{source}: the reset gate of {missed[0]} acts {missed[0].form.reset} the recurrent kernel "
            f"({missed[0].framework} {missed[0].form.name}), the spec's {spec.reset}; the two have different dynamics"
        )
    settled: list[Network] = []
    for network in fitting:
        rival = next((other for other in settled if other.names & network.names), None)
        if rival is None:
            settled.append(network)
        elif [site.tensors for site in rival.sites] != [site.tensors for site in network.sites]:
            readings = f"{rival.framework} {rival.form.name} or {network.framework} {network.form.name}"
            raise ArgumentError(f"{source}: {network} could be {readings}; choose with framework")
    return settled


def _others(networks: Sequence[Network], shapes: Shapes) -> str:
    """In words what there is instead."""
    if networks:
        found = ", ".join(dict.fromkeys(f"{n.form.cell} at {n} ({n.framework})" for n in networks))
        return f"found {found}"
    parametrized = next((name for name in shapes if "parametrizations." in name), None)
    if parametrized is not None:
        return f"found {parametrized}, a parametrized tensor: remove the parametrization before saving"
    names = ", ".join(sorted(shapes, key=natural)[:3]) or "no tensor"
    more = f" and {len(shapes) - 3} more" if len(shapes) > 3 else ""
    return f"found no recurrent network that a layout knows ({names}{more}); framework or module may name one"
