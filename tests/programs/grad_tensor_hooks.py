"""Hooks on parameters and on activations; retained gradients."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 2)

    def forward(self, x):
        h = torch.relu(self.a(x))
        if h.requires_grad:
            h.register_hook(lambda g: g * 0.5)  # halves what reaches the first layer
        return self.b(h)


net = Net()
seen = []
net.b.weight.register_hook(lambda g: seen.append(g.norm().item()))
net.b.bias.register_hook(lambda g: torch.clamp(g, -0.01, 0.01))
handle = net.a.weight.register_hook(lambda g: g * (torch.arange(5) < 3))
after = []
net.a.bias.register_post_accumulate_grad_hook(lambda p: after.append(p.grad.sum().item()))
opt = torch.optim.SGD(net.parameters(), lr=0.3)
for i, (x, y) in enumerate(DataLoader(TensorDataset(torch.randn(40, 5), torch.randint(0, 2, (40,))), batch_size=9)):
    if i == 3:
        handle.remove()
    logits = net(x)
    logits.retain_grad()
    logits.register_hook(lambda g: print("  grad of logits", tuple(g.shape), f"{g.abs().sum().item():.9f}"))
    loss = nn.functional.cross_entropy(logits, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(i, f"{loss.item():.9f} {logits.grad.norm().item():.9f} {seen[-1]:.9f} {after[-1]:.9f}", len(seen), len(after))
torch.save(net.state_dict(), "hooked.pt")
