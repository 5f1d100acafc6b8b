"""A dataset that counts its samples in an array, a tensor, dicts, and a list of the script."""
from collections import defaultdict

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
seen = []


class Counted(Dataset):
    def __init__(self):
        self.x = torch.randn(24, 5)
        self.array = np.zeros(24, dtype=int)
        self.tensor = torch.zeros(24)
        self.tally = defaultdict(int)
        self.kinds = {0: 0, 1: 0, 2: 0}

    def __len__(self):
        return 24

    def __getitem__(self, index):
        seen.append(index)
        return self.x[index], index


class InArrays(Counted):
    def __getitem__(self, index):
        self.array[index] += 1
        return self.x[index], index


class InTensors(Counted):
    def __getitem__(self, index):
        self.tensor[index] += 1
        return self.x[index], index


class InDicts(Counted):
    def __getitem__(self, index):
        self.tally[index % 3] += 1
        return self.x[index], index


class InKnownKinds(Counted):
    def __getitem__(self, index):
        self.kinds[index % 3] += 1
        return self.x[index], index


net = nn.Linear(5, 1)
for kind in (Counted, InArrays, InTensors, InDicts, InKnownKinds):
    data = kind()
    for x, _ in DataLoader(data, batch_size=8):
        net(x).sum().backward()
    print(kind.__name__, data.array.tolist(), data.tensor.tolist(), dict(data.tally), data.kinds)
print(seen)
