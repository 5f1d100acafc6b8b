"""Forwards that return losses and counts which are the same for all rows, but only at first."""

import torch
import torch.nn.functional as F
from torch import nn

torch.set_default_dtype(torch.float64)


class Language(nn.Module):
    """Its head begins with zeros: every row has the same loss."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(20, 16), nn.Linear(16, 20, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, x, y):
        return F.cross_entropy(self.head(torch.tanh(self.words(x))).flatten(0, 1), y.flatten())


class Skips(nn.Module):
    """word2vec with negative samples; the vectors of contexts begin with zeros."""

    def __init__(self):
        super().__init__()
        self.words, self.contexts = nn.Embedding(24, 8), nn.Embedding(24, 8)
        nn.init.zeros_(self.contexts.weight)

    def forward(self, words, contexts, others):
        words = self.words(words)
        near = F.logsigmoid((words * self.contexts(contexts)).sum(1))
        far = F.logsigmoid(-(self.contexts(others) @ words.unsqueeze(2)).squeeze(2)).sum(1)
        return torch.mean(-near - far)


class Counts(nn.Module):
    """Returns how many answers are right: none, at first."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 10))

    def forward(self, x, y):
        out = self.layers(x)
        return F.cross_entropy(out, y), (out.argmax(1) == y).sum()


class Clips(nn.Module):
    """Returns figures of what was clipped: nothing, at first."""

    def __init__(self):
        super().__init__()
        self.policy = nn.Linear(6, 3)

    def forward(self, x, actions, old, advantages):
        chosen = F.log_softmax(self.policy(x), -1).gather(1, actions[:, None]).squeeze(1)
        ratio = (chosen - old).exp()
        loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        return loss, ((ratio - 1).abs() > 0.2).sum().item(), (ratio - 1.2).clamp(min=0).max()


torch.manual_seed(0)
language, skips = Language(), Skips()
optimizer = torch.optim.Adam([*language.parameters(), *skips.parameters()], lr=0.05)
for step in range(14):
    x = torch.randint(0, 20, (8, 5))
    first = language(x, (x * 3 + 1) % 20)
    pairs = torch.randint(24, (2, 16))
    second = skips(*pairs, torch.randint(24, (16, 5)))
    optimizer.zero_grad()
    (first + second).backward()
    optimizer.step()
    print(f"{first.item():.9f} {second.item():.9f}")

torch.manual_seed(1)
counts, clips = Counts(), Clips()
x, actions, advantages = torch.randn(9, 6), torch.randint(3, (9,)), torch.randn(9)
with torch.no_grad():
    old = F.log_softmax(clips.policy(x), -1).gather(1, actions[:, None]).squeeze(1)
optimizer = torch.optim.Adam([*counts.parameters(), *clips.parameters()], lr=0.04)
for step in range(12):
    inputs = torch.randn(9, 10)
    targets = counts.layers(inputs).argmin(1) if step == 0 else inputs.argmax(1)
    loss, right = counts(inputs, targets)
    clipped, number, most = clips(x, actions, old, advantages)
    optimizer.zero_grad()
    (loss + clipped.mean()).backward()
    optimizer.step()
    print(f"{loss.item():.9f} {right.item()} {clipped.mean().item():.9f} {number} {most.item():.7f}")
