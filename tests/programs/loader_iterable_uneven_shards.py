"""Streams whose processes have shards of very different lengths, one of them none, and live on."""
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

torch.set_default_dtype(torch.float64)
SHARDS = [11, 0, 34]


class Shards(IterableDataset):
    def __iter__(self):
        number = get_worker_info().id
        for k in range(SHARDS[number]):
            x = torch.tensor([number, k / 10, random.random()])
            yield x, x.sum() + 0.01 * torch.randn(())

    def __len__(self):
        return sum(SHARDS)


def main():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    for drop, keep in ((False, True), (True, False)):
        loader = DataLoader(Shards(), batch_size=4, num_workers=3, drop_last=drop, persistent_workers=keep)
        print(len(loader))
        for epoch in range(3):
            for x, y in loader:
                loss = nn.functional.mse_loss(model(x).squeeze(1), y)
                opt.zero_grad()
                loss.backward()
                opt.step()
                print(epoch, x[:, 0].tolist(), x[:, 1].tolist(), f"{loss.item():.9f}")
    torch.save(model.state_dict(), "shards.pt")


if __name__ == "__main__":
    main()
