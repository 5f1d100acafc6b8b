"""Train for some epochs and test after each: an ordinary script, as a user has it.

It says when each epoch began and ended, so that whoever runs it, on however many boxes, can tell
how long an epoch takes and when an accuracy was reached.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from data import digits
from nets import AlexNet, LeNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def large_photos(count: int) -> TensorDataset:
    """Noise in the shape of ImageNet's photos."""
    return TensorDataset(torch.rand(count, 3, 224, 224), torch.randint(1000, (count,)))


def test(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    net.eval()
    with torch.no_grad():
        right = sum(
            int((net(part).argmax(1) == true).sum())
            for part, true in zip(images.split(1000), labels.split(1000), strict=True)
        )
    net.train()
    return right / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("net", choices=["lenet", "alexnet"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, help="of an epoch; default: all there are")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--mnist", metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    tests = None
    if args.net == "lenet":
        dataset = digits(args.mnist)
        if args.mnist:
            tests = digits(args.mnist, "t10k").tensors
        if args.images:
            dataset = TensorDataset(*dataset[: args.images])
        net = LeNet()
    else:
        dataset, net = large_photos(args.images or 512), AlexNet()
    if args.optimizer == "sgd":
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    else:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    loader = DataLoader(dataset, args.batch_size, shuffle=True)

    for epoch in range(args.epochs):
        print(f"begin {epoch} {time.time():.3f}", flush=True)
        steps = 0
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
            steps += 1
        print(f"end {epoch} {time.time():.3f} {len(dataset)} {steps}", flush=True)
        if tests is not None:
            accuracy = test(net, *tests)
            print(f"accuracy {epoch} {time.time():.3f} {accuracy:.4f}", flush=True)
    if args.save:
        torch.save(net.state_dict(), args.save)


if __name__ == "__main__":
    main()
