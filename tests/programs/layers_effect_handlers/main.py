"""A probabilistic program: handlers look on while its modules are run, and note what they sample."""

import pyro
import torch
from torch import nn
from torch.distributions import Normal
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Encoder(nn.Module):
    """Samples, by way of the handlers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        mean, scale = self.layer(x).chunk(2, 1)
        return pyro.sample("latent", Normal(mean, scale.exp()))


class Decoder(nn.Module):
    """Has nothing to do with them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 6))

    def forward(self, z):
        return self.layers(z)


class Counting(TorchFunctionMode):
    """Counts what is called while it is entered."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.calls += getattr(function, "__name__", "") == "linear"
        return function(*args, **(kwargs or {}))


encoder, decoder = Encoder(), Decoder()
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
for epoch in range(3):
    for x in DataLoader(torch.randn(24, 6), batch_size=8):
        with pyro.Trace() as guide:
            z = encoder(x)
        site = guide.sites["latent"]
        with pyro.Trace({"latent": z}) as model:
            mean = decoder(pyro.sample("latent", Normal(torch.zeros(8, 2), torch.ones(8, 2))))
        gain = model.sites["latent"]["distribution"].log_prob(z) - site["distribution"].log_prob(z)
        loss = (mean - x).pow(2).sum(1).mean() - gain.sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(epoch, f"{loss.item():.9f}", f"{encoder(x).sum().item():.9f}")

with Counting() as counting, torch.no_grad():
    for x in DataLoader(torch.randn(16, 6), batch_size=8):
        print(f"{decoder(encoder(x)).sum().item():.9f}", counting.calls)
