"""The usual GAN: two models, two optimizers, real and fake labels, a detach, one shared batch."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(999)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 64), nn.Tanh())

    def forward(self, z):
        return self.main(z).view(-1, 1, 8, 8)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(32, 1), nn.Sigmoid()
        )

    def forward(self, x):
        return self.main(x)


netG, netD = Generator(), Discriminator()
criterion = nn.BCELoss()
optD = torch.optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
optG = torch.optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))
fixed_noise = torch.randn(4, 5)
loader = DataLoader(TensorDataset(torch.rand(55, 1, 8, 8).round() * 2 - 1), batch_size=16, shuffle=True)
for epoch in range(2):
    for i, (data,) in enumerate(loader):
        netD.zero_grad()
        b_size = data.size(0)
        label = torch.full((b_size,), 1.0)
        output = netD(data).view(-1)
        errD_real = criterion(output, label)
        errD_real.backward()
        D_x = output.mean().item()
        fake = netG(torch.randn(b_size, 5))
        label.fill_(0.0)
        output = netD(fake.detach()).view(-1)
        errD_fake = criterion(output, label)
        errD_fake.backward()
        optD.step()
        netG.zero_grad()
        label.fill_(1.0)
        output = netD(fake).view(-1)
        errG = criterion(output, label)
        errG.backward()
        optG.step()
        print("[%d][%d] Loss_D: %.9f Loss_G: %.9f D(x): %.9f" % (epoch, i, (errD_real + errD_fake).item(), errG.item(), D_x))
with torch.no_grad():
    sample = netG(fixed_noise).detach().cpu()
torch.save({"G": netG.state_dict(), "D": netD.state_dict(), "sample": sample}, "gan.pt")
