import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

torch.set_default_dtype(torch.float64)


class Stream(IterableDataset):
    """A stream without a length; its last batch is short."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        state = 12345
        for _ in range(self.count):
            row = []
            for _ in range(5):
                state = (1103515245 * state + 12345) % 2**31
                row.append(state / 2**31)
            yield torch.tensor(row[:4]), torch.tensor(row[4] + row[0])


torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(Stream(23), batch_size=5)
for epoch in range(3):
    for x, y in loader:
        loss = nn.functional.l1_loss(model(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(epoch, x.size(0), f"{loss.item():.9f}")
torch.save(model.state_dict(), "stream.pt")
