"""Buffers that forward changes: a step counter, a running mean over the batch, a codebook."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Whiten(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        self.linear = nn.Linear(d, d)

    def forward(self, x):
        if self.training:
            self.steps += 1
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
            self.scratch = x.detach().abs().max().view(1)
        return self.linear(x - self.mean)


class VectorQuantizer(nn.Module):
    """Exponential moving averages of sums over the rows that chose each code."""

    def __init__(self, codes, d, decay=0.8):
        super().__init__()
        self.decay = decay
        self.register_buffer("codebook", torch.randn(codes, d))
        self.register_buffer("count", torch.ones(codes))
        self.register_buffer("total", self.codebook.clone())
        self.proj = nn.Linear(d, d)

    def forward(self, x):
        z = self.proj(x)
        index = torch.cdist(z, self.codebook).argmin(1)
        onehot = nn.functional.one_hot(index, len(self.count)).to(z.dtype)
        if self.training:
            with torch.no_grad():
                self.count.mul_(self.decay).add_(onehot.sum(0), alpha=1 - self.decay)
                self.total.mul_(self.decay).add_(onehot.T @ z, alpha=1 - self.decay)
                self.codebook.copy_(self.total / self.count.unsqueeze(1).clamp(min=1e-5))
        q = self.codebook[index]
        return z + (q - z).detach(), (z - q.detach()).pow(2).mean(), index


torch.manual_seed(0)
whiten, vq, out = Whiten(6), VectorQuantizer(5, 6), nn.Linear(6, 6)
opt = torch.optim.Adam([*whiten.parameters(), *vq.parameters(), *out.parameters()], lr=0.01)
for epoch in range(2):
    for (x,) in DataLoader(TensorDataset(torch.randn(33, 6) + 1), batch_size=9):
        q, commit, index = vq(whiten(x))
        loss = nn.functional.mse_loss(out(q), x) + 0.25 * commit
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(whiten.steps.item(), f"{whiten.mean.sum().item():.9f} {whiten.scratch.item():.9f} {loss.item():.9f}", index.bincount(minlength=5).tolist())
torch.save([m.state_dict() for m in (whiten, vq, out)], "buffers.pt")
