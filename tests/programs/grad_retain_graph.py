import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
shared = nn.Linear(6, 6)
left, right = nn.Linear(6, 1), nn.Linear(6, 1)
modules = nn.ModuleList([shared, left, right])
opt = torch.optim.SGD(modules.parameters(), lr=0.05)
for x, a, b in DataLoader(TensorDataset(torch.randn(28, 6), torch.randn(28, 1), torch.randn(28, 1)), batch_size=6):
    h = torch.tanh(shared(x))
    loss_a = (left(h) - a).pow(2).mean()
    loss_b = (right(h) - b).abs().mean()
    opt.zero_grad()
    loss_a.backward(retain_graph=True)
    first = shared.weight.grad.clone()
    loss_b.backward()
    second = shared.weight.grad - first
    cosine = nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    if cosine < 0:  # a light form of gradient surgery
        shared.weight.grad.sub_(0.5 * second)
    opt.step()
    print(f"{loss_a.item():.9f} {loss_b.item():.9f} {cosine.item():.9f}")
    total = (left(shared(x)) - a).pow(2).mean()
    total.backward(retain_graph=True)
    total.backward()
    torch.autograd.backward([(right(shared(x)) - b).mean(), left(x).sum()])
    print(f"   {shared.weight.grad.sum().item():.9f} {left.bias.grad.item():.9f} {right.bias.grad.item():.9f}")
torch.save(modules.state_dict(), "retained.pt")
