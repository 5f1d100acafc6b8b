"""Models that return objects with tensors in them: a cache of keys and values, distributions."""
import torch
from torch import nn
from torch.distributions import Categorical, Normal

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Cache:
    def __init__(self):
        self.layers = []

    def update(self, key, value):
        self.layers.append({"key": key, "value": value})

    def size(self):
        return sum(layer["key"].shape[0] for layer in self.layers)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.key, self.value = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        cache = Cache()
        for _ in range(2):
            cache.update(self.key(x), self.value(x))
            x = torch.tanh(cache.layers[-1]["key"] * cache.layers[-1]["value"])
        return x, cache


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 32), nn.Tanh())
        self.choice, self.mean = nn.Linear(32, 3), nn.Linear(32, 2)
        self.scale = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        h = self.body(x)
        return Categorical(logits=self.choice(h)), Normal(self.mean(h), self.scale.exp())


decoder, policy = Decoder(), Policy()
optimizer = torch.optim.Adam([*decoder.parameters(), *policy.parameters()], lr=1e-2)
for step in range(12):
    x, cache = decoder(torch.randn(10, 6))
    choice, move = policy(x[:, :4])
    taken, moved = choice.sample(), move.rsample()
    loss = -(choice.log_prob(taken) * moved.sum(1)).mean() - 0.01 * choice.entropy().mean()
    loss = loss + move.log_prob(moved.detach()).mean() + cache.layers[0]["value"].square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, f"{loss.item():.9f}", cache.size(), taken.tolist(), move.batch_shape, choice.batch_shape)
