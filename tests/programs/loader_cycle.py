from itertools import cycle, islice

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


def forever(loader):
    while True:
        yield from loader


labelled = DataLoader(TensorDataset(torch.randn(10, 4), torch.randn(10, 1)), batch_size=4, shuffle=True)
unlabelled = DataLoader(TensorDataset(torch.randn(26, 4)), batch_size=6, shuffle=True)
model = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.05)

print("itertools.cycle")
for (x, y), (u,) in zip(cycle(labelled), unlabelled):
    loss = (model(x) - y).square().mean() + 0.01 * model(u).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(len(x), len(u), f"{loss.item():.9f}")

print("endless generator")
for x, y in islice(forever(labelled), 8):
    loss = (model(x) - y).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(len(x), f"{loss.item():.9f}")
torch.save(model.state_dict(), "cycle.pt")
