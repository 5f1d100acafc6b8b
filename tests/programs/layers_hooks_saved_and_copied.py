"""Whole models with hooks on them are saved, loaded and copied; a copy's hooks are its own."""

import copy
import io

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(4)


class Probed(nn.Module):
    """Keeps, by hooks that are methods and functions, what its layers are given and give."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
        self.seen = {}
        self.gradients = []
        self.body[0].register_forward_pre_hook(scale)
        self.body[1].register_forward_hook(self.keep)
        self.body[2].register_full_backward_hook(self.keep_gradient)

    def keep(self, module, args, output):
        self.seen["tanh"] = round(output.detach().sum().item(), 9), tuple(output.shape)

    def keep_gradient(self, module, grad_input, grad_output):
        self.gradients.append(round(grad_output[0].abs().sum().item(), 9))

    def forward(self, x):
        return self.body(x)


def scale(module, args):
    return (args[0] * (1 + args[0].mean()),)


def train(model, epochs, name):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
    print(name, f"{loss.item():.12f}", model.seen, f"{sum(model.gradients):.8f}", len(model.gradients))


x = torch.randn(40, 6)
y = (x.sum(1) > 0).long() + (x[:, 0] > 1).long()
loader = DataLoader(TensorDataset(x, y), batch_size=10)

model = Probed()
train(model, 2, "first")
average = copy.deepcopy(model)
file = io.BytesIO()
torch.save(model, file)
train(model, 1, "on")
train(average, 2, "the copy")
file.seek(0)
loaded = torch.load(file, weights_only=False)
train(loaded, 2, "loaded")
print(len(model.gradients), len(average.gradients), len(loaded.gradients))
