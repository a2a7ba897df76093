"""How each framework stores each cell, and how it names tensors: the vocabulary that adapters and files share.

A *form* is one way to store a cell, such as one class of a framework: its tensors for given sizes, and the sizes for
given tensors.  A *layout* is a framework's forms and how it names tensors.  Nothing here imports a framework; layouts
are found through the entry-point group ``critinit.layouts``, so third parties can add one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from critinit.errors import ArgumentError, PluginError
from critinit.plugins import Registry
from critinit.tensors.blocks import Block, Shape

__all__ = [
    "LAYOUTS",
    "Address",
    "Form",
    "Hints",
    "Layout",
    "Reader",
    "Sizes",
    "Stored",
    "join_path",
    "layouts",
    "path_splitter",
]


Reader = Callable[[str], Mapping[str, tuple[str, Any]]]
"""From the path of a file to the type and the array of each tensor in it, by name."""


class Sizes(NamedTuple):
    """The widths of one layer: input I, hidden H, P where the state is projected; the window of a convolutional one."""

    input: int
    hidden: int
    projection: int | None = None
    window: Shape = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a cell: its name below the cell, its shape and what lives in it.

    ``optional``: a cell can be without it (``bias=False``); what it would hold then counts as 0.  ``read_only``: only
    some versions of the framework have it, so it is read where it is found and never written.
    """

    name: str
    shape: Shape
    blocks: tuple[Block, ...]
    optional: bool = False
    read_only: bool = False


@dataclass(frozen=True)
class Form:
    """One way in which a framework stores one layer, in one direction, of a cell.

    Attributes:
        name: The framework's class.
        cell: critinit's cell.
        names: All tensors that it can have.
        tensors: The tensors of a layer of the given sizes.
        sizes: The layer's sizes as the shapes of a few of its tensors suggest them, or None where they are no such
            layer's; the caller then compares all shapes with ``tensors``.
        path: A regular expression of module paths, for a form whose names and shapes other layers have too: its tensors
            are taken for this form only at such a path, or where the user names it.
        rank: The number of axes that its kernels' windows have; 0 of a layer that convolves nothing.
    """

    name: str
    cell: str
    names: tuple[str, ...]
    tensors: Callable[[Sizes], tuple[Stored, ...]]
    sizes: Callable[[Mapping[str, Shape]], Sizes | None]
    path: str = ""
    rank: int = 0

    @property
    def children(self) -> frozenset[str]:
        """The parts of the cell that its tensors belong to, where these have names of two parts ("hr/kernel")."""
        return frozenset(name.rpartition("/")[0] for name in self.names if "/" in name)


class Address(NamedTuple):
    """Whose tensor it is: the module's path, the layer and direction within it, the tensor's name in its form."""

    module: str
    layer: int
    direction: int
    tensor: str


def join_path(address: Address) -> str:
    """Return the tensor's name at the end of its module's path, "/" between."""
    return "/".join(filter(None, (address.module, address.tensor)))


def path_splitter(forms: Sequence[Form]) -> Callable[[str], Address | None]:
    """Return the ``split`` of a framework whose tensors' names stand at the end of their modules' paths.

    Both "/" and "." separate; a box of metadata (".../value") and an output's number (":0") are seen through.
    """
    names = sorted({name for form in forms for name in form.names}, key=len, reverse=True)
    ends = "|".join(re.escape(name).replace("/", "[/.]") for name in names)
    pattern = re.compile(rf"(?:(?P<module>.+?)[/.])?(?P<tensor>{ends})(?:[/.](?:raw_)?value|:0)?")

    def split(name: str) -> Address | None:
        match = pattern.fullmatch(name)
        return match and Address(match["module"] or "", 0, 0, match["tensor"].replace(".", "/"))

    return split


class Hints(NamedTuple):
    """What is known of mistakes with a framework, in words; empty where there is nothing to say.

    Attributes:
        negated_bias: Why a bias may have the opposite sign.
        bias_plus_one: Why a bias may be 1 more than asked.
        default_input: What input kernels look like by the framework's default, ``default_bound`` their largest entry.
        default_recurrent: The same of recurrent kernels.
        default_bound: From (hidden size, fan-in, columns of the fused kernel) to that largest entry.
    """

    negated_bias: str = ""
    bias_plus_one: str = ""
    default_input: str = ""
    default_recurrent: str = ""
    default_bound: Callable[[int, int, int], float] | None = None


NO_HINTS = Hints()
"""Nothing is known."""


@dataclass(frozen=True)
class Layout:
    """A framework's forms, and how it names the tensors of a model.

    ``forms``: of several forms of one cell, the first is what is written.  ``path``: (form, layers, directions,
    layer, direction) -> the module's path in a model built as ``model`` says in words.  ``split`` takes a tensor's
    name apart (None: not of this framework), ``join`` puts it together.  ``readers``: what a file that the framework
    alone can read is known by, bytes with which it begins or a member of a zip file or folder ("data.pkl") -> a
    function from its path to the type and the array of each tensor, by name.  ``unread``: a member of a folder that
    is not read -> what the folder is, and the way out.  ``formats``: ending of an HDF5 file that the framework's own
    loader takes (".weights.h5") -> the names in it.  ``hints``: what is known of mistakes with the framework.
    """

    framework: str
    forms: Sequence[Form]
    path: Callable[[Form, int, int, int, int], str]
    split: Callable[[str], Address | None]
    model: str
    join: Callable[[Address], str] = join_path
    readers: Mapping[str | bytes, Reader] = field(default_factory=dict)
    unread: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    formats: Mapping[str, Layout] = field(default_factory=dict)
    hints: Hints = NO_HINTS

    def form(self, cell: str, rank: int = 0) -> Form | None:
        """Return the form that is written for a cell, or None where the framework has none.

        Args:
            cell: The cell.
            rank: The number of axes of its kernels' windows, 0 for a layer that convolves nothing.
        """
        return next((form for form in self.forms if (form.cell, form.rank) == (cell, rank)), None)


def _checked(item: object, source: str) -> tuple[str, Layout]:
    if not isinstance(item, Layout):
        allowed = "a critinit.tensors.layouts.Layout"
        raise PluginError(found=type(item).__name__, allowed=allowed, source=source)
    return item.framework, item


LAYOUTS: Registry[Layout] = Registry("framework", group="critinit.layouts", built_in={}, checked=_checked)
"""The published layouts by framework; loading them imports no framework."""


def layouts() -> Mapping[str, Layout]:
    """Return the published layouts by framework; one that fails to load is skipped with a warning.

    Raises:
        ArgumentError: None is published.
    """
    found = LAYOUTS.loaded()
    if not found:
        raise ArgumentError("layouts", found="none", hint="critinit's own come with its installed distribution")
    return found
