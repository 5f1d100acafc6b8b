"""Some parameters never take part, some only at first; their grads stay None or old."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(5, 5)
        self.warmup = nn.Linear(5, 5)
        self.never = nn.Linear(5, 5)
        self.scale = nn.Parameter(torch.ones(1))
        self.forgotten = nn.Parameter(torch.randn(3, 3))
        self.steps = 0

    def forward(self, x):
        self.steps += 1
        x = self.used(x)
        if self.steps <= 3:
            x = x + self.warmup(x)
        return x * self.scale


torch.manual_seed(0)
net = Partly()
opt = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(25, 5), torch.randn(25, 5)), batch_size=7):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad(set_to_none=epoch == 0)
        loss.backward()
        opt.step()
        print(f"{loss.item():.9f}", {n: None if p.grad is None else round(p.grad.norm().item(), 9) for n, p in net.named_parameters()})
print("updated:", len(opt.state), "steps", net.steps)
torch.save({"net": net.state_dict(), "opt": opt.state_dict()}, "partly.pt")
