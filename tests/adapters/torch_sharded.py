"""What each of two processes checks on sharded parameters; started by ``test_torch``."""

from __future__ import annotations

import os
import warnings
from itertools import product

import torch
import torch.distributed as dist
from critinit_adapters.torch.adapter import TorchAdapter
from critinit_adapters.torch.sharded import local_regions
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from critinit.errors import ApplyError
from critinit.spec.overrides import override
from critinit.tensors.application import Applied, apply
from critinit.tensors.limiting import limit_steps
from tests.adapters.specs import make_spec

SIZES = ((6, 8), (5, 7))
"""Input and hidden sizes: 4·8 rows split evenly over two processes, 3·7 do not."""


def worker(rank: int, store: str) -> None:
    """Run all checks with both samplers as process ``rank`` of two; raises where a shard is not its slice."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        for sampler, (inputs, hidden) in product(("portable", "native"), SIZES):
            for cell, module in (("lstm", nn.LSTM), ("gru", nn.GRU)):
                spec = make_spec(cell, recurrent="orthogonal")
                plain = module(inputs, hidden)
                apply(spec, plain, seed=6, sampler=sampler)

                fsdp = fully_shard(module(inputs, hidden), mesh=mesh)
                report = apply(spec, fsdp, seed=6, sampler=sampler).report
                _same(fsdp, plain)
                assert max(row.orthogonality_error or 0.0 for row in report) < 1e-5

                for placement in (Shard(0), Shard(1), Replicate()):
                    sharded = _sharded(module(inputs, hidden), mesh, placement)
                    apply(spec, sharded, seed=6, sampler=sampler)
                    _same(sharded, plain)
                _undone(spec, sharded, sampler)
        _one_seed(mesh)
        for hidden in (8, 7, 1):  # of one unit, one of the processes holds no row of some gates
            _limited(mesh, hidden)
        dist.barrier()
    finally:
        dist.destroy_process_group()
    # all checks passed; a thread of gloo that asks for the interpreter while that shuts down aborts the process
    os._exit(0)


def _limited(mesh: object, hidden: int) -> None:
    """Limited steps of a sharded model are those of an unsharded one, to the last bit of single precision or so."""
    spec = make_spec(
        "gru", update={"recurrent": {"distribution": "normal", "variance": 0.3, "max_learning_rate": 1e-3}}
    )
    changes = {"candidate": "bias", "reset": "input"}
    settings = [f"layers.0.gates.{gate}.{part}.max_learning_rate=2e-3" for gate, part in changes.items()]
    spec = override(spec, settings)
    torch.manual_seed(0)
    x = torch.randn(5, 3, 6)

    def trained(model: nn.Module, applied: Applied[nn.Module], **kind: bool) -> list[torch.Tensor]:
        optimizer = limit_steps(torch.optim.AdamW(model.parameters(), 0.05, weight_decay=0.1, **kind), applied)
        for _ in range(3):
            optimizer.zero_grad()
            model(x)[0].square().sum().backward()
            optimizer.step()
        return [parameter.detach() for parameter in model.parameters()]

    plain = nn.GRU(6, hidden)
    before = {name: parameter.clone() for name, parameter in apply(spec, plain, seed=6).model.named_parameters()}
    expected = trained(plain, apply(spec, plain, seed=6))
    moved = (plain.weight_hh_l0 - before["weight_hh_l0"]).abs()
    assert moved[hidden : 2 * hidden].max() < 4e-3 < 0.1 < moved[2 * hidden :].max()
    # torch 2.6 shards a model on the CPU, but trains it on a GPU alone
    trains = hasattr(torch.cpu.current_stream(), "record_event")
    for kind in ({}, {"foreach": True}) if trains else ():
        fsdp = fully_shard(nn.GRU(6, hidden), mesh=mesh)
        for ours, wanted in zip(trained(fsdp, apply(spec, fsdp, seed=6), **kind), expected, strict=True):
            torch.testing.assert_close(ours.full_tensor(), wanted, rtol=1e-4, atol=1e-6)
    parallel = DistributedDataParallel(nn.GRU(6, hidden))
    applied = apply(spec, parallel, seed=6)
    for ours, wanted in zip(trained(parallel, applied), expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-6)
    for placement in (Shard(0), Shard(1), Replicate()):
        _local_parts(_sharded(nn.GRU(6, hidden), mesh, placement))


def _local_parts(sharded: nn.Module) -> None:
    """The local regions of every block hold what the whole tensor's region holds there."""
    for parameter in sharded.parameters():
        assert isinstance(parameter, DTensor)
        count = parameter.shape[0] // 3
        for gate in range(3):
            index = (slice(gate * count, (gate + 1) * count),)
            mark = torch.zeros(parameter.shape)
            mark[index] = 1.0
            expected = distribute_tensor(mark, parameter.device_mesh, parameter.placements).to_local()
            found = torch.zeros(parameter.to_local().shape)
            for region in local_regions(parameter, index):
                found[region] += 1.0
            assert torch.equal(found, expected)


def _one_seed(mesh: object) -> None:
    """Without a seed both processes take the first one's, although their generators differ."""
    spec = make_spec("gru")

    def next_seed(rank: int) -> int:
        torch.manual_seed(10 + rank)
        return int(torch.randint(2**53, ()))

    expected = next_seed(0)
    parallel = DistributedDataParallel(nn.GRU(6, 8))
    for model in (fully_shard(nn.GRU(6, 8), mesh=mesh), _sharded(nn.GRU(6, 8), mesh, Replicate()), parallel):
        assert (next_seed(dist.get_rank()) == expected) == (dist.get_rank() == 0)
        torch.manual_seed(10 + dist.get_rank())
        assert apply(spec, model).seed == expected
    plain = nn.GRU(6, 8)
    apply(spec, plain, seed=expected)
    assert torch.equal(parallel.module.weight_hh_l0, plain.weight_hh_l0)


def _sharded(module: nn.Module, mesh: object, placement: object) -> nn.Module:
    for name, parameter in list(module.named_parameters()):
        where = Shard(0) if parameter.ndim == 1 and placement == Shard(1) else placement
        module._parameters[name] = nn.Parameter(distribute_tensor(parameter.detach(), mesh, [where]))
    return module


def _same(sharded: nn.Module, plain: nn.Module) -> None:
    for name, parameter in sharded.named_parameters():
        assert isinstance(parameter, DTensor)
        full = distribute_tensor(plain.get_parameter(name).detach(), parameter.device_mesh, parameter.placements)
        assert torch.equal(parameter.to_local(), full.to_local()), name
        assert torch.equal(parameter.full_tensor(), plain.get_parameter(name)), name


def _undone(spec: object, sharded: nn.Module, sampler: str) -> None:
    """A failure on every process after some writes leaves every shard as it was."""
    before = {name: parameter.to_local().clone() for name, parameter in sharded.named_parameters()}

    class Failing(TorchAdapter):
        def view(self, tensor):  # type: ignore[no-untyped-def]
            if tensor.name == "bias_hh_l0":
                raise RuntimeError("lost")
            return super().view(tensor)

    try:
        Failing().apply(spec, sharded, seed=1, sampler=sampler, include=None, options={})
    except ApplyError:
        pass
    else:
        raise AssertionError("the failure was swallowed")
    for name, parameter in sharded.named_parameters():
        assert torch.equal(parameter.to_local(), before[name]), name
