"""An optimizer for each weight, gone through in the order of a set, which is that of addresses."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class PerWeight:
    """As of Pyro: weights are met as they come, each with a state of its own."""

    def __init__(self, lr):
        self.lr = lr
        self.optimizers = {}

    def __call__(self, weights):
        for weight in weights:
            if weight not in self.optimizers:
                self.optimizers[weight] = torch.optim.Adam([weight], lr=self.lr)
            self.optimizers[weight].step()


model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
loose = [nn.Parameter(torch.randn(())) for _ in range(4)]  # of no module, and all of one shape
step = PerWeight(0.01)
data = TensorDataset(torch.randn(48, 4), torch.randn(48, 5))
for epoch in range(6):
    total = 0.0
    for x, y in DataLoader(data, batch_size=12, shuffle=True):
        scale, shift, power, decay = loose
        loss = (model(x) * scale.exp() + shift - y).abs().pow(1 + power.sigmoid()).mean()
        loss = loss + 0.01 * decay.exp() * sum(p.pow(2).sum() for p in model.parameters())
        loss.backward()
        weights = {*model.parameters(), *loose}
        step(weights)
        for weight in weights:
            weight.grad = None
        total += loss.item()
    print(epoch, f"{total:.9f}", *[f"{value.item():.9f}" for value in loose])
