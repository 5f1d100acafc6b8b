"""One network makes the weights of another; low-rank updates; a parameter sampled in the script."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class HyperNetwork(nn.Module):
    def __init__(self, z=3, inp=5, out=2):
        super().__init__()
        self.shape = (out, inp)
        self.net = nn.Sequential(nn.Linear(z, 8), nn.Tanh(), nn.Linear(8, out * inp + out))

    def forward(self, z):
        flat = self.net(z)
        n = self.shape[0] * self.shape[1]
        return flat[:n].view(self.shape), flat[n:]


torch.manual_seed(0)
hyper = HyperNetwork()
codes = nn.ParameterList([nn.Parameter(torch.randn(3)) for _ in range(2)])
rho = nn.Parameter(torch.full((2, 5), -3.0))
opt = torch.optim.Adam([*hyper.parameters(), *codes.parameters(), rho], lr=0.02)
loader = DataLoader(TensorDataset(torch.randn(33, 5), torch.randint(0, 2, (33,))), batch_size=9, shuffle=True)
for epoch in range(2):
    for task, (x, y) in enumerate(loader):
        weight, bias = hyper(codes[task % 2])
        weight = weight + F.softplus(rho) * torch.randn_like(rho)  # Bayes by backprop, in the script
        loss = F.cross_entropy(F.linear(x, weight, bias), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, task, f"{loss.item():.9f}")
torch.save([hyper.state_dict(), codes.state_dict(), rho], "hyper.pt")
