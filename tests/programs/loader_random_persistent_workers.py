"""Processes that live on, with their random states, also past an epoch that was left early."""
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Jitter(Dataset):
    def __len__(self):
        return 50

    def __getitem__(self, i):
        x = torch.full((4,), i / 50) + 0.1 * torch.randn(4)
        return x * random.uniform(0.9, 1.1) + np.random.normal(0, 0.01, 4), torch.tensor(i / 25)


def main():
    torch.manual_seed(1)
    shuffled = torch.Generator().manual_seed(8)
    train = DataLoader(
        Jitter(), batch_size=6, shuffle=True, generator=shuffled, num_workers=2, persistent_workers=True
    )
    test = DataLoader(Jitter(), batch_size=20, num_workers=1, persistent_workers=True)
    model = nn.Linear(4, 1)
    opt = torch.optim.SGD(model.parameters(), lr=0.2)
    for epoch in range(4):
        for step, (x, y) in enumerate(train):
            loss = nn.functional.mse_loss(model(x).squeeze(1), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(epoch, step, f"{x.sum().item():.9f} {loss.item():.9f}")
            if epoch == 1 and step == 3:
                break
        with torch.no_grad():
            print("test", f"{sum(nn.functional.mse_loss(model(x).squeeze(1), y).item() for x, y in test):.9f}")
    torch.save(model.state_dict(), "jitter.pt")


if __name__ == "__main__":
    main()
