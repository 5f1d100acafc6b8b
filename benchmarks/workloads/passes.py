"""Train a workload for two passes over some batches: an ordinary script, timed by whole passes.

The first pass is to warm up (and for the workers of hogwild mode to come in), the second is timed:
however many workers share a pass, it is over when all its batches are done.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.utils.data import DataLoader, Subset
from workload import WORKLOADS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--warmup", type=int, default=300, help="batches of the first pass")
    parser.add_argument("--steps", type=int, default=600, help="batches of the timed pass")
    parser.add_argument("--mnist", metavar="DIR")
    args = parser.parse_args()

    torch.manual_seed(0)
    workload = WORKLOADS[args.workload]
    data = workload.data(args.mnist)
    net = workload.net()
    optimizer = workload.optimizer(net.parameters())

    for batches in (args.warmup, args.steps):
        samples = batches * args.batch_size
        part = Subset(data, [k % len(data) for k in range(samples)])
        start = time.perf_counter()
        for inputs, targets in DataLoader(part, args.batch_size, shuffle=True):
            optimizer.zero_grad()
            loss = workload.loss(net(inputs), targets)
            loss.backward()
            optimizer.step()
        seconds = time.perf_counter() - start
    print(f"samples_per_second {samples / seconds:.1f}")


if __name__ == "__main__":
    main()
