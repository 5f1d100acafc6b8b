"""Train for some epochs and test after each: an ordinary script, as a user has it.

It says what the time is at each step and test, so that whoever runs it can tell how fast it was
and when an accuracy was reached. `epochs_ddp.py` is the copy that DistributedDataParallel asks for.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from data import digits
from nets import AlexNet, LeNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset


class LargePhotos(Dataset[tuple[Tensor, int]]):
    """Noise in the shape of ImageNet's photos: a few of them, again and again."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.images = torch.rand(64, 3, 224, 224)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.images[place % len(self.images)], place % 1000


def test(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    net.eval()
    with torch.no_grad():
        right = sum(
            int((net(part).argmax(1) == true).sum())
            for part, true in zip(images.split(1000), labels.split(1000), strict=True)
        )
    net.train()
    return right / len(labels)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("net", choices=["lenet", "alexnet"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, help="of an epoch; default: all there are")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--mnist", metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to sleep at each step")
    parser.add_argument("--no-tests", action="store_true", help="do not test after an epoch")
    parser.add_argument("--save", metavar="FILE")
    return parser


def training_data(args: argparse.Namespace) -> Dataset[Any]:
    if args.net == "alexnet":
        return LargePhotos(args.images or 512)
    dataset = digits(args.mnist)
    return TensorDataset(*dataset[: args.images]) if args.images else dataset


def optimizer_for(net: nn.Module, args: argparse.Namespace) -> torch.optim.Optimizer:
    if args.optimizer == "sgd":
        return torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    return torch.optim.Adam(net.parameters(), lr=1e-3)


def main() -> None:
    args = arguments().parse_args()
    torch.manual_seed(args.seed)
    dataset = training_data(args)
    tests = digits(args.mnist, "t10k").tensors if args.mnist and not args.no_tests else None
    net = LeNet() if args.net == "lenet" else AlexNet()
    optimizer = optimizer_for(net, args)
    loader = DataLoader(dataset, args.batch_size, shuffle=True)

    for epoch in range(args.epochs):
        samples = 0
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
            samples += len(images)
            print(f"samples {time.time():.3f} {len(images)}", flush=True)
            if args.pause:
                time.sleep(args.pause)
        print(f"epoch {time.time():.3f} {epoch} {samples}", flush=True)
        if tests is not None:
            accuracy = test(net, *tests)
            print(f"accuracy {time.time():.3f} {epoch} {accuracy:.4f}", flush=True)
    if args.save:
        torch.save(net.state_dict(), args.save)


if __name__ == "__main__":
    main()
