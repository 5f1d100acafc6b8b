"""Between steps, weights get other memory, another type and back, hooks, and are frozen for a while."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3))
x, y = torch.randn(61, 6), torch.randint(0, 3, (61,))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
seen = []


def twice(batch, target):
    """Both passes through the net are in one graph."""
    a, b = net(batch), net(batch.flip(1))
    return nn.functional.cross_entropy(a, target) + 0.1 * (a - b).square().mean()


for epoch in range(3):
    for step, (batch, target) in enumerate(DataLoader(TensorDataset(x, y), 8, shuffle=True)):
        opt.zero_grad(set_to_none=step % 2 == 0)
        loss = twice(batch, target)
        loss.backward(retain_graph=step == 3)
        if step == 3:
            loss.backward()
        if step == 1:
            for p in filter(lambda p: p.grad is not None, net.parameters()):
                p.grad.detach_()
                p.grad.clamp_(-0.5, 0.5)
        opt.step()
        if step == 2:
            net[0].weight.data = net[0].weight.data.clone() * 0.9
        if step == 3:
            net[2].weight.data = net[2].weight.data.t()
        if step == 4:
            net.float().double()
        if step == 5:
            net[4].bias.requires_grad_(epoch == 1)
        if (epoch, step) == (1, 6):
            net[2].bias = nn.Parameter(torch.zeros(9))
            opt = torch.optim.SGD(net.parameters(), lr=0.05)
            net[2].weight.register_hook(lambda g: seen.append(g.norm().item()) or 2 * g)
        print(epoch, step, f"{loss.item():.8f}")
print([f"{n:.8f}" for n in seen])
print([f"{p.double().norm().item():.8f}" for p in net.parameters()])
