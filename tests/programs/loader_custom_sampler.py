import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

torch.set_default_dtype(torch.float64)


class BalancedSampler(Sampler):
    """Draws the same number of rows of each class, with Python's own generator."""

    def __init__(self, labels, per_class, seed):
        self.by_class = {}
        for i, c in enumerate(labels.tolist()):
            self.by_class.setdefault(c, []).append(i)
        self.per_class = per_class
        self.rng = random.Random(seed)

    def __iter__(self):
        chosen = []
        for members in self.by_class.values():
            chosen += self.rng.choices(members, k=self.per_class)
        self.rng.shuffle(chosen)
        return iter(chosen)

    def __len__(self):
        return self.per_class * len(self.by_class)


torch.manual_seed(0)
labels = torch.cat([torch.zeros(80), torch.ones(15), torch.full((5,), 2)]).long()
centers = torch.randn(3, 8)
rows = centers[labels] + 0.3 * torch.randn(100, 8)
sampler = BalancedSampler(labels, per_class=14, seed=7)
loader = DataLoader(TensorDataset(rows, labels), batch_size=12, sampler=sampler)
clf = nn.Linear(8, 3)
opt = torch.optim.SGD(clf.parameters(), lr=0.2)
for epoch in range(3):
    counts = torch.zeros(3, dtype=torch.long)
    for x, y in loader:
        counts += torch.bincount(y, minlength=3)
        loss = nn.functional.cross_entropy(clf(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print("epoch", epoch, "seen per class", counts.tolist(), "last loss %.9f" % loss.item())
torch.save(clf.state_dict(), "balanced.pt")
