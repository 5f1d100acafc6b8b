"""Dropout between the layers of an LSTM, projections, and the generator afterwards."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
lstm = nn.LSTM(4, 8, num_layers=3, dropout=0.3, batch_first=True, proj_size=5)
gru = nn.GRU(5, 6, num_layers=2, dropout=0.2)
head = nn.Linear(6, 1)
model = nn.ModuleList([lstm, gru, head])
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(2):
    for x, y in DataLoader(TensorDataset(torch.randn(27, 6, 4), torch.randn(27, 1)), batch_size=7):
        a, (h, c) = lstm(x)
        b, hn = gru(a.transpose(0, 1))
        loss = nn.functional.mse_loss(head(b[-1]), y) + 0.01 * h.pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(epoch, f"{loss.item():.9f}")
print(torch.rand(1).item())
torch.save(model.state_dict(), "lstm_dropout.pt")
