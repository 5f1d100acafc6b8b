"""forward uses the number of rows as a number, and branches on values of the batch."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class ByCount(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 4)

    def forward(self, x):
        n = x.shape[0]
        h = self.fc(x)
        h = h / n**0.5 + torch.arange(n, dtype=h.dtype)[:, None] * 0.01
        if h.mean() > 0:
            h = h * 1.1
        if (h.abs() > 1).any():
            h = h.clamp(-1, 1)
        return h, h.pow(2).sum() / n, h.max()


torch.manual_seed(0)
net = ByCount()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(torch.randn(34, 5), torch.randint(0, 4, (34,))), batch_size=8, shuffle=True):
        h, energy, top = net(x)
        loss = nn.functional.cross_entropy(h, y) + 0.1 * energy + 0.01 * top
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f} {energy.item():.9f} {top.item():.9f}")
torch.save(net.state_dict(), "count.pt")
