"""A decoder whose keys and values stay in plain attributes, written to row by row as it generates."""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.keys, self.values = torch.zeros(6, 12, 8), torch.zeros(6, 12, 8)

    def forward(self, x, start):
        rows, length, _ = x.shape
        keys, values = self.k(x), self.v(x)
        mask = torch.full((length, length), float("-inf")).triu(1)
        if start is not None:
            self.keys[:rows, start : start + length] = keys
            self.values[:rows, start : start + length] = values
            keys, values = self.keys[:rows, : start + length], self.values[:rows, : start + length]
            mask = torch.cat([torch.zeros(length, start), mask], 1)
        return (self.q(x) @ keys.transpose(1, 2) + mask).softmax(-1) @ values


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.attention, self.head = nn.Embedding(11, 8), Attention(), nn.Linear(8, 11)

    def forward(self, tokens, start=None):
        return self.head(self.attention(self.embed(tokens), start))

    @torch.inference_mode()
    def generate(self, tokens, steps):
        at, new = 0, tokens
        for _ in range(steps):
            logits = self(new, at)[:, -1]
            at += new.shape[1]
            new = torch.multinomial(logits.softmax(-1), 1)
            tokens = torch.cat([tokens, new], 1)
        return tokens


net = Decoder()
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
for step in range(3):
    tokens = torch.randint(0, 11, (6, 9))
    loss = nn.functional.cross_entropy(net(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:])
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.9f}")
print(net.generate(torch.randint(0, 11, (6, 3)), 5).tolist())
print(f"{net.attention.keys.abs().sum().item():.9f} {net.attention.values[3].abs().sum().item():.9f}")
print(net.generate(torch.randint(0, 11, (2, 2)), 4).tolist())
# the rows that another prompt left behind are there for the next step
with torch.no_grad():
    print(f"{net(torch.randint(0, 11, (5, 1)), 6).sum().item():.9f}")
