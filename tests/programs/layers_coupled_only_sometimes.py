"""Rows meet only in training, and only from the third step on: a trap for whoever checks once."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class ManifoldMixup(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 10), nn.Linear(10, 2)
        self.step = 0

    def forward(self, x):
        self.step += self.training
        h = torch.relu(self.a(x))
        if self.training and self.step > 2:
            h = 0.7 * h + 0.3 * h.roll(1, 0)  # each row meets its neighbour
        if self.training and self.step > 5:
            h = h / h.norm()
        return self.b(h)


torch.manual_seed(0)
net = ManifoldMixup()
opt = torch.optim.SGD(net.parameters(), lr=0.2)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(torch.randn(40, 6), torch.randint(0, 2, (40,))), batch_size=11):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(net.step, f"{loss.item():.9f}")
torch.save(net.state_dict(), "mixup.pt")
