"""A forward that draws from generators of the script's own, through functions that it calls."""
import numpy as np
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
generator, rng = torch.Generator().manual_seed(4), np.random.default_rng(3)


def noise_like(x):
    return torch.randn(x.shape, generator=generator)


def flips():
    return rng.random() < 0.5


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(5, 1)

    def forward(self, x):
        return self.last(x + 0.1 * noise_like(x))


class Flipping(Noisy):
    def forward(self, x):
        return self.last(x if flips() else 2 * x)


for net in (Noisy(), Flipping()):
    for _ in range(3):
        print(f"{net(torch.ones(8, 5)).pow(2).mean().item():.9f}")
print(torch.rand(1, generator=generator).item(), rng.random())
