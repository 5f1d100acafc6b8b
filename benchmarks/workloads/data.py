"""What the nets are trained on."""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import tarfile
import typing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

__all__ = ["Pairs", "digits", "photos", "text"]

Pairs = Dataset[tuple[Tensor, ...]]


def digits(folder: str | None, part: str = "train") -> TensorDataset:
    """MNIST's images from a folder of idx files; noise of the same shape without one.

    Args:
        folder: with the four files.
        part: ``train`` or ``t10k``, as the files are named.
    """
    if folder is None:
        return TensorDataset(torch.rand(60_000, 1, 28, 28), torch.randint(10, (60_000,)))

    def read(name: str, header: int) -> Tensor:
        return torch.from_numpy(np.fromfile(Path(folder, name), np.uint8)[header:])

    images = read(f"{part}-images-idx3-ubyte", 16).view(-1, 1, 28, 28).float() / 255
    return TensorDataset(images, read(f"{part}-labels-idx1-ubyte", 8).long())


def photos(_: str | None) -> Pairs:
    """Noise in the shape of CIFAR-10's photos."""
    return TensorDataset(torch.rand(4096, 3, 32, 32), torch.randint(10, (4096,)))


class Text(Dataset[tuple[Tensor, ...]]):
    """All windows of a text; the target is the window moved on by one character."""

    def __init__(self, characters: Tensor, length: int) -> None:
        self.characters = characters
        self.length = length

    def __len__(self) -> int:
        return len(self.characters) - self.length

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        window = self.characters[place : place + self.length + 1]
        return window[:-1], window[1:]


def text(_: str | None) -> Pairs:
    """The source of a few modules of Python itself: real text that is on every machine."""
    modules = (argparse, ast, difflib, inspect, tarfile, typing)
    source = "".join(inspect.getsource(module) for module in modules)
    codes = np.frombuffer(source.encode("ascii", "replace"), np.uint8).astype(np.int64)
    return Text(torch.from_numpy(codes), length=128)
