"""Batch-first GRU with a learned first state, bidirectional; RNN cells stepped by hand."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.h0 = nn.Parameter(torch.randn(2, 1, 6) * 0.1)
        self.gru = nn.GRU(3, 6, batch_first=True, bidirectional=True)
        self.cell = nn.LSTMCell(12, 5)
        self.gcell = nn.GRUCell(5, 5)
        self.out = nn.Linear(5, 1)

    def forward(self, x):
        h0 = self.h0.expand(-1, x.size(0), -1).contiguous()
        y, hn = self.gru(x, h0)
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        g = x.new_zeros(x.shape[0], 5)
        outs = []
        for t in range(x.size(1)):
            h, c = self.cell(y[:, t], (h, c))
            g = self.gcell(h, g)
            outs.append(self.out(g))
        return torch.stack(outs, dim=1).squeeze(-1), hn


torch.manual_seed(0)
model = Recurrent()
opt = torch.optim.Adam(model.parameters(), lr=0.01)
data = torch.randn(31, 7, 3)
hidden = None
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(data, data.sum(-1).cumsum(1)), batch_size=8, shuffle=True):
        out, hidden = model(x)
        loss = nn.functional.mse_loss(out, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, tuple(out.shape), tuple(hidden.shape), f"{loss.item():.9f} {hidden.sum().item():.9f}")
torch.save(model.state_dict(), "recurrent.pt")
