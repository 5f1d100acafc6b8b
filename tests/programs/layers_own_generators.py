"""Modules that draw from generators of their own, or from a global one that is not the default."""
import random
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
noise = torch.Generator().manual_seed(5)


class OwnNoise(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(7)
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return self.linear(x + 0.1 * torch.randn(x.shape, generator=self.generator))


class GlobalNoise(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return self.linear(x + torch.normal(0.0, 0.1, size=x.shape, generator=noise))


class ColumnsOff(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.rng = rng
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        h = self.linear(x).clone()
        h[:, self.columns()] = 0
        return h

    def columns(self):
        if isinstance(self.rng, random.Random):
            return self.rng.sample(range(8), 3)
        return self.rng.choice(8, 3, replace=False)


data = torch.randn(26, 8)
for net in (OwnNoise(), GlobalNoise(), ColumnsOff(np.random.default_rng(3)), ColumnsOff(random.Random(3))):
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for (x,) in DataLoader(TensorDataset(data), batch_size=8):
        loss = (net(x) - x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(type(net).__name__, f"{loss.item():.9f}")
print(torch.rand(2, generator=noise).tolist(), torch.rand(1).item())
