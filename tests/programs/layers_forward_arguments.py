"""What may go into forward: keywords, lists, None, numbers, strings, tables that are no batch."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Flexible(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.ModuleList([nn.Linear(4, 6), nn.Linear(3, 6)])
        self.table = nn.Linear(6, 6)
        self.head = nn.Linear(6, 8)

    def forward(self, views, *, adjacency, temperature=1.0, mask=None, how="add", classes=None, options=None):
        a, b = (p(v) for p, v in zip(self.proj, views))
        h = a + b if how == "add" else a * b
        h = torch.tanh(self.table(h) @ adjacency)
        if mask is not None:
            h = h * mask
        if options and options.get("double"):
            h = h * 2
        logits = self.head(h) / temperature
        return logits if classes is None else logits[:, classes]


torch.manual_seed(0)
net = Flexible()
opt = torch.optim.SGD(net.parameters(), lr=0.2)
adjacency = torch.rand(6, 6)  # square, and as wide as a batch of six is long
data = TensorDataset(torch.randn(44, 4), torch.randn(44, 3), torch.randint(0, 4, (44,)))
for step, (u, v, y) in enumerate(DataLoader(data, batch_size=6)):
    logits = net(
        [u, v],
        adjacency=adjacency,
        temperature=torch.tensor(0.5) if step % 2 else 2.0,
        mask=(torch.rand(len(u), 1) > 0.2) if step % 3 else None,
        how="add" if step % 4 else "mul",
        classes=torch.tensor([0, 2, 4, 6]),
        options={"double": step > 3},
    )
    loss = nn.functional.cross_entropy(logits, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, tuple(logits.shape), f"{loss.item():.9f}")
torch.save(net.state_dict(), "flexible.pt")
