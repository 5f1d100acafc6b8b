"""Grad-CAM, three ways: a forward hook keeps activations, whose gradients come by a hook, by autograd.grad, by retain_grad."""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(3)
net = nn.Sequential(
    nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
)
x, y = torch.randn(9, 3, 10, 10), torch.randint(0, 4, (9,))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
kept = {}


def keep(module, args, output):
    kept["values"] = output
    if output.requires_grad:
        output.register_hook(lambda grad: kept.update(grad=grad.detach()))


handle = net[3].register_forward_hook(keep)
for step in range(2):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.9f} {kept['values'].sum().item():.9f} {kept['grad'].abs().sum().item():.9f}")
net.eval()
score = net(x).gather(1, y[:, None]).sum()
(grad,) = torch.autograd.grad(score, kept["values"])
cam = torch.relu((grad.mean((2, 3), keepdim=True) * kept["values"]).sum(1))
print(tuple(cam.shape), f"{cam.sum().item():.9f}")
handle.remove()
net[4].register_forward_hook(lambda module, args, output: kept.update(values=output))
score = net(x).max(1)[0].sum()
kept["values"].retain_grad()
score.backward()
print(f"{kept['values'].grad.abs().sum().item():.9f}")
doubling = net[2].register_forward_hook(lambda module, args, output: output * 2)
silent = net[1].register_forward_hook(lambda module, args, output: [output.add_(1), None][1])
loss = nn.functional.cross_entropy(net(x), y)
opt.zero_grad()
loss.backward()
print(f"written to {loss.item():.9f} {net[0].weight.grad.norm().item():.9f}")
