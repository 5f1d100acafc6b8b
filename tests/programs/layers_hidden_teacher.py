"""A module that keeps another one in a list, so that it is none of its submodules."""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


def encoder():
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 5))


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = encoder()
        self.head = nn.Linear(5, 3)
        self.hidden = [copy.deepcopy(self.encoder)]
        self.hidden[0].requires_grad_(False)

    @property
    def teacher(self):
        return self.hidden[0]

    @torch.no_grad()
    def follow(self):
        for mine, its in zip(self.encoder.parameters(), self.teacher.parameters()):
            its.data.mul_(0.9).add_(mine.data, alpha=0.1)

    def forward(self, x):
        if self.training:
            self.follow()
        with torch.no_grad():
            target = self.teacher(x)
        features = self.encoder(x)
        return self.head(features), (features - target).pow(2).mean(1)


model = Student()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(40, 6)
data = TensorDataset(x, (x.sum(1) > 0).long() + (x[:, 0] > 0.5).long())
for epoch in range(3):
    for a, b in DataLoader(data, batch_size=8, shuffle=True):
        output, distance = model(a)
        loss = F.cross_entropy(output, b) + distance.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    norm = model.teacher[1]
    print(epoch, f"{loss.item():.9f}", f"{norm.running_mean.sum().item():.9f}")
    print(int(norm.num_batches_tracked), f"{model.teacher[0].weight.sum().item():.9f}")
