"""Train, save everything, build anew, load, go on: as if nothing had happened."""
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


def build():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Dropout(0.2), nn.Linear(10, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)
    return model, optimizer, scheduler


data = TensorDataset(torch.randn(40, 6, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 3)


def train(model, optimizer, scheduler, epochs, tag):
    loader = DataLoader(data, batch_size=9, shuffle=True)
    for epoch in epochs:
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(tag, epoch, f"{loss.item():.9f}", scheduler.get_last_lr())


random.seed(3)
np.random.seed(3)
parts = build()
train(*parts, range(2), "first")
torch.save(
    {
        "epoch": 2,
        "model": parts[0].state_dict(),
        "optimizer": parts[1].state_dict(),
        "scheduler": parts[2].state_dict(),
        "rng": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()),
    },
    "checkpoint.pt",
)
train(*parts, range(2, 4), "straight on")
expected = parts[0].state_dict()

parts = build()
checkpoint = torch.load("checkpoint.pt", weights_only=False)
for part, name in zip(parts, ("model", "optimizer", "scheduler")):
    part.load_state_dict(checkpoint[name])
torch.set_rng_state(checkpoint["rng"][0])
train(*parts, range(checkpoint["epoch"], 4), "resumed")
for k, v in parts[0].state_dict().items():
    assert torch.allclose(v, expected[k]), k
torch.save(parts[0].state_dict(), "final.pt")
