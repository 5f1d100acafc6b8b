"""Top-1 routing with a capacity (rows compete for places) and a load balancing loss in forward."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class SwitchLayer(nn.Module):
    def __init__(self, d, experts, capacity_factor):
        super().__init__()
        self.gate = nn.Linear(d, experts)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d)) for _ in range(experts)])
        self.capacity_factor = capacity_factor

    def forward(self, x):
        probs = self.gate(x).softmax(-1)
        weight, choice = probs.max(-1)
        capacity = int(self.capacity_factor * len(x) / len(self.experts)) + 1
        out, dropped = x.clone(), 0
        for e, expert in enumerate(self.experts):
            rows = (choice == e).nonzero().flatten()
            dropped += max(0, len(rows) - capacity)
            rows = rows[:capacity]
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]) * weight[rows, None])
        fraction = F.one_hot(choice, len(self.experts)).double().mean(0)
        self.balance = len(self.experts) * (fraction * probs.mean(0)).sum()
        return out, dropped


torch.manual_seed(0)
moe, head = SwitchLayer(6, 3, 1.0), nn.Linear(6, 3)
opt = torch.optim.Adam([*moe.parameters(), *head.parameters()], lr=0.01)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(50, 6), torch.randint(0, 3, (50,))), batch_size=14):
        h, dropped = moe(x)
        loss = F.cross_entropy(head(h), y) + 0.05 * moe.balance
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, dropped, f"{loss.item():.9f} {moe.balance.item():.9f}")
torch.save([moe.state_dict(), head.state_dict()], "moe.pt")
