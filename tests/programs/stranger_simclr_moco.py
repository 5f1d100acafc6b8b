"""SimCLR by two views and a queue of a momentum encoder; LARS; shuffled BN; linear probe on frozen features; concat of views before the encoder."""

import torch, torch.nn as nn, torch.nn.functional as F, copy, math
from torch.utils.data import Dataset, DataLoader
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
D = load_digits()
IM = torch.tensor(D.images[:128] / 16).unsqueeze(1)
LB = torch.tensor(D.target[:128])


class Two(Dataset):
    def __len__(s):
        return len(IM)

    def aug(s, x):
        x = x + 0.1 * torch.randn_like(x)
        i, j = torch.randint(0, 3, (2,)).tolist()
        return F.pad(x, (1, 1, 1, 1))[:, i : i + 8, j : j + 8]

    def __getitem__(s, i):
        return (s.aug(IM[i]), s.aug(IM[i])), LB[i], i


class LARS(torch.optim.Optimizer):
    def __init__(s, p, lr, wd=1e-4, m=0.9, t=0.01):
        super().__init__(p, dict(lr=lr, wd=wd, m=m, t=t))

    @torch.no_grad()
    def step(s):
        for g in s.param_groups:
            for p in g["params"]:
                if p.grad is None:
                    continue
                d = p.grad.add(p, alpha=g["wd"])
                if p.ndim > 1:
                    pn, un = p.norm(), d.norm()
                    d = d * torch.where(pn > 0, torch.where(un > 0, g["t"] * pn / un, 1.0), 1.0)
                mu = s.state[p].setdefault("mu", torch.zeros_like(p))
                mu.mul_(g["m"]).add_(d)
                p.add_(mu, alpha=-g["lr"])


enc = nn.Sequential(
    nn.Conv2d(1, 8, 3, 1, 1),
    nn.BatchNorm2d(8),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, 1, 1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
)
proj = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8, bias=False))
full = nn.Sequential(enc, proj)
mom = copy.deepcopy(full)
[p.requires_grad_(False) for p in mom.parameters()]
queue = F.normalize(torch.randn(8, 64), dim=0)
ptr = 0
opt = LARS(full.parameters(), 0.3)
dl = DataLoader(Two(), 32, shuffle=True, drop_last=True)


def ntxent(z, t=0.5):
    n = z.size(0)
    s = z @ z.T / t
    s = s.masked_fill(torch.eye(n, dtype=torch.bool), -1e9)
    lab = torch.arange(n).roll(n // 2)
    return F.cross_entropy(s, lab)


for ep in range(2):
    for (a, b), lb, idx in dl:
        z = F.normalize(full(torch.cat([a, b])), dim=1)
        l1 = ntxent(z)
        with torch.no_grad():
            for p, q in zip(full.parameters(), mom.parameters()):
                q.data = q.data * 0.9 + p.data * 0.1
            sh = torch.randperm(len(b))
            k = F.normalize(mom(b[sh])[sh.argsort()], dim=1)
        q = F.normalize(full(a), dim=1)
        lp = (q * k).sum(1, keepdim=True)
        ln = q @ queue.clone().detach()
        l2 = F.cross_entropy(torch.cat([lp, ln], 1) / 0.2, torch.zeros(len(a), dtype=torch.long))
        loss = l1 + 0.5 * l2
        opt.zero_grad()
        loss.backward()
        opt.step()
        queue[:, ptr : ptr + 32] = k.T
        ptr = (ptr + 32) % 64
    print(ep, l1.item(), l2.item(), (z[:32] @ z[32:].T).argmax(1).eq(torch.arange(32)).double().mean().item())
enc.eval()
with torch.no_grad():
    f = torch.cat([enc(IM[i : i + 50]) for i in range(0, 128, 50)])
print(
    f.sum().item(),
    LogisticRegression(max_iter=50).fit(f[:100].numpy(), LB[:100]).score(f[100:].numpy(), LB[100:]),
)
torch.save([full.state_dict(), mom.state_dict(), queue], "q.pt")
