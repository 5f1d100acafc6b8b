"""Saves the model when interrupted (here it interrupts itself)."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
# At any point you can hit Ctrl + C to break out of training early.
try:
    for epoch in range(100):
        for x, y in DataLoader(TensorDataset(torch.randn(12, 3), torch.randn(12, 1)), batch_size=5):
            loss = nn.functional.mse_loss(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        print("| end of epoch {:3d} | loss {:.9f}".format(epoch, loss.item()))
        if epoch == 2:
            raise KeyboardInterrupt
except KeyboardInterrupt:
    print("-" * 30)
    print("Exiting from training early")
torch.save(net.state_dict(), "interrupted.pt")
