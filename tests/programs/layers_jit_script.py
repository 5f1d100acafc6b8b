"""TorchScript: a scripted and a traced model."""
import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
torch.set_default_dtype(torch.float64)


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        for _ in range(2):
            h = h * torch.sigmoid(self.b(x))
        return h


torch.manual_seed(0)
scripted = torch.jit.script(Gate())
traced = torch.jit.trace(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(3, 6))
opt = torch.optim.SGD([*scripted.parameters(), *traced.parameters()], lr=0.1)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(30, 6), torch.randint(0, 2, (30,))), batch_size=8):
        loss = nn.functional.cross_entropy(traced(scripted(x)), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
torch.save([scripted.state_dict(), traced.state_dict()], "scripted.pt")
