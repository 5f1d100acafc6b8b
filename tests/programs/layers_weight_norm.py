import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


torch.manual_seed(0)
model = nn.Sequential(
    parametrizations.weight_norm(nn.Linear(5, 8)),
    nn.Tanh(),
    nn.utils.weight_norm(nn.Linear(8, 8)),  # the older form, with a hook
    nn.Tanh(),
    nn.Linear(8, 8),
    parametrizations.orthogonal(nn.Linear(8, 8, bias=False)),
    nn.Linear(8, 1),
)
parametrize.register_parametrization(model[4], "weight", Symmetric())
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(torch.randn(26, 5), torch.randn(26, 1)), batch_size=8):
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
print(torch.allclose(model[4].weight, model[4].weight.T), sorted(model.state_dict())[:4])
torch.save(model.state_dict(), "weight_norm.pt")
parametrize.remove_parametrizations(model[0], "weight")
nn.utils.remove_weight_norm(model[2])
print(f"{model(torch.ones(1, 5)).item():.9f}")
torch.save(model.state_dict(), "removed.pt")
