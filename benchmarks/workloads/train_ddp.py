"""`train.py` with the edits that DistributedDataParallel asks for: run it with torchrun.

The batch of all processes together is that of `train.py`.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from workload import WORKLOADS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--mnist", metavar="DIR")
    args = parser.parse_args()

    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()

    torch.manual_seed(0)
    workload = WORKLOADS[args.workload]
    dataset = workload.data(args.mnist)
    sampler = DistributedSampler(dataset, shuffle=True, drop_last=True)
    loader = DataLoader(dataset, args.batch_size // processes, sampler=sampler, drop_last=True)
    net = DistributedDataParallel(workload.net())
    optimizer = workload.optimizer(net.parameters())

    step = 0
    start = 0.0
    epoch = 0
    while step < args.warmup + args.steps:
        sampler.set_epoch(epoch)
        epoch += 1
        for inputs, targets in loader:
            if step == args.warmup:
                start = time.perf_counter()
            optimizer.zero_grad()
            loss = workload.loss(net(inputs), targets)
            loss.backward()
            optimizer.step()
            step += 1
            if step % 20 == 0 and rank == 0:
                print(f"step {step} loss {loss.item():.4f}")
            if step == args.warmup + args.steps:
                break

    seconds = time.perf_counter() - start
    if rank == 0:
        print(f"final_loss {loss.item():.6f}")
        print(f"samples_per_second {args.steps * args.batch_size / seconds:.1f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
