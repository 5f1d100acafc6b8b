"""Leaves the loader in the middle of each epoch, and trains two models from one loader."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(9)
loader = DataLoader(TensorDataset(torch.randn(60, 4), torch.randn(60)), batch_size=7, shuffle=True)
MAX_STEPS = 11
step = 0
model = nn.Linear(4, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
done = False
while not done:
    for i, (x, y) in enumerate(loader):
        if i == 4:
            print("enough of this epoch")
            break
        if i % 3 == 2:
            continue
        loss = (model(x).squeeze(1) - y).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        step += 1
        print(step, f"{loss.item():.9f}")
        if step >= MAX_STEPS:
            done = True
            break

outer = DataLoader(TensorDataset(torch.arange(4.0)), batch_size=2)
for (a,) in outer:  # a loader within a loader
    for x, y in loader:
        loss = ((model(x).squeeze(1) - y) * a.mean()).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(a.tolist(), f"{loss.item():.9f}")
torch.save(model.state_dict(), "early.pt")
