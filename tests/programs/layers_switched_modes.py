"""Models that return something else after a switch was set from outside, or by a number: features, a loss, a mean, exits."""
import torch
from torch import nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
        self.with_features = False
        self.mode = "logits"

    def forward(self, x, y):
        h = torch.tanh(self.body(x))
        out = self.head(h)
        if self.mode == "loss":
            out = F.cross_entropy(out, y)
        elif self.mode == "centred":
            out = out - out.mean(0)
        elif self.mode == "mean":
            out = out.mean(0)
        return (out, h) if self.with_features else out


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x, y = torch.randn(13, 8), torch.randint(0, 3, (13,))
for net.with_features in (False, True, False):
    for net.mode in ("logits", "loss", "centred", "mean", "logits"):
        found = net(x, y)
        out = found[0] if net.with_features else found
        loss = F.cross_entropy(out, y) if out.ndim == 2 else out.mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(net.mode, net.with_features, tuple(out.shape), f"{loss.item():.9f} {net.body.weight.grad.norm().item():.9f}")


class Exits(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x, upto):
        outs = []
        for stage in self.stages[:upto]:
            x = torch.tanh(stage(x))
            outs.append(x)
        return outs


exits = Exits()
for upto in (1, 2, 3, 1):
    loss = sum(F.cross_entropy(out[:, :3], y) for out in exits(x, upto))
    loss.backward()
    print(upto, f"{loss.item():.9f}")
