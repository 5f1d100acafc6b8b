"""Masks built from the batch: random erasing row by row, torch.where, masked image modelling."""
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
random.seed(0)
data = torch.rand(40, 1, 32, 32)
model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
opt = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(2):
    for (x,) in DataLoader(TensorDataset(data), batch_size=14, shuffle=True):
        erased = x.clone()
        for row in range(x.shape[0]):
            top, left = random.randint(0, 24), random.randint(0, 24)
            erased[row, :, top : top + 8, left : left + 8] = x[row].mean()
        patch = torch.rand(x.shape[0], 1, 4, 4) < 0.4
        mask = patch.repeat_interleave(8, 2).repeat_interleave(8, 3)
        hidden = torch.where(mask, torch.zeros_like(x), erased)
        bright = x > x.mean(dim=(2, 3), keepdim=True)
        out = model(hidden)
        loss = ((out - x) ** 2)[mask].mean() + 0.1 * ((out - x).abs() * bright).sum() / bright.sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, int(mask.sum()), f"{loss.item():.9f}")
torch.save(model.state_dict(), "masked.pt")
