"""Penalties on weights that torch's hooks compute in forward: weight norm, spectral norm, pruning."""

import warnings

import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

torch.set_default_dtype(torch.float64)
warnings.simplefilter("ignore")  # of functions that torch has replaced
for wrap in (weight_norm, spectral_norm, lambda m: prune.random_unstructured(m, "weight", 0.3)):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), wrap(nn.Linear(8, 3)))
    for _ in range(3):
        net.zero_grad()
        loss = net(torch.randn(8, 5)).square().mean() + net[2].weight.square().sum()
        loss.backward()
        norms = [f"{p.grad.norm().item():.9f}" for p in net.parameters() if p.grad is not None]
        print(f"{loss.item():.9f}", norms)

# parameters gathered in sets stand in another order in each process
torch.manual_seed(0)
encoder, decoder = nn.Sequential(*[nn.Linear(6, 6) for _ in range(6)]), nn.Linear(6, 3)
net = nn.Sequential(encoder, nn.Tanh(), decoder)
optimizer = torch.optim.Adam(list(set(encoder.parameters()) | set(net.parameters())), lr=1e-3)
for _ in range(140):
    optimizer.zero_grad()
    loss = (net(torch.randn(8, 6)) - 1).square().mean()
    loss.backward()
    optimizer.step()
print(f"{loss.item():.8f}")
