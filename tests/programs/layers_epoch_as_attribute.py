"""The script tells the model the epoch, or how much noise to take; rows meet from some epoch on."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Curriculum(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 10), nn.Linear(10, 2)
        self.epoch = 0
        self.temperature = 1.0

    def forward(self, x):
        h = torch.relu(self.a(x))
        if self.training and self.epoch >= 2:
            h = h + 0.5 * h.mean(0, keepdim=True)
        return self.b(h) / self.temperature


torch.manual_seed(0)
net = Curriculum()
opt = torch.optim.SGD(net.parameters(), lr=0.2)
data = TensorDataset(torch.randn(60, 6), torch.randint(0, 2, (60,)))
for epoch in range(4):
    net.epoch = epoch
    for step, (x, y) in enumerate(DataLoader(data, batch_size=5)):
        net.temperature = 1 + 0.01 * step
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
