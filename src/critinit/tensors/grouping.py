"""Where the draws of a layer's groups of units go in a tensor, and which limits on steps its regions have.

A block of a tensor holds one gate's part for all units.  With several groups each group's draw fills its own region of
the block.  What a group's kernels read of other groups is 0 at the start; to the group it is an input, so the steps of
an optimizer have the limit of the group's input kernel there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from critinit.distributions import Kernel
from critinit.tensors.blocks import Block, Index, Shape, zeros
from critinit.tensors.convolutions import Pairs, on_taps
from critinit.tensors.sampling import GroupDraws, Part

__all__ = ["between", "limits_of", "pairs_of"]

Groups = Sequence[GroupDraws]


def pairs_of(blocks: Sequence[Block], shape: Shape, groups: Groups) -> Pairs:
    """Return what is written into every block of a tensor: a draw, or None for zeros.

    Args:
        blocks: The blocks of the tensor.
        shape: The tensor's shape.
        groups: The draws of the layer's groups.

    Raises:
        ArgumentError: There are several groups, and a kernel is stored as a row of numbers.
    """
    return tuple(pair for block in blocks for pair in _pairs(block, shape, groups))


def _pairs(block: Block, shape: Shape, groups: Groups) -> Pairs:
    if block.part == "zero":
        return ((block, None),)
    key = (block.gate, block.part)
    if len(groups) == 1:
        return on_taps(block, groups[0].draws[key])
    own = (on_taps(block.part_of(shape, group.place(block.part)), group.draws[key]) for group in groups)
    return (
        *(pair for pairs in own for pair in pairs),
        *((zero, None) for group in groups for index in between(block, shape, groups, group) for zero in zeros(*index)),
    )


def between(block: Block, shape: Shape, groups: Groups, group: GroupDraws) -> Iterator[Index]:
    """Yield the regions of a block in which a group would read other groups; none of an input kernel or a bias.

    Args:
        block: A block that holds a gate's part for all units.
        shape: The tensor's shape.
        groups: The draws of all groups.
        group: The one that reads.
    """
    if block.part not in ("recurrent", "projection"):
        return
    rows, columns = group.place(block.part)
    end = groups[-1].place(block.part)[1].stop
    for other in (slice(0, columns.start), slice(columns.stop, end)):
        if other.start < other.stop:
            yield block.part_of(shape, (rows, other)).index


def limits_of(blocks: Sequence[Block], shape: Shape, groups: Groups) -> Iterator[tuple[Index, float]]:
    """Yield each region of a tensor whose steps the spec limits, with the limit.

    A second bias vector has the limit of the bias that it adds to.

    Args:
        blocks: The blocks of the tensor.
        shape: The tensor's shape.
        groups: The draws of the layer's groups.
    """
    for block in blocks:
        part: Part = "bias" if block.part == "zero" else block.part
        gate = block.gate or block.inside
        for group in groups:
            found = group.draws.get((gate, part))
            if found is not None and found.max_learning_rate is not None:
                alone = len(groups) == 1
                index = block.index if alone else block.part_of(shape, group.place(part)).index
                yield index, found.max_learning_rate
            read = group.draws.get((gate, "input"))
            regions = list(between(block, shape, groups, group)) if read is not None else []
            if read is not None and regions and isinstance(read.distribution, Kernel):
                count = groups[-1].messages.stop - (group.messages.stop - group.messages.start)
                limit = read.distribution.limit_at(count)
                yield from ((index, limit) for index in regions if limit is not None)
