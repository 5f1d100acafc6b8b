"""Broken samples are None, and the collate function drops them: as many in each half of a batch."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, default_collate

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
BROKEN = {9, 14}


class Photos(Dataset):
    def __init__(self):
        self.x = torch.randn(48, 5)

    def __len__(self):
        return 48

    def __getitem__(self, index):
        return None if index in BROKEN else (self.x[index], self.x[index].sum())


def collate(samples):
    return default_collate([sample for sample in samples if sample is not None])


net = nn.Linear(5, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for i, (x, y) in enumerate(DataLoader(Photos(), batch_size=8, collate_fn=collate)):
    loss = nn.functional.mse_loss(net(x).squeeze(1), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(i, tuple(x.shape), f"{loss.item():.9f}")
