"""torch.func and torch.autograd.functional beside ordinary training."""
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.1)


def loss_of_one(params, x, y):
    return (functional_call(model, params, (x.unsqueeze(0),)).squeeze() - y).pow(2)


for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(21, 4), torch.randn(21)), batch_size=6):
        loss = (model(x).squeeze(1) - y).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        params = {n: p.detach() for n, p in model.named_parameters()}
        per_sample = vmap(grad(loss_of_one), in_dims=(None, 0, 0))(params, x, y)
        norms = torch.sqrt(sum(g.flatten(1).pow(2).sum(1) for g in per_sample.values()))
        scale = (0.5 / norms).clamp(max=1.0)
        for n, p in model.named_parameters():  # differentially private: clip each row
            g = per_sample[n]
            p.grad = (g * scale.view(-1, *[1] * (g.ndim - 1))).mean(0)
        opt.step()
        print(epoch, f"{loss.item():.9f} {norms.max().item():.9f}")
jacobian = torch.autograd.functional.jacobian(lambda v: model(v).sum(0), torch.ones(2, 4))
print(tuple(jacobian.shape), f"{jacobian.sum().item():.9f}")
torch.save(model.state_dict(), "private.pt")
