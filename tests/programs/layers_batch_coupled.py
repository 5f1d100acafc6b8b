"""Rows that meet inside the model: minibatch discrimination and attention over the batch."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class MinibatchDiscrimination(nn.Module):
    def __init__(self, d, kernels, width):
        super().__init__()
        self.T = nn.Parameter(torch.randn(d, kernels, width) * 0.1)

    def forward(self, x):
        m = torch.einsum("bd,dkw->bkw", x, self.T)
        distance = (m.unsqueeze(0) - m.unsqueeze(1)).abs().sum(3)
        return torch.cat([x, torch.exp(-distance).sum(1) - 1], 1)


class AcrossRows(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.attention = nn.MultiheadAttention(d, 2)

    def forward(self, x):
        out, _ = self.attention(x[:, None], x[:, None], x[:, None])
        return x + out[:, 0]


class MeanCentered(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.linear = nn.Linear(d, d)

    def forward(self, x):
        h = self.linear(x)
        return h - h.mean(dim=0, keepdim=True)


torch.manual_seed(0)
model = nn.Sequential(MeanCentered(6), AcrossRows(6), MinibatchDiscrimination(6, 3, 2), nn.Linear(9, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(torch.randn(35, 6), torch.randint(0, 2, (35,))), batch_size=10, shuffle=True):
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
torch.save(model.state_dict(), "coupled.pt")
