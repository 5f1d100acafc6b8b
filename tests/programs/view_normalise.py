"""Normalisation by constants per channel, by sample and by the whole batch."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


class TinyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, stride=4)
        self.fc = nn.Linear(6 * 7 * 7, 4)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).flatten(1))


def by_constants(x):
    return (x - MEAN) / STD


def by_sample(x):
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    std = x.std(dim=(1, 2, 3), keepdim=True)
    return (x - mean) / (std + 1e-6)


def by_batch(x):
    return (x - x.mean()) / x.std()


def by_channel_of_batch(x):
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.var((0, 2, 3), keepdim=True).sqrt()


def to_range(x):
    lo, hi = x.min(), x.max()
    return 2 * (x - lo) / (hi - lo) - 1


torch.manual_seed(1)
loader = DataLoader(
    TensorDataset(torch.rand(50, 3, 32, 32), torch.randint(0, 4, (50,))), batch_size=22
)
net = TinyNet()
opt = torch.optim.SGD(net.parameters(), lr=0.02)
for transform in (by_constants, by_sample, by_batch, by_channel_of_batch, to_range):
    for x, y in loader:
        x = transform(x)
        loss = F.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(transform.__name__, f"{loss.item():.9f}", f"{x.mean().item():.6f}")
torch.save(net.state_dict(), "normalised.pt")
