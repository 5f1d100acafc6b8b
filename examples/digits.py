"""Train a small convolutional net (after LeCun's LeNet-5) to read handwritten digits.

An ordinary PyTorch program: one process, one DataLoader, one loop. It knows nothing of pellucid.
The digits are scikit-learn's 1,797 real ones; with --mnist DIR, MNIST's 70,000.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.full1 = nn.Linear(50 * 4 * 4, 500)
        self.full2 = nn.Linear(500, 10)

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.full2(F.relu(self.full1(x.flatten(1))))


def small_digits():
    """8x8 digits that come with scikit-learn, enlarged to 28x28; every fifth is for the test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 0.6
    images = F.interpolate(images, size=(28, 28), mode="bilinear")
    labels = torch.tensor(digits.target)
    test = torch.arange(len(labels)) % 5 == 0
    return TensorDataset(images[~test], labels[~test]), TensorDataset(images[test], labels[test])


def mnist(folder):
    """The four uncompressed IDX files of MNIST, by the names they were published under."""

    def read(name, header):
        return torch.from_numpy(np.fromfile(Path(folder, name), np.uint8)[header:])

    def part(name):
        images = read(f"{name}-images-idx3-ubyte", 16).view(-1, 1, 28, 28).float() / 128 - 0.26
        return TensorDataset(images, read(f"{name}-labels-idx1-ubyte", 8).long())

    return part("train"), part("t10k")


def train(net, loader, optimizer):
    net.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


@torch.no_grad()
def test(net, loader):
    net.eval()
    correct = sum((net(images).argmax(1) == labels).sum().item() for images, labels in loader)
    return correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mnist", metavar="DIR", help="folder with MNIST's four idx files")
    parser.add_argument("--save", metavar="FILE", help="where to save the trained net")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train_set, test_set = mnist(args.mnist) if args.mnist else small_digits()
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True)
    test_loader = DataLoader(test_set, 512)
    net = LeNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)

    for epoch in range(1, args.epochs + 1):
        start = time.perf_counter()
        loss = train(net, train_loader, optimizer)
        speed = len(train_set) / (time.perf_counter() - start)
        accuracy = test(net, test_loader)
        print(f"epoch {epoch:2}  loss {loss:.4f}  accuracy {accuracy:.2%}  {speed:6.0f} images/s")

    if args.save:
        torch.save(net.state_dict(), args.save)


if __name__ == "__main__":
    main()
