"""Modules keep what the loss needs as attributes: a divergence, activations, a penalty."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class BayesianBottleneck(nn.Module):
    def __init__(self, d, k):
        super().__init__()
        self.mu, self.logvar = nn.Linear(d, k), nn.Linear(d, k)
        self.kl = None

    def forward(self, h):
        mu, logvar = self.mu(h), self.logvar(h)
        self.kl = -0.5 * torch.mean(torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1))
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(7, 10)
        self.bottleneck = BayesianBottleneck(10, 4)
        self.out = nn.Linear(4, 3)
        self.calls = 0
        self.seen = 0

    def forward(self, x):
        self.calls += 1
        self.seen += len(x)
        h = torch.relu(self.inp(x))
        self.sparsity = h.abs().mean()
        self.hidden = h
        return self.out(self.bottleneck(h))


torch.manual_seed(0)
net = Net()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(torch.randn(31, 7), torch.randint(0, 3, (31,))), batch_size=9):
        logits = net(x)
        loss = nn.functional.cross_entropy(logits, y) + 0.1 * net.bottleneck.kl + 0.01 * net.sparsity
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(net.calls, net.seen, tuple(net.hidden.shape), f"{loss.item():.9f} {net.bottleneck.kl.item():.9f} {net.sparsity.item():.9f}")
torch.save(net.state_dict(), "stored.pt")
