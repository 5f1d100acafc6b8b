"""What forward does to what a model holds, or is given, is done once a call: trials leave no trace."""

import collections

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import orthogonal, weight_norm

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Meter:
    def __init__(self):
        self.n, self.sum = 0, 0.0

    def update(self, value):
        self.n += 1
        self.sum += value


class Holds(nn.Module):
    """Collections of many kinds, nested ones, arrays, an object of the script's own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.recent, self.counter = collections.deque(maxlen=50), collections.Counter()
        self.lists, self.ordered = collections.defaultdict(list), collections.OrderedDict()
        self.nested, self.array, self.meter = {"shapes": []}, np.zeros(3), Meter()

    def forward(self, x):
        self.recent.append(1)
        self.counter["calls"] += 1
        self.lists["a"].append(1)
        self.ordered[len(self.ordered)] = 1
        self.nested["shapes"].append(1)
        self.array += 1
        self.meter.update(1.0)
        return self.linear(x)


net = Holds()
for _ in range(3):
    net.zero_grad()
    net(torch.randn(8, 4)).sum().backward()
print(len(net.recent), dict(net.counter), len(net.lists["a"]), len(net.ordered))
print(len(net.nested["shapes"]), net.array, net.meter.n, net.meter.sum)


class Averages(nn.Module):
    """Puts a new parameter in the place of the old one, as a codebook of moving averages."""

    def __init__(self):
        super().__init__()
        self.linear, self.mean = nn.Linear(4, 3), nn.Parameter(torch.randn(3))

    def forward(self, x):
        h = self.linear(x)
        if self.training:
            self.mean = nn.Parameter(self.mean * 0.9 + 0.1 * h.detach().mean(0))
        return h - self.mean.detach()


net, x = Averages(), torch.randn(8, 4)
for _ in range(3):
    net.zero_grad()
    loss = net(x).square().mean()
    loss.backward()
    print(f"{loss.item():.9f} {net.mean.sum().item():.9f}")


class Fills(nn.Module):
    """Adds to a list, or to a dict, that the script gives it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x, features=None, state=None):
        h = torch.relu(self.a(x))
        if features is not None:
            features.append(h)
        if state is not None:
            state["n"] = state.get("n", 0) + 1
            state["h"] = h if "h" not in state else torch.cat([state["h"], h], 1)
        return self.b(h)


net, features, state = Fills(), [], {}
for _ in range(2):
    net(torch.randn(8, 4), features)
print(len(features), [tuple(f.shape) for f in features])
with torch.no_grad():
    for _ in range(2):
        net(torch.randn(8, 4), state=state)
print(state["n"], tuple(state["h"].shape), f"{state['h'].sum().item():.9f}")


class Tagged(nn.Linear):
    """Attributes on a parameter, as in few-shot learning with fast weights."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.weight.fast = None
        self.weight.seen = 0

    def forward(self, x):
        assert isinstance(self.weight, nn.Parameter)
        self.weight.seen = self.weight.seen + len(x.shape)
        weight = self.weight if self.weight.fast is None else self.weight.fast
        return nn.functional.linear(x, weight, self.bias)


net = Tagged(4, 3)
for _ in range(2):
    net.zero_grad()
    net(torch.randn(8, 4)).square().mean().backward()
print(f"{net.weight.grad.norm().item():.9f}", net.weight.fast)

net = nn.Sequential(orthogonal(nn.Linear(5, 5)), nn.Tanh(), weight_norm(nn.Linear(5, 3)))
for _ in range(3):
    net.zero_grad()
    with parametrize.cached():
        loss = net(torch.randn(8, 5)).square().mean()
    loss.backward()
    print(f"{loss.item():.9f}", [f"{p.grad.norm().item():.9f}" for p in net.parameters()])

net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(14):
    if step == 6:
        prune.l1_unstructured(net[0], "weight", 0.3)
    optimizer.zero_grad()
    loss = net(torch.randn(8, 5)).square().mean() + net[0].weight.square().sum()
    loss.backward()
    optimizer.step()
print(f"{loss.item():.9f}")
