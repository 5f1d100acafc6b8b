"""The script picks rows and parts of the batch in all the ways indexing has."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
images, labels = torch.rand(60, 3, 26, 26), torch.randint(0, 4, (60,))
loader = DataLoader(TensorDataset(images, labels), batch_size=24, shuffle=True)
net = nn.Sequential(nn.Conv2d(3, 5, 5, 4), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(20, 4))
opt = torch.optim.SGD(net.parameters(), lr=0.1)


def train(tag, x, y):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(tag, tuple(x.shape), f"{loss.item():.9f}")


for x, y in loader:
    n = len(x) // 2
    train("head", x[:n], y[:n])
    train("tail", x[n:], y[n:])
    train("strided", x[::3], y[::3])
    train("one", x[3:4], y[3:4])
    train("unsqueezed row", x[2].unsqueeze(0), y[2][None])
    perm = torch.randperm(len(x))
    train("permuted", x[perm], y[perm])
    keep = y != 1
    train("mask", x[keep], y[keep])
    train("list", x[[0, 5, 1]], y[[0, 5, 1]])
    train("crop", x[:, :, 2:24, 1:-1], y)
    train("index_select", x.index_select(0, perm[:5]), y.index_select(0, perm[:5]))
    train("flip", x.flip(0), y.flip(0))
    order = y.argsort(stable=True)
    train("sorted", x[order], y[order])
    train("repeat", x.repeat(2, 1, 1, 1), y.repeat(2))
    train("interleave", x.repeat_interleave(2, 0), y.repeat_interleave(2))
    for part_x, part_y in zip(x.chunk(3), y.chunk(3)):
        train("chunk", part_x, part_y)
    for part_x, part_y in zip(x.split(10), y.split(10)):
        train("split", part_x, part_y)
    picked = [row for row, label in zip(x, y) if label == 2]
    if picked:
        train("rows", torch.stack(picked), torch.full((len(picked),), 2))
    a, b, *_ = x.unbind(0)
    train("unbind", torch.stack((a, b)), y[:2])
    train("narrow", x.narrow(0, 4, 6), y.narrow(0, 4, 6))
torch.save(net.state_dict(), "picked.pt")
