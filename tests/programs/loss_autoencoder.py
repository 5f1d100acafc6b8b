"""A convolutional autoencoder: the loss compares the output with the input."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
grid = torch.linspace(0, 3.14, 28)
images = torch.stack([(torch.sin(a * grid)[:, None] * torch.cos(b * grid)[None]).abs()[None] for a in range(1, 8) for b in range(1, 7)])
loader = DataLoader(TensorDataset(images), batch_size=16, shuffle=True)


class AE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1))
        self.dec = nn.Sequential(nn.ConvTranspose2d(6, 4, 2, 2), nn.ReLU(), nn.ConvTranspose2d(4, 1, 2, 2))

    def forward(self, x):
        z = self.enc(x)
        return torch.sigmoid(self.dec(z)), z


ae = AE()
opt = torch.optim.Adam(ae.parameters(), lr=0.01)
for epoch in range(3):
    for (img,) in loader:
        recon, code = ae(img)
        loss = nn.functional.binary_cross_entropy(recon, img) + 1e-3 * code.abs().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        psnr = -10 * torch.log10((recon - img).pow(2).mean((1, 2, 3)))
        print(epoch, f"{loss.item():.9f} psnr {psnr.mean().item():.6f} worst {psnr.min().item():.6f}")
with torch.no_grad():
    recon, _ = ae(images[:4])
torch.save({"model": ae.state_dict(), "recon": recon}, "ae.pt")
