"""Augmentation in __getitem__ draws from all three generators (num_workers=0)."""
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Augmented(Dataset):
    def __init__(self):
        g = torch.Generator().manual_seed(3)
        self.x = torch.rand(30, 1, 7, 7, generator=g)
        self.y = torch.arange(30) % 2

    def __len__(self):
        return 30

    def __getitem__(self, i):
        image = self.x[i]
        if random.random() < 0.5:
            image = image.flip(-1)
        top, left = np.random.randint(0, 2), np.random.randint(0, 2)
        image = image[:, top : top + 6, left : left + 6]
        if torch.rand(1) < 0.3:
            image = image + 0.1 * torch.randn(image.shape)
        return image, self.y[i]


seed_everything(2024)
net = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(3):
    for x, y in DataLoader(Augmented(), batch_size=7, shuffle=True):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{x.mean().item():.9f} {loss.item():.9f}")
print(random.random(), np.random.rand(), torch.rand(1).item())
torch.save(net.state_dict(), "augmented.pt")
