"""One of two outputs is not used for a while: what only it needs gets no gradient, and Adam leaves it alone."""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class Neck(nn.Module):
    """Features for the triplet loss, and normalised ones for the classifier."""

    def __init__(self):
        super().__init__()
        self.body, self.neck, self.gain = nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Parameter(torch.ones(4))

    def forward(self, x):
        features = torch.tanh(self.body(x))
        return features, self.neck(features), Twice.apply(features * self.gain)


net, head = Neck(), nn.Linear(4, 3)
opt = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=1e-2)
x, y = torch.randn(14, 6), torch.randint(0, 3, (14,))
for step in range(6):
    features, normed, doubled = net(x)
    loss = torch.cdist(features, features).mean()
    if step < 3:
        loss = loss + nn.functional.cross_entropy(head(normed), y) + doubled.pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(f"{loss.item():.9f}", [None if p.grad is None else f"{p.grad.norm().item():.9f}" for p in net.parameters()])
torch.save(net.state_dict(), "neck.pt")
