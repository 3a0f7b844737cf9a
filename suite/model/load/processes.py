"""Models whose layers' weights are sharded over processes (FSDP2), to train masks on models larger than a GPU.

The layers' weights are sharded; every process holds all masks, the embeddings and the activations. In a cut pass each
process runs its share of the prompts, and the outputs are gathered. So every process computes the same loss, gets the
same gradient and trains the same masks. A method needs no change: it runs in every process and returns the same result
in each.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from ...errors import ModelError
from ..passes import count_passes, spend
from ..transformer import Alternative, CutPass, Transformer


def shard(model: Transformer) -> Transformer:
    """The same model with each layer's weights sharded over the processes of the default group, in place.

    Run a script with ``torchrun``, call ``torch.distributed.init_process_group()``, load the model in every process and
    shard it; then call any method on it with the same arguments in each.

    Raises:
        ModelError: no process group has been initialised.
    """
    if not dist.is_initialized():
        raise ModelError(
            "sharding needs a process group: run with torchrun and call torch.distributed.init_process_group() first."
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    _ = model.weights_hash  # computed now and kept, because shards cannot be hashed
    mesh = init_device_mesh(model.device.type, (dist.get_world_size(),))
    for block in model.blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    sharded = ShardedTransformer.__new__(ShardedTransformer)
    sharded.__dict__.update(model.__dict__)
    return sharded


class ShardedTransformer(Transformer):
    """A transformer whose cut passes are divided among processes, each of which runs some of the prompts."""

    def masks_at_once(self, tokens: int) -> int:
        """All: a part that is run again in the backward pass would wait for shards there, in an order of its own."""
        return sys.maxsize

    def _run_cut(self, masks: Tensor, given: CutPass) -> Tensor:
        """Each process runs its share of the prompts and returns all outputs."""
        world, rank, examples = dist.get_world_size(), dist.get_rank(), given.inputs.shape[1]
        share = math.ceil(examples / world)
        # A process without prompts runs one and drops the result, because the others wait for its shards.
        rows = slice(rank * share, (rank + 1) * share) if rank * share < examples else slice(0, 1)
        outputs = (
            torch.ones(examples, dtype=torch.long) if given.read is None else given.read.sum(1).cpu()
        )  # of each prompt
        sizes = [int(outputs[other * share : (other + 1) * share].sum()) for other in range(world)]

        def of(part: Tensor, axis: int) -> Tensor:
            return part if part.shape[axis] == 1 else part.movedim(axis, 0)[rows].movedim(0, axis)

        mine = replace(
            given,
            alternative=Alternative(
                given.alternative.activations.map(lambda part: of(part, 1)),
                {key: of(part, 0) for key, part in given.alternative.before.items()},
                given.alternative.a_run,
            ),
            inputs=of(given.inputs, 1),
            prefix=None if given.prefix is None else of(given.prefix, 1),
            read=None if given.read is None else given.read[rows],
            offset=None if given.offset is None else _SumBackwards.apply(given.offset),
            cut_at=None if given.cut_at is None else given.cut_at[rows],
        )
        with count_passes() as spent:
            found = super()._run_cut(_SumBackwards.apply(masks), mine)
        ran = min(rows.stop, examples) - rows.start
        spend(forward=spent.forward * (examples / ran - 1))  # the other processes' prompts
        return _Gather.apply(found[:, : sizes[rank]], sizes)


class _SumBackwards(torch.autograd.Function):
    """The same tensor in every process; its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    """The pieces of all processes, joined along axis 1 in every process; each piece gets its part of the gradient."""

    @staticmethod
    def forward(ctx, piece: Tensor, sizes: list[int]) -> Tensor:
        ctx.part = (sum(sizes[: dist.get_rank()]), sizes[dist.get_rank()])
        padded = piece.new_zeros(len(piece), max(sizes), *piece.shape[2:])
        padded[:, : piece.shape[1]] = piece
        every = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(every, padded)
        return torch.cat([part[:, :size] for part, size in zip(every, sizes, strict=True)], 1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.narrow(1, *ctx.part), None
