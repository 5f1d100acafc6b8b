"""Models that return tuples, lists, nested structures, None."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 12), nn.ReLU())
        self.cls, self.reg, self.mask = nn.Linear(12, 3), nn.Linear(12, 2), nn.Linear(12, 6)
        self.log_vars = nn.Parameter(torch.zeros(3))

    def forward(self, x, want_mask=True):
        h = self.trunk(x)
        heads = [self.cls(h), self.reg(h)]
        extra = (self.mask(h), None) if want_mask else (None, "no mask")
        return heads, extra, self.log_vars


torch.manual_seed(0)
X = torch.randn(40, 6)
Y, T = X[:, :3].argmax(1), X[:, :2].cumsum(1)
model = MultiTask()
opt = torch.optim.Adam(model.parameters(), lr=0.02)
for epoch in range(3):
    for i, (x, y, t) in enumerate(DataLoader(TensorDataset(X, Y, T), batch_size=9, shuffle=True)):
        (logits, coords), (mask, note), log_vars = model(x, want_mask=i % 2 == 0)
        losses = [F.cross_entropy(logits, y), F.mse_loss(coords, t)]
        losses.append(F.binary_cross_entropy_with_logits(mask, (x > 0).double()) if mask is not None else log_vars.new_zeros(()))
        loss = sum(torch.exp(-v) * l + v for v, l in zip(log_vars, losses))
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, i, note, " ".join(f"{l.item():.9f}" for l in losses), [round(v, 9) for v in log_vars.tolist()])
torch.save(model.state_dict(), "multitask.pt")
