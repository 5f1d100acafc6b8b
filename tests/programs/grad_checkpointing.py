"""torch.utils.checkpoint in both its forms, with dropout inside, and checkpoint_sequential."""
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Block(nn.Module):
    def __init__(self, width, p):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(p), nn.Linear(width, width))

    def forward(self, x):
        return x + self.net(x)


class Deep(nn.Module):
    def __init__(self, mode, p):
        super().__init__()
        self.mode = mode
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList([Block(8, p) for _ in range(3)])

    def forward(self, x):
        h = self.stem(x)
        if self.mode == "sequential":
            h = checkpoint_sequential(nn.Sequential(*self.blocks), 2, h, use_reentrant=False)
        else:
            for block in self.blocks:
                if self.mode is None:
                    h = block(h)
                else:
                    h = checkpoint(block, h, use_reentrant=self.mode)
        return self.head(h)


for mode in (None, True, False, "sequential"):
    for p in (0.0, 0.3):
        torch.manual_seed(0)
        net = Deep(mode, p)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        for x, y in DataLoader(TensorDataset(torch.randn(26, 6), torch.randint(0, 3, (26,))), batch_size=9):
            loss = nn.functional.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(mode, p, f"{loss.item():.9f}")
        torch.save(net.state_dict(), f"deep_{mode}_{p}.pt")
print(torch.rand(1).item())
