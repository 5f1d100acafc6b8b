"""Own loaders: a subclass of DataLoader, a wrapper with a device, and the fast tensor loader of the forums."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

torch.set_default_dtype(torch.float64)


class InfiniteDataLoader(DataLoader):
    """Reuses its workers (from YOLOv5)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.iterator = super().__iter__()

    def __iter__(self):
        for _ in range(len(self)):
            try:
                yield next(self.iterator)
            except StopIteration:
                self.iterator = super().__iter__()
                yield next(self.iterator)


class DeviceLoader:
    def __init__(self, loader, func):
        self.loader, self.func = loader, func

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for b in self.loader:
            yield self.func(*b)


class FastTensorDataLoader:
    def __init__(self, *tensors, batch_size=32, shuffle=False):
        self.tensors, self.batch_size, self.shuffle = tensors, batch_size, shuffle
        self.n = tensors[0].shape[0]

    def __iter__(self):
        if self.shuffle:
            r = torch.randperm(self.n)
            self.tensors = [t[r] for t in self.tensors]
        self.i = 0
        return self

    def __next__(self):
        if self.i >= self.n:
            raise StopIteration
        batch = tuple(t[self.i : self.i + self.batch_size] for t in self.tensors)
        self.i += self.batch_size
        return batch


torch.manual_seed(0)
X, Y = torch.randn(31, 5), torch.randint(0, 2, (31,))
dataset = TensorDataset(X, Y)
loaders = {
    "infinite": InfiniteDataLoader(dataset, batch_size=8, shuffle=True),
    "wrapped": DeviceLoader(DataLoader(dataset, batch_size=8), lambda x, y: (x.view(-1, 5).to("cpu") * 2, y)),
    "fast": FastTensorDataLoader(X, Y, batch_size=8, shuffle=True),
    "list of batches": [default_collate([dataset[i] for i in range(a, min(a + 8, 31))]) for a in range(0, 31, 8)],
}
net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for name, loader in loaders.items():
    for epoch in range(2):
        for batch in loader:
            batch = list(batch)
            batch[0] = batch[0] + 0.1
            x, y = batch
            loss = nn.functional.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(name, epoch, len(x), f"{loss.item():.9f}")
torch.save(net.state_dict(), "loaders.pt")
