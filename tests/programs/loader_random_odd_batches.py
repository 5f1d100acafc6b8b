"""Batches of every kind a collate function may make, from samples that are random."""
import collections
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_default_dtype(torch.float64)
Pair = collections.namedtuple("Pair", "x y")


class Text(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, i):
        length = random.randint(3, 9)
        return torch.randint(1, 20, (length,)), i


class Batch:
    def __init__(self, samples):
        rows = [row for row, _ in samples]
        whole = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        self.pair = Pair(whole[:, :-1], whole[:, 1:])  # they share memory
        self.rows = rows
        self.numbers = np.array([i for _, i in samples])
        self.again = whole.t()
        self.sparse = (whole > 9).to_sparse()
        self.grown = torch.ones(len(rows), 1).expand(-1, 3)


def plain(samples):
    big = torch.randn(len(samples), 40, 8, 8).permute(0, 2, 3, 1)
    return {"big": big, "same": [big, big], "empty": torch.empty(0, 3), "number": torch.tensor(len(samples))}


def main():
    torch.manual_seed(0)
    net = nn.Embedding(20, 20)
    opt = torch.optim.SGD(net.parameters(), lr=0.5)
    for step, batch in enumerate(DataLoader(Text(), 7, shuffle=True, num_workers=2, collate_fn=Batch)):
        x, y = batch.pair
        y[y == 7] = 8
        loss = nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten())
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(step, x.tolist(), x.stride(), [len(r) for r in batch.rows], batch.numbers, f"{loss.item():.9f}")
        print(batch.again.stride(), batch.sparse.sum().item(), batch.grown.stride(), type(batch.pair).__name__)
    for batch in DataLoader(Text(), 9, num_workers=2, collate_fn=plain):
        big = batch["big"]
        print(big.stride(), big.shape, batch["same"][0] is batch["same"][1], batch["empty"].shape, batch["number"])
        batch["same"][0][:, 0] = 1
        print(f"{big.sum().item():.9f} {big[2, 1].sum().item():.9f}")
    torch.save(net.state_dict(), "odd.pt")


if __name__ == "__main__":
    main()
