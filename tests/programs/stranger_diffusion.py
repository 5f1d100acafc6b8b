"""A small DDPM: timesteps and noise drawn by the script, a conditional denoiser, EMA, ancestral sampling."""
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
TIMESTEPS = 20


def cosine_beta_schedule(timesteps, s=0.008):
    x = torch.linspace(0, timesteps, timesteps + 1)
    alphas_cumprod = torch.cos(((x / timesteps) + s) / (1 + s) * math.pi * 0.5) ** 2
    alphas_cumprod = alphas_cumprod / alphas_cumprod[0]
    return torch.clip(1 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0.0001, 0.9999)


betas = cosine_beta_schedule(TIMESTEPS)
alphas = 1.0 - betas
alphas_cumprod = torch.cumprod(alphas, 0)


def extract(a, t, x_shape):
    return a.gather(-1, t).reshape(t.shape[0], *((1,) * (len(x_shape) - 1)))


def q_sample(x_start, t, noise):
    return extract(alphas_cumprod.sqrt(), t, x_start.shape) * x_start + extract((1 - alphas_cumprod).sqrt(), t, x_start.shape) * noise


class SinusoidalPositionEmbeddings(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        half = self.dim // 2
        freq = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        angles = time[:, None] * freq[None, :]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class Block(nn.Module):
    def __init__(self, inp, out, emb):
        super().__init__()
        self.proj, self.norm = nn.Conv2d(inp, out, 3, padding=1), nn.GroupNorm(2, out)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(emb, out * 2))

    def forward(self, x, emb):
        scale, shift = self.mlp(emb)[:, :, None, None].chunk(2, dim=1)
        return F.silu(self.norm(self.proj(x)) * (scale + 1) + shift)


class Unet(nn.Module):
    def __init__(self, dim=6):
        super().__init__()
        self.time_mlp = nn.Sequential(SinusoidalPositionEmbeddings(8), nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 12))
        self.label = nn.Embedding(11, 12)  # the eleventh: no label
        self.inp, self.mid, self.up = Block(1, dim, 12), Block(dim, dim * 2, 12), Block(dim * 3, dim, 12)
        self.out = nn.Conv2d(dim, 1, 1)

    def forward(self, x, t, y):
        emb = self.time_mlp(t) + self.label(y)
        a = self.inp(x, emb)
        b = self.mid(F.avg_pool2d(a, 2), emb)
        return self.out(self.up(torch.cat([a, F.interpolate(b, scale_factor=2, mode="nearest")], 1), emb))


images, labels = load_digits(return_X_y=True)
images = torch.tensor(images).view(-1, 1, 8, 8)[:160] / 8 - 1
labels = torch.tensor(labels)[:160]
model = Unet()
ema = copy.deepcopy(model).eval().requires_grad_(False)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for epoch in range(2):
    for step, (x, y) in enumerate(DataLoader(TensorDataset(images, labels), batch_size=25, shuffle=True)):
        t = torch.randint(0, TIMESTEPS, (x.shape[0],)).long()
        noise = torch.randn_like(x)
        y = torch.where(torch.rand(len(y)) < 0.1, 10, y)  # classifier-free guidance
        predicted = model(q_sample(x, t, noise), t, y)
        loss = F.smooth_l1_loss(noise, predicted)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for e, p in zip(ema.parameters(), model.parameters()):
                e.lerp_(p, 0.1)
        print(epoch, step, f"{loss.item():.9f}")


@torch.no_grad()
def sample(y, guidance=1.0):
    img = torch.randn(len(y), 1, 8, 8)
    for i in reversed(range(TIMESTEPS)):
        t = torch.full((len(y),), i, dtype=torch.long)
        eps = (1 + guidance) * ema(img, t, y) - guidance * ema(img, t, torch.full_like(y, 10))
        mean = (img - betas[i] / (1 - alphas_cumprod[i]).sqrt() * eps) / alphas[i].sqrt()
        img = mean + (betas[i].sqrt() * torch.randn_like(img) if i else 0)
        img.clamp_(-3, 3)
    return img


pictures = sample(torch.arange(5))
print(pictures.shape, f"{pictures.mean().item():.9f}")
torch.save({"model": model.state_dict(), "ema": ema.state_dict(), "pictures": pictures}, "ddpm.pt")
