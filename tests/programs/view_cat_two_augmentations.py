"""SimCLR: two augmented copies of the batch are concatenated, so the model sees 2 N rows."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


def augment(x):
    if torch.rand(()) < 0.5:
        x = x.flip(-1)
    shift = int(torch.randint(-2, 3, ()))
    x = torch.roll(x, shift, dims=-2)
    return x + 0.05 * torch.randn_like(x)


def nt_xent(z, temperature=0.5):
    z = F.normalize(z, dim=1)
    n = z.size(0) // 2
    sim = z @ z.t() / temperature
    sim.fill_diagonal_(-1e9)
    targets = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(sim, targets)


torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.rand(36, 3, 24, 24)), batch_size=15, shuffle=True)
encoder = nn.Sequential(nn.Conv2d(3, 8, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
projector = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8))
opt = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=1e-2)
for epoch in range(3):
    for (x,) in loader:
        views = torch.cat([augment(x), augment(x)], dim=0)
        loss = nt_xent(projector(encoder(views)))
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, list(views.shape), f"{loss.item():.9f}")
torch.save({"encoder": encoder.state_dict(), "projector": projector.state_dict()}, "simclr.pt")
