"""R1: the gradient with respect to the real images, kept in the graph with .backward()."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
D = nn.Sequential(nn.Conv2d(1, 6, 3, 2), nn.Softplus(), nn.Flatten(), nn.Linear(6 * 36, 1))
opt = torch.optim.SGD(D.parameters(), lr=0.01)
images = torch.rand(40, 1, 14, 14)
for (real,) in DataLoader(TensorDataset(images), batch_size=12):
    real.requires_grad_(True)
    out = D(real)
    loss = F.softplus(-out).mean()
    (grad,) = torch.autograd.grad(out.sum(), real, create_graph=True)
    r1 = grad.pow(2).flatten(1).sum(1).mean()
    opt.zero_grad()
    (loss + 5.0 * r1).backward()
    opt.step()
    print(f"{loss.item():.9f} {r1.item():.9f}", real.grad.shape, f"{real.grad.abs().sum().item():.9f}")
torch.save(D.state_dict(), "r1.pt")
