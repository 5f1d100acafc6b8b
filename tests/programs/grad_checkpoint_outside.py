"""The script checkpoints whole modules, and counts what their forwards save."""
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
x = torch.randn(8, 5)


def make():
    return nn.Sequential(nn.Linear(5, 5), nn.Tanh())


def show(name, output, *nets):
    output.pow(2).mean().backward()
    norm = sum(p.grad.norm() for net in nets for p in net.parameters())
    print(name, f"{norm.item():.9f}")


a, b = make(), make()
show("sequential", checkpoint_sequential(nn.Sequential(a, b), 2, x, use_reentrant=False), a, b)
c = make()
show("module", checkpoint(c, x, use_reentrant=False), c)
d, e = make(), make()
show("function", checkpoint(lambda t: e(d(t)), x, use_reentrant=False), d, e)
f, y = make(), x.clone().requires_grad_()
show("reentrant", checkpoint(f, y, use_reentrant=True), f)
c.zero_grad()
show("again", checkpoint(c, x, use_reentrant=False), c)

packed = []


def pack(tensor):
    packed.append(tensor.ndim)
    return tensor


net = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 1))
for _ in range(2):
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = net(x).pow(2).mean()
    loss.backward()
    print(len(packed), f"{loss.item():.9f}")
with torch.autograd.graph.save_on_cpu():
    show("on the CPU", net(x), net)
