"""Optimizers a script brings along: Lion, LARS-like scaling, and one wrapped around another."""
import torch
from torch import nn
from torch.optim.optimizer import Optimizer
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Lion(Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                m = state["exp_avg"]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(torch.sign(m * b1 + p.grad * (1 - b1)), alpha=-group["lr"])
                m.mul_(b2).add_(p.grad, alpha=1 - b2)


class Lars(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                trust = p.detach().norm() / (p.grad.norm() + 1e-9)
                p.grad.mul_(trust.clamp(max=10.0))
        return super().step(closure)


class Lookahead:
    def __init__(self, base, k=3, alpha=0.5):
        self.base, self.k, self.alpha, self.n = base, k, alpha, 0
        self.slow = [p.detach().clone() for g in base.param_groups for p in g["params"]]

    def zero_grad(self):
        self.base.zero_grad()

    def step(self):
        self.base.step()
        self.n += 1
        if self.n % self.k == 0:
            fast = (p for g in self.base.param_groups for p in g["params"])
            for p, s in zip(fast, self.slow):
                s.add_(p.data - s, alpha=self.alpha)
                p.data.copy_(s)


for make in (
    lambda p: Lion(p, lr=0.003, weight_decay=0.1),
    lambda p: Lars(p, lr=0.01, momentum=0.9),
    lambda p: Lookahead(torch.optim.Adam(p, lr=0.01)),
):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 3))
    opt = make(list(model.parameters()))
    name = type(opt).__name__
    for epoch in range(3):
        for x, y in DataLoader(TensorDataset(torch.randn(31, 6), torch.randint(0, 3, (31,))), batch_size=10):
            loss = nn.functional.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        print(name, epoch, f"{loss.item():.9f}")
    torch.save(model.state_dict(), f"{name}.pt")
