"""Gradients of many vectors at once, Jacobians and Hessians, taken with and without vmap."""

import torch
from torch import nn
from torch.autograd.functional import hessian, jacobian

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for step in range(3):
    x = torch.randn(6, 4, requires_grad=True)
    out = net(x)
    basis = torch.eye(out.numel()).view(-1, *out.shape)
    (rows,) = torch.autograd.grad(
        out, x, grad_outputs=basis, is_grads_batched=True, create_graph=True
    )
    named = torch.autograd.grad(
        (out, out.sum()), list(net.parameters()), (basis[:4], torch.ones(4)),
        is_grads_batched=True, retain_graph=True,
    )  # fmt: skip
    print(rows.shape, [g.shape for g in named], f"{sum(g.sum() for g in named).item():.9f}")
    slow, fast = (jacobian(net, x, vectorize=vectorize) for vectorize in (False, True))
    curved = hessian(lambda z: net(z).square().sum(), x.detach(), vectorize=True)
    print(torch.allclose(slow, fast), fast.shape, f"{curved.norm().item():.9f}")
    loss = out.square().mean() + 0.1 * rows.square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"{loss.item():.9f}")
