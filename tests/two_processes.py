"""Runs one case in two gloo processes: `python two_processes.py CASE RANK FILE`."""

import os
import sys

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.distributed._functional_collectives as funcol  # noqa: E402
from torch import nn  # noqa: E402

STRICT = {"backend": "ipex", "options": {"strict": True}}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))


def data_parallel(rank, wrap):
    """Gradients of both processes' batches together, against one process that sees both."""
    batches = [torch.randn(3, 8, generator=torch.Generator().manual_seed(r)) for r in range(2)]
    alone = network()
    sum(alone(x).square().mean() for x in batches).div(2).backward()
    model = wrap(network())
    torch.compile(model, **STRICT)(batches[rank]).square().mean().backward()
    for p, q in zip(model.parameters(), alone.parameters(), strict=True):
        grad = p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad
        torch.testing.assert_close(grad, q.grad)


def ddp(rank):
    data_parallel(rank, nn.parallel.DistributedDataParallel)


def fsdp(rank):
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh("cpu", (2,))
    data_parallel(rank, lambda model: fully_shard(model, mesh=mesh))


def tensor_parallel(rank):
    """Two linear layers, split by columns and rows, with the collective in the graph."""
    model = network()
    first, last = model[0], model[2]
    part = slice(8 * rank, 8 * rank + 8)

    def f(x):
        hidden = nn.functional.gelu(x @ first.weight[part].t() + first.bias[part])
        out = funcol.all_reduce(hidden @ last.weight[:, part].t(), "sum", dist.group.WORLD)
        return out + last.bias

    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        got = torch.compile(f, fullgraph=True, **STRICT)(x)
        torch.testing.assert_close(got, model(x))


def main():
    case, rank, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    {"ddp": ddp, "fsdp": fsdp, "tensor_parallel": tensor_parallel}[case](rank)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
    # No orderly end of the interpreter: DistributedDataParallel keeps the group's thread, which may
    # then still drop a Python object of its last work; PyTorch calls std::terminate on that.
    sys.stdout.flush()
    os._exit(0)
