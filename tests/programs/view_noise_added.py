"""A denoising autoencoder: the script draws noise of the shape of the batch."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(77)


class DenoisingAutoencoder(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(d, 24), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(24, d), nn.Sigmoid())

    def forward(self, x):
        return self.decoder(self.encoder(x))


clean_images = torch.rand(60, 1, 30, 30)
loader = DataLoader(TensorDataset(clean_images), batch_size=25, shuffle=True)
dae = DenoisingAutoencoder(900)
optimizer = torch.optim.Adam(dae.parameters(), lr=1e-3)
for epoch in range(2):
    for (img,) in loader:
        kinds = [
            img + 0.2 * torch.randn_like(img),
            (img + 0.2 * torch.randn(img.shape)).clamp(0.0, 1.0),
            img * torch.bernoulli(torch.full_like(img, 0.8)),
            img * (torch.rand(*img.size()) > 0.2),
            img + torch.empty_like(img).uniform_(-0.1, 0.1),
            nn.functional.dropout(img, 0.2),
        ]
        for noisy in kinds[epoch * 3 : epoch * 3 + 3]:
            recon = dae(noisy.view(noisy.size(0), -1))
            loss = nn.functional.mse_loss(recon, img.view(img.size(0), -1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(epoch, f"{loss.item():.9f}")
print(torch.rand(2))
torch.save(dae.state_dict(), "dae.pt")
