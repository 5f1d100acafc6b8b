"""WGAN-GP: autograd.grad with create_graph, the gradient's norm is in the loss."""
import torch
from torch import autograd, nn, optim
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
DIM, LATENT, LAMBDA = 2, 4, 10.0
angles = torch.rand(96) * 6.28
real_data = torch.stack([angles.cos(), angles.sin()], 1) + 0.05 * torch.randn(96, 2)

netG = nn.Sequential(nn.Linear(LATENT, 16), nn.ReLU(True), nn.Linear(16, DIM))
netD = nn.Sequential(nn.Linear(DIM, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
optimizerD = optim.Adam(netD.parameters(), lr=1e-3, betas=(0.5, 0.9))
optimizerG = optim.Adam(netG.parameters(), lr=1e-3, betas=(0.5, 0.9))


def calc_gradient_penalty(netD, real, fake):
    alpha = torch.rand(real.size(0), 1).expand(real.size())
    interpolates = (alpha * real + (1 - alpha) * fake).detach().requires_grad_(True)
    disc = netD(interpolates)
    gradients = autograd.grad(
        outputs=disc,
        inputs=interpolates,
        grad_outputs=torch.ones(disc.size()),
        create_graph=True,
        retain_graph=True,
        only_inputs=True,
    )[0]
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean() * LAMBDA


for i, (real,) in enumerate(DataLoader(TensorDataset(real_data), batch_size=15, shuffle=True)):
    for p in netD.parameters():
        p.requires_grad_(True)
    netD.zero_grad()
    D_real = netD(real).mean()
    fake = netG(torch.randn(len(real), LATENT)).detach()
    D_fake = netD(fake).mean()
    penalty = calc_gradient_penalty(netD, real, fake)
    D_cost = D_fake - D_real + penalty
    D_cost.backward()
    optimizerD.step()
    print(i, f"D {D_cost.item():.9f} penalty {penalty.item():.9f} W {(D_real - D_fake).item():.9f}")
    if i % 2 == 1:
        for p in netD.parameters():
            p.requires_grad_(False)
        netG.zero_grad()
        G_cost = -netD(netG(torch.randn(len(real), LATENT))).mean()
        G_cost.backward()
        optimizerG.step()
        print(i, f"G {G_cost.item():.9f}")
torch.save({"G": netG.state_dict(), "D": netD.state_dict()}, "wgan.pt")
