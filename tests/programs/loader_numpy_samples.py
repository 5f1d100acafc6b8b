"""Samples are numpy arrays, Python numbers and strings; default collate makes tensors of them."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)


class Table(Dataset):
    def __init__(self):
        rng = np.random.RandomState(0)
        self.table = rng.uniform(-1, 1, size=(29, 4))

    def __len__(self):
        return 29

    def __getitem__(self, i):
        row = self.table[i]
        return row, float(row[0] > 0), int(i), (np.float64(row[1]), "even" if i % 2 == 0 else "odd"), i % 3 == 0


torch.manual_seed(3)
model = nn.Linear(4, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.5)
for row, label, index, (second, parity), third in DataLoader(Table(), batch_size=6, shuffle=True):
    print(row.dtype, label.dtype, index.dtype, second.dtype, third.dtype, parity, third.tolist())
    out = model(row).squeeze(1)
    weights = torch.where(third, 2.0, 1.0)
    loss = (weights * nn.functional.binary_cross_entropy_with_logits(out, label, reduction="none")).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(index.tolist(), f"{second.sum():.9f} {loss.item():.9f}")
torch.save(model.state_dict(), "table.pt")
