"""As many rows as features, as time steps: which dimension is the batch cannot be told by size."""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
N = 8
net = nn.Sequential(nn.Linear(N, N), nn.ReLU(), nn.Linear(N, N))
lstm = nn.LSTM(N, N)  # (time, batch, features), all eight
symmetric = nn.Linear(N, 1)
opt = torch.optim.SGD([*net.parameters(), *lstm.parameters(), *symmetric.parameters()], lr=0.05)
for step in range(6):
    x = torch.randn(N, N)
    s = torch.randn(N, N, N)
    y, _ = lstm(s)
    loss = (net(x) - x.T).pow(2).mean() + (y - s.cumsum(0)).pow(2).mean() + symmetric(x @ x.T).abs().sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, f"{loss.item():.9f}")
torch.save([m.state_dict() for m in (net, lstm, symmetric)], "square.pt")
