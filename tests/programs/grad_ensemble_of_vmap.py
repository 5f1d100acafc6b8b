"""Models that are called within torch.func alone, from the first call on."""

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
x = torch.randn(60, 2)
y = (x[:, 0] * x[:, 1] > 0).long()


def make():
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))


models = [make() for _ in range(3)]
weights, buffers = stack_module_state(models)
base = make().to("meta")


def loss_of(weights, buffers, x, y):
    return F.cross_entropy(functional_call(base, (weights, buffers), (x,)), y)


for step in range(20):
    rows = torch.randint(0, 60, (3, 20))
    grads, losses = vmap(grad_and_value(loss_of))(weights, buffers, x[rows], y[rows])
    weights = {name: (w - 0.3 * grads[name]).detach() for name, w in weights.items()}
    if step % 5 == 4:
        print(step, *[f"{loss:.9f}" for loss in losses.tolist()])
