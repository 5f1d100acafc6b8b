"""Modules called many times in one step: Euler steps in forward, and a flow with its log-determinant."""
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class ODEBlock(nn.Module):
    def __init__(self, f, steps):
        super().__init__()
        self.f, self.steps = f, steps
        self.evaluations = 0

    def forward(self, x):
        for k in range(self.steps):
            t = torch.full((x.size(0), 1), k / self.steps)
            x = x + self.f(torch.cat([x, t], 1)) / self.steps
            self.evaluations += 1
        return x


class Coupling(nn.Module):
    def __init__(self, flip):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x):
        a, b = x.chunk(2, dim=1)
        if self.flip:
            a, b = b, a
        s, t = self.net(a).chunk(2, dim=1)
        b = b * torch.exp(torch.tanh(s)) + t
        return torch.cat([b, a] if self.flip else [a, b], 1), torch.tanh(s).sum(1)


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Coupling(i % 2 == 1) for i in range(4)])

    def log_prob(self, x):
        total = 0
        for layer in self.layers:
            x, logdet = layer(x)
            total = total + logdet
        return -0.5 * (x**2).sum(1) - math.log(2 * math.pi) + total


torch.manual_seed(0)
ode = ODEBlock(nn.Sequential(nn.Linear(3, 10), nn.Tanh(), nn.Linear(10, 2)), 4)
flow = Flow()
opt = torch.optim.Adam([*ode.parameters(), *flow.parameters()], lr=0.01)
data = torch.randn(40, 2) * torch.tensor([2.0, 0.5]) + 1
for epoch in range(2):
    for (x,) in DataLoader(TensorDataset(data), batch_size=11, shuffle=True):
        nll = -flow.log_prob(x).mean()
        circle = (ode(x).norm(dim=1) - 1).pow(2).mean()
        loss = nll + circle
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, ode.evaluations, f"{nll.item():.9f} {circle.item():.9f}")
torch.save([ode.state_dict(), flow.state_dict()], "flow.pt")
