"""A script that reseeds whenever it likes, and keeps generators of its own."""
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(1)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
own = torch.Generator().manual_seed(99)
data = TensorDataset(torch.randn(27, 6), torch.randint(0, 2, (27,)))
for epoch in range(3):
    torch.manual_seed(1000 + epoch)
    random.seed(epoch)
    np.random.seed(epoch)
    for i, (x, y) in enumerate(DataLoader(data, batch_size=8, shuffle=True, generator=own)):
        if i == 1:
            state = torch.get_rng_state()
        if i == 2:
            torch.set_rng_state(state)
        x = x + 0.1 * torch.randn(x.shape, generator=own) + random.gauss(0, 0.01) + np.random.uniform(-0.01, 0.01)
        if epoch == 2:
            with torch.random.fork_rng():
                torch.manual_seed(5)
                x = x + 0.01 * torch.randn_like(x)
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
    print(torch.initial_seed(), torch.rand(1).item(), random.random(), np.random.rand(), torch.rand(1, generator=own).item())
torch.seed()
print(torch.initial_seed() != 1002)
torch.save(net.state_dict(), "reseeded.pt")
