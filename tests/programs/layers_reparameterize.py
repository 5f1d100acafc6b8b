"""A VAE whose forward draws epsilon, and a script that samples with its own normal distribution."""
import torch
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(9, 12)
        self.mu, self.log_std = nn.Linear(12, 3), nn.Linear(12, 3)
        self.mix = nn.Linear(12, 4)
        self.dec = nn.Linear(7, 9)

    def forward(self, x):
        h = torch.tanh(self.enc(x))
        q = Normal(self.mu(h), self.log_std(h).exp())
        z = q.rsample()
        c = nn.functional.gumbel_softmax(self.mix(h), tau=0.7)
        return self.dec(torch.cat([z, c], 1)), q.loc, q.scale


torch.manual_seed(0)
vae = VAE()
opt = torch.optim.Adam(vae.parameters(), lr=0.01)
for epoch in range(3):
    for (x,) in DataLoader(TensorDataset(torch.randn(32, 9)), batch_size=9):
        recon, loc, scale = vae(x)
        kl = kl_divergence(Normal(loc, scale), Normal(0.0, 1.0)).sum(1).mean()
        loss = nn.functional.mse_loss(recon, x, reduction="sum") / len(x) + kl
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f} {kl.item():.9f}")
print(Normal(0, 1).sample((2,)).tolist(), Categorical(torch.ones(5)).sample((4,)).tolist())
torch.save(vae.state_dict(), "vae.pt")
