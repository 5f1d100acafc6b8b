# stdin: 0.05\nstop\n
"""Reads an answer in the middle of training."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.2)
epoch = 0
while True:
    for x, y in DataLoader(TensorDataset(torch.randn(13, 3), torch.randn(13, 1)), batch_size=5):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.9f}")
    answer = input("new rate or stop: ")
    if answer == "stop":
        break
    for group in opt.param_groups:
        group["lr"] = float(answer)
    epoch += 1
torch.save(net.state_dict(), "stopped.pt")
