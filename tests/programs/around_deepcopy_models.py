"""Copies of models and optimizers trained apart; weights averaged and interpolated (federated style)."""
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
world = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
clients = [TensorDataset(torch.randn(n, 4), torch.randint(0, 2, (n,))) for n in (20, 13, 7)]


def local_update(model, dataset):
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    total = 0.0
    for x, y in DataLoader(dataset, batch_size=6, shuffle=True):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        total += loss.item()
    return model.state_dict(), total


for r in range(3):
    states, losses = zip(*(local_update(copy.deepcopy(world), c) for c in clients))
    average = {k: torch.stack([s[k] for s in states]).mean(0) for k in states[0]}
    world.load_state_dict(average)
    print(r, " ".join(f"{v:.9f}" for v in losses))
twin = copy.deepcopy(world)
opt = torch.optim.Adam(twin.parameters(), lr=0.01)
local_update(twin, clients[0])
frozen = copy.deepcopy(opt.state_dict())
print(len(frozen["state"]), torch.equal(twin[0].weight, world[0].weight), f"{twin[0].weight.sum().item():.9f}")
blended = type(world)(*[copy.deepcopy(m) for m in world])
with torch.no_grad():
    for p, a, b in zip(blended.parameters(), world.parameters(), twin.parameters()):
        p.copy_(torch.lerp(a, b, 0.3))
torch.save({"world": world.state_dict(), "twin": twin.state_dict(), "blended": blended.state_dict()}, "copies.pt")
torch.save(twin, "whole_model.pt")
reloaded = torch.load("whole_model.pt", weights_only=False)
print(f"{reloaded(torch.ones(1, 4)).sum().item():.9f}")
