import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Waves(Dataset):
    def __init__(self, n):
        g = torch.Generator().manual_seed(1)
        self.freq = torch.rand(n, generator=g) * 3 + 1
        self.t = torch.linspace(0, 1, 24)

    def __len__(self):
        return len(self.freq)

    def __getitem__(self, i):
        return torch.sin(6.28 * self.freq[i] * self.t), self.freq[i]


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(24, 16)
        self.b = nn.Linear(16, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x))).squeeze(-1)


def main():
    torch.manual_seed(3)
    ds = Waves(75)
    dl = DataLoader(ds, batch_size=16, shuffle=True, drop_last=True)
    net = Regressor()
    opt = torch.optim.Adam(net.parameters(), lr=1e-2)
    print("batches per epoch:", len(dl))
    for epoch in range(4):
        total = 0.0
        for wave, freq in dl:
            assert wave.shape == (16, 24)
            loss = F.mse_loss(net(wave), freq)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
        print(epoch, round(total / len(dl), 10))
    torch.save(net.state_dict(), "net.pth")


if __name__ == "__main__":
    main()
