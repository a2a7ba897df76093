"""A program for four (forced) devices: sharded targets get the slices of the unsharded result.

Prints the name of every framework that passed.
"""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critinit.tensors.application import apply
from tests.adapters.specs import make_spec

M, H = 8, 16


def sharding_of(shape):
    """Matrices over both axes of a 2 by 2 mesh, vectors over one and copied along the other."""
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("a", "b"))
    return NamedSharding(mesh, PartitionSpec(*("a", "b")[: len(shape)]))


def spread(tree):
    return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding_of(leaf.shape)), tree)


def compare(one, other):
    """``other`` is sharded as asked, and each of its shards the slice of ``one``."""
    leaves = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    assert leaves
    for whole, sharded in leaves:
        assert sharded.sharding == sharding_of(sharded.shape)
        assert len(sharded.addressable_shards) == 4
        for shard in sharded.addressable_shards:
            assert shard.data.shape != whole.shape
            assert np.array_equal(shard.data, np.asarray(whole)[shard.index])


def linen_tree():
    from flax import linen

    return linen.GRUCell(H).init(jax.random.key(0), np.zeros(H), np.zeros(M))


def nnx_cell():
    return nnx.GRUCell(M, H, rngs=nnx.Rngs(0))


def main():
    assert len(jax.devices()) == 4
    spec = make_spec("gru", recurrent="orthogonal")
    for sampler in ("portable", "native"):
        tree = linen_tree()
        compare(
            apply(spec, tree, seed=0, sampler=sampler).model, apply(spec, spread(tree), seed=0, sampler=sampler).model
        )
    print("linen")
    for sampler in ("portable", "native"):
        one, other = nnx_cell(), nnx_cell()
        nnx.update(other, spread(nnx.state(other, nnx.Param)))
        for cell in (one, other):
            apply(spec, cell, seed=0, sampler=sampler)
        compare(nnx.state(one, nnx.Param), nnx.state(other, nnx.Param))
    print("nnx")
    for sampler in ("portable", "native"):
        cell = eqx.nn.GRUCell(M, H, key=jax.random.key(0))
        compare(
            apply(spec, cell, seed=0, sampler=sampler).model, apply(spec, spread(cell), seed=0, sampler=sampler).model
        )
    print("equinox")


if __name__ == "__main__":
    main()
