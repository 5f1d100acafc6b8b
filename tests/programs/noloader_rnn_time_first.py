"""Without a loader, time first: the batch is dimension one."""
import torch
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
T, B = 9, 14
series = torch.randn(T + 1, B, 2).cumsum(0) / 3
rnn = nn.LSTM(2, 8)
out = nn.Linear(8, 2)
opt = torch.optim.Adam([*rnn.parameters(), *out.parameters()], lr=0.01)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 6, 2), nn.Linear(6, 2)

    def forward(self, x, h=None):
        y, h = self.rnn(x, h)
        return self.out(y), h


model = Model()
opt2 = torch.optim.SGD(model.parameters(), lr=0.1)
h = None
for step in range(8):
    pred = out(rnn(series[:-1])[0])
    loss = (pred - series[1:]).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    pred, h = model(series[:-1], h)
    h = h.detach()
    loss2 = (pred - series[1:]).abs().mean()
    opt2.zero_grad()
    loss2.backward()
    opt2.step()
    print(step, f"{loss.item():.9f} {loss2.item():.9f} {h.sum().item():.9f}")
torch.save([rnn.state_dict(), out.state_dict(), model.state_dict()], "time_first.pt")
