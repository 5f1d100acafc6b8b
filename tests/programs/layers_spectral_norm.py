"""Spectral norm changes its u and v by a power iteration in each forward of training."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
critic = nn.Sequential(
    nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 3)),
    nn.LeakyReLU(0.1),
    nn.Flatten(),
    nn.utils.spectral_norm(nn.Linear(4 * 36, 6)),
    nn.LeakyReLU(0.1),
    nn.Linear(6, 1),
)
opt = torch.optim.Adam(critic.parameters(), lr=0.005, betas=(0.0, 0.9))
for epoch in range(2):
    for (x,) in DataLoader(TensorDataset(torch.randn(29, 1, 8, 8)), batch_size=8):
        real, fake = critic(x), critic(torch.randn_like(x))
        loss = torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}", f"{torch.linalg.matrix_norm(critic[3].weight, 2).item():.9f}")
critic.eval()
print(f"{critic(torch.ones(2, 1, 8, 8)).sum().item():.9f}")
torch.save(critic.state_dict(), "spectral.pt")
