"""Randomness inside forward: stochastic depth per row, noise layers, random masks and permutations."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class DropPath(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        mask = x.new_empty(shape).bernoulli_(keep)
        return x.div(keep) * mask


class GaussianNoise(nn.Module):
    def __init__(self, sigma=0.1):
        super().__init__()
        self.sigma = sigma

    def forward(self, x):
        if self.training:
            return x + torch.randn_like(x) * self.sigma * x.detach()
        return x


class Mixer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU()) for _ in range(3)])
        self.drop_path, self.noise = DropPath(0.3), GaussianNoise()
        self.mask_token = nn.Parameter(torch.zeros(d))
        self.out = nn.Linear(d, 2)

    def forward(self, x):  # (rows, tokens, d)
        x = self.noise(x)
        if self.training:
            hidden = torch.rand(x.shape[:2]) < 0.15
            x = torch.where(hidden[..., None], self.mask_token, x)
            u = torch.empty(x.size(0), 1, 1).uniform_(0.9, 1.1)
            x = x * u
        for layer in self.layers:
            x = x + self.drop_path(layer(x))
        return self.out(x.mean(1))


torch.manual_seed(0)
net = Mixer(6)
opt = torch.optim.AdamW(net.parameters(), lr=0.01)
for epoch in range(2):
    net.train()
    for x, y in DataLoader(TensorDataset(torch.randn(37, 5, 6), torch.randint(0, 2, (37,))), batch_size=8):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
    net.eval()
    print("eval", f"{net(x).sum().item():.9f}")
print(torch.randint(0, 1000, (3,)).tolist())
torch.save(net.state_dict(), "mixer.pt")
