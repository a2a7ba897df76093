"""What keeps the tensors of a module from being a recurrent layer: one has another shape, or one is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from critinit.cells import find_cell
from critinit.tensors.blocks import Shape
from critinit.tensors.layouts import Form, Sizes

__all__ = ["Nearly", "nearly"]


@dataclass(frozen=True, slots=True)
class Nearly:
    """Tensors that are almost a layer.

    Attributes:
        form: The form that they almost have.
        sizes: The widths at which most of them have their shapes.
        right: How many have their shapes.
        shapes: By the name of each tensor of another shape, the shape that it should have.
        missing: The names of those that are not there.
    """

    form: Form
    sizes: Sizes
    right: int
    shapes: Mapping[str, Shape]
    missing: tuple[str, ...]

    @property
    def score(self) -> int:
        """How near it is: each tensor that is right counts for it, each of another shape and each missing against."""
        return self.right - len(self.shapes) - len(self.missing)


def nearly(form: Form, shapes: Mapping[str, Shape]) -> Nearly | None:
    """Compare the tensors of one layer with a form that they do not have.

    Args:
        form: The form.
        shapes: The shapes of the tensors, by the form's names of them.

    Returns:
        What is wrong with them, at the widths at which the least is; None where no tensor is right, or one has no
        place in the form.

    Example:
        >>> from critinit.tensors.layouts import layouts
        >>> form = layouts()["canonical"].form("rnn")
        >>> found = nearly(form, {"hidden.input": (4, 3), "hidden.recurrent": (5, 4), "hidden.bias": (4,)})
        >>> found.sizes[:2], found.shapes, found.missing
        ((3, 4), {'hidden.recurrent': (4, 4)}, ())
    """
    if not set(shapes) <= set(form.names):
        return None
    compared = (_compared(form, shapes, sizes) for sizes in _widths(form, shapes))
    best = max(compared, key=lambda found: found.score, default=None)
    return best if best is not None and best.right > 0 else None


def _widths(form: Form, shapes: Mapping[str, Shape]) -> Iterator[Sizes]:
    """The widths that the tensors could be of: axes, and axes over the number of gates that they may stack."""
    try:
        suggested = form.sizes(shapes)
    except (KeyError, IndexError, TypeError, ValueError):  # a tensor is missing, or has other axes
        suggested = None
    if suggested is not None:
        yield suggested
    if form.rank:
        return
    gates = range(1, len(find_cell(form.cell).gates) + 1)
    axes = sorted({axis for shape in shapes.values() for axis in shape if axis > 0})
    units = sorted({axis // count for axis, count in product(axes, gates) if axis % count == 0})
    projections = axes if find_cell(form.cell).projects else [None]
    yield from (Sizes(*widths) for widths in product(axes, units, projections))


def _compared(form: Form, shapes: Mapping[str, Shape], sizes: Sizes) -> Nearly:
    """What is wrong with tensors at one choice of widths."""
    stored = {tensor.name: tensor for tensor in form.tensors(sizes)}
    wrong = {name: stored[name].shape for name in shapes if name in stored and stored[name].shape != shapes[name]}
    strange = [name for name in shapes if name not in stored]
    missing = tuple(name for name, tensor in stored.items() if name not in shapes and not tensor.optional)
    return Nearly(form, sizes, len(shapes) - len(wrong) - 2 * len(strange), wrong, missing)
