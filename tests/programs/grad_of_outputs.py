"""Gradients with regard to what a model returned beside what it made of it, small and large."""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)


class Classifier(nn.Module):
    """Features and what follows from them."""

    def __init__(self, width):
        super().__init__()
        self.body, self.head = nn.Linear(5, width), nn.Linear(width, 3)

    def forward(self, x):
        features = torch.relu(self.body(x))
        return self.head(features), features


class Field(nn.Module):
    """It makes a leaf of its input, and returns that, too."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, places):
        places = places.clone().detach().requires_grad_(True)
        return self.net(places), places


def norms(module):
    return [f"{p.grad.norm().item():.9f}" for p in module.parameters() if p.grad is not None]


for width in (4, 8000):
    net, x = Classifier(width), torch.randn(16, 5)
    scores, features = net(x)
    features.retain_grad()
    features.register_hook(lambda grad: print("hook", f"{grad.norm().item():.9f}"))
    (scores.max(1).values.sum() + features.mean()).backward()
    print("kept", f"{features.grad.norm().item():.9f}", norms(net))
    scores, features = net(x)
    (grad,) = torch.autograd.grad(scores.square().sum(), features, create_graph=True)
    net.zero_grad()
    grad.square().sum().backward()
    print("of the gradient", f"{grad.norm().item():.9f}", norms(net))
    scores, features = net(x)
    features.register_hook(lambda grad: grad * 2)
    net.zero_grad()
    scores.sum().backward()
    print("doubled", norms(net))

backbone, head = nn.Sequential(nn.Linear(5, 8000), nn.Tanh()), nn.Linear(8000, 3)
features = backbone(torch.randn(16, 5))
scores = head(features)  # both models are divided, and so are the features between them
features.retain_grad()
scores.max(1).values.sum().backward()
print("between", f"{features.grad.norm().item():.9f}", norms(backbone))

field, grid = Field(), torch.randn(144, 2)
value, places = field(grid)
(slope,) = torch.autograd.grad(value, [places], torch.ones_like(value), create_graph=True)
print("slope", f"{slope.norm().item():.9f}")
(value.sum() + slope.square().sum()).backward()
print("leaf", f"{places.grad.norm().item():.9f}", norms(field))
