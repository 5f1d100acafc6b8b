"""A model that takes longer on slices than whole: several workers would only slow it down."""
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.set_num_threads = lambda threads: None  # on a busy machine, more would take ages
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Linear(12, 3)

    def forward(self, x):
        end = time.perf_counter() + (0.004 if len(x) == 12 else 0.08)
        while time.perf_counter() < end:
            pass
        return self.last(torch.dropout(self.norm(self.first(x)), 0.2, self.training))


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
data = TensorDataset(torch.randn(72, 6), torch.randint(0, 3, (72,)))
for epoch in range(6):
    for x, y in DataLoader(data, batch_size=12, shuffle=True):
        x = x + 0.1 * torch.randn_like(x)
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, f"{loss.item():.9f}", f"{torch.rand(1).item():.9f}")
torch.save(net.state_dict(), "net.pt")
