"""An ODE whose autograd function calls the module again on its way back, while other gradients are under way."""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 16), nn.Linear(16, 3)

    def forward(self, t, y):
        return self.b(torch.tanh(self.a(y))) * (1 + t)


class Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, field, y, h, steps, *params):
        path = [y]
        for k in range(steps):
            y = y + h * field(torch.tensor(k * h), y)
            path.append(y)
        ctx.field, ctx.h = field, h
        ctx.save_for_backward(*path)
        return y

    @staticmethod
    def backward(ctx, adjoint):
        params = tuple(ctx.field.parameters())
        grads = [torch.zeros_like(p) for p in params]
        for k in reversed(range(len(ctx.saved_tensors) - 1)):
            with torch.enable_grad():
                y = ctx.saved_tensors[k].detach().requires_grad_()
                out = ctx.field(torch.tensor(k * ctx.h), y)
                step, *more = torch.autograd.grad(out, (y, *params), ctx.h * adjoint)
            adjoint = adjoint + step
            grads = [g + m for g, m in zip(grads, more)]
        return None, adjoint, None, None, *grads


field, head = Field(), nn.Linear(3, 1)
opt = torch.optim.Adam([*field.parameters(), *head.parameters()], lr=1e-2)
x = torch.randn(23, 3)
for step in range(4):
    out = head(Adjoint.apply(field, x, 0.1, 5, *field.parameters()))
    loss = (out - x.pow(2).sum(1, keepdim=True)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.9f} {field.a.weight.grad.norm().item():.9f} {head.weight.grad.norm().item():.9f}")
