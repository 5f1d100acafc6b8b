import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
X = torch.randn(50, 8) * 5
Y = X.sum(1) ** 2
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for epoch in range(3):
    for x, y in DataLoader(TensorDataset(X, Y), batch_size=13, shuffle=True):
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        before = clip_grad_norm_(model.parameters(), max_norm=1.0)
        inf_norm = clip_grad_norm_(model[0].parameters(), 0.1, norm_type=float("inf"))
        after = nn.utils.get_total_norm([p.grad for p in model.parameters()])
        opt.step()
        print(epoch, f"{loss.item():.9f} {before.item():.9f} {inf_norm.item():.9f} {float(after):.9f}")
torch.save(model.state_dict(), "clipped.pt")
