"""Modules with attributes that are called as methods of torch's are."""

import torch
from torch import nn
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Flow(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.modules = [nn.Linear(4, 4) for _ in range(steps)]
        self.layers = nn.Sequential(*self.modules)
        self.children = steps

    def forward(self, x):
        for layer in self.modules:
            x = x + layer(x).tanh()
        return x


class Learner(nn.Module):
    """Says itself which parameters it has, as meta-learners do."""

    def __init__(self):
        super().__init__()
        self.vars = nn.ParameterList([nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.zeros(4))])
        self.stats = nn.ParameterList([nn.Parameter(torch.zeros(4), requires_grad=False)])

    def forward(self, x):
        with torch.no_grad():
            self.stats[0].mul_(0.9).add_(x.mean(0), alpha=0.1)
        return (x - self.stats[0]) @ self.vars[0] + self.vars[1]

    def parameters(self, recurse=True):
        return self.vars


x = torch.randn(26, 4)
for model in (Flow(3), Learner()):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for epoch in range(2):
        for batch in DataLoader(x, batch_size=8):
            loss = (model(batch) - batch.flip(1)).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(type(model).__name__, f"{loss.item():.9f}")
print(sum(value.sum().item() for value in model.stats))
