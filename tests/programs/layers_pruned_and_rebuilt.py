"""Pruning masks, layers replaced and added in the middle of training, weights set again."""
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
loader = DataLoader(TensorDataset(torch.randn(34, 6), torch.randint(0, 3, (34,))), batch_size=9, shuffle=True)


def epoch(tag):
    for x, y in loader:
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(tag, f"{loss.item():.9f}", sum(p.numel() for p in net.parameters()), len(net.state_dict()))


epoch("dense")
prune.l1_unstructured(net[0], "weight", amount=0.4)
prune.ln_structured(net[2], "weight", amount=0.25, n=2, dim=0)
epoch("pruned")
print(int((net[0].weight == 0).sum()), sorted(dict(net[0].named_buffers())))
prune.remove(net[0], "weight")
net[4] = nn.Linear(12, 5)  # two classes more
net.append(nn.Dropout(0.0))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
epoch("new head")
with torch.no_grad():
    net[4].weight.zero_()
    net[4].bias.data = torch.ones(5)
net[2].weight_orig.data.mul_(0.5)
net.insert(1, nn.LayerNorm(12))
opt.add_param_group({"params": net[1].parameters(), "lr": 0.01})
epoch("rebuilt")
torch.save(net.state_dict(), "pruned.pt")
