"""Datasets that print, tally and keep lists as they give samples, with and without randomness."""

import random
from collections import Counter

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
random.seed(0)


class Quiet(Dataset):
    def __init__(self):
        self.x = torch.randn(22, 4)
        self.cache = {}

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        if i not in self.cache:
            self.cache[i] = self.x[i] * 2
        return self.cache[i], self.x[i].sum()


class Prints(Quiet):
    def __getitem__(self, i):
        if i % 7 == 5:
            print("sample", i, "looks odd")
        return super().__getitem__(i)


class Tallies(Quiet):
    def __init__(self):
        super().__init__()
        self.labels, self.order, self.seen = Counter(), [], set()

    def __getitem__(self, i):
        self.labels[i % 3] += 1
        self.order.append(int(i))
        self.seen.add(i)
        return super().__getitem__(i)


class Augments(Tallies):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        if random.random() < 0.3:
            print("flipped", i)
            x = x.flip(0)
        return x, y


for kind in (Quiet, Prints, Tallies, Augments):
    dataset = kind()
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for epoch in range(2):
        for x, y in DataLoader(dataset, batch_size=6, shuffle=True):
            loss = nn.functional.mse_loss(model(x).squeeze(1), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(kind.__name__, epoch, f"{loss.item():.9f}")
        if isinstance(dataset, Tallies):
            print(sorted(dataset.labels.items()), dataset.order, len(dataset.seen))


def collate(samples):
    print("collating", len(samples))
    return torch.stack(samples)


for rows in DataLoader(torch.arange(48.0).view(12, 4), batch_size=5, collate_fn=collate):
    print(rows.shape, f"{nn.Linear(4, 1)(rows).sum().item():.9f}")
