"""Train a workload for some steps: an ordinary script, run by plain python and by pellucid.

It measures its own speed, after some steps to warm up. `train_ddp.py` is the copy that
DistributedDataParallel asks for.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.utils.data import DataLoader
from workload import WORKLOADS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--mnist", metavar="DIR")
    args = parser.parse_args()

    torch.manual_seed(0)
    workload = WORKLOADS[args.workload]
    loader = DataLoader(workload.data(args.mnist), args.batch_size, shuffle=True, drop_last=True)
    net = workload.net()
    optimizer = workload.optimizer(net.parameters())

    step = 0
    start = 0.0
    while step < args.warmup + args.steps:
        for inputs, targets in loader:
            if step == args.warmup:
                start = time.perf_counter()
            optimizer.zero_grad()
            loss = workload.loss(net(inputs), targets)
            loss.backward()
            optimizer.step()
            step += 1
            if step % 20 == 0:
                print(f"step {step} loss {loss.item():.4f}")
            if step == args.warmup + args.steps:
                break

    seconds = time.perf_counter() - start
    print(f"final_loss {loss.item():.6f}")
    print(f"samples_per_second {args.steps * args.batch_size / seconds:.1f}")


if __name__ == "__main__":
    main()
