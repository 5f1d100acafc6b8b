"""In-place changes of a batch before the model."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
data = torch.rand(44, 2, 30, 30)
labels = torch.rand(44)
model = nn.Sequential(nn.Flatten(), nn.Linear(1800, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))
opt = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(data, labels), batch_size=16, shuffle=True):
        x.mul_(2.0)
        x -= x.mean()
        x /= x.std()
        x.clamp_(-1.5, 1.5)
        x[:, 0, :4] = 0
        x[x > 1.2] = 1.2
        x[0] = x[1]
        x[:, 1].add_(0.1)
        x[..., -1] += 1
        y.add_(0.5)
        y[y > 1] = 1
        x.masked_fill_(torch.rand(x.shape) < 0.05, 0.0)
        x += 0.01 * torch.randn_like(x)
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{x.sum().item():.9f} {y.sum().item():.9f} {loss.item():.9f}")
print(f"the data set itself is as it was: {data.sum().item():.9f}")
torch.save(model.state_dict(), "inplace.pt")
