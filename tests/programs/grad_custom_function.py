"""A straight-through estimator, a gradient reversal layer and a clamp with its own backward."""
import torch
from torch import nn
from torch.autograd import Function
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Binarize(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


class Reverse(Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.strength * grad, None


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.feat, self.label, self.domain = nn.Linear(6, 10), nn.Linear(10, 3), nn.Linear(10, 2)

    def forward(self, x, strength):
        h = Binarize.apply(self.feat(x))
        return self.label(h), self.domain(Reverse.apply(h, strength))


torch.manual_seed(0)
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
data = TensorDataset(torch.randn(38, 6), torch.randint(0, 3, (38,)), torch.randint(0, 2, (38,)))
for epoch in range(3):
    for x, y, d in DataLoader(data, batch_size=10):
        label, domain = net(x, strength=0.1 * epoch)
        loss = nn.functional.cross_entropy(label, y) + nn.functional.cross_entropy(domain, d)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
torch.save(net.state_dict(), "functions.pt")
