"""Gradients are zeroed in place in several ways, and looked at before and after."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
print([p.grad for p in model.parameters()])
for step, (x, y) in enumerate(DataLoader(TensorDataset(torch.randn(36, 4), torch.randn(36, 1)), batch_size=5)):
    if step % 4 == 0:
        opt.zero_grad(set_to_none=False)
    elif step % 4 == 1:
        model.zero_grad()
    elif step % 4 == 2:
        for p in model.parameters():
            if p.grad is not None:
                p.grad.detach_()
                p.grad.zero_()
    else:
        for p in model.parameters():
            p.grad = None
    before = [None if p.grad is None else p.grad.abs().sum().item() for p in model.parameters()]
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    kept = [p.grad for p in model.parameters()]
    opt.step()
    print(step, before, f"{loss.item():.9f}", [f"{g.sum().item():.9f}" for g in kept])
torch.save({"state": model.state_dict(), "grads": [p.grad for p in model.parameters()]}, "zeroed.pt")
