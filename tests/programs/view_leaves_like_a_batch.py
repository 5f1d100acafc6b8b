"""Attacks: perturbations with the shape of a batch of images that want gradients of their own."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 3))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
data = TensorDataset(torch.rand(20, 3, 32, 32), torch.randint(0, 3, (20,)))
for x, y in DataLoader(data, batch_size=7):
    patch = nn.Parameter(x * 0.5)
    nn.functional.cross_entropy(net(patch), y).backward()
    torch.optim.SGD([patch], lr=1.0).step()
    image = nn.Parameter(x)
    print(type(patch), patch.is_leaf, f"{patch.sum().item():.9f}", image.shape, image.requires_grad)
    torch.save([patch, x], "patch.pt")
    delta = torch.zeros_like(x, requires_grad=True)
    for step in range(2):
        nn.functional.cross_entropy(net(x + delta), y).backward()
        delta.data = (delta + 0.02 * delta.grad.sign()).clamp(-0.05, 0.05)
        delta.grad.zero_()
    start = torch.rand_like(x, requires_grad=True)
    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(net(start), y), start)
    loss = nn.functional.cross_entropy(net(x + delta.detach()), y) + net(x - grad.sign()).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.9f} {delta.abs().sum().item():.9f} {grad.abs().sum().item():.9f}", delta.is_leaf, delta.grad.shape)
