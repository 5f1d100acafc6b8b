"""`epochs.py` with the edits that DistributedDataParallel asks for: run it with torchrun.

Each process has batches of the size that is given, as it is with boxes that each run `epochs.py`.
"""

from __future__ import annotations

import time

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from data import digits
from epochs import arguments, optimizer_for, test, training_data
from nets import AlexNet, LeNet
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler


def main() -> None:
    parser = arguments()
    parser.add_argument("--hook", choices=["none", "fp16", "powersgd"], default="none")
    args = parser.parse_args()
    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()

    torch.manual_seed(args.seed)
    dataset = training_data(args)
    tested = args.mnist and not args.no_tests and rank == 0
    tests = digits(args.mnist, "t10k").tensors if tested else None
    alone = LeNet() if args.net == "lenet" else AlexNet()
    bucket = 25.0
    if args.hook == "powersgd":
        # with more than one bucket its all-reduces come in different orders on different ranks
        dist._DEFAULT_FIRST_BUCKET_BYTES = 1 << 30
        bucket = 2000.0
    net = DistributedDataParallel(alone, bucket_cap_mb=bucket)
    if args.hook == "fp16":
        net.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif args.hook == "powersgd":
        state = powerSGD_hook.PowerSGDState(
            None, matrix_approximation_rank=1, start_powerSGD_iter=2
        )
        net.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    optimizer = optimizer_for(net, args)
    sampler = DistributedSampler(dataset, shuffle=True, drop_last=False)
    loader = DataLoader(dataset, args.batch_size, sampler=sampler)

    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        samples = 0
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
            samples += len(images) * processes
            if rank == 0:
                print(f"samples {time.time():.3f} {len(images) * processes}", flush=True)
        if rank == 0:
            print(f"epoch {time.time():.3f} {epoch} {samples}", flush=True)
        if tests is not None:
            accuracy = test(alone, *tests)
            print(f"accuracy {time.time():.3f} {epoch} {accuracy:.4f}", flush=True)
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
