"""No optimizer: the weights are updated by hand, in three historical dialects."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 12), nn.Sigmoid(), nn.Linear(12, 3))
velocity = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
lr = 0.5
data = DataLoader(TensorDataset(torch.randn(63, 4), torch.randint(0, 3, (63,))), batch_size=10, shuffle=True)
for epoch in range(3):
    for x, y in data:
        loss = nn.functional.cross_entropy(net(x), y)
        net.zero_grad()
        loss.backward()
        if epoch == 0:
            for f in net.parameters():
                f.data.sub_(f.grad.data * lr)
        elif epoch == 1:
            with torch.no_grad():
                for p in net.parameters():
                    p -= lr * p.grad
        else:
            for n, p in net.named_parameters():
                velocity[n] = 0.9 * velocity[n] + p.grad
                p.data = p.data - 0.1 * velocity[n]
        print(epoch, f"{loss.item():.9f}")
torch.save({"net": net.state_dict(), "velocity": velocity}, "byhand.pt")
