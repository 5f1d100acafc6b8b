"""Low-rank adapters around the frozen layers of a small transformer, after a first training."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.empty(rank, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.scaling, self.dropout = alpha / rank, nn.Dropout(0.1)

    def forward(self, x):
        return self.base(x) + (self.dropout(x) @ self.A.T @ self.B.T) * self.scaling

    def merge(self):
        self.base.weight.data += self.B @ self.A * self.scaling
        return self.base


def inject(module, rank=2, alpha=4):
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and name in ("linear1", "linear2", "q", "v"):
            setattr(module, name, LoRALinear(child, rank, alpha))
        else:
            inject(child, rank, alpha)


def merge(module):
    for name, child in module.named_children():
        if isinstance(child, LoRALinear):
            setattr(module, name, child.merge())
        else:
            merge(child)


class Layer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.linear1, self.linear2 = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x):
        y = self.n1(x)
        x = x + F.scaled_dot_product_attention(self.q(y), self.k(y), self.v(y), is_causal=True)
        return x + self.linear2(F.relu(self.linear1(self.n2(x))))


class LM(nn.Module):
    def __init__(self, vocab=12, d=8):
        super().__init__()
        self.emb, self.pos = nn.Embedding(vocab, d), nn.Parameter(torch.zeros(10, d))
        self.layers = nn.ModuleList([Layer(d) for _ in range(2)])
        self.head = nn.Linear(d, vocab)

    def forward(self, t):
        x = self.emb(t) + self.pos[: t.size(1)]
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def run(model, data, lr, tag):
    params = [p for p in model.parameters() if p.requires_grad]
    print(tag, sum(p.numel() for p in params), "of", sum(p.numel() for p in model.parameters()), "parameters train")
    opt = torch.optim.AdamW(params, lr=lr)
    for epoch in range(2):
        for (t,) in DataLoader(TensorDataset(data), batch_size=9, shuffle=True):
            loss = F.cross_entropy(model(t[:, :-1]).flatten(0, 1), t[:, 1:].flatten())
            opt.zero_grad()
            loss.backward()
            opt.step()
        print(tag, epoch, f"{loss.item():.9f}")


torch.manual_seed(0)
first = (torch.arange(8) + torch.randint(0, 12, (40, 1))) % 12
second = (2 * torch.arange(8) + torch.randint(0, 12, (31, 1))) % 12
model = LM()
run(model, first, 0.01, "pretraining")
torch.save(model.state_dict(), "base.pt")
model.requires_grad_(False)
inject(model)
run(model, second, 0.02, "adapters")
torch.save({k: v for k, v in model.state_dict().items() if k.endswith((".A", ".B"))}, "adapters.pt")
model.eval()
with torch.no_grad():
    before = model(second[:4])
merge(model)
print("merged is the same:", torch.allclose(before, model(second[:4])), sorted(model.state_dict()) == sorted(LM().state_dict()))
torch.save(model.state_dict(), "merged.pt")
