import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Jitter(Dataset):
    def __init__(self, n=40):
        self.base = torch.linspace(-1, 1, n)

    def __len__(self):
        return len(self.base)

    def __getitem__(self, i):
        x = self.base[i]
        noise = torch.randn(4) * 0.1 + np.random.normal(0, 0.05, 4) + random.uniform(-0.1, 0.1)
        return torch.stack([x, x**2, x**3, x**4]) + noise, torch.sin(3 * x)


def seed_worker(worker_id):
    worker_seed = torch.initial_seed() % 2**32
    np.random.seed(worker_seed)
    random.seed(worker_seed)


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    g = torch.Generator()
    g.manual_seed(0)
    loader = DataLoader(
        Jitter(), batch_size=9, shuffle=True, num_workers=2, worker_init_fn=seed_worker, generator=g
    )
    model = nn.Linear(4, 1)
    opt = torch.optim.Adam(model.parameters(), lr=0.05)
    for epoch in range(2):
        for x, y in loader:
            loss = nn.functional.mse_loss(model(x).squeeze(1), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(epoch, f"{x.sum().item():.9f} {loss.item():.9f}")
    torch.save(model.state_dict(), "jitter.pt")


if __name__ == "__main__":
    main()
