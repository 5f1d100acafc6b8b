"""Batches of one and two rows: some workers get nothing."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(5)

for batch_size in (1, 2, 4):
    # 9 rows: batches of 4 end with a batch of 1
    X = torch.randn(9, 3)
    Y = X @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.1
    model = nn.Linear(3, 1)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    for epoch in range(2):
        for x, y in DataLoader(TensorDataset(X, Y), batch_size=batch_size):
            loss = ((model(x) - y) ** 2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(batch_size, tuple(x.shape), f"{loss.item():.9f}")
    torch.save(model.state_dict(), f"linear_{batch_size}.pt")
