"""A forward refuses batches with bad rows, and the script skips them."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Careful(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.1))
        self.last = nn.Linear(6, 1)

    def forward(self, x):
        h = self.body(x)
        if torch.isnan(x).any():
            raise FloatingPointError("not a number in forward")
        return self.last(h)


x = torch.randn(64, 5)
x[30] = float("nan")  # of the second worker
x[41] = float("nan")  # of the first
words = torch.randint(0, 9, (64,))
words[55] = 10  # there is no such word
net, vectors = Careful(), nn.Embedding(9, 5)
optimizer = torch.optim.SGD([*net.parameters(), *vectors.parameters()], lr=0.05)
for i, (batch, which) in enumerate(DataLoader(TensorDataset(x, words), batch_size=8)):
    try:
        loss = net(batch + vectors(which)).square().mean()
    except FloatingPointError as error:
        print("skip", i, error)
        continue
    except IndexError as error:
        print("skip", i, error)
        continue
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    mean = [f"{m:.9f}" for m in net.body[1].running_mean.nan_to_num().tolist()]
    print(i, f"{loss.item():.9f}", mean, f"{torch.rand(1).item():.9f}")
