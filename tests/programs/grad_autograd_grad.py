"""Updates through torch.autograd.grad; a Hessian-vector product; MAML's inner step."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 1))
params = list(model.parameters())
v = [torch.randn_like(p) for p in params]
loader = DataLoader(TensorDataset(torch.randn(33, 4), torch.randn(33, 1)), batch_size=10)
for x, y in loader:
    loss = (model(x) - y).pow(2).mean()
    grads = torch.autograd.grad(loss, params, create_graph=True)
    hv = torch.autograd.grad(grads, params, grad_outputs=v, retain_graph=True)
    curvature = sum((a * b).sum() for a, b in zip(hv, v))
    third = torch.autograd.grad(sum(g.pow(2).sum() for g in grads), params)
    assert all(p.grad is None for p in params)
    with torch.no_grad():
        for p, g, t in zip(params, grads, third):
            p -= 0.05 * g + 0.001 * t
    print(f"{loss.item():.9f} {curvature.item():.9f} {sum(t.norm() for t in third).item():.9f}")

w = torch.zeros(4, 1, requires_grad=True)  # a learned starting point
outer = torch.optim.SGD([w], lr=0.1)
for x, y in loader:
    n = len(x) // 2
    inner = (x[:n] @ w - y[:n]).pow(2).mean()
    (g,) = torch.autograd.grad(inner, w, create_graph=True)
    query = (x[n:] @ (w - 0.1 * g) - y[n:]).pow(2).mean()
    outer.zero_grad()
    query.backward()
    outer.step()
    print(f"inner {inner.item():.9f} query {query.item():.9f}")
torch.save({"model": model.state_dict(), "w": w}, "grads.pt")
