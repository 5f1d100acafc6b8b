"""A prefetching thread in front of the loader, and one that writes logs."""
import queue
import threading

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Prefetcher:
    def __init__(self, loader, depth=2):
        self.loader, self.depth = loader, depth

    def __iter__(self):
        q, end = queue.Queue(self.depth), object()

        def fill():
            for batch in self.loader:
                q.put(batch)
            q.put(end)

        thread = threading.Thread(target=fill, daemon=True)
        thread.start()
        while (batch := q.get()) is not end:
            yield batch
        thread.join()


messages = queue.Queue()


def write():
    with open("log.txt", "w") as f:
        while (line := messages.get()) is not None:
            f.write(line + "\n")


writer = threading.Thread(target=write)
writer.start()
torch.manual_seed(0)
net = nn.Linear(6, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
data = TensorDataset(torch.randn(31, 6), torch.randint(0, 2, (31,)))
for epoch in range(2):
    for x, y in Prefetcher(DataLoader(data, batch_size=7)):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        messages.put(f"{epoch} {loss.item():.9f}")
    print(epoch, f"{loss.item():.9f}")
messages.put(None)
writer.join()
torch.save(net.state_dict(), "net.pt")
