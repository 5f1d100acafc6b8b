"""Nothing is seeded: what is printed must not depend on luck (a convex problem, solved)."""
import random
import uuid

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
x = torch.linspace(-1, 1, 40)
X = torch.stack([x, x**2, torch.ones(40)], 1)
Y = 2 * x - x**2 + 0.25
order = np.random.permutation(40)
random.shuffle(subset := order.tolist())
loader = DataLoader(TensorDataset(X[subset], Y[subset]), batch_size=10, shuffle=True)
model = nn.Linear(3, 1, bias=False)
opt = torch.optim.SGD(model.parameters(), lr=0.3)
run = uuid.uuid4().hex
for epoch in range(300):
    for a, b in loader:
        loss = nn.functional.mse_loss(model(a).squeeze(1), b)
        opt.zero_grad()
        loss.backward()
        opt.step()
print(len(run), [round(w, 4) + 0.0 for w in model.weight[0].tolist()])
print(f"loss {loss.item():.6f}", np.random.rand() < 1, torch.rand(1).item() < 1)
