"""A GradScaler that meets an infinite gradient skips the step; no autocast, so float64 exact."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
X = torch.randn(48, 5)
X[17, 2] = float("inf")  # one bad row, in one worker's slice only
Y = torch.randn(48, 1)
net = nn.Linear(5, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(X, Y), batch_size=8):
        loss = nn.functional.smooth_l1_loss(net(x), y)
        opt.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        print(epoch, f"{loss.item():.9f}", scaler.get_scale(), f"{net.weight.sum().item():.9f}")
torch.save(net.state_dict(), "scaled.pt")
