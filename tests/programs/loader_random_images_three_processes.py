"""Augmented images, made by three processes that draw from torch, numpy and Python."""
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Crops(Dataset):
    def __init__(self):
        g = torch.Generator().manual_seed(1)
        self.images = torch.rand(66, 3, 24, 24, generator=g)

    def __len__(self):
        return 66

    def __getitem__(self, i):
        top, left = random.randint(0, 4), np.random.randint(0, 5)
        image = self.images[i, :, top : top + 20, left : left + 20]
        if random.random() < 0.5:
            image = image.flip(-1)
        return image + 0.1 * torch.randn(3, 1, 1), i % 3, {"top": top, "name": f"{i}-{left}"}


def main():
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    loader = DataLoader(Crops(), batch_size=16, shuffle=True, num_workers=3, prefetch_factor=3)
    for epoch in range(2):
        for x, y, about in loader:
            x = (x - 0.5) / 0.25
            loss = nn.functional.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(epoch, x.shape, about["top"].tolist(), about["name"][0], f"{loss.item():.9f}")
        print(f"{x.mean().item():.9f} {torch.rand(1).item():.9f}")
    torch.save(net.state_dict(), "crops.pt")


if __name__ == "__main__":
    main()
