"""Forwards that set their own weights: normalised, clamped, averaged, by way of ``.data`` or not."""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class MaxNorm(nn.Conv2d):
    """As EEGNet's convolutions: other memory for the weight at every call."""

    def forward(self, x):
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=0.5)
        return super().forward(x)


class Unit(nn.Linear):
    def forward(self, x):
        self.weight.data.copy_(F.normalize(self.weight.data))
        return super().forward(x)


class Clamped(nn.Linear):
    def forward(self, x):
        with torch.no_grad():
            self.weight.clamp_(-0.2, 0.2)
        return super().forward(x)


class Shrinking(nn.Linear):
    """By a little at every call: running it once more is seen in the result."""

    def forward(self, x):
        self.weight.data.mul_(0.97)
        if self.training:
            self.bias.data = self.bias.data + 0.01
        return super().forward(x)


class Momentum(nn.Module):
    """A teacher that follows its student, as of BYOL or MoCo."""

    def __init__(self):
        super().__init__()
        self.student = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 5))
        self.teacher = copy.deepcopy(self.student)
        for parameter in self.teacher.parameters():
            parameter.requires_grad = False

    @torch.no_grad()
    def follow(self):
        for q, k in zip(self.student.parameters(), self.teacher.parameters()):
            k.data = k.data * 0.9 + q.data * 0.1

    def forward(self, x):
        if self.training:
            self.follow()
        with torch.no_grad():
            target = self.teacher(x)
        return self.student(x) + 0.1 * target


class Codebook(nn.Module):
    """Its codes go after the means of the rows that take them."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(36, 4)
        self.codes = nn.Parameter(torch.randn(6, 4), requires_grad=False)
        self.leave = nn.Linear(4, 5)

    def forward(self, x):
        z = self.enter(x.flatten(1))
        taken = torch.cdist(z, self.codes).argmin(1)
        if self.training:
            one_hot = F.one_hot(taken, 6).to(z)
            means = one_hot.T @ z.detach() / one_hot.sum(0).clamp(min=1)[:, None]
            self.codes.data.mul_(0.9).add_(means, alpha=0.1)
        return self.leave(z + (self.codes[taken] - z).detach())


def small(layer):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), layer(8, 5))


torch.manual_seed(0)
x = torch.randn(44, 1, 6, 6)
data = TensorDataset(x, (x.mean((1, 2, 3)) * 12).long().clamp(-2, 2) + 2)
models = {
    "max norm": lambda: nn.Sequential(MaxNorm(1, 4, 3), nn.ELU(), nn.Flatten(), nn.Linear(64, 5)),
    "unit": lambda: small(Unit),
    "clamped": lambda: small(Clamped),
    "shrinking": lambda: small(Shrinking),
    "momentum": Momentum,
    "codebook": Codebook,
}
for name, make in models.items():
    torch.manual_seed(1)
    model = make()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for epoch in range(3):
        for a, b in DataLoader(data, batch_size=12, shuffle=True):
            loss = F.cross_entropy(model(a), b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights = sum(p.abs().sum().item() for p in model.parameters())
        print(name, epoch, f"{loss.item():.9f} {weights:.8f}")
    model.eval()
    with torch.no_grad():
        print(name, "evaluated", f"{F.cross_entropy(model(x), data.tensors[1]).item():.9f}")
