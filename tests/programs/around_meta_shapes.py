"""Asks for the shapes of the outputs without computing them, on meta tensors, then trains."""
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
empty = {name: torch.empty_like(p, device="meta") for name, p in body.named_parameters()}
shape = torch.func.functional_call(body, empty, (torch.empty(2, 1, 8, 8, device="meta"),)).shape
print("features", tuple(shape), copy.deepcopy(body).to("meta")(torch.empty(7, 1, 8, 8, device="meta")).shape)
model = nn.Sequential(body, nn.Linear(shape[1], 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = TensorDataset(torch.randn(30, 1, 8, 8), torch.randint(0, 3, (30,)))
for x, y in DataLoader(data, batch_size=10, shuffle=True):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    print(f"{loss.item():.9f}")
