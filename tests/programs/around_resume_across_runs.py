# runs: 3
"""Each run trains two epochs more, from the checkpoint the last one left."""
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
CKPT = "checkpoints/last.pth.tar"
torch.manual_seed(0)
data = TensorDataset(torch.randn(33, 5), torch.randn(33, 1))
model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
start, best = 0, float("inf")
if os.path.isfile(CKPT):
    print(f"=> loading checkpoint '{CKPT}'")
    checkpoint = torch.load(CKPT)
    start, best = checkpoint["epoch"], checkpoint["best"]
    model.load_state_dict(checkpoint["state_dict"])
    optimizer.load_state_dict(checkpoint["optimizer"])
else:
    print(f"=> no checkpoint found at '{CKPT}'")
    os.makedirs(os.path.dirname(CKPT))
for epoch in range(start, start + 2):
    torch.manual_seed(100 + epoch)
    for x, y in DataLoader(data, batch_size=8, shuffle=True):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    best = min(best, loss.item())
    print(f"epoch {epoch} loss {loss.item():.9f} best {best:.9f}")
    torch.save({"epoch": epoch + 1, "best": best, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, CKPT)
