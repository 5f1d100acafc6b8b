"""Modules whose forward steps an optimizer: meta-learners, and nets that keep one and do not use it."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Meta(nn.Module):
    """As the usual MAML: adapts to each task, and learns from how that went."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.01)

    def forward(self, support, query):
        losses = []
        for task, test in zip(support, query):
            w, b, v, c = fast = list(self.net.parameters())
            for _ in range(2):
                output = F.linear(F.linear(task[:, :3], w, b).tanh(), v, c)
                grads = torch.autograd.grad(F.mse_loss(output, task[:, 3:]), fast, create_graph=True)
                w, b, v, c = fast = [p - 0.1 * g for p, g in zip(fast, grads)]
            output = F.linear(F.linear(test[:, :3], w, b).tanh(), v, c)
            losses.append(F.mse_loss(output, test[:, 3:]))
        loss = torch.stack(losses).mean()
        if self.training:
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item()


class Agent(nn.Module):
    """Keeps its optimizer; whoever calls it steps that."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=0.01)

    def forward(self, x):
        return self.layers(x)


class Adds(nn.Module):
    """Goes backward in its forward, to gradients that stay."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        with torch.enable_grad():
            self.layer(x).pow(2).mean().backward()
        return self.layer(x).detach()


tasks = torch.randn(12, 2, 6, 4)
meta = Meta()
for epoch in range(2):
    for batch in DataLoader(tasks, batch_size=4):
        print("meta", f"{meta(batch[:, 0], batch[:, 1]):.9f}")
meta.eval()
print("meta", f"{meta(tasks[:, 0], tasks[:, 1]):.9f}")

data = TensorDataset(torch.randn(24, 4), torch.randint(0, 2, (24,)))
agent = Agent()
for x, y in DataLoader(data, batch_size=6):
    agent.optimizer.zero_grad()
    loss = F.cross_entropy(agent(x), y)
    loss.backward()
    agent.optimizer.step()
    print("agent", f"{loss.item():.9f}")

adds = Adds()
for x, _ in DataLoader(data, batch_size=6):
    print("adds", f"{adds(x).sum().item():.9f} {adds.layer.weight.grad.sum().item():.9f}")
