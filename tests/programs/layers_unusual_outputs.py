"""forward returns what no tensor library foresees: numbers, arrays, strings, sets, booleans, distributions."""
import numpy as np
import torch
from torch import nn
from torch.distributions import Normal
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.mu, self.sigma = nn.Linear(4, 2), nn.Linear(4, 2)
        self.gate = nn.Parameter(torch.zeros(2))

    def forward(self, x, y=None):
        mu, sigma = self.mu(x), nn.functional.softplus(self.sigma(x)) + 1e-3
        dist = Normal(mu, sigma)
        out = {"mean": mu, "mask": mu > 0, "index": mu.argmax(1), "gate": self.gate, "n": x.size(0)}
        if y is not None:
            nll = -dist.log_prob(y).sum(1)
            out["loss"] = nll.mean() + 0.1 * self.gate.pow(2).sum()
            out["float"] = nll.mean().item()
            out["array"] = nll.detach().numpy()
            out["worst"] = int(nll.argmax())
            out["words"] = {"high" if nll.max() > 2 else "low"}
        return out, dist


torch.manual_seed(0)
net = Odd()
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(27, 4), torch.randn(27, 2)), batch_size=8):
        out, dist = net(x, y)
        loss = out["loss"] + 0.01 * dist.entropy().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(out["n"], f"{out['float']:.9f} {np.mean(out['array']):.9f} {loss.item():.9f}", out["worst"], out["words"], out["array"].shape)
        print(out["mask"].sum().item(), out["index"].tolist(), tuple(dist.mean.shape), f"{dist.sample().sum().item():.9f}")
torch.save(net.state_dict(), "odd.pt")
