"""Forward and backward hooks of modules: activations by name, statistics, changed outputs."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(1)
model = nn.Sequential()
model.add_module("conv", nn.Conv2d(1, 4, 3))
model.add_module("act", nn.ReLU())
model.add_module("pool", nn.AdaptiveAvgPool2d(2))
model.add_module("flat", nn.Flatten())
model.add_module("fc", nn.Linear(16, 3))

activations, calls = {}, []


def save(name):
    def hook(module, inputs, output):
        activations[name] = output.detach()

    return hook


for name in ("conv", "pool"):
    getattr(model, name).register_forward_hook(save(name))
model.fc.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
model.fc.register_forward_hook(lambda m, args, out: out - out.mean(1, keepdim=True))
model.fc.register_full_backward_hook(lambda m, gi, go: calls.append((gi[0].shape, go[0].shape)))
model.register_forward_hook(lambda m, args, out: print("output", tuple(out.shape)))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in DataLoader(TensorDataset(torch.randn(31, 1, 9, 9), torch.randint(0, 3, (31,))), batch_size=8):
    loss = nn.functional.cross_entropy(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print({k: (tuple(v.shape), round(v.mean().item(), 9)) for k, v in activations.items()})
    print([tuple(s) for s in calls[-1]], f"{loss.item():.9f}")
torch.save({"model": model.state_dict(), "activations": activations}, "hooks.pt")
