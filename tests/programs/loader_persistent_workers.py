import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(1)
X = torch.randn(45, 10)
Y = X.abs().sum(1, keepdim=True)
loader = DataLoader(
    TensorDataset(X, Y),
    batch_size=8,
    shuffle=True,
    num_workers=2,
    persistent_workers=True,
    prefetch_factor=3,
    pin_memory=False,
)
model = nn.Sequential(nn.Linear(10, 20), nn.Softplus(), nn.Linear(20, 1))
opt = torch.optim.Adam(model.parameters())
for epoch in range(3):
    total = 0
    for x, y in loader:
        loss = (model(x) - y).pow(2).mean()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        total += loss.item() * len(x)
    print(f"{epoch}: {total / len(X):.9f}")
torch.save(model.state_dict(), "persistent.pt")
