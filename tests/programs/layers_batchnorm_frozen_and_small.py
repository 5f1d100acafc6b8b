"""BatchNorm kept in eval mode inside a training model; a batch of one row raises as it does alone."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
data = TensorDataset(torch.randn(25, 5), torch.randint(0, 2, (25,)))
for epoch in range(3):
    net.train()
    if epoch > 0:
        net[1].eval()
    for x, y in DataLoader(data, batch_size=6):
        try:
            loss = nn.functional.cross_entropy(net(x), y)
        except ValueError as error:
            print("skipped a batch of", len(x), "because:", error)
            continue
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}", net[1].num_batches_tracked.item(), net[4].num_batches_tracked.item())
torch.save(net.state_dict(), "frozen_bn.pt")
