"""Control flow that depends on the batch."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
images = torch.rand(55, 1, 32, 32)
images[20:40] *= 255
labels = torch.randint(0, 2, (55,))
B = 10
net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 12), nn.ReLU(), nn.Linear(12, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
skipped = 0
for epoch in range(2):
    for i, (x, y) in enumerate(DataLoader(TensorDataset(images, labels), batch_size=B)):
        if len(x) != B:
            skipped += 1
            continue
        if x.max() > 1:
            x = x / 255
            print("scaled", end=" ")
        if y.sum() < 3 or not y.any():
            print("few positives")
            continue
        while x.mean() > 0.3:
            x = x * 0.9
        weight = 2.0 if x.var() > 0.02 else 1.0
        loss = weight * nn.functional.cross_entropy(net(x), y)
        if torch.isnan(loss) or loss > 100:
            raise RuntimeError("diverged")
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, i, weight, f"{loss.item():.9f}")
print("skipped", skipped)
torch.save(net.state_dict(), "branches.pt")
