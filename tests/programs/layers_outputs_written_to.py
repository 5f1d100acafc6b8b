"""Scripts that write into what a model returned, or set it free of its graph."""
import torch
from torch import nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.scale = nn.Linear(6, 4), nn.Linear(6, 4), nn.Parameter(torch.ones(1))

    def forward(self, x, several=False):
        return (self.a(x), self.b(x), self.scale * 2) if several else self.a(x) * self.scale


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.05)
x, y, legal = torch.randn(11, 6), torch.randint(0, 4, (11,)), torch.rand(11, 4) > 0.3
legal[torch.arange(11), y] = True


def masked():
    out = net(x)
    out[~legal] = -1e3
    return F.cross_entropy(out, y)


def residual():
    out = net(x)
    out += x[:, :4]
    return F.cross_entropy(out, y)


def activated():
    return F.relu_(net(x)).pow(2).mean()


def column():
    out = net(x)
    out[:, 0] = out[:, 0].sigmoid()
    return out.pow(2).mean()


def several():
    a, b, s = net(x, several=True)
    a += 1
    b.mul_(0.5)
    s += 1
    return (a * b).mean() * s.sum()


def detached():
    a, b, s = net(x, several=True)
    b.detach_()
    out = net(x)
    out.detach_()
    return (a * b).mean() * s.sum() + out.sum()


def from_no_grad():
    with torch.no_grad():
        out = net(x)
    out += net(x)
    return out.pow(2).mean()


def averaged():
    loss = F.mse_loss(net(x), x[:, :4])
    loss /= 2
    return loss


for step in (masked, residual, activated, column, several, detached, from_no_grad, averaged):
    loss = step()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step.__name__, f"{loss.item():.9f} {net.a.weight.grad.norm().item():.9f}")
