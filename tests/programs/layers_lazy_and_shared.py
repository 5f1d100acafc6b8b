"""Lazy modules materialised by the first batch; one submodule in two models."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
trunk = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten())
policy = nn.Sequential(trunk, nn.LazyLinear(3))
value = nn.Sequential(trunk, nn.LazyLinear(1))
loader = DataLoader(TensorDataset(torch.rand(28, 2, 7, 7), torch.randint(0, 3, (28,)), torch.rand(28, 1)), batch_size=8)
x, _, _ = next(iter(loader))
print(policy(x).shape, value(x).shape)
params = list({id(p): p for p in [*policy.parameters(), *value.parameters()]}.values())
print(len(params), sum(p.numel() for p in params))
opt = torch.optim.SGD(params, lr=0.05)
for epoch in range(2):
    for x, a, v in loader:
        loss = nn.functional.cross_entropy(policy(x), a) + nn.functional.mse_loss(value(x), v)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}", trunk[1].num_batches_tracked.item())
torch.save({"policy": policy.state_dict(), "value": value.state_dict()}, "heads.pt")
