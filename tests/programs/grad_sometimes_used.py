"""A step uses some heads and not others; layers are skipped at random, by Python's generator."""
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
random.seed(1)
torch.manual_seed(1)


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])
        self.heads = nn.ModuleDict({"sum": nn.Linear(8, 1), "max": nn.Linear(8, 1)})

    def forward(self, x, task):
        h = torch.relu(self.stem(x))
        for block in self.blocks:
            if not self.training or random.random() > 0.4:
                h = h + torch.relu(block(h))
        return self.heads[task](h).squeeze(1)


net = Skipping()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step, (x,) in enumerate(DataLoader(TensorDataset(torch.randn(95, 6)), batch_size=9)):
    task = "sum" if step % 3 else "max"
    target = x.sum(1) if task == "sum" else x.max(1).values
    loss = nn.functional.mse_loss(net(x, task), target)
    opt.zero_grad()
    loss.backward()
    used = [n for n, p in net.named_parameters() if p.grad is not None and n.endswith("weight")]
    opt.step()
    print(step, task, f"{loss.item():.9f}", " ".join(used))
torch.save({"net": net.state_dict(), "opt": opt.state_dict()}, "skipping.pt")
