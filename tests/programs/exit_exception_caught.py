"""Exceptions the script expects: a bad batch, a bad shape, a failed assertion; it goes on."""
import traceback

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        if x.abs().max() > 9:
            raise ValueError("outlier in the batch")
        assert x.size(0) > 2, "batch too small"
        return self.fc(x)


torch.manual_seed(0)
X = torch.randn(22, 4)
X[7] = 10.0
net = Picky()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(2):
    for i, (x, y) in enumerate(DataLoader(TensorDataset(X, torch.randint(0, 2, (22,))), batch_size=5)):
        try:
            if i == 3 and epoch == 0:
                nn.functional.cross_entropy(net(x[:, :3]), y)
            loss = nn.functional.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        except ValueError as e:
            print("skipping batch", i, ":", e)
            continue
        except AssertionError as e:
            print("assertion:", e)
        except RuntimeError as e:
            print(type(e).__name__, "mat1 and mat2" in str(e), len(traceback.format_exc()) > 100)
            if "out of memory" in str(e):
                raise
        else:
            print(epoch, i, f"{loss.item():.9f}")
torch.save(net.state_dict(), "picky.pt")
