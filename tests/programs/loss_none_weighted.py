"""reduction="none", with a weight per sample that travels with the batch; hard example mining."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
n = 50
X, Y, W = torch.randn(n, 6), torch.randint(0, 3, (n,)), torch.rand(n)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
history = torch.zeros(n)
data = TensorDataset(X, Y, W, torch.arange(n))
for epoch in range(3):
    for x, y, w, i in DataLoader(data, batch_size=16, shuffle=True):
        losses = F.cross_entropy(net(x), y, reduction="none")
        history[i] = losses.detach()
        weighted = (losses * w).sum() / w.sum()
        hardest = losses.topk(max(1, len(losses) // 4)).values.mean()
        opt.zero_grad()
        (weighted + 0.3 * hardest).backward()
        opt.step()
        print(epoch, f"{weighted.item():.9f}", f"{hardest.item():.9f}")
print("hardest samples", history.argsort(descending=True)[:5].tolist())
torch.save({"net": net.state_dict(), "history": history}, "weighted.pt")
