"""Exponential moving averages of the weights: by deepcopy, as shadow dict, swapped in for evaluation."""
from copy import deepcopy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class ModelEMA:
    def __init__(self, model, decay=0.9):
        self.module = deepcopy(model).eval()
        self.decay = decay
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for e, m in zip(self.module.state_dict().values(), model.state_dict().values()):
            if e.dtype.is_floating_point:
                e.copy_(self.decay * e + (1 - self.decay) * m)
            else:
                e.copy_(m)


class Shadow:
    def __init__(self, model, decay):
        self.model, self.decay = model, decay
        self.shadow = {n: p.data.clone() for n, p in model.named_parameters() if p.requires_grad}
        self.backup = {}

    def update(self):
        for n, p in self.model.named_parameters():
            self.shadow[n] = (1.0 - self.decay) * p.data + self.decay * self.shadow[n]

    def apply_shadow(self):
        for n, p in self.model.named_parameters():
            self.backup[n] = p.data
            p.data = self.shadow[n]

    def restore(self):
        for n, p in self.model.named_parameters():
            p.data = self.backup[n]
        self.backup = {}


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 2))
ema, shadow = ModelEMA(model), Shadow(model, 0.8)
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
data = TensorDataset(torch.randn(45, 6), torch.randint(0, 2, (45,)))
for epoch in range(3):
    model.train()
    for x, y in DataLoader(data, batch_size=12, shuffle=True):
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        ema.update(model)
        shadow.update()
    model.eval()
    X, Y = data.tensors
    with torch.no_grad():
        plain, averaged = (nn.functional.cross_entropy(m(X), Y).item() for m in (model, ema.module))
        shadow.apply_shadow()
        swapped = nn.functional.cross_entropy(model(X), Y).item()
        shadow.restore()
    print(epoch, f"{loss.item():.9f} {plain:.9f} {averaged:.9f} {swapped:.9f}")
torch.save({"model": model.state_dict(), "ema": ema.module.state_dict(), "shadow": shadow.shadow}, "ema.pt")
