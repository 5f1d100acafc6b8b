# stdin: 3\n0.25\nyes\n1 2\n3 4\n5 6\n7 8\n
"""Asks questions, and reads the rest of stdin as data."""
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
epochs = int(input("epochs? "))
lr = float(input("learning rate? "))
if sys.stdin.readline().strip() != "yes":
    sys.exit("as you like")
rows = torch.tensor([[float(v) for v in line.split()] for line in sys.stdin])
net = nn.Linear(1, 1)
opt = torch.optim.SGD(net.parameters(), lr=lr / 10)
for epoch in range(epochs):
    for x, y in DataLoader(TensorDataset(rows[:, :1], rows[:, 1:]), batch_size=3):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
print(repr(sys.stdin.read()))
