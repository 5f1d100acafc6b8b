"""Fourier layers with complex parameters."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class SpectralConv1d(nn.Module):
    def __init__(self, width, modes):
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(width, width, modes, dtype=torch.cdouble) / width)

    def forward(self, x):
        ft = torch.fft.rfft(x)
        out = torch.zeros_like(ft)
        out[:, :, : self.modes] = torch.einsum("bix,iox->box", ft[:, :, : self.modes], self.weight)
        return torch.fft.irfft(out, n=x.size(-1))


class FNO(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.lift, self.drop = nn.Conv1d(1, width, 1), nn.Conv1d(width, 1, 1)
        self.spectral, self.local = SpectralConv1d(width, 5), nn.Conv1d(width, width, 1)

    def forward(self, x):
        h = self.lift(x)
        return self.drop(nn.functional.gelu(self.spectral(h) + self.local(h)))


torch.manual_seed(0)
x = torch.randn(30, 1, 32).cumsum(-1) / 4
y = x.roll(3, -1) * 0.5
net = FNO()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for epoch in range(2):
    for a, b in DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True):
        loss = (net(a) - b).norm(dim=-1).mean() / b.norm(dim=-1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}", f"{net.spectral.weight.grad.abs().sum().item():.9f}")
torch.save(net.state_dict(), "fno.pt")
