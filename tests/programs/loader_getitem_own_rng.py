"""The dataset owns a generator and a counter: what it gives depends on the order of the calls."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Noisy(Dataset):
    def __init__(self, n):
        self.rng = np.random.default_rng(5)
        self.clean = self.rng.normal(size=(n, 8))
        self.calls = 0

    def __len__(self):
        return len(self.clean)

    def __getitem__(self, i):
        self.calls += 1
        x = self.clean[i] + self.rng.normal(scale=0.1, size=8)
        return x, self.clean[i].sum()


torch.manual_seed(0)
dataset = Noisy(33)
loader = DataLoader(dataset, batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.02)
for epoch in range(3):
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x).view(-1), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, dataset.calls, f"{loss.item():.9f}")
torch.save(model.state_dict(), "noisy.pt")
