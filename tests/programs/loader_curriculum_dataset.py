"""The script changes the dataset between epochs; the dataset caches what it made."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Curriculum(Dataset):
    def __init__(self):
        self.level = 1
        self.cache = {}

    def set_level(self, level):
        self.level = level
        self.cache.clear()

    def __len__(self):
        return 10 * self.level

    def __getitem__(self, i):
        if i not in self.cache:
            g = torch.Generator().manual_seed(i)
            x = torch.randn(5, generator=g) * self.level
            self.cache[i] = (x, x.max().unsqueeze(0))
        return self.cache[i]


torch.manual_seed(0)
ds = Curriculum()
net = nn.Sequential(nn.Linear(5, 10), nn.LeakyReLU(0.1), nn.Linear(10, 1))
opt = torch.optim.Adam(net.parameters(), lr=0.02)
for level in (1, 2, 3):
    ds.set_level(level)
    loader = DataLoader(ds, batch_size=6, shuffle=True)
    for x, y in loader:
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(level, len(loader), len(ds), f"{loss.item():.9f}")
torch.save(net.state_dict(), "curriculum.pt")
