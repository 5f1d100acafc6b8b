"""Dropout, and what the script's generator gives afterwards."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(42)
net = nn.Sequential(
    nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Dropout2d(0.25), nn.Flatten(), nn.Linear(6 * 36, 12), nn.SELU(), nn.AlphaDropout(0.1), nn.Dropout(0.5), nn.Linear(12, 4)
)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
data = TensorDataset(torch.rand(37, 1, 8, 8), torch.randint(0, 4, (37,)))
for epoch in range(3):
    net.train()
    for x, y in DataLoader(data, batch_size=10, shuffle=True):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}", f"{torch.rand(1).item():.12f}")
    net.eval()
    with torch.no_grad():
        print("eval", f"{nn.functional.cross_entropy(net(x), y).item():.9f}")
print(torch.randperm(6).tolist(), torch.get_rng_state().sum().item())
torch.save({"net": net.state_dict(), "rng": torch.get_rng_state()}, "dropout.pt")
