"""Penalties on the weights themselves, beside the loss of the data."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
anchor = {n: p.detach().clone() for n, p in net.named_parameters()}
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(torch.randn(40, 8), torch.randint(0, 2, (40,))), batch_size=12):
        data = nn.functional.cross_entropy(net(x), y)
        l1 = sum(p.abs().sum() for p in net.parameters())
        l2 = sum(p.pow(2.0).sum() for n, p in net.named_parameters() if n.endswith("weight"))
        w = net[2].weight
        ortho = (w @ w.T - torch.eye(16)).norm()
        ewc = sum((p - anchor[n]).pow(2).sum() for n, p in net.named_parameters())
        loss = data + 1e-4 * l1 + 1e-3 * l2 + 1e-2 * ortho + 0.1 * ewc
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, *(f"{v.item():.9f}" for v in (data, l1, l2, ortho, ewc)))
torch.save(net.state_dict(), "penalised.pt")
