"""Losses over batch statistics: cross-correlation, variance and covariance of the outputs."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(12, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 6))
opt = torch.optim.SGD(net.parameters(), lr=0.05)


def off_diagonal(m):
    n, _ = m.shape
    return m.flatten()[:-1].view(n - 1, n + 1)[:, 1:].flatten()


for epoch in range(3):
    for (x,) in DataLoader(TensorDataset(torch.randn(64, 12)), batch_size=24):
        za, zb = net(x + 0.1 * torch.randn_like(x)), net(x + 0.1 * torch.randn_like(x))
        na = (za - za.mean(0)) / za.std(0)
        nb = (zb - zb.mean(0)) / zb.std(0)
        c = na.T @ nb / len(x)
        barlow = (torch.diagonal(c) - 1).pow(2).sum() + 0.05 * off_diagonal(c).pow(2).sum()
        variance = torch.relu(1 - (za.var(dim=0) + 1e-4).sqrt()).mean()
        covariance = off_diagonal(torch.cov(zb.T)).pow(2).sum() / 6
        loss = barlow + variance + 0.04 * covariance
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{barlow.item():.9f} {variance.item():.9f} {covariance.item():.9f}")
torch.save(net.state_dict(), "barlow.pt")
