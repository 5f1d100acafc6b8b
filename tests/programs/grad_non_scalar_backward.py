import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
net = nn.Linear(4, 3)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for x, y in DataLoader(TensorDataset(torch.randn(23, 4), torch.randn(23, 3)), batch_size=6):
    out = net(x)
    opt.zero_grad()
    out.backward(gradient=(out - y).detach(), retain_graph=True)  # the gradient of half the squared error
    errors = (out - y).pow(2).mean(1)
    errors.backward(torch.ones_like(errors) / len(errors))
    per_row = []
    for row in net(x[:3]):  # one backward a row
        row.sum().backward(retain_graph=True)
        per_row.append(net.bias.grad.sum().item())
    opt.step()
    print(f"{errors.sum().item():.9f}", [round(v, 9) for v in per_row])
torch.save(net.state_dict(), "vector.pt")
