"""Collate functions with generators, tallies and lists of their own; batches of odd classes."""

from collections import Counter, namedtuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Ragged(namedtuple("Ragged", "flat offsets target")):
    """As many as it has rows, not as fields."""

    def __len__(self):
        return len(self.offsets) - 1

    def to(self, dtype):
        return Ragged(self.flat.to(dtype), self.offsets, self.target.to(dtype))


class Neighbours(DataLoader):
    """As samplers of graphs: what is drawn comes from a generator that the loader keeps."""

    def __init__(self, values, **kwargs):
        self.rng = np.random.RandomState(3)
        self.values = values
        super().__init__(range(len(values)), collate_fn=self.collate, **kwargs)

    def collate(self, indices):
        near = self.rng.choice(len(self.values), (len(indices), 3))
        return self.values[torch.tensor(indices)], self.values[torch.from_numpy(near)].mean(1)


class Tallying:
    def __init__(self):
        self.sizes = Counter()
        self.seen = []

    def __call__(self, samples):
        self.sizes[len(samples)] += 1
        self.seen.append(round(float(samples[0][0]), 6))
        return torch.stack(samples)


class Bag(nn.Module):
    """The sum of each row's points."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, batch):
        rows = torch.repeat_interleave(torch.arange(len(batch)), batch.offsets.diff())
        sums = torch.zeros(len(batch), 4).index_add_(0, rows, batch.flat)
        return self.layer(sums).squeeze(1)


def ragged(samples):
    parts = [sample.repeat(1 + k % 3, 1) for k, sample in enumerate(samples)]
    offsets = torch.tensor([0, *np.cumsum([len(part) for part in parts])])
    return Ragged(torch.cat(parts), offsets, torch.stack([sample.sum() for sample in samples]))


values = torch.randn(30, 4)
layer = nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
for epoch in range(2):
    for own, near in Neighbours(values, batch_size=8, shuffle=True):
        loss = (layer(own) - near.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("neighbours", f"{loss.item():.9f}")

collate = Tallying()
for batch in DataLoader(values, batch_size=8, collate_fn=collate):
    print("tallying", f"{layer(batch).sum().item():.9f}")
print(dict(collate.sizes), collate.seen)

bag = Bag()
optimizer = torch.optim.SGD(bag.parameters(), lr=0.02)
for batch in DataLoader(values, batch_size=8, collate_fn=ragged):
    loss = (bag(batch.to(torch.float64)) - batch.target).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("ragged", len(batch), f"{loss.item():.9f}")
