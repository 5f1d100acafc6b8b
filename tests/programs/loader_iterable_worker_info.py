import math

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class RangeDataset(IterableDataset):
    def __init__(self, start, end):
        super().__init__()
        self.start, self.end = start, end

    def __iter__(self):
        info = get_worker_info()
        if info is None:
            first, last = self.start, self.end
        else:  # each loader worker takes its share of the range
            per_worker = int(math.ceil((self.end - self.start) / float(info.num_workers)))
            first = self.start + info.id * per_worker
            last = min(first + per_worker, self.end)
        for n in range(first, last):
            yield torch.tensor([n / 10.0, math.sin(n)]), torch.tensor([math.cos(n)])


def run(num_workers):
    torch.manual_seed(7)
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for x, y in DataLoader(RangeDataset(3, 40), batch_size=6, num_workers=num_workers):
        loss = ((net(x) - y) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(num_workers, x[:, 0].mul(10).round().int().tolist(), f"{loss.item():.9f}")
    torch.save(net.state_dict(), f"range{num_workers}.pt")


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    run(0)
    run(2)
