import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class DeepSupervision(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(10, 10) for _ in range(3))
        self.heads = nn.ModuleDict({f"head{i}": nn.Linear(10, 4) for i in range(3)})

    def forward(self, inputs):
        x = inputs["x"]
        out = {"features": [], "aux": {}}
        for i, layer in enumerate(self.layers):
            x = torch.relu(layer(x)) + x
            out["features"].append(x)
            out["aux"][f"head{i}"] = self.heads[f"head{i}"](x)
        out["logits"] = sum(out["aux"].values()) / 3
        out["size"] = x.shape[0]
        return out


torch.manual_seed(0)
net = DeepSupervision()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
data = TensorDataset(torch.randn(42, 10), torch.randint(0, 4, (42,)))
for epoch in range(3):
    for x, y in DataLoader(data, batch_size=11):
        out = net({"x": x, "scale": 1.0})
        assert out["size"] == len(y)
        aux = torch.stack([F.cross_entropy(v, y) for v in out["aux"].values()])
        loss = F.cross_entropy(out["logits"], y) + 0.3 * aux.mean() + 1e-3 * out["features"][-1].norm()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, sorted(out), out["size"], f"{loss.item():.9f}", aux.detach().numpy().round(6))
torch.save(net.state_dict(), "supervised.pt")
