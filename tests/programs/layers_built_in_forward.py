"""Layers, parameters and buffers that the first forward makes, in the ways people write it."""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(42)


class IfNone(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(5, 6), None

    def forward(self, x):
        h = torch.relu(self.body(x))
        if self.head is None:
            self.head = nn.Linear(h.size(1), 2)
        return self.head(h)


class IfMissing(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(5, 6)

    def forward(self, x):
        h = torch.relu(self.body(x))
        if not hasattr(self, "head"):
            self.head = nn.Linear(h.size(1), 2)
            self.scale = nn.Parameter(torch.rand(2))
            self.register_buffer("offset", 0.1 * torch.randn(2))
        return self.head(h) * self.scale + self.offset


class HeadPerTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.heads = nn.Linear(5, 6), nn.ModuleDict()

    def forward(self, x, task="a"):
        if task not in self.heads:
            self.heads[task] = nn.Linear(6, 2)
        return self.heads[task](torch.relu(self.body(x)))


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(5, 2)

    def forward(self, x):
        if "h" not in self._buffers:
            self.register_buffer("h", torch.zeros(len(x), 2))
        h = self.cell(x, self.h)
        self.h = h.detach()
        return h


x, y = torch.randn(13, 5), torch.randn(13, 2)
for net in (IfNone(), IfMissing(), HeadPerTask(), Stateful()):
    net(x)
    print(list(net.state_dict()), torch.rand(1).item())
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(3):
        loss = (net(x) - y).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(type(net).__name__, f"{loss.item():.9f}")
tasks = HeadPerTask()
for task in "abab":
    loss = tasks(x, task).pow(2).mean()
    loss.backward()
    print(task, f"{loss.item():.9f}", sorted(tasks.heads), torch.rand(1).item())
