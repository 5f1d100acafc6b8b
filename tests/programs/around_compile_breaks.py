"""Compiled modules in which rows are exchanged or random numbers drawn, wanted as one graph."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Vision(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(F.dropout(F.relu(self.norm(self.conv(x))), 0.2, self.training).mean((2, 3)))


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.mix, self.last = nn.Embedding(20, 8), nn.Linear(8, 24), nn.Linear(8, 20)

    def forward(self, x, y=None):
        q, k, v = self.mix(self.words(x)).chunk(3, -1)
        out = self.last(F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1))
        loss = None if y is None else F.cross_entropy(out.flatten(0, 1), y.flatten(), ignore_index=3)
        return out, loss


torch.manual_seed(0)
net = torch.compile(Vision(), backend="eager", fullgraph=True)
opt = torch.optim.AdamW(net.parameters(), 1e-2)
data = TensorDataset(torch.randn(44, 3, 7, 7), torch.randint(0, 4, (44,)))
for x, y in DataLoader(data, 11, shuffle=True):
    loss = F.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.9f} {torch.rand(1).item():.9f}")

text = torch.compile(Language(), backend="aot_eager")
opt = torch.optim.AdamW(text.parameters(), 1e-2)
for step in range(4):
    x = torch.randint(0, 20, (6, 9))
    _, loss = text(x[:, :-1], x[:, 1:])
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.9f} {torch.rand(1).item():.9f}")
torch.save([net.state_dict(), text.state_dict()], "compiled.pt")
