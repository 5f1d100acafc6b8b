"""Attention with dropout over rows that may look at nothing; dropouts that do not train by default."""

import torch
import torch.nn.functional as F
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x, seen):
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        mask = seen[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.1)
        return out.transpose(1, 2).flatten(2)


attention, layer = Attention(), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
optimizer = torch.optim.SGD([*attention.parameters(), *layer.parameters()], lr=0.1)
for step in range(4):
    x, lengths = torch.randn(8, 5, 8), torch.randint(1, 6, (8,))
    lengths[3] = 0 if step == 2 else 2
    seen = torch.arange(5)[None] < lengths[:, None]
    out = attention(x, seen) + layer(x, src_key_padding_mask=~seen)
    loss = (out * seen[..., None]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"{loss.item():.9f}")


class Drops(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.linear, self.drop = nn.Linear(6, 6), drop

    def forward(self, x):
        return self.drop(self.linear(x))


for drop in (
    F.alpha_dropout,
    lambda h: F.feature_alpha_dropout(h.view(-1, 3, 2)),
    F.dropout,
    lambda h: F.dropout1d(h.view(-1, 3, 2)),
    F.rrelu,
):
    torch.manual_seed(1)
    out = Drops(drop)(torch.randn(8, 6)).square().sum()
    print(f"{out.item():.9f}", torch.randint(1000, (1,)).item())


class Mixes(nn.Module):
    """Mixes rows once somebody has switched it on."""

    def __init__(self):
        super().__init__()
        self.active = False

    def forward(self, x):
        return 0.7 * x + 0.3 * x.flip(0) if self.training and self.active else x


net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Mixes(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(16):
    net[2].active = step >= 12
    loss = net(torch.randn(8, 6)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"{loss.item():.9f}")
