"""Blocks that keep their attention, a router's loss, lists of features: looked at, and learned from."""
import math

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Attention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.attn = None

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        self.attn = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(d // self.heads), dim=-1)
        return self.out((self.attn @ v).transpose(1, 2).reshape(b, t, d))


class Mixture(nn.Module):
    def __init__(self, d, experts=4):
        super().__init__()
        self.router = nn.Linear(d, experts)
        self.experts = nn.ModuleList([nn.Linear(d, d) for _ in range(experts)])

    def forward(self, x):
        gates = self.router(x).softmax(-1)
        self.aux_loss = gates.size(-1) * gates.mean((0, 1)).pow(2).sum()
        self.entropy = -(gates * gates.log()).sum(-1).mean()
        return sum(gates[..., k : k + 1] * expert(x) for k, expert in enumerate(self.experts))


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.attention, self.mixture, self.norm = Attention(d, 2), Mixture(d), nn.LayerNorm(d)

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mixture(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.blocks = nn.ModuleList([Block(8), Block(8)])
        self.head = nn.Linear(8, 4)

    def forward(self, tokens):
        self.features, self.tokens = [], tokens
        x = self.embed(tokens)
        for block in self.blocks:
            again = self.training and block is self.blocks[1]
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
            self.features.append(x)
        self.pooled = {"mean": x.mean(1), "length": tokens.size(0)}
        return self.head(self.pooled["mean"])


torch.manual_seed(0)
net = Net()
opt = torch.optim.Adam(net.parameters(), lr=0.02)
x, y = torch.randint(0, 20, (44, 6)), torch.randint(0, 4, (44,))
for epoch in range(3):
    net.train()
    for tokens, target in DataLoader(TensorDataset(x, y), batch_size=22, shuffle=True):
        logits = net(tokens)
        loss = nn.functional.cross_entropy(logits, target)
        loss = loss + sum(0.1 * b.mixture.entropy for b in net.blocks)
        loss = loss + 0.01 * net.features[0].pow(2).mean() + 0.001 * net.blocks[0].attention.attn[:, 0, 0].std()
        opt.zero_grad()
        loss.backward()
        opt.step()
        first = net.blocks[1].attention.attn
        print(tuple(first.shape), f"{loss.item():.9f} {first[3, 1].max().item():.9f}", net.pooled["length"], tuple(net.pooled["mean"].shape))
        print([round(f.abs().sum().item(), 7) for f in net.features], torch.equal(net.tokens, tokens), first.requires_grad)
    net.eval()
    with torch.no_grad():
        right = (net(x).argmax(1) == y).sum().item()
        attn = torch.stack([b.attention.attn for b in net.blocks])
        print(epoch, right, tuple(attn.shape), f"{attn.std().item():.9f}")
torch.save({"net": net.state_dict(), "attn": [b.attention.attn for b in net.blocks]}, "kept.pt")
