"""Experts that get rows by what is in them: some none at all, some on one worker only."""

import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(8)


class Experts(nn.Module):
    """Each row goes to one expert; what has none stays zero."""

    def __init__(self, experts, width, inner):
        super().__init__()
        self.gate = nn.Linear(width, experts + 1)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, inner), nn.Tanh(), nn.Linear(inner, 3))
            for _ in range(experts)
        )

    def forward(self, x):
        chosen = self.gate(x).argmax(-1)
        out = torch.zeros(len(x), 3)
        for k, expert in enumerate(self.experts):
            mine = chosen == k
            if mine.any():
                out[mine] = expert(x[mine])
        return out


def told(grads):
    return ["none" if g is None else f"{g.norm().item():.8f}" for g in grads]


# a bucket of gradients for all experts, or several for each
for experts, width, inner in ((6, 5, 4), (2, 40, 27_000)):
    net = Experts(experts, width, inner)
    hooked = next(net.experts[1].parameters())
    hooked.register_hook(lambda grad: grad * 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for step in range(3):
        x = torch.randn(8, width)
        x[: 3 + step] = x[0]  # one worker's rows like the same expert
        loss = net(x).square().sum()
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
        print(f"{loss.item():.9f}", told(p.grad for p in net.experts.parameters()))
        optimizer.step()

net = Experts(6, 5, 4)
for step in range(3):
    x = torch.randn(8, 5, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    some = torch.autograd.grad(net(x).sum(), list(net.experts.parameters()), allow_unused=True)
    net.zero_grad()
    (net(x).mean() + slope.square().sum()).backward()
    print(told(some), told(p.grad for p in net.experts.parameters()))


class Looks(nn.Module):
    """An embedding with sparse gradients that only some rows are looked up in."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 4, sparse=True)
        self.linear = nn.Linear(4, 2)

    def forward(self, x, words):
        known = words > 0
        x = x.clone()
        if known.any():
            x[known] = x[known] + self.table(words[known])
        return self.linear(x)


net = Looks()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for words in ([0, 0, 0, 0, 5, 6], [7, 0, 0, 0, 0, 0], [0] * 6, [1, 2, 3, 4, 5, 5]):
    loss = net(torch.randn(6, 4), torch.tensor(words)).square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    grad = net.table.weight.grad
    print(f"{loss.item():.9f}", None if grad is None else grad.is_sparse)
