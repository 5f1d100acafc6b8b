"""67 rows in batches of 10: the last batch has 7, and the epoch mean is weighted by size."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(11)
data = torch.randn(67, 5)
target = (data.sum(1) > 0).long()
train = DataLoader(TensorDataset(data, target), batch_size=10, shuffle=True)
net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
loss_fn = nn.CrossEntropyLoss()

for epoch in range(3):
    running, seen, correct = 0.0, 0, 0
    for xb, yb in train:
        out = net(xb)
        loss = loss_fn(out, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        running += loss.item() * xb.size(0)
        seen += xb.size(0)
        correct += (out.argmax(dim=1) == yb).sum().item()
        print("   batch of", len(xb), f"{loss.item():.9f}")
    print(f"epoch {epoch}: {running / seen:.9f} acc {correct}/{seen}")
torch.save({"net": net.state_dict(), "opt": opt.state_dict()}, "last.pt")
