import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
X = torch.randn(61, 4)
Y = torch.sin(X.sum(1, keepdim=True))
loader = DataLoader(TensorDataset(X, Y), batch_size=12, shuffle=True)
model = nn.Sequential(nn.Linear(4, 10), nn.Tanh(), nn.Linear(10, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.003)
criterion = nn.MSELoss(reduction="sum")
for epoch in range(3):
    total = 0.0
    for x, y in loader:
        loss = criterion(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
        print(f"  {loss.item():.9f}")
    print(f"epoch {epoch}: {total / len(loader.dataset):.9f}")
torch.save(model.state_dict(), "sum.pt")
