"""Functions, enums and settings choose what a module does: first row by row, then over the batch."""
import argparse
import enum
from dataclasses import dataclass

import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Mode(enum.Enum):
    ROWS = 1
    BATCH = 2


@dataclass
class Options:
    center: bool = False


@dataclass(slots=True)
class Slotted:
    center: bool = False


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.options, self.slotted, self.kind = Options(), Slotted(), Options
        self.first = nn.Linear(5, 4)
        self.mode, self.act = Mode.ROWS, torch.tanh
        self.settings, self.args = {"center": False}, argparse.Namespace(center=False)

    def forward(self, x, norm=None):
        h = self.act(self.first(x))
        h = norm(h) if norm else h
        batch = self.mode is Mode.BATCH or self.settings["center"] or self.args.center
        batch = batch or self.options.center
        return h - h.mean(0) if batch else h


x = torch.randn(16, 5)


def show(name, net, **choices):
    output = net(x, **choices)
    net.zero_grad()
    output.pow(3).sum().backward()
    print(name, f"{output.abs().sum().item():.9f} {net.first.weight.grad.norm().item():.9f}")


for name in ("argument", "attribute", "enum", "dict", "namespace", "dataclass", "forward"):
    net = Net()
    show(f"{name} 1", net, **({"norm": lambda h: h / 2} if name == "argument" else {}))
    if name == "attribute":
        net.act = lambda h: h - h.mean(0)
    elif name == "enum":
        net.mode = Mode.BATCH
    elif name == "dict":
        net.settings["center"] = True
    elif name == "namespace":
        net.args.center = True
    elif name == "dataclass":
        net.options.center = True
    elif name == "forward":
        net.forward = lambda x, net=net: net.first(x) - net.first(x).mean(0)
    show(f"{name} 2", net, **({"norm": lambda h: h / h.norm(dim=0)} if name == "argument" else {}))
