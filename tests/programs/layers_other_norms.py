import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain


net = nn.Sequential(
    nn.Conv2d(3, 8, 3),
    nn.GroupNorm(2, 8),
    nn.SiLU(),
    nn.Conv2d(8, 8, 3),
    nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    nn.PReLU(8),
    nn.LocalResponseNorm(3),
    nn.Flatten(),
    nn.Linear(8 * 64, 16),
    nn.LayerNorm(16),
    nn.Hardswish(),
    RMSNorm(16),
    nn.Linear(16, 3),
)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for epoch in range(2):
    net.train()
    for x, y in DataLoader(TensorDataset(torch.rand(26, 3, 12, 12), torch.randint(0, 3, (26,))), batch_size=9):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
    net.eval()
    print(f"eval {net(x).sum().item():.9f}")
torch.save(net.state_dict(), "norms.pt")
